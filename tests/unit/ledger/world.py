"""A small world for tables: accounts of every kind, and a state that is asked one thing after the other."""

from collections.abc import Sequence

from fivenines.ledger import (
    AMOUNT_MAX,
    Batch,
    ChangeAccount,
    Command,
    Hold,
    OpenAccount,
    Outcome,
    Post,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
    State,
    apply,
)

NOW_MS = 1_760_000_000_000
DAY_MS = 24 * 3600 * 1000
SECOND_US = 1_000_000


def make_id(number: int, offset_ms: int = 0) -> bytes:
    return (NOW_MS + offset_ms).to_bytes(6, "big") + b"\x70\x00\x80" + number.to_bytes(7, "big")


EXPIRED = make_id(1, -30 * DAY_MS - 1)
FUTURE = make_id(1, 300_001)
DECIDED = make_id(2)
"""Decided in every world: one unit from bank to rich."""
HOLD, PARTED, WIDE, FROZEN_HOLD = make_id(10), make_id(11), make_id(12), make_id(13)
"""Open holds: 40 from rich to bank; 40 of it with 10 settled; two postings; one of an account that was frozen since."""
ENDED, GIVEN_BACK, TIMED_OUT = make_id(14), make_id(15), make_id(16)
HUGE_HOLD = make_id(17)


def posts(source: str, destination: str, amount: int) -> tuple[Posting, ...]:
    return (Posting(source, destination, amount),)


def tell(state: State, *commands: Command, time_us: int = 0) -> list[Outcome]:
    """Apply a frame of `commands`."""
    return [Outcome(outcome) for outcome in apply(state, Batch(b"w" * 16, 0, time_us, commands)).outcomes]


def make_world() -> State:
    """Accounts by their names: each is what it is called, and has the asset EUR/2 unless it is called dollars."""
    state = State()
    opened: Sequence[Command] = [
        RegisterAsset("EUR/2"),
        RegisterAsset("USD/2"),
        *(OpenAccount(name, "EUR/2", min_balance=None) for name in ("bank", "huge", "full", "mint")),
        OpenAccount("rich", "EUR/2"),
        OpenAccount("poor", "EUR/2"),
        OpenAccount("small", "EUR/2", max_balance=10),
        OpenAccount("frozen", "EUR/2"),
        OpenAccount("closed", "EUR/2"),
        OpenAccount("empty", "EUR/2"),
        OpenAccount("dollars", "USD/2", min_balance=None),
        PostOne(DECIDED, "bank", "rich", 1),
        PostOne(make_id(100), "bank", "rich", 999),
        PostOne(make_id(101), "bank", "frozen", 50),
        Post(make_id(102), posts("huge", "full", AMOUNT_MAX)),
        Hold(HOLD, posts("rich", "bank", 40)),
        Hold(PARTED, posts("rich", "bank", 40)),
        Hold(WIDE, (Posting("rich", "bank", 5), Posting("rich", "poor", 6), Posting("rich", "bank", 7))),
        Hold(FROZEN_HOLD, (Posting("frozen", "bank", 5), Posting("rich", "bank", 5))),
        Hold(ENDED, posts("rich", "bank", 1)),
        Hold(GIVEN_BACK, posts("rich", "bank", 1)),
        Hold(TIMED_OUT, posts("rich", "bank", 1), timeout_us=1),
        Hold(HUGE_HOLD, posts("mint", "full", 1)),
        Settle(make_id(103), PARTED, posts("rich", "bank", 10), final=False),
        Settle(make_id(104), ENDED),
        ChangeAccount(make_id(105), "frozen", status=1),
        ChangeAccount(make_id(106), "closed", status=2),
    ]
    told = tell(state, *opened, time_us=NOW_MS * 1000)
    assert not [outcome for outcome in told if outcome.is_refusal]
    assert tell(state, Release(make_id(107), GIVEN_BACK)) == [Outcome.released]
    return state

"""The ladders of refusals: for each command what it is told, and which of two refusals that both apply wins.

A row says the command, the outcome, and in its first words the situation. Each row runs in a fresh world.
"""

import pytest

from fivenines.ledger import (
    AMOUNT_MAX,
    Activate,
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
    image,
)
from tests.unit.ledger.world import (
    DECIDED,
    ENDED,
    EXPIRED,
    FROZEN_HOLD,
    FUTURE,
    GIVEN_BACK,
    HOLD,
    HUGE_HOLD,
    NOW_MS,
    PARTED,
    TIMED_OUT,
    WIDE,
    make_id,
    make_world,
    posts,
    tell,
)

NEW = make_id(1000)
FIRST_OF_FUTURE = (NOW_MS + 300_001).to_bytes(6, "big") + bytes(10)
FIRST_OF_WINDOW = (NOW_MS - 30 * 24 * 3600 * 1000).to_bytes(6, "big") + bytes(10)
O = Outcome  # noqa: E741 - the rows are read as a table
Row = tuple[str, Command, Outcome]

POST_LADDER: list[Row] = [
    ("an expired id wins over no postings", Post(EXPIRED, ()), O.id_expired),
    ("a future id wins over no postings", Post(FUTURE, ()), O.id_in_future),
    ("the oldest id", Post(make_id(0, -30 * 24 * 3600 * 1000), posts("bank", "rich", 1)), O.posted),
    ("the newest id", Post(make_id(0, 300_000), posts("bank", "rich", 1)), O.posted),
    ("the first id of the future", PostOne(FIRST_OF_FUTURE, "bank", "rich", 1), O.id_in_future),
    ("the first id of the window", PostOne(FIRST_OF_WINDOW, "bank", "rich", 1), O.posted),
    ("the same again", Post(DECIDED, posts("bank", "rich", 1)), O.posted),
    ("the same again in the short form", PostOne(DECIDED, "bank", "rich", 1), O.posted),
    ("a used id wins over no postings", Post(DECIDED, ()), O.id_reused),
    ("a used id with another amount", PostOne(DECIDED, "bank", "rich", 2), O.id_reused),
    ("a used id the other way round", PostOne(DECIDED, "rich", "bank", 1), O.id_reused),
    ("a used id with a reference", Post(DECIDED, posts("bank", "rich", 1), reference="x"), O.id_reused),
    ("a used id with a date", Post(DECIDED, posts("bank", "rich", 1), effective_date="2026-01-01"), O.id_reused),
    ("a used id with metadata", Post(DECIDED, posts("bank", "rich", 1), metadata=b"{}"), O.id_reused),
    ("a used id of a post for a hold", Hold(DECIDED, posts("bank", "rich", 1)), O.id_reused),
    ("no postings", Post(NEW, ()), O.malformed),
    ("an amount of 0", Post(NEW, posts("bank", "rich", 0)), O.malformed),
    ("an amount below 0 wins over an unknown account", Post(NEW, posts("nobody", "rich", -1)), O.malformed),
    ("an amount above the largest", Post(NEW, posts("bank", "rich", AMOUNT_MAX + 1)), O.malformed),
    (
        "a bad amount wins over an earlier posting's refusal",
        Post(NEW, (Posting("nobody", "rich", 1), Posting("bank", "rich", 0))),
        O.malformed,
    ),
    ("the same account", PostOne(NEW, "rich", "rich", 1), O.same_account),
    ("the same account wins over unknown", PostOne(NEW, "nobody", "nobody", 1), O.same_account),
    ("an unknown source", PostOne(NEW, "nobody", "rich", 1), O.account_unknown),
    ("an unknown destination", PostOne(NEW, "rich", "nobody", 1), O.account_unknown),
    ("unknown wins over closed", PostOne(NEW, "closed", "nobody", 1), O.account_unknown),
    ("a closed source", PostOne(NEW, "closed", "rich", 1), O.account_closed),
    ("a closed destination", PostOne(NEW, "rich", "closed", 1), O.account_closed),
    ("closed wins over frozen", PostOne(NEW, "frozen", "closed", 1), O.account_closed),
    ("a frozen source", PostOne(NEW, "frozen", "rich", 1), O.account_frozen),
    ("a frozen destination", PostOne(NEW, "rich", "frozen", 1), O.account_frozen),
    ("frozen wins over another asset", PostOne(NEW, "frozen", "dollars", 1), O.account_frozen),
    ("another asset", PostOne(NEW, "rich", "dollars", 1), O.asset_mismatch),
    ("another asset wins over no funds", PostOne(NEW, "poor", "dollars", 1), O.asset_mismatch),
    ("no funds", PostOne(NEW, "poor", "rich", 1), O.insufficient_funds),
    ("money held is no funds", PostOne(NEW, "rich", "poor", 897), O.insufficient_funds),
    ("what is not held is funds", PostOne(NEW, "rich", "poor", 896), O.posted),
    ("no funds wins over the limit", PostOne(NEW, "poor", "small", 11), O.insufficient_funds),
    ("the limit", PostOne(NEW, "bank", "small", 11), O.balance_limit_exceeded),
    ("up to the limit", PostOne(NEW, "bank", "small", 10), O.posted),
    ("the limit wins over overflow", Post(NEW, posts("huge", "small", 11)), O.balance_limit_exceeded),
    ("overflow of the source's debits", PostOne(NEW, "huge", "rich", 1), O.total_overflow),
    ("overflow of the destination's credits", PostOne(NEW, "bank", "full", 1), O.total_overflow),
    (
        "the refusal of the first posting that has one",
        Post(NEW, (Posting("bank", "rich", 1), Posting("poor", "rich", 1), Posting("nobody", "rich", 1))),
        O.insufficient_funds,
    ),
    (
        "a posting may spend what one before it brought",
        Post(NEW, (Posting("bank", "poor", 5), Posting("poor", "rich", 5))),
        O.posted,
    ),
    (
        "a posting may not spend what one after it brings",
        Post(NEW, (Posting("poor", "rich", 5), Posting("bank", "poor", 5))),
        O.insufficient_funds,
    ),
    (
        "two assets in one transaction",
        Post(NEW, (Posting("bank", "rich", 1), Posting("dollars", "bank", 1))),
        O.asset_mismatch,
    ),
]

HOLD_LADDER: list[Row] = [
    ("an expired id wins over a bad timeout", Hold(EXPIRED, (), 0), O.id_expired),
    ("a future id", Hold(FUTURE, posts("rich", "bank", 1)), O.id_in_future),
    ("the same again", Hold(HOLD, posts("rich", "bank", 40)), O.held),
    ("a used id with a timeout", Hold(HOLD, posts("rich", "bank", 40), 5), O.id_reused),
    ("a timeout of 0 wins over an unknown account", Hold(NEW, posts("nobody", "bank", 1), 0), O.malformed),
    ("a timeout below 0", Hold(NEW, posts("rich", "bank", 1), -1), O.malformed),
    ("a timeout too long", Hold(NEW, posts("rich", "bank", 1), 2**62), O.malformed),
    ("the longest timeout", Hold(NEW, posts("rich", "bank", 1), 2**62 - 1), O.held),
    ("no postings", Hold(NEW, ()), O.malformed),
    ("the same account", Hold(NEW, posts("rich", "rich", 1)), O.same_account),
    ("an unknown account", Hold(NEW, posts("rich", "nobody", 1)), O.account_unknown),
    ("a closed account", Hold(NEW, posts("rich", "closed", 1)), O.account_closed),
    ("a frozen account", Hold(NEW, posts("frozen", "rich", 1)), O.account_frozen),
    ("another asset", Hold(NEW, posts("rich", "dollars", 1)), O.asset_mismatch),
    ("no funds beyond what is held", Hold(NEW, posts("rich", "poor", 897)), O.insufficient_funds),
    ("all funds but what is held", Hold(NEW, posts("rich", "poor", 896)), O.held),
    ("the limit", Hold(NEW, posts("bank", "small", 11)), O.balance_limit_exceeded),
    ("overflow of what is held", Hold(NEW, posts("bank", "full", AMOUNT_MAX)), O.total_overflow),
    (
        "money that is held for an account cannot be spent",
        Hold(NEW, (Posting("bank", "poor", 5), Posting("poor", "rich", 5))),
        O.insufficient_funds,
    ),
]

SETTLE_LADDER: list[Row] = [
    ("an expired id wins over an unknown hold", Settle(EXPIRED, NEW), O.id_expired),
    ("a future id", Settle(FUTURE, HOLD), O.id_in_future),
    ("a used id wins over an unknown hold", Settle(DECIDED, NEW), O.id_reused),
    ("an unknown hold", Settle(NEW, make_id(999)), O.hold_unknown),
    ("a post is no hold", Settle(NEW, DECIDED), O.hold_unknown),
    ("an unknown hold wins over a bad amount", Settle(NEW, make_id(999), posts("rich", "bank", 0)), O.hold_unknown),
    ("a settled hold", Settle(NEW, ENDED), O.hold_already_settled),
    ("a released hold", Settle(NEW, GIVEN_BACK), O.hold_already_released),
    ("an expired hold", Settle(NEW, TIMED_OUT), O.hold_expired),
    ("an amount of 0 wins over a posting not held", Settle(NEW, HOLD, posts("poor", "bank", 0)), O.malformed),
    ("more than is held", Settle(NEW, HOLD, posts("rich", "bank", 41)), O.hold_exceeded),
    ("more than is left", Settle(NEW, PARTED, posts("rich", "bank", 31)), O.hold_exceeded),
    ("what is left", Settle(NEW, PARTED, posts("rich", "bank", 30)), O.settled),
    ("a posting not held", Settle(NEW, HOLD, posts("bank", "rich", 1)), O.hold_exceeded),
    ("more wins over frozen", Settle(NEW, FROZEN_HOLD, posts("frozen", "bank", 6)), O.hold_exceeded),
    ("of two postings between the same, both", Settle(NEW, WIDE, posts("rich", "bank", 12)), O.settled),
    ("of two postings between the same, too much", Settle(NEW, WIDE, posts("rich", "bank", 13)), O.hold_exceeded),
    ("two parts of one posting, too much", Settle(NEW, HOLD, posts("rich", "bank", 21) * 2), O.hold_exceeded),
    ("two parts of one posting", Settle(NEW, HOLD, posts("rich", "bank", 20) * 2), O.settled),
    ("a frozen account", Settle(NEW, FROZEN_HOLD, posts("frozen", "bank", 5)), O.account_frozen),
    ("all of it, of which one is frozen", Settle(NEW, FROZEN_HOLD), O.account_frozen),
    ("a part that is not frozen", Settle(NEW, FROZEN_HOLD, posts("rich", "bank", 5)), O.settled),
    ("overflow", Settle(NEW, HUGE_HOLD), O.total_overflow),
    ("all of it", Settle(NEW, HOLD), O.settled),
    ("all of it, not final", Settle(NEW, HOLD, final=False), O.settled),
]

RELEASE_LADDER: list[Row] = [
    ("an expired id wins over an unknown hold", Release(EXPIRED, NEW), O.id_expired),
    ("a future id", Release(FUTURE, HOLD), O.id_in_future),
    ("a used id wins over an unknown hold", Release(DECIDED, NEW), O.id_reused),
    ("an unknown hold", Release(NEW, make_id(999)), O.hold_unknown),
    ("a settled hold", Release(NEW, ENDED), O.hold_already_settled),
    ("a released hold", Release(NEW, GIVEN_BACK), O.hold_already_released),
    ("an expired hold", Release(NEW, TIMED_OUT), O.hold_expired),
    ("a frozen account does not matter", Release(NEW, FROZEN_HOLD), O.released),
    ("what is left of a hold", Release(NEW, PARTED), O.released),
]

OPEN_LADDER: list[Row] = [
    ("the same again", OpenAccount("rich", "EUR/2"), O.done),
    ("the same again, closed since", OpenAccount("closed", "EUR/2"), O.done),
    ("other limits", OpenAccount("rich", "EUR/2", max_balance=5), O.account_exists),
    ("other metadata", OpenAccount("rich", "EUR/2", metadata=b"{}"), O.account_exists),
    ("known wins over an unknown asset", OpenAccount("rich", "XAU/0"), O.account_exists),
    ("no name wins over an unknown asset", OpenAccount("", "XAU/0"), O.malformed),
    ("an unknown asset", OpenAccount("new", "XAU/0"), O.asset_unknown),
    ("an unknown scale", OpenAccount("new", "EUR/3"), O.asset_unknown),
    ("an asset without a scale", OpenAccount("new", "EUR"), O.asset_unknown),
    ("an unknown asset wins over a bad limit", OpenAccount("new", "XAU/0", 2**127), O.asset_unknown),
    ("a limit beyond any balance", OpenAccount("new", "EUR/2", None, 2**127), O.malformed),
    ("a bad limit wins over a conflict", OpenAccount("new", "EUR/2", 1, -(2**127)), O.malformed),
    ("a floor above the balance of 0", OpenAccount("new", "EUR/2", 1), O.limits_conflict),
    ("a ceiling below the balance of 0", OpenAccount("new", "EUR/2", None, -1), O.limits_conflict),
    ("a new account", OpenAccount("new", "EUR/2"), O.done),
    ("the widest limits", OpenAccount("new", "EUR/2", -AMOUNT_MAX, AMOUNT_MAX), O.done),
]

CHANGE_LADDER: list[Row] = [
    ("an expired id wins over an unknown account", ChangeAccount(EXPIRED, "nobody"), O.id_expired),
    ("a future id", ChangeAccount(FUTURE, "rich"), O.id_in_future),
    ("a used id wins over an unknown account", ChangeAccount(DECIDED, "nobody"), O.id_reused),
    ("an unknown account", ChangeAccount(NEW, "nobody", status=2), O.account_unknown),
    ("a closed account", ChangeAccount(NEW, "closed", status=0), O.account_closed),
    ("closed wins over a bad limit", ChangeAccount(NEW, "closed", limits=(2**127, None)), O.account_closed),
    ("closing an account with a balance", ChangeAccount(NEW, "rich", status=2), O.account_not_empty),
    ("a balance wins over a bad limit", ChangeAccount(NEW, "rich", 2, (2**127, None)), O.account_not_empty),
    ("a bad limit wins over a conflict", ChangeAccount(NEW, "rich", limits=(AMOUNT_MAX, 2**127)), O.malformed),
    ("a floor above what is available", ChangeAccount(NEW, "rich", limits=(897, None)), O.limits_conflict),
    ("a floor at what is available", ChangeAccount(NEW, "rich", limits=(896, None)), O.done),
    ("a ceiling below the balance", ChangeAccount(NEW, "rich", limits=(0, 988)), O.limits_conflict),
    ("a ceiling at the balance", ChangeAccount(NEW, "rich", limits=(0, 989)), O.done),
    ("limits that exclude each other", ChangeAccount(NEW, "empty", limits=(5, 4)), O.limits_conflict),
    ("a conflict while closing", ChangeAccount(NEW, "empty", 2, (5, 4), b"{}"), O.limits_conflict),
    ("closing an empty account", ChangeAccount(NEW, "empty", status=2), O.done),
    ("thawing", ChangeAccount(NEW, "frozen", status=0), O.done),
    ("nothing", ChangeAccount(NEW, "rich"), O.done),
]

REGISTER_LADDER: list[Row] = [
    ("the same again", RegisterAsset("EUR/2"), O.done),
    ("another scale", RegisterAsset("EUR/3"), O.asset_exists),
    ("another spelling of the scale", RegisterAsset("EUR/02"), O.asset_exists),
    ("a new asset", RegisterAsset("JPY/0"), O.done),
    ("a malformed scale wins over a known code", RegisterAsset("EUR/"), O.malformed),
    *((f"{name!r}", RegisterAsset(name), O.malformed) for name in ("", "/", "/2", "EUR", "EUR/x", "EUR/-1", "EUR/2/3")),
    ("digits that are not ASCII", RegisterAsset("EUR/²"), O.malformed),
]

ACTIVATE_LADDER: list[Row] = [(f"rules {n}", Activate(n), O.rules_not_newer) for n in (1, 0, -1)]

LADDERS = {
    "post": POST_LADDER,
    "hold": HOLD_LADDER,
    "settle": SETTLE_LADDER,
    "release": RELEASE_LADDER,
    "open": OPEN_LADDER,
    "change": CHANGE_LADDER,
    "register": REGISTER_LADDER,
    "activate": ACTIVATE_LADDER,
}
ROWS = [
    pytest.param(command, outcome, id=f"{ladder}: {situation}")
    for ladder, rows in LADDERS.items()
    for situation, command, outcome in rows
]


@pytest.mark.parametrize(("command", "outcome"), ROWS)
def test_a_situation_has_its_outcome(command: Command, outcome: Outcome) -> None:
    assert tell(make_world(), command) == [outcome]


@pytest.mark.parametrize(("command", "outcome"), ROWS)
def test_a_refusal_moves_no_money_and_an_answer_stays(command: Command, outcome: Outcome) -> None:
    state = make_world()
    # Ids and time apart, which the head and the memory of ids show.
    books = list(image(state))[1:-2]
    tell(state, command)
    if outcome.is_refusal:
        assert list(image(state))[1:-2] == books
    changed = list(image(state))[1:]
    assert tell(state, command) == [outcome]
    assert list(image(state))[1:] == changed


def test_the_ladders_know_every_outcome() -> None:
    # Rules cannot be activated here for want of newer ones, and to settle a hold is seen in its row.
    assert {outcome for rows in LADDERS.values() for _, _, outcome in rows} == set(Outcome)


def test_a_refusal_stays_refused_when_its_reason_is_gone() -> None:
    state = make_world()
    late = PostOne(NEW, "poor", "rich", 5)
    assert tell(state, late) == [Outcome.insufficient_funds]
    assert tell(state, PostOne(make_id(1001), "bank", "poor", 5), late) == [Outcome.posted, Outcome.insufficient_funds]
    assert tell(state, PostOne(make_id(1002), "poor", "rich", 5)) == [Outcome.posted]


@pytest.mark.parametrize("id", [EXPIRED, FUTURE])
def test_an_id_outside_of_the_window_leaves_no_trace(id: bytes) -> None:
    state = make_world()
    before = list(image(state))[1:]
    tell(state, PostOne(id, "bank", "rich", 1))
    assert list(image(state))[1:] == before
    assert state.decision(id) is None


def test_an_id_from_the_future_is_decided_when_its_time_has_come() -> None:
    state = make_world()
    early = PostOne(FUTURE, "bank", "rich", 1)
    assert tell(state, early) == [Outcome.id_in_future]
    assert tell(state, early, time_us=(NOW_MS + 1) * 1000) == [Outcome.posted]


def test_a_hold_expires_at_its_time_before_the_commands_of_the_frame() -> None:
    state = make_world()
    hold = Hold(NEW, posts("rich", "bank", 896), timeout_us=1_000)
    assert tell(state, hold) == [Outcome.held]
    due_us = state.time_us + 1_000
    assert tell(state, PostOne(make_id(1001), "rich", "poor", 1), time_us=due_us - 1) == [Outcome.insufficient_funds]
    assert state.next_expiry_us == due_us
    commands: list[Command] = [PostOne(make_id(1002), "rich", "poor", 896), Settle(make_id(1003), NEW)]
    assert tell(state, *commands, time_us=due_us) == [Outcome.posted, Outcome.hold_expired]
    assert state.next_expiry_us is None

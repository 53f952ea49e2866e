"""The image of a state: canonical, complete, and refused where it is not what `image` writes."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fivenines.ledger import (
    AMOUNT_MAX,
    ChangeAccount,
    Hold,
    ImageError,
    OpenAccount,
    Outcome,
    Post,
    Posting,
    PostOne,
    State,
    decided,
    digest,
    image,
    restore,
)
from tests.unit.ledger.world import HUGE_HOLD, make_id, make_world, posts, tell

GOLDEN_EMPTY = [
    "9901010000c410" + "00" * 16 + "c420" + "00" * 32 + "900000",
    "95c40000c4009090",
    "95c40000c4009090",
]  # fmt: skip


def make_rich_world(monkeypatch: pytest.MonkeyPatch) -> State:
    """A world whose ids fill several blocks."""
    monkeypatch.setattr(decided, "_BLOCK_IDS", 4)
    monkeypatch.setattr(decided, "_SEAL_IDS", 8)
    monkeypatch.setattr(decided, "_TAIL_IDS_MAX", 10)
    return make_world()


def test_the_image_of_nothing_is_pinned() -> None:
    assert [chunk.hex() for chunk in image(State())] == GOLDEN_EMPTY


def test_an_image_is_read_back_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_rich_world(monkeypatch)
    assert len(state.decided.blocks) == 2
    chunks = list(image(state))
    assert list(image(restore(chunks))) == chunks
    assert digest(restore(chunks)) == digest(state)


@pytest.mark.parametrize(
    "change",
    [
        PostOne(make_id(1000), "bank", "rich", 1),
        PostOne(make_id(1000), "poor", "rich", 1),
        Hold(make_id(1000), posts("bank", "rich", 1)),
        ChangeAccount(make_id(1000), "rich", status=1),
        ChangeAccount(make_id(1000), "rich", limits=(None, None)),
        ChangeAccount(make_id(1000), "rich", metadata=b"{}"),
        OpenAccount("new", "EUR/2"),
    ],
)
def test_every_change_shows_in_the_digest(change: Any) -> None:
    with_it, without = make_world(), make_world()
    tell(with_it, change)
    tell(without)
    assert digest(with_it) != digest(without)


@pytest.mark.parametrize("amount", [2**63, 2**64 - 1, 2**64, 2**126, AMOUNT_MAX])
def test_totals_limits_and_holds_of_any_size_are_read_back(amount: int) -> None:
    state = make_world()
    told = tell(
        state,
        OpenAccount("wide", "EUR/2", -amount, amount),
        OpenAccount("deep", "EUR/2", None),
        Post(make_id(1000), posts("deep", "wide", amount)),
        Hold(make_id(1001), posts("wide", "deep", amount)),
    )
    assert not any(outcome.is_refusal for outcome in told)
    account = restore(image(state)).accounts["wide"]
    assert (account.credits, account.held_debits, account.floor, account.ceiling) == (amount, amount, -amount, amount)
    assert digest(restore(image(state))) == digest(state)


def test_an_account_near_overflow_takes_the_long_way_after_a_restore_too() -> None:
    state = restore(image(make_world()))
    assert state.accounts["full"].lane is state.accounts["full"]
    assert tell(state, PostOne(make_id(1000), "bank", "full", 1)) == [Outcome.total_overflow]
    assert HUGE_HOLD in state.holds


def test_what_is_held_between_two_accounts_is_one_thing() -> None:
    state = make_world()
    hold = Hold(make_id(1000), (Posting("rich", "bank", 1), Posting("rich", "poor", 2), Posting("rich", "bank", 3)))
    tell(state, hold)
    restored = restore(image(state)).holds[hold.id]
    assert {between: held.remaining for between, held in restored.postings.items()} == {
        ("rich", "bank"): 4,
        ("rich", "poor"): 2,
    }


# --- images that are none ---------------------------------------------------------------------------------------------

HEAD, ACCOUNTS, HOLDS, IDS, BLOCK = range(5)
Chunk = list[Any]


def edited(chunks: list[bytes], index: int, edit: Callable[[Chunk], object]) -> list[bytes]:
    chunk = msgspec.msgpack.decode(chunks[index])
    edit(chunk)
    return [*chunks[:index], msgspec.msgpack.encode(chunk), *chunks[index + 1 :]]


def put(*path: int, value: Any) -> Callable[[Chunk], object]:
    def edit(chunk: Chunk) -> None:
        inner = chunk
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return edit


WRONG: dict[str, tuple[int, Callable[[Chunk], object]]] = {
    "an unknown version": (HEAD, put(0, value=2)),
    "a version that is no number": (HEAD, put(0, value="1")),
    "rules that are no number": (HEAD, put(1, value=[])),
    "a position below 0": (HEAD, put(2, value=-1)),
    "a time that is a float": (HEAD, put(3, value=1.5)),
    "a horizon that is no id": (HEAD, put(4, value=b"")),
    "a short digest": (HEAD, put(5, value=b"x")),
    "an asset that is no text": (HEAD, put(6, value=[5])),
    "more accounts than there are": (HEAD, put(7, value=10**9)),
    "fewer accounts than there are": (HEAD, put(7, value=1)),
    "more holds than there are": (HEAD, put(8, value=10**9)),
    "a head that is too long": (HEAD, lambda chunk: chunk.append(0)),
    "a head that is empty": (HEAD, lambda chunk: chunk.clear()),
    "an account twice": (ACCOUNTS, put(0, 1, value="bank")),
    "an unknown status": (ACCOUNTS, put(3, 0, value=3)),
    "money from nowhere": (ACCOUNTS, put(5, 4, value=10**6)),
    "a total below 0": (ACCOUNTS, put(4, 4, value=-1)),
    "a total that is a float": (ACCOUNTS, put(4, 4, value=1.0)),
    "a total of fifteen bytes": (ACCOUNTS, put(4, 4, value=bytes(15))),
    "a total beyond the largest": (ACCOUNTS, put(4, 4, value=b"\xff" * 16)),
    "held money that no hold holds": (ACCOUNTS, put(6, 0, value=5)),
    "a limit that is text": (ACCOUNTS, put(8, 0, value="0")),
    "an unknown asset": (ACCOUNTS, put(11, 0, value="XAU")),
    "a column too short": (ACCOUNTS, lambda chunk: chunk[2].pop()),
    "a column too few": (ACCOUNTS, lambda chunk: chunk.pop()),
    "a hold of an unknown account": (HOLDS, put(0, 2, 0, 0, value="nobody")),
    "a hold of nothing": (HOLDS, put(0, 2, 0, 2, value=0)),
    "a hold of more than the accounts say": (HOLDS, put(0, 2, 0, 2, value=41)),
    "a hold with a short id": (HOLDS, put(0, 0, value=b"x")),
    "a hold with a posting twice": (HOLDS, lambda chunk: chunk[0][2].append(chunk[0][2][0])),
    "a hold twice": (HOLDS, lambda chunk: chunk.append(chunk[0])),
    "more blocks than there are": (IDS, put(1, value=10**9)),
    "ids of another length": (IDS, lambda chunk: chunk.__setitem__(2, chunk[2] + b"x")),
    "ids out of order": (IDS, lambda chunk: chunk.__setitem__(2, chunk[2][16:32] + chunk[2][:16] + chunk[2][32:])),
    "an id without a value": (IDS, lambda chunk: chunk[3].pop()),
    "an id without a position": (IDS, lambda chunk: chunk[4].pop()),
    "an id with an unknown outcome": (IDS, put(3, 0, value=5 << 26)),
    "a value beyond 32 bits": (IDS, put(3, 0, value=2**32)),
    "ids above the highest": (IDS, put(0, value=bytes(16))),
    "an empty block": (BLOCK, lambda chunk: chunk.__setitem__(slice(1, 4), [b"", b"", b""])),
    "a block without its distances": (BLOCK, put(3, value=b"")),
    "a block with an unknown outcome": (BLOCK, lambda chunk: chunk.__setitem__(2, b"\xff" * len(chunk[2]))),
    "a block above the next": (BLOCK, lambda chunk: chunk.__setitem__(1, b"\xff" * len(chunk[1]))),
}


@pytest.mark.parametrize(("index", "edit"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_image_is_refused(
    index: int, edit: Callable[[Chunk], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = list(image(make_rich_world(monkeypatch)))
    assert restore(edited(chunks, index, list)).position > 0
    with pytest.raises(ImageError):
        restore(edited(chunks, index, edit))


@pytest.mark.parametrize(
    "chunk", [b"", b"\xc1", b"\x90", b"\xa2\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, b"\xc0"]
)
def test_chunks_that_are_no_chunks_are_refused(chunk: bytes) -> None:
    chunks = list(image(make_world()))
    for index in range(len(chunks)):
        with pytest.raises(ImageError):
            restore([*chunks[:index], chunk, *chunks[index + 1 :]])


def test_an_image_that_is_cut_off_or_goes_on_is_refused() -> None:
    chunks = list(image(make_world()))
    for length in range(len(chunks)):
        with pytest.raises(ImageError):
            restore(chunks[:length])
    with pytest.raises(ImageError, match="goes on"):
        restore([*chunks, chunks[-1]])

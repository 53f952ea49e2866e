"""Whatever the chunks of an image are: `restore` reads them or says why not, and what it reads, `apply` survives."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.ledger import Batch, ImageError, RulesUnsupportedError, State, apply, decided, digest, image, restore
from tests.property.ledger.long_journals import Journalist

JOURNAL = Journalist(11).journal(frames=80, commands=12)


def image_half_way() -> list[bytes]:
    """Make an image with a little of everything, blocks of ids included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decided, "_BLOCK_IDS", 16)
        patch.setattr(decided, "_SEAL_IDS", 48)
        patch.setattr(decided, "_TAIL_IDS_MAX", 64)
        state = State()
        for batch in JOURNAL[:50]:
            apply(state, batch)
    return list(image(state))


CHUNKS = image_half_way()


def assert_survives(chunks: list[bytes]) -> None:
    try:
        state = restore(chunks)
    except (ImageError, RulesUnsupportedError):
        return
    for batch in JOURNAL[40:60]:
        apply(state, batch)
    apply(state, Batch(b"w", 0, 2**48 * 1000, []))
    assert state.imbalances() == {}
    assert digest(state) == digest(state)


def test_the_image_has_a_little_of_everything() -> None:
    state = restore(CHUNKS)
    assert state.accounts
    assert state.holds
    assert state.decided.blocks
    assert state.expiries


@settings(max_examples=500)
@given(st.integers(0, len(CHUNKS) - 1), st.data())
def test_flipped_bits(index: int, data: st.DataObject) -> None:
    damaged = bytearray(CHUNKS[index])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert_survives([*CHUNKS[:index], bytes(damaged), *CHUNKS[index + 1 :]])


def places(value: object, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Return the path of everything inside of nested lists."""
    found = [path] if path else []
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


DECODED = [msgspec.msgpack.decode(chunk) for chunk in CHUNKS]
PLACES = [(index, path) for index, chunk in enumerate(DECODED) for path in places(chunk)]
wrong_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, 1, 5, 2**32 - 1, 2**63 - 1]),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["bank", "alice", "EUR/2", "EUR"]),
    st.binary(max_size=40),
    st.binary(min_size=16, max_size=16),
    st.lists(st.integers(0, 3), max_size=3),
)


@settings(max_examples=800)
@given(st.sampled_from(PLACES), wrong_values)
def test_a_wrong_value_in_any_place(place: tuple[int, tuple[int, ...]], value: object) -> None:
    index, path = place
    chunk = msgspec.msgpack.decode(CHUNKS[index])
    inner = chunk
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert_survives([*CHUNKS[:index], msgspec.msgpack.encode(chunk), *CHUNKS[index + 1 :]])

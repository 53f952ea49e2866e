"""Whatever the bytes of a frame are: `decode` reads them or says CodecError, and what it reads, `apply` survives.

A frame that raised anything else would stop every replica in turn.
"""

import contextlib

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fivenines.ledger import (
    Activate,
    Batch,
    ChangeAccount,
    CodecError,
    Command,
    Hold,
    OpenAccount,
    Post,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    RulesUnsupportedError,
    Settle,
    State,
    apply,
    decode,
    digest,
    encode,
    image,
    restore,
)
from tests.property.ledger.long_journals import Journalist
from tests.property.ledger.sequences import PREAMBLE, START_MS, WRITER, journals, make_id

JOURNAL = [encode(batch) for batch in Journalist(7).journal(frames=40, commands=12)]


def assert_survives(payload: bytes) -> None:
    """Decode and apply `payload`, in a world that has something to be hurt."""
    try:
        batch = decode(payload)
    except CodecError:
        return
    state = State()
    apply(state, Batch(WRITER, 0, START_MS * 1000, PREAMBLE))
    for earlier in (JOURNAL[1], JOURNAL[2]):
        apply(state, decode(earlier))
    with contextlib.suppress(RulesUnsupportedError):
        apply(state, batch)
        apply(state, batch)
        apply(state, Batch(WRITER, 0, 0, []))
        assert state.imbalances() == {}
        assert digest(restore(image(state))) == digest(state)


@settings(max_examples=300)
@given(st.sampled_from([b"", b"\x00", b"\x01", b"\x02", b"\x02\x94\xc4\x00\x00\x00"]), st.binary(max_size=200))
def test_random_bytes(start: bytes, payload: bytes) -> None:
    assert_survives(start + payload)


@settings(max_examples=500)
@given(st.sampled_from(JOURNAL), st.data())
def test_flipped_bits(payload: bytes, data: st.DataObject) -> None:
    damaged = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert_survives(bytes(damaged))


@given(st.sampled_from(JOURNAL), st.data())
def test_frames_that_are_cut_off(payload: bytes, data: st.DataObject) -> None:
    assert_survives(payload[: data.draw(st.integers(0, len(payload)))])


# Values of every kind that msgpack has; the schema of a frame is put around them in all ways.
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=4),
        st.binary(max_size=20),
        st.just(make_id(1)),
        st.sampled_from(["alice", "bank", "EUR/2"]),
        st.datetimes(),
    ),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=500)
@given(
    st.sampled_from([1, 2]),
    st.lists(st.builds(lambda tag, rest: [tag, *rest], st.integers(0, 9), st.lists(values, max_size=8)), max_size=3),
    st.one_of(st.integers(-(2**63), 2**64 - 1), values),
)
def test_well_formed_msgpack_of_the_wrong_shape(schema: int, commands: list[object], time_us: object) -> None:
    assert_survives(bytes([schema]) + msgspec.msgpack.encode([b"w", 0, time_us, commands]))


wild_integers = st.one_of(
    st.integers(-(2**127), 2**127 - 1), st.sampled_from([0, -1, 2**62, 2**63, 2**64, 2**127 - 1, -(2**127)])
)
wild_ids = st.one_of(st.binary(min_size=16, max_size=16), st.builds(make_id, st.integers(0, 3)))
wild_text = st.one_of(st.text(max_size=24), st.sampled_from(["bank", "alice", "EUR/2", "/", "A/0", "A/" + "9" * 22]))
wild_postings = st.lists(st.builds(Posting, wild_text, wild_text, wild_integers), max_size=3).map(tuple)
small_integers = st.integers(-(2**63), 2**64 - 1)
wild_limits = st.none() | wild_integers
wild_commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(PostOne, wild_ids, wild_text, wild_text, st.integers(1, 2**62 - 1)),
    st.builds(Post, wild_ids, wild_postings, reference=st.none() | wild_text, metadata=st.none() | st.binary()),
    st.builds(Hold, wild_ids, wild_postings, timeout_us=st.none() | small_integers),
    st.builds(Settle, wild_ids, wild_ids, wild_postings, final=st.booleans()),
    st.builds(Release, wild_ids, wild_ids),
    st.builds(OpenAccount, wild_text, wild_text, wild_limits, wild_limits),
    st.builds(ChangeAccount, wild_ids, wild_text, st.integers(0, 2), st.none() | st.tuples(wild_limits, wild_limits)),
    st.builds(RegisterAsset, wild_text),
    st.builds(Activate, small_integers),
)


@settings(max_examples=500)
@given(st.lists(wild_commands, max_size=8), st.one_of(st.just(START_MS * 1000), small_integers))
def test_commands_that_no_gateway_lets_through(commands: list[Command], time_us: int) -> None:
    assert_survives(encode(Batch(WRITER, 0, time_us, commands)))


@settings(max_examples=200)
@given(journals(), st.lists(small_integers, min_size=1, max_size=8))
@example([], [2**64 - 1, 2**64 - 1, 0])
@example([], [-(2**63)])
def test_whatever_the_clocks_of_the_writers_say(journal: list[Batch], times: list[int]) -> None:
    state = State()
    for index, time_us in enumerate(times):
        batch = journal[index % len(journal)] if journal else Batch(WRITER, index, 0, PREAMBLE)
        before = state.time_us
        apply(state, decode(encode(msgspec.structs.replace(batch, time_us=time_us))))
        assert before < state.time_us < 2**63
        assert digest(restore(image(state))) == digest(state)

"""Keys and values of a journal in etcd: they come back as they were, and anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.journal.etcd.layout import (
    PIECE_HEADER_BYTES,
    Keys,
    LayoutError,
    Piece,
    Place,
    end_of,
    pack_piece,
    pack_place,
    parse_piece,
    parse_place,
    split_payload,
)

KEYS = Keys("/test/")


@given(st.binary(max_size=200), st.integers(1, 70))
def test_the_parts_of_a_payload_make_it_up_and_are_marked_as_first_and_last(payload: bytes, most: int) -> None:
    parts = split_payload(payload, most)
    pieces = [parse_piece(b"key", pack_piece(flags, 7, part)) for flags, part in parts]
    assert b"".join(piece.part for piece in pieces) == payload
    assert all(len(piece.part) <= most for piece in pieces)
    assert [piece.is_first for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert {piece.previous for piece in pieces} == {7}


def test_the_bytes_of_a_piece_are_fixed() -> None:
    value = pack_piece(3, 258, b"payload")
    assert value == bytes.fromhex("356e01032f49056b0201000000000000") + b"payload"
    assert parse_piece(b"key", value) == Piece(is_first=True, is_last=True, previous=258, part=b"payload")


def test_each_flipped_bit_of_a_piece_is_noticed() -> None:
    value = pack_piece(3, 9, b"part")
    for bit in range(8 * len(value)):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LayoutError) as refused:
            parse_piece(b"the/key", bytes(flipped))
        assert refused.value.key == b"the/key"


def test_a_piece_that_is_cut_short_is_refused() -> None:
    value = pack_piece(3, 9, b"part")
    for length in range(len(value)):
        with pytest.raises(LayoutError):
            parse_piece(b"key", value[:length])
    assert len(value) == PIECE_HEADER_BYTES + 4


def test_a_place_comes_back() -> None:
    place = Place(position=5, digest=b"d" * 32, bytes=77, revision=12, lanes={"a": 3, "b": 1})
    assert parse_place(b"key", pack_place(place)) == place


@pytest.mark.parametrize("value", [b"", b"{}x", b'{"position":"5"}', b'{"position":5,"digest":"AAAA"}'])
def test_what_is_no_place_is_refused(value: bytes) -> None:
    with pytest.raises(LayoutError):
        parse_place(b"key", value)


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_keys_sort_like_what_they_stand_for(one: int, other: int) -> None:
    assert (KEYS.piece("lane", one) < KEYS.piece("lane", other)) == (one < other)
    assert (KEYS.mark(one) < KEYS.mark(other)) == (one < other)
    assert KEYS.parse_piece(KEYS.piece("lane", one)) == ("lane", one)


@pytest.mark.parametrize("key", [b"/test/frames/lane", b"/test/frames/lane/12", b"/test/frames/lane/" + b"x" * 16])
def test_what_is_no_key_of_a_piece_is_refused(key: bytes) -> None:
    with pytest.raises(LayoutError):
        KEYS.parse_piece(key)


def test_all_keys_of_a_journal_are_within_its_range_and_those_of_the_next_are_not() -> None:
    own = [KEYS.epoch, KEYS.base, KEYS.mark(9), KEYS.lane("lane"), KEYS.piece("lane", 4)]
    assert all(KEYS.all <= key < KEYS.all_end for key in own)
    assert not KEYS.all <= Keys("/test2/").base < KEYS.all_end
    assert end_of(b"a/") == b"a0"


def test_a_prefix_without_a_slash_would_take_in_its_neighbours() -> None:
    with pytest.raises(ValueError, match="slash"):
        Keys("/test")

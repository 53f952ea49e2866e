import hashlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.journal import Frame
from fivenines.journal.format import (
    DIGEST_NONE,
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    FormatError,
    SegmentHeader,
    frame_bytes,
    pack_frame,
    pack_segment_header,
    parse_segment_header,
    parse_segment_name,
    scan_frames,
    segment_name,
    torn_reason,
)

payload_lists = st.lists(st.binary(max_size=60), max_size=6)


def packed(payloads: list[bytes], *, first: int = 1, digest: bytes = DIGEST_NONE) -> tuple[bytes, list[Frame]]:
    data = b""
    frames = []
    for position, payload in enumerate(payloads, start=first):
        head, tail, digest = pack_frame(position, digest, payload)
        data += head + payload + tail
        frames.append(Frame(position, payload, digest))
    return data, frames


def scanned(data: bytes) -> list[Frame]:
    return [frame for _, frame in scan_frames(data, 1, DIGEST_NONE)]


def test_a_frame_is_these_very_bytes_for_ever() -> None:
    head, tail, digest = pack_frame(7, bytes(range(32)), b"money")
    assert head.hex() == (
        "356e4672616d6531"  # magic
        "0700000000000000"  # position
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"  # previous digest
        "0500000000000000"  # length
        "e413dfb7"  # payload checksum
        "c4d121ad"  # header checksum
        "356e486472456e64"  # guard
    )
    assert tail == b"\0\0\0" + b"5nFrmEnd"
    assert digest.hex() == "699afcc32ae589355baba1fcffb0cfdbe1e6a98df875bcf50b52e6c50cc6fe1c"


def test_the_digest_is_what_anybody_can_compute() -> None:
    _, _, digest = pack_frame(7, bytes(range(32)), b"money")
    assert digest == hashlib.sha256(struct.pack("<Q32sQ", 7, bytes(range(32)), 5) + b"money").digest()


def test_a_segment_header_is_these_very_bytes_for_ever() -> None:
    header = pack_segment_header(9, bytes(range(32)))
    checked = b"5nSegmnt" + struct.pack("<QQ", 1, 9) + bytes(range(32))
    assert header == checked + struct.pack("<I", zlib.crc32(checked)) + b"shdr"
    assert parse_segment_header(header) == SegmentHeader(9, bytes(range(32)))


def test_a_segment_of_an_unknown_version_is_refused_by_its_number() -> None:
    checked = b"5nSegmnt" + struct.pack("<QQ", 2, 9) + bytes(32)
    with pytest.raises(FormatError, match="format version 2 is unknown"):
        parse_segment_header(checked + struct.pack("<I", zlib.crc32(checked)) + b"shdr")


@pytest.mark.parametrize("length", range(SEGMENT_HEADER_BYTES))
def test_a_segment_header_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match="cut short"):
        parse_segment_header(pack_segment_header(1, DIGEST_NONE)[:length])


def test_a_flipped_bit_anywhere_in_a_segment_header_is_refused() -> None:
    header = pack_segment_header(1, DIGEST_NONE)
    for bit in range(len(header) * 8):
        with pytest.raises(FormatError):
            parse_segment_header(flipped(header, bit))


@given(st.integers(min_value=0, max_value=10**20 - 1), st.integers(min_value=0, max_value=10**20 - 1))
def test_segment_names_hold_their_position_and_sort_like_it(one: int, other: int) -> None:
    assert parse_segment_name(segment_name(one)) == one
    assert (one < other) == (segment_name(one) < segment_name(other))


@pytest.mark.parametrize("name", ["journal.lock", "journal-1.log", segment_name(1) + ".new", "x" + segment_name(1)])
def test_other_names_are_no_segments(name: str) -> None:
    assert parse_segment_name(name) is None


@given(payload_lists)
def test_what_was_packed_is_scanned(payloads: list[bytes]) -> None:
    data, frames = packed(payloads)
    assert scanned(data) == frames
    assert len(data) == sum(frame_bytes(len(payload)) for payload in payloads)
    assert len(data) % 8 == 0


@given(payload_lists, st.data())
def test_a_window_that_ends_anywhere_gives_the_frames_that_are_whole(
    payloads: list[bytes], draw: st.DataObject
) -> None:
    data, frames = packed(payloads)
    cut = draw.draw(st.integers(min_value=0, max_value=len(data)))
    found = list(scan_frames(data[:cut], 1, DIGEST_NONE))
    assert [frame for _, frame in found] == frames[: len(found)]
    ends = [sum(frame_bytes(len(payload)) for payload in payloads[: n + 1]) for n in range(len(payloads))]
    assert [end for end, _ in found] == [end for end in ends if end <= cut]


def test_a_flipped_bit_anywhere_in_a_frame_is_refused_and_is_never_a_torn_tail() -> None:
    data, frames = packed([b"first", b"second"])
    boundary = frame_bytes(5)
    for bit in range(len(data) * 8):
        damaged = flipped(data, bit)
        in_second = bit // 8 >= boundary
        with pytest.raises(FormatError) as refused:
            scanned(damaged)
        assert refused.value.offset == (boundary if in_second else 0)
        if in_second:
            assert torn_reason(damaged[boundary:], 2, frames[0].digest) is None
        else:
            assert torn_reason(damaged, 1, DIGEST_NONE) is None


def test_a_frame_of_another_place_is_refused_whole_or_cut() -> None:
    data, frames = packed([b"first", b"second"])
    second = data[frame_bytes(5) :]
    for position, digest in ((3, frames[0].digest), (2, DIGEST_NONE)):
        with pytest.raises(FormatError):
            list(scan_frames(second, position, digest))
        assert torn_reason(second[:-1], position, digest) is None


def test_a_frame_cut_at_any_length_is_torn() -> None:
    data, _ = packed([b"some payload"])
    for length in range(len(data)):
        assert torn_reason(data[:length], 1, DIGEST_NONE)
    assert torn_reason(data, 1, DIGEST_NONE) is None


def test_a_frame_of_which_the_end_was_never_written_is_torn() -> None:
    data, _ = packed([b"some payload"])
    for written in range(0, len(data), 8):
        assert torn_reason(data[:written] + bytes(len(data) - written + 24), 1, DIGEST_NONE), written


def test_zeros_with_something_after_them_are_not_torn() -> None:
    data, _ = packed([b"some payload", b"another"])
    end = frame_bytes(12)
    assert torn_reason(data[: end - 8] + bytes(8) + data[end:], 1, DIGEST_NONE) is None
    assert torn_reason(bytes(FRAME_HEADER_BYTES) + data[FRAME_HEADER_BYTES:], 1, DIGEST_NONE) is None
    assert torn_reason(bytes(end) + data[end:], 1, DIGEST_NONE) is None


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)

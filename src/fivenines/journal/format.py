"""The format: what a journal looks like in bytes. Pure functions, no I/O.

A journal is a row of segment files, `journal-<first position, 20 digits>.log`. Integers are little-endian.

    segment = header of 64 bytes, then frames without gaps
        0  magic             8 bytes   "5nSegmnt"
        8  version           u64       1
       16  first position    u64       of the first frame in this file
       24  previous digest  32 bytes   of the frame before it; zeros before position 1
       56  checksum          u32       CRC-32 of all the above
       60  guard             4 bytes   "shdr"

    frame = header of 72 bytes, payload, 0 to 7 zero bytes up to a multiple of 8, end marker of 8 bytes
        0  magic             8 bytes   "5nFrame1"
        8  position          u64
       16  previous digest  32 bytes
       48  length            u64       of the payload
       56  payload checksum  u32       CRC-32 of the payload
       60  header checksum   u32       CRC-32 of all the above
       64  guard             8 bytes   "5nHdrEnd"
       ... payload, padding
           end marker        8 bytes   "5nFrmEnd"

The digest of a frame is SHA-256 over bytes 8 to 55 of its header (position, previous digest, length) and the payload.
So the digest depends on nothing but the payloads, and is the same in every copy of a journal.

**Torn or damaged.** A write that a crash cut short must be cut off without a question; a frame that was acknowledged
must never be. The two are told apart like this. A frame is acknowledged after an fdatasync that covers all of it, its
end marker included, and bytes of a segment are never written twice. So in the bytes of an acknowledged frame the end
marker is there, and in front of it a header whose own checksum vouches for the length that leads to the marker. What a
cut write leaves is a beginning of what was to be written and then nothing: the file ends, or, where the file system had
extended the file but not filled it, zeros up to the end of the file. Hence a tail is *torn* if and only if it is in the
last segment and one of these holds, after a frame boundary:

1. the file ends before the header does, or before the end of the frame of which the header is sound;
2. from the header's guard (its last word) on, everything up to the end of the file is zero;
3. the header is sound, and from the frame's end marker on, everything up to the end of the file is zero.

No fault in the bytes of an acknowledged frame can look like this, short of the disk losing the frame's end itself (a
file made shorter, a marker zeroed with all that follows). The guards are eight bytes with several bits set in each, so
neither a flipped bit nor an overwritten byte turns one to zeros; a changed length fails the header's checksum; a
damaged frame with an acknowledged frame after it has a non-zero end marker after it. Frames are aligned to 8 bytes, and
so no guard lies across two disk sectors, of which one could be written and the other not. Everything that is not torn
is damage. This errs on the safe side: a power cut that leaves a hole *within* an unacknowledged write, with its end on
the disk, is reported as damage too, because a decayed acknowledged frame would look the same.
"""

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from fivenines.journal.port import Frame, Position

__all__ = [
    "DIGEST_BYTES",
    "DIGEST_NONE",
    "FRAME_HEADER_BYTES",
    "SEGMENT_HEADER_BYTES",
    "FormatError",
    "FrameHeader",
    "SegmentHeader",
    "frame_bytes",
    "frame_digest",
    "pack_frame",
    "pack_segment_header",
    "parse_frame_header",
    "parse_segment_header",
    "parse_segment_name",
    "scan_frames",
    "segment_name",
    "torn_reason",
]

VERSION = 1
DIGEST_BYTES = 32
DIGEST_NONE = bytes(DIGEST_BYTES)
"""The previous digest of the frame at position 1."""

_SEGMENT_MAGIC = b"5nSegmnt"
_SEGMENT_GUARD = b"shdr"
_SEGMENT = struct.Struct("<8sQQ32sI4s")
_SEGMENT_CHECKED = slice(0, 56)
SEGMENT_HEADER_BYTES = _SEGMENT.size

_FRAME_MAGIC = b"5nFrame1"
_FRAME_GUARD = b"5nHdrEnd"
_FRAME_END = b"5nFrmEnd"
_FRAME_END_BYTES = len(_FRAME_END)
_FRAME = struct.Struct("<8sQ32sQII8s")
_CHECKED = struct.Struct("<8sQ32sQI")
_CHECKED_BYTES = _CHECKED.size
_CHAINED_FROM, _CHAINED_TO = 8, 56
_CHAINED = struct.Struct("<Q32sQ")
FRAME_HEADER_BYTES = _FRAME.size
_GUARD_OFFSET = FRAME_HEADER_BYTES - len(_FRAME_GUARD)

_ALIGNMENT = 8
_TAILS = tuple(bytes(-length % _ALIGNMENT) + _FRAME_END for length in range(_ALIGNMENT))
"""Padding and end marker, by the length of the payload modulo 8."""

_SEGMENT_NAME = re.compile(r"journal-([0-9]{20})\.log")

# What the argument above rests on: frames stay aligned, and no guard word is within one flipped bit of a zero byte.
assert _CHAINED.size == _CHAINED_TO - _CHAINED_FROM
assert SEGMENT_HEADER_BYTES % _ALIGNMENT == 0
assert FRAME_HEADER_BYTES % _ALIGNMENT == 0
assert all(byte.bit_count() >= 2 for byte in _FRAME_MAGIC + _FRAME_GUARD + _FRAME_END)


class FormatError(Exception):
    """Bytes that no journal writes, `offset` bytes into what was parsed."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason


class SegmentHeader(NamedTuple):
    """What a segment says about itself."""

    first: Position
    previous_digest: bytes


class FrameHeader(NamedTuple):
    """What a frame says about itself before its payload."""

    position: Position
    previous_digest: bytes
    length: int
    payload_checksum: int


def segment_name(first: Position) -> str:
    """Name the file of the segment that begins at `first`; names sort like positions."""
    return f"journal-{first:020d}.log"


def parse_segment_name(name: str) -> Position | None:
    """Return the first position that a file name states, or None if it is no segment's name."""
    match = _SEGMENT_NAME.fullmatch(name)
    return int(match[1]) if match else None


def pack_segment_header(first: Position, previous_digest: bytes) -> bytes:
    """Return the 64 bytes that a segment begins with."""
    head = _SEGMENT.pack(_SEGMENT_MAGIC, VERSION, first, previous_digest, 0, _SEGMENT_GUARD)
    checksum = zlib.crc32(head[_SEGMENT_CHECKED])
    return _SEGMENT.pack(_SEGMENT_MAGIC, VERSION, first, previous_digest, checksum, _SEGMENT_GUARD)


def parse_segment_header(data: bytes) -> SegmentHeader:
    """Parse the beginning of a segment. Raises `FormatError` when it is not a whole and sound header."""
    if len(data) < SEGMENT_HEADER_BYTES:
        raise FormatError(0, f"the segment header is cut short after {len(data)} of {SEGMENT_HEADER_BYTES} bytes")
    magic, version, first, previous_digest, checksum, guard = _SEGMENT.unpack_from(data)
    if magic != _SEGMENT_MAGIC:
        raise FormatError(0, "this is not a journal segment: wrong magic")
    if checksum != zlib.crc32(data[_SEGMENT_CHECKED]) or guard != _SEGMENT_GUARD:
        raise FormatError(0, "wrong checksum of the segment header")
    if version != VERSION:
        raise FormatError(0, f"format version {version} is unknown: this program reads version {VERSION}")
    return SegmentHeader(first, previous_digest)


def frame_bytes(length: int) -> int:
    """Return how many bytes a frame with a payload of `length` bytes takes."""
    return FRAME_HEADER_BYTES + length + -length % _ALIGNMENT + _FRAME_END_BYTES


def pack_frame(position: Position, previous_digest: bytes, payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the header and the tail to be written before and after the payload, and the digest of the frame."""
    length = len(payload)
    checked = _CHECKED.pack(_FRAME_MAGIC, position, previous_digest, length, zlib.crc32(payload))
    header = checked + zlib.crc32(checked).to_bytes(4, "little") + _FRAME_GUARD
    return header, _TAILS[length % _ALIGNMENT], frame_digest(position, previous_digest, payload)


def frame_digest(position: Position, previous_digest: bytes, payload: bytes) -> bytes:
    """Return the digest of a frame."""
    digest = hashlib.sha256(_CHAINED.pack(position, previous_digest, len(payload)))
    digest.update(payload)
    return digest.digest()


def parse_frame_header(data: bytes, offset: int = 0) -> FrameHeader:
    """Parse the frame header at `offset`, which must be all there. Raises `FormatError` when it is not sound."""
    magic, position, previous, length, payload_checksum, checksum, guard = _FRAME.unpack_from(data, offset)
    if checksum != zlib.crc32(data[offset : offset + _CHECKED_BYTES]):
        raise FormatError(offset, "wrong checksum of the frame header")
    if magic != _FRAME_MAGIC or guard != _FRAME_GUARD:
        raise FormatError(offset, "wrong magic or guard of the frame header")
    return FrameHeader(position, previous, length, payload_checksum)


def scan_frames(window: bytes, position: Position, previous_digest: bytes) -> Iterator[tuple[int, Frame]]:
    """Iterate over the frames in `window`, which begins at a frame boundary, checking everything about them.

    Yields each frame with the offset of its end, and stops where the window ends within a frame. `position` and
    `previous_digest` are those that the first frame must have. Raises `FormatError`.
    """
    available = len(window)
    offset = 0
    unpack_from, crc32, sha256 = _FRAME.unpack_from, zlib.crc32, hashlib.sha256
    while available - offset >= FRAME_HEADER_BYTES:
        magic, said, previous, length, payload_checksum, checksum, guard = unpack_from(window, offset)
        if (
            checksum != crc32(window[offset : offset + _CHECKED_BYTES])
            or said != position
            or previous != previous_digest
            or magic != _FRAME_MAGIC
            or guard != _FRAME_GUARD
        ):
            # The loop knows what is right, these know what is wrong.
            _check_place(parse_frame_header(window, offset), position, previous_digest, offset)
        begin = offset + FRAME_HEADER_BYTES
        end = begin + length + -length % _ALIGNMENT + _FRAME_END_BYTES
        if end > available:
            return
        payload = window[begin : begin + length]
        if crc32(payload) != payload_checksum:
            raise FormatError(offset, "wrong checksum of the payload")
        if window[begin + length : end] != _TAILS[length % _ALIGNMENT]:
            raise FormatError(offset, "wrong end marker of the frame")
        digest = sha256(window[offset + _CHAINED_FROM : offset + _CHAINED_TO])
        digest.update(payload)
        previous_digest = digest.digest()
        yield end, Frame(position, payload, previous_digest)
        position += 1
        offset = end


def torn_reason(rest: bytes, position: Position, previous_digest: bytes) -> str | None:
    """Say why the rest of the last segment, from a frame boundary on, is a torn tail, or return None if it is not.

    The rules and the argument for them are in the module's docstring. `rest` is everything up to the end of the file.
    """
    if len(rest) < FRAME_HEADER_BYTES:
        return "the file ends within a frame header"
    if _is_zero(rest[_GUARD_OFFSET:]):
        return "the frame header was never written to its end"
    try:
        header = parse_frame_header(rest)
        _check_place(header, position, previous_digest, 0)
    except FormatError:
        return None
    end = frame_bytes(header.length)
    if len(rest) < end:
        return "the file ends within a frame"
    if _is_zero(rest[end - _FRAME_END_BYTES :]):
        return "the frame was never written to its end"
    return None


def _check_place(header: FrameHeader, position: Position, previous_digest: bytes, offset: int) -> None:
    if header.position != position:
        raise FormatError(offset, f"the frame says that it is position {header.position}")
    if header.previous_digest != previous_digest:
        raise FormatError(offset, "the frame does not follow from the frame before: wrong previous digest")


def _is_zero(data: bytes) -> bool:
    return not data.strip(b"\0")

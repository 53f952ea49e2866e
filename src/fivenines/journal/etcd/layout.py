"""The layout: the keys and values of a journal in etcd, in bytes. Pure functions, no I/O.

    <prefix>epoch                            which life of the journal this is, a decimal number
    <prefix>fenced                           there when the journal goes on elsewhere, as of the epoch above
    <prefix>base                             the `Place` that the journal begins after
    <prefix>marks/<position, 20 digits>      places that a reader may start from
    <prefix>lanes/<lane>                     the number of the newest piece in the lane, 16 hexadecimal digits
    <prefix>nodes/<name>                     what a node lets the others know
    <prefix>frames/<lane>/<16 hex digits>    a piece of a frame, numbered by its lane

A **piece** is a header of 16 bytes and a part of a payload; most frames are one piece. Integers are little-endian.

     0  magic              2 bytes  "5n"
     2  version            u8       1
     3  flags              u8       1: the first piece of a frame, 2: the last
     4  checksum           u32      CRC-32 of bytes 0 to 3 and of all after this
     8  previous           u64      the number of the piece before it in the lane, 0 for the first one
    16  part of the payload

As each piece names the one before it, a reader notices at once when one is missing.
"""

import struct
import zlib
from typing import NamedTuple

import msgspec
from msgspec import Struct

from fivenines.journal.format import DIGEST_BYTES, DIGEST_NONE
from fivenines.journal.port import Position

__all__ = [
    "PIECE_HEADER_BYTES",
    "Keys",
    "LayoutError",
    "Piece",
    "Place",
    "end_of",
    "pack_piece",
    "pack_place",
    "parse_number",
    "parse_piece",
    "parse_place",
    "split_payload",
]

FIRST = 1
LAST = 2

_MAGIC = b"5n"
_VERSION = 1
_HEADER = struct.Struct("<2sBBIQ")
_CHECKSUM = slice(4, 8)
PIECE_HEADER_BYTES = _HEADER.size


class LayoutError(Exception):
    """A value that no journal writes."""

    def __init__(self, key: bytes, reason: str) -> None:
        super().__init__(f"{key.decode(errors='replace')}: {reason}")
        self.key = key
        self.reason = reason


class Place(Struct, frozen=True, kw_only=True):
    """A place in the order of frames, right after one of them: all that a reader needs to go on from there."""

    position: Position = 0
    """Of the frame that the place is after."""
    digest: bytes = DIGEST_NONE
    """Of that frame; zeros at position 0."""
    bytes: int = 0
    """What the payloads up to there amount to, since the journal was founded."""
    revision: int = 0
    """The etcd revision that brought that frame, 0 if it came from another etcd."""
    lanes: dict[str, int] = {}
    """For each lane the number of the last piece that is before this place."""


class Piece(NamedTuple):
    """A value below `frames/`, taken apart."""

    is_first: bool
    is_last: bool
    previous: int
    part: bytes


class Keys:
    """The keys of one journal."""

    def __init__(self, prefix: str) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"a journal's prefix ends with a slash, not {prefix!r}")
        self.all = prefix.encode()
        self.all_end = end_of(self.all)
        self.epoch = self.all + b"epoch"
        self.fenced = self.all + b"fenced"
        self.base = self.all + b"base"
        self.marks = self.all + b"marks/"
        self.marks_end = end_of(self.marks)
        self.lanes = self.all + b"lanes/"
        self.lanes_end = end_of(self.lanes)
        self.frames = self.all + b"frames/"
        self.nodes = self.all + b"nodes/"
        self.nodes_end = end_of(self.nodes)

    def mark(self, position: Position) -> bytes:
        """The key of the mark at `position`; keys sort like positions."""
        return b"%s%020d" % (self.marks, position)

    def lane(self, lane: str) -> bytes:
        """The key of a lane."""
        return self.lanes + lane.encode()

    def node(self, name: str) -> bytes:
        """The key of a node's notice."""
        return self.nodes + name.encode()

    def piece(self, lane: str, number: int) -> bytes:
        """The key of a piece; keys of a lane sort like numbers."""
        return b"%s%s/%016x" % (self.frames, lane.encode(), number)

    def pieces(self, lane: str) -> bytes:
        """What the keys of all pieces of a lane begin with."""
        return b"%s%s/" % (self.frames, lane.encode())

    def parse_node(self, key: bytes) -> str:
        """Return the name of the node whose notice has this key."""
        return key[len(self.nodes) :].decode()

    def parse_lane(self, key: bytes) -> str:
        """Return the lane whose key this is."""
        return key[len(self.lanes) :].decode()

    def parse_piece(self, key: bytes) -> tuple[str, int]:
        """Return the lane and the number of the piece whose key this is. Raises `LayoutError`."""
        lane, slash, number = key[len(self.frames) :].partition(b"/")
        if not slash or len(number) != 16:
            raise LayoutError(key, "this is not the key of a piece")
        return lane.decode(), parse_number(key, number)


def end_of(prefix: bytes) -> bytes:
    """Return the key that ends the range of all keys with a prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def parse_number(key: bytes, value: bytes) -> int:
    """Parse a hexadecimal number. Raises `LayoutError`."""
    try:
        return int(value, 16)
    except ValueError as error:
        raise LayoutError(key, "this is not a hexadecimal number") from error


def pack_place(place: Place) -> bytes:
    """Return a place as it is kept in etcd."""
    return msgspec.json.encode(place)


def parse_place(key: bytes, value: bytes) -> Place:
    """Parse what `pack_place` made. Raises `LayoutError`."""
    try:
        place = msgspec.json.decode(value, type=Place)
    except msgspec.DecodeError as error:
        raise LayoutError(key, f"this is not a place: {error}") from error
    if len(place.digest) != DIGEST_BYTES:
        raise LayoutError(key, f"a digest has {DIGEST_BYTES} bytes, not {len(place.digest)}")
    return place


def split_payload(payload: bytes, part_bytes_max: int) -> list[tuple[int, bytes]]:
    """Split a payload into parts, each with its flags. An empty payload has one empty part."""
    starts = range(0, len(payload) or 1, part_bytes_max)
    return [
        (
            FIRST * (start == starts[0]) | LAST * (start == starts[-1]),
            payload[start : start + part_bytes_max],
        )
        for start in starts
    ]


def pack_piece(flags: int, previous: int, part: bytes) -> bytes:
    """Return the value of a piece."""
    unchecked = _HEADER.pack(_MAGIC, _VERSION, flags, 0, previous)
    checksum = zlib.crc32(part, _header_checksum(unchecked))
    return _HEADER.pack(_MAGIC, _VERSION, flags, checksum, previous) + part


def parse_piece(key: bytes, value: bytes) -> Piece:
    """Take the value of a piece apart. Raises `LayoutError` when it is not what was written."""
    if len(value) < PIECE_HEADER_BYTES:
        raise LayoutError(key, f"a piece has at least {PIECE_HEADER_BYTES} bytes, not {len(value)}")
    magic, version, flags, checksum, previous = _HEADER.unpack_from(value)
    if magic != _MAGIC:
        raise LayoutError(key, "this is no piece of a journal: wrong magic")
    if version != _VERSION:
        raise LayoutError(key, f"version {version} of a piece is unknown: this program reads version {_VERSION}")
    if zlib.crc32(memoryview(value)[PIECE_HEADER_BYTES:], _header_checksum(value)) != checksum:
        raise LayoutError(key, "wrong checksum of the piece")
    return Piece(bool(flags & FIRST), bool(flags & LAST), previous, value[PIECE_HEADER_BYTES:])


def _header_checksum(header: bytes) -> int:
    return zlib.crc32(header[_CHECKSUM.stop : PIECE_HEADER_BYTES], zlib.crc32(header[: _CHECKSUM.start]))

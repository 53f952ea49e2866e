"""The objects of an archive, in names and bytes. Pure functions, no I/O.

    epochs/<epoch, 10 digits>/epoch.json                            how this life of the journal began
    epochs/<epoch>/segments/<first, 20 digits>-<last, 20 digits>    frames, compressed
    epochs/<epoch>/snapshots/<position, 20 digits>-<time, 20 digits>  a whole state, compressed

An object is written once, and never changed. Each name says what is in the object, so a listing is a table of contents.
Segments of one archive may overlap: a long one takes the place of short ones, which are deleted after it is there.

A segment is a header of 152 bytes, a body, and the SHA-256 of both. Integers are little-endian.

      0  magic              8 bytes   "5nArchv1"
      8  first position     u64
     16  last position      u64
     24  previous digest   32 bytes   of the frame before the first
     56  last digest       32 bytes   of the last frame
     88  outcomes digest   32 bytes   the chain over all outcomes after the last frame; zeros where it was not known
    120  frames' bytes      u64       before compression
    128  body's bytes       u64
    136  guard             16 bytes   zeros
    152  body                         zstd of the frames, each as in a file journal (`fivenines.journal.format`)
         checksum          32 bytes   SHA-256 of all the above

A snapshot is zstd of a node's snapshot file, with the SHA-256 of the compressed bytes after it.
"""

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import zstandard
from msgspec import Struct

from fivenines.journal.format import DIGEST_BYTES, DIGEST_NONE, FormatError, pack_frame, scan_frames
from fivenines.journal.port import Frame, Position

__all__ = [
    "Epoch",
    "ObjectName",
    "SegmentHead",
    "SegmentName",
    "SnapshotName",
    "frames_of",
    "pack_segment",
    "pack_snapshot",
    "parse_epoch",
    "parse_segment",
    "parse_snapshot",
    "path_through",
]

_MAGIC = b"5nArchv1"
_HEAD = struct.Struct("<8sQQ32s32s32sQQ16s")
_CHECKSUM_BYTES = 32
_LEVEL = 1
"""Of zstd: for frames, the levels after it are slower and make no less of them (24 % at 3, 22 % at 1)."""
_BYTES_MAX = 1 << 31
"""No segment is larger; what says so is damaged."""
_SEGMENT = re.compile(r"epochs/(\d{10})/segments/(\d{20})-(\d{20})")
_SNAPSHOT = re.compile(r"epochs/(\d{10})/snapshots/(\d{20})-(\d{20})")

assert _HEAD.size == 152


class SegmentName(Struct, frozen=True, order=True):
    """A segment: which frames it holds."""

    epoch: int
    first: Position
    last: Position

    def __str__(self) -> str:
        return f"epochs/{self.epoch:010}/segments/{self.first:020}-{self.last:020}"

    @staticmethod
    def parse(name: str) -> "SegmentName | None":
        """Return what a name says, None if it is not a segment's."""
        match = _SEGMENT.fullmatch(name)
        if match is None or not 0 < int(match[2]) <= int(match[3]):
            return None
        return SegmentName(*map(int, match.groups()))


class SnapshotName(Struct, frozen=True, order=True):
    """A snapshot: of which position it is, and the journal's time there."""

    epoch: int
    position: Position
    time_us: int

    def __str__(self) -> str:
        return f"epochs/{self.epoch:010}/snapshots/{self.position:020}-{self.time_us:020}"

    @staticmethod
    def parse(name: str) -> "SnapshotName | None":
        """Return what a name says, None if it is not a snapshot's."""
        match = _SNAPSHOT.fullmatch(name)
        return SnapshotName(*map(int, match.groups())) if match else None


ObjectName = SegmentName | SnapshotName


class Epoch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a life of the journal began: after a frame of an earlier one, or from nothing."""

    epoch: int
    parent: int
    """The epoch that its history is from, up to `position`; 0 for none."""
    position: Position
    digest: str
    """Of the frame at `position`, in hex."""

    def __post_init__(self) -> None:
        if self.epoch < 1 or not 0 <= self.parent < self.epoch or self.position < 0:
            raise ValueError(f"epoch {self.epoch} cannot begin at {self.position} of {self.parent}")
        if len(bytes.fromhex(self.digest)) != DIGEST_BYTES:
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes")

    @property
    def name(self) -> str:
        """The name of the object that says so."""
        return f"epochs/{self.epoch:010}/epoch.json"


def parse_epoch(data: bytes) -> Epoch:
    """Read an epoch. Raises `FormatError`."""
    try:
        return msgspec.json.decode(data, type=Epoch)
    except (msgspec.DecodeError, ValueError) as error:
        raise FormatError(0, f"this is not the beginning of an epoch: {error}") from error


class SegmentHead(Struct, frozen=True):
    """What a segment says about itself."""

    first: Position
    last: Position
    previous_digest: bytes
    last_digest: bytes
    outcomes_digest: bytes
    """32 zero bytes where it was not known."""


def pack_segment(frames: Sequence[Frame], previous_digest: bytes, outcomes_digest: bytes = DIGEST_NONE) -> bytes:
    """Return a segment of frames without gaps, the first of which follows from `previous_digest`."""
    parts: list[bytes] = []
    digest = previous_digest
    for frame in frames:
        head, tail, found = pack_frame(frame.position, digest, frame.payload)
        assert found == frame.digest, frame.position
        parts += head, frame.payload, tail
        digest = found
    raw = b"".join(parts)
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(raw)
    head = _HEAD.pack(
        *(_MAGIC, frames[0].position, frames[-1].position, previous_digest, digest, outcomes_digest),
        *(len(raw), len(body), bytes(16)),
    )
    checksum = hashlib.sha256(head)
    checksum.update(body)
    return b"".join((head, body, checksum.digest()))


def parse_segment(name: SegmentName, data: bytes) -> tuple[SegmentHead, bytes]:
    """Return what a segment says of itself, and its frames in bytes. Raises `FormatError` unless all of it is sound."""
    if len(data) < _HEAD.size + _CHECKSUM_BYTES:
        raise FormatError(0, f"it is cut short after {len(data)} bytes")
    magic, first, last, previous, digest, outcomes, raw_bytes, body_bytes, _ = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise FormatError(0, "this is no segment: wrong magic")
    if len(data) != _HEAD.size + body_bytes + _CHECKSUM_BYTES:
        raise FormatError(len(data), f"it has {len(data)} bytes, not the {_HEAD.size + body_bytes + _CHECKSUM_BYTES}")
    if hashlib.sha256(memoryview(data)[:-_CHECKSUM_BYTES]).digest() != data[-_CHECKSUM_BYTES:]:
        raise FormatError(_HEAD.size, "its checksum is wrong")
    if (first, last) != (name.first, name.last):
        raise FormatError(8, f"it holds the frames {first} to {last}: another segment's content")
    if raw_bytes > _BYTES_MAX:
        raise FormatError(120, f"it says that it holds {raw_bytes} bytes")
    try:
        raw = zstandard.ZstdDecompressor().decompress(
            memoryview(data)[_HEAD.size : -_CHECKSUM_BYTES], max_output_size=raw_bytes
        )
    except zstandard.ZstdError as error:
        raise FormatError(_HEAD.size, f"its body cannot be decompressed: {error}") from error
    if len(raw) != raw_bytes:
        raise FormatError(_HEAD.size, f"its body holds {len(raw)} bytes, not {raw_bytes}")
    return SegmentHead(first, last, previous, digest, outcomes), raw


def frames_of(head: SegmentHead, raw: bytes) -> Iterator[Frame]:
    """Iterate over the frames of a segment, checking each of them. Raises `FormatError`."""
    position, digest, end = head.first, head.previous_digest, 0
    for offset, frame in scan_frames(raw, position, digest):
        position, digest, end = frame.position + 1, frame.digest, offset
        yield frame
    if end != len(raw) or position != head.last + 1 or digest != head.last_digest:
        raise FormatError(end, f"it ends at position {position - 1}, not at {head.last}")


def pack_snapshot(file: bytes) -> bytes:
    """Return a snapshot file as it is archived."""
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(file)
    return body + hashlib.sha256(body).digest()


def parse_snapshot(data: bytes) -> bytes:
    """Return the snapshot file in an object. Raises `FormatError`."""
    body = data[:-_CHECKSUM_BYTES]
    if len(data) < _CHECKSUM_BYTES or hashlib.sha256(body).digest() != data[-_CHECKSUM_BYTES:]:
        raise FormatError(0, f"its checksum is wrong, or it is cut short after {len(data)} bytes")
    try:
        file: bytes = zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise FormatError(0, f"it cannot be decompressed: {error}") from error
    return file


def path_through(segments: Iterable[SegmentName], start: Position) -> tuple[list[SegmentName], Position]:
    """Return the fewest segments that hold the frames from `start` on without a gap, and the last position of them.

    Of segments that overlap, the one that reaches farthest is taken; `start - 1` where none holds `start`.
    """
    path: list[SegmentName] = []
    reached = start - 1
    best: SegmentName | None = None
    for segment in sorted(segments, key=lambda each: each.first):
        if segment.first > reached + 1 and best is not None:
            path.append(best)
            reached, best = best.last, None
        if segment.first > reached + 1:
            break
        if segment.last > (best.last if best is not None else reached):
            best = segment
    if best is not None:
        path.append(best)
        reached = best.last
    return path, reached

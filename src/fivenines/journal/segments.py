"""Segment files: listing a journal's folder, and walking the frames of a file, with nothing but reads.

Both the journal that is being written (`fivenines.journal.file`) and the tools that look at one from outside
(`fivenines.journal.verify`) read through here, so there is one opinion of what is sound.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from fivenines.journal.format import (
    DIGEST_NONE,
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    FormatError,
    SegmentHeader,
    frame_bytes,
    parse_frame_header,
    parse_segment_header,
    parse_segment_name,
    scan_frames,
    torn_reason,
)
from fivenines.journal.port import Frame, JournalDamagedError, Position

__all__ = [
    "SegmentFound",
    "Torn",
    "check_segments",
    "list_segments",
    "open_segment",
    "read_segment_header",
    "walk_frames",
]

_WINDOW_BYTES_MIN = 64 * 1024
"""How much is read at first: often one frame is all that is wanted."""
_WINDOW_BYTES_MAX = 4 * 1024 * 1024
"""How much is read at a time later. Several times a large frame, as a frame cut by the window's end is read twice."""


class SegmentFound(Struct, frozen=True):
    """A segment whose header is sound and follows from the segment before."""

    file: Path
    first: Position
    previous_digest: bytes


class Torn(Struct, frozen=True):
    """The tail of the last segment that a cut write left, or that a write in flight has not finished."""

    file: Path
    offset: int
    length_bytes: int
    position: Position
    """The position that the frame there would have."""
    reason: str


def list_segments(directory: Path) -> list[tuple[Position, Path]]:
    """Return the segment files in a folder with the first position that each one's name states, oldest first."""
    found = ((parse_segment_name(path.name), path) for path in directory.iterdir())
    return sorted((first, path) for first, path in found if first is not None)


@contextmanager
def open_segment(path: Path) -> Iterator[int]:
    """Open a segment for reading and give its file descriptor."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def read_segment_header(fd: int, path: Path, first: Position) -> SegmentHeader:
    """Read and check a segment's header. Raises `JournalDamagedError`."""
    try:
        header = parse_segment_header(_pread(fd, path, SEGMENT_HEADER_BYTES, 0, first))
    except FormatError as error:
        raise JournalDamagedError(path, 0, first, error.reason) from error
    if header.first != first:
        raise JournalDamagedError(path, 0, first, f"the segment says that it begins at position {header.first}")
    return header


def walk_frames(
    fd: int, path: Path, offset: int, size: int, position: Position, previous_digest: bytes | None
) -> Iterator[tuple[int, Frame]]:
    """Iterate over the frames of a segment from a frame boundary to byte `size`, each with the offset of its end.

    `previous_digest` is what the first of them must follow from; None takes its own word for it. Raises
    `JournalDamagedError` at the first byte sequence that is not a whole and sound frame: a torn tail too, which only
    `check_segments` tells from damage.
    """
    usual = want = _WINDOW_BYTES_MIN
    while offset < size:
        window = _pread(fd, path, min(want, size - offset), offset, position)
        if len(window) < FRAME_HEADER_BYTES:
            raise JournalDamagedError(path, offset, position, "the file ends within a frame header")
        done = 0
        try:
            header = parse_frame_header(window)
            for done, frame in scan_frames(window, position, previous_digest or header.previous_digest):
                yield offset + done, frame
                position, previous_digest = position + 1, frame.digest
        except FormatError as error:
            raise JournalDamagedError(path, offset + error.offset, position, error.reason) from error
        offset += done
        usual = want = min(usual * 4, _WINDOW_BYTES_MAX)
        if done == 0:
            # A frame larger than the window; yet no more is read for a length than there is.
            want = frame_bytes(header.length)
            if offset + want > size:
                raise JournalDamagedError(path, offset, position, "the file ends within a frame")


def check_segments(
    segments: list[tuple[Position, Path]],
) -> Iterator[SegmentFound | tuple[int, Frame] | Torn]:
    """Check a whole journal, oldest frame first: every header, every frame, every link of the chain.

    Yields each segment and then its frames, each with the offset of its end; at last a `Torn`, if the last segment has
    a torn tail. Raises `JournalDamagedError` for anything else that is not sound.
    """
    position: Position | None = None
    digest = DIGEST_NONE
    for number, (first, path) in enumerate(segments, start=1):
        with open_segment(path) as fd:
            header = read_segment_header(fd, path, first)
            if position is None:
                position, digest = first, header.previous_digest
                if first == 1 and digest != DIGEST_NONE:
                    raise JournalDamagedError(path, 0, first, "position 1 follows from nothing: wrong previous digest")
            if first != position:
                raise JournalDamagedError(path, 0, position, f"the journal goes on at position {first}")
            if header.previous_digest != digest:
                raise JournalDamagedError(path, 0, first, "the segment does not follow from the one before")
            end = SEGMENT_HEADER_BYTES
            # What a writer adds from here on is not looked at, so the tail is judged on the bytes that were walked.
            size = os.fstat(fd).st_size
            yield SegmentFound(path, first, digest)
            try:
                for end, frame in walk_frames(fd, path, SEGMENT_HEADER_BYTES, size, position, digest):
                    position, digest = frame.position + 1, frame.digest
                    yield end, frame
            except JournalDamagedError:
                if number < len(segments):
                    raise
                rest = _pread(fd, path, size - end, end, position)
                if (reason := torn_reason(rest, position, digest)) is None:
                    raise
                yield Torn(path, end, len(rest), position, reason)


def _pread(fd: int, path: Path, count: int, offset: int, position: Position) -> bytes:
    """Read up to `count` bytes; where the disk cannot, that is damage with a place, like any other."""
    try:
        return os.pread(fd, count, offset)
    except OSError as error:
        raise JournalDamagedError(path, offset, position, f"it cannot be read: {error.strerror}") from error

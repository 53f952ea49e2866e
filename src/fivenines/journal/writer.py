"""The writer: makes groups of payloads durable at the end of the newest segment, one thread at a time, no asyncio.

What fails, and what is known then:

- No room (ENOSPC, EDQUOT, EFBIG) while writing: the file is cut back to its last good end, and synced. The group surely
  did not happen (`JournalFullError`), and the next one tries again.
- The sync fails, or the cutting back: what the disk holds is unknown, and a second fdatasync would not tell, as the
  kernel drops the pages it could not write and then reports success. The group is a `MaybeDoneError`, and the writer
  has *failed*: it takes no more groups. Opening the journal anew reads what the disk really holds.
- No file descriptor is free to begin a segment with (EMFILE, ENFILE): nothing was done at all, so this is as no room.
- The file is no longer where it was made: the folder was deleted, or moved away, under a running writer. It could still
  be written to, and nobody would ever read it. Nothing is written, and the writer has failed.
- A crash at any point: what was acknowledged was synced, and the rest is a torn tail, cut when the journal is opened.
"""

import errno
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import structlog
from msgspec import Struct

from fivenines.journal.disk import Disk, create_segment, write_all
from fivenines.journal.format import SEGMENT_HEADER_BYTES, frame_bytes, pack_frame
from fivenines.journal.port import Frame, JournalFailedError, JournalFullError, MaybeDoneError, Position

__all__ = ["Segment", "SegmentWriter", "empty_segment"]

log = structlog.get_logger(__name__)

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ROOM_TO_BEGIN = _NO_ROOM | {errno.EMFILE, errno.ENFILE}


class Segment(Struct):
    """A segment file and where in it each frame begins. Other threads read it while the writer adds to its end."""

    first: Position
    path: Path
    offsets: "array[int]"
    end: int
    """The end of the last good frame, in bytes."""


def empty_segment(first: Position, path: Path) -> Segment:
    """Return a segment without frames."""
    return Segment(first, path, array("Q"), SEGMENT_HEADER_BYTES)


class SegmentWriter:
    """Writes to the newest of `segments`, and begins and removes segments. For one thread at a time."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        segments: tuple[Segment, ...],
        last: Position,
        last_digest: bytes,
        segment_bytes: int,
    ) -> None:
        self.segments = segments
        """All segments, oldest first. Replaced, never changed, so another thread may hold on to it."""
        self.failed: str | None = None
        """Why the writer takes no more groups, or None."""
        self._disk = disk
        self._directory = directory
        self._last = last
        self._last_digest = last_digest
        self._segment_bytes = segment_bytes
        self._full = False
        # Held open, so that there is no step after the making of a segment that wants for a file descriptor.
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fd = os.open(segments[-1].path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            os.close(self._directory_fd)
            raise
        self._written_to = os.fstat(self._fd)

    def store(self, payloads: Sequence[bytes]) -> list[Frame]:
        """Make a group durable, all or none of it, and return its frames.

        Raises `JournalFullError` or `JournalFailedError` when it surely did not happen, else `MaybeDoneError`.
        """
        if self.failed is not None:
            raise JournalFailedError(self.failed)
        self._check_in_place()
        frames: list[Frame] = []
        buffers: list[bytes] = []
        sizes: list[int] = []
        digest = self._last_digest
        for position, payload in enumerate(payloads, start=self._last + 1):
            head, tail, digest = pack_frame(position, digest, payload)
            buffers += (head, payload, tail)
            sizes.append(frame_bytes(len(payload)))
            frames.append(Frame(position, payload, digest))
        segment = self.segments[-1]
        if segment.offsets and segment.end + sum(sizes) > self._segment_bytes:
            segment = self._begin_segment()
        self._write(buffers, segment.end)
        self._sync()
        for size in sizes:
            segment.offsets.append(segment.end)
            segment.end += size
        self._last = frames[-1].position
        self._last_digest = digest
        if self._full:
            self._full = False
            log.info("journal.room_again", last=self._last)
        return frames

    def trim(self, before: Position) -> None:
        """Remove the segments of which all frames are before `before`, except the newest. Raises OSError.

        They go oldest first, each one durably before the next: so a crash never leaves a gap.
        """
        while len(self.segments) > 1 and self.segments[1].first <= before:
            oldest = self.segments[0]
            self.segments = self.segments[1:]
            oldest.path.unlink(missing_ok=True)
            self._disk.fsync(self._directory_fd)
            log.info("journal.trimmed", file=str(oldest.path), first=self.segments[0].first)

    def fail(self, reason: str) -> str:
        """Take no more groups, for this reason."""
        self.failed = reason
        log.error("journal.failed", reason=reason, last=self._last)
        return reason

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._fd)
        os.close(self._directory_fd)

    def _check_in_place(self) -> None:
        """See that the file under the newest segment's name is the one that is written to; two microseconds a group."""
        path = self.segments[-1].path
        try:
            in_place = os.path.samestat(path.stat(), self._written_to)
        except OSError as error:
            raise JournalFailedError(self.fail(f"the file that is written to is gone: {error}")) from error
        if not in_place:
            raise JournalFailedError(self.fail(f"another file is in the place of the one that is written to: {path}"))

    def _write(self, buffers: Sequence[bytes], end: int) -> None:
        """Write at the end of the newest segment, or leave it as it was."""
        try:
            write_all(self._disk, self._fd, buffers, end)
        except OSError as error:
            try:
                self._disk.ftruncate(self._fd, end)
                self._disk.fsync(self._fd)
            except OSError as second:
                raise MaybeDoneError(self.fail(f"cutting back a failed write: {second}")) from error
            if error.errno in _NO_ROOM:
                raise self._no_room(error) from error
            raise JournalFailedError(self.fail(f"writing: {error}")) from error

    def _sync(self) -> None:
        try:
            self._disk.fdatasync(self._fd)
        except OSError as error:
            raise MaybeDoneError(self.fail(f"fdatasync: {error}")) from error

    def _begin_segment(self) -> Segment:
        """Begin the segment for the frame after the last one. Nothing of the group is on the disk by now."""
        first = self._last + 1
        try:
            fd, path = create_segment(self._disk, self._directory, first, self._last_digest)
        except OSError as error:
            if error.errno in _NO_ROOM_TO_BEGIN:
                raise self._no_room(error) from error
            raise JournalFailedError(self.fail(f"beginning a segment: {error}")) from error
        os.close(self._fd)
        self._fd = fd
        self._written_to = os.fstat(fd)
        self.segments = (*self.segments, empty_segment(first, path))
        try:
            self._disk.fsync(self._directory_fd)
        except OSError as error:
            # Not even for want of room could the next group try again: there is a segment now that may not last.
            raise JournalFailedError(self.fail(f"beginning a segment: {error}")) from error
        return self.segments[-1]

    def _no_room(self, error: OSError) -> JournalFullError:
        if not self._full:
            self._full = True
            log.warning("journal.full", reason=str(error), last=self._last)
        return JournalFullError(str(error))

"""The file journal: a folder of segment files, written by one thread, synced once for a whole group of appends.

How an append becomes durable: the event loop puts it into a queue, and the writer thread takes all that is queued,
packs it into frames, writes them with one system call, syncs them with one fdatasync and hands the group back to the
event loop in one call. Whatever arrives meanwhile is the next group, so the busier the journal is, the less a sync
costs each append, and there are no timers. The loop itself never touches the disk.

What fails, and what is known then:

- No room (ENOSPC, EDQUOT, EFBIG) while writing: the file is cut back to its last good end, and synced. The group surely
  did not happen (`JournalFullError`), and the next one tries again.
- The sync fails, or the cutting back: what the disk holds is unknown, and a second fdatasync would not tell, as the
  kernel drops the pages it could not write and then reports success. The group is a `MaybeDoneError`, and the journal
  is *failed*: no more appends until it is opened anew, which reads what the disk really holds.
- A crash at any point: what was acknowledged was synced, and the rest is a torn tail, cut by the next `open`.

A segment is born under another name, written, synced, and only then renamed, so a segment file never lacks its header.
"""

import asyncio
import errno
import fcntl
import os
import queue
import threading
from array import array
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self

import structlog
from msgspec import Struct

from fivenines.journal.format import (
    DIGEST_NONE,
    SEGMENT_HEADER_BYTES,
    frame_bytes,
    pack_frame,
    pack_segment_header,
    segment_name,
)
from fivenines.journal.port import (
    Frame,
    FrameTooLargeError,
    Journal,
    JournalClosedError,
    JournalDamagedError,
    JournalError,
    JournalFailedError,
    JournalFullError,
    JournalLockedError,
    MaybeDoneError,
    Position,
    TrimmedError,
)
from fivenines.journal.segments import SegmentFound, Torn, check_segments, list_segments, open_segment, walk_frames

__all__ = ["Disk", "FileJournal", "FileJournalSettings"]

log = structlog.get_logger(__name__)

LOCK_NAME = "journal.lock"
_NEW_SUFFIX = ".new"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WRITEV_BUFFERS_MAX = 1_000
"""Below IOV_MAX, which is 1,024 on Linux."""
_FRAME_MEMORY_BYTES = 256
"""What a frame takes in memory beside its payload: about three Python objects."""
_FOLLOW_READ_BYTES = 1024 * 1024
"""How much a follower that is behind reads from the disk at a time: what bounds its memory."""


class FileJournalSettings(Struct, frozen=True, kw_only=True):
    """How a file journal uses disk and memory."""

    segment_bytes: int = 64 * 1024 * 1024
    """A segment that would grow beyond this is followed by a new one. Trimming works by whole segments."""
    payload_bytes_max: int = 16 * 1024 * 1024
    """The longest payload."""
    group_bytes_max: int = 8 * 1024 * 1024
    """A group takes no more appends beyond this: what bounds the time of one write and sync."""
    recent_bytes_max: int = 16 * 1024 * 1024
    """The newest frames stay in memory up to this, for followers that keep up."""


DEFAULT_SETTINGS = FileJournalSettings()


class Disk(Protocol):
    """The system calls that make bytes durable: the seam at which tests let a disk fail."""

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int, /) -> int:
        """Write the buffers one after another at `offset`, and return how many bytes were written."""

    def fdatasync(self, fd: int, /) -> None:
        """Return once the contents of the file are on the disk."""

    def fsync(self, fd: int, /) -> None:
        """Return once the file or folder is on the disk, with all that is known about it."""

    def ftruncate(self, fd: int, length: int, /) -> None:
        """Make the file `length` bytes long."""


class _Segment(Struct):
    """A segment file and where in it each frame begins. Only the writer thread appends to `offsets`."""

    first: Position
    path: Path
    offsets: "array[int]"
    end: int
    """The end of the last good frame, in bytes."""


class _Append(Struct, gc=False):
    payload: bytes
    future: asyncio.Future[Position]


class _Trim(Struct):
    before: Position
    future: asyncio.Future[Position]


class _Close(Struct):
    pass


class FileJournal(Journal):
    """A journal in a folder. Made by `open`; see `Journal` for what it promises."""

    def __init__(
        self,
        directory: Path,
        settings: FileJournalSettings,
        disk: Disk,
        lock: int,
        segments: tuple[_Segment, ...],
        last: Position,
        digest: bytes,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._disk = disk
        self._lock = lock
        self._failed: str | None = None
        self._closing: asyncio.Future[None] | None = None
        self._queue: queue.SimpleQueue[_Append | _Trim | _Close] = queue.SimpleQueue()
        # What is published: changed on the event loop only, when a group is durable.
        self._last = last
        self._last_digest = digest
        self._recent: dict[Position, Frame] = {}
        self._recent_bytes = 0
        self._grown = asyncio.Event()
        # What the writer works on: changed by its thread only. The tuple is replaced, never changed.
        self._segments = segments
        self._written = last
        self._written_digest = digest
        self._fd = os.open(segments[-1].path, os.O_RDWR | os.O_CLOEXEC)
        self._full = False
        self._writer = threading.Thread(target=self._write_forever, name="journal-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, directory: Path, *, settings: FileJournalSettings = DEFAULT_SETTINGS, disk: Disk = os) -> Self:
        """Open the journal in `directory` for writing, making it if there is none.

        Takes the lock, checks every frame and cuts a torn tail, with a logged line. Blocks on the disk. Raises
        `JournalLockedError`, or `JournalDamagedError`, having changed nothing.
        """
        directory.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(directory)
        try:
            segments, last, digest = _recover(directory, disk)
            return cls(directory, settings, disk, lock, segments, last, digest)
        except BaseException:
            os.close(lock)
            raise

    @property
    def first(self) -> Position:
        """The oldest position that can be read."""
        return self._segments[0].first

    @property
    def last(self) -> Position:
        """The newest durable position."""
        return self._last

    @property
    def last_digest(self) -> bytes:
        """The digest of the frame at `last`."""
        return self._last_digest

    @property
    def payload_bytes_max(self) -> int:
        """The longest payload that can be appended, in bytes."""
        return self._settings.payload_bytes_max

    @property
    def failed(self) -> str | None:
        """Why the journal takes no more appends until it is opened anew, or None."""
        return self._failed

    async def append(self, payload: bytes) -> Position:
        """Append one frame and return its position once it is durable."""
        if len(payload) > self._settings.payload_bytes_max:
            raise FrameTooLargeError(len(payload), self._settings.payload_bytes_max)
        future = self._new_future()
        self._queue.put(_Append(payload, future))
        return await future

    async def trim(self, before: Position) -> None:
        """Remove the segments of which all frames are before `before`, except the newest."""
        future = self._new_future()
        self._queue.put(_Trim(before, future))
        await future

    def read(self, start: Position) -> Iterator[Frame]:
        """Iterate over the frames from `start` to what is `last` now; blocks on the disk."""
        self._check_readable(start)
        return self._read(start, self._last)

    def follow(self, start: Position) -> AsyncGenerator[Frame, None]:
        """Iterate over the durable frames from `start`, waiting for new ones, until the journal is closed."""
        self._check_readable(start)
        return self._follow(start)

    async def close(self) -> None:
        """Finish what is queued, end the followers and give up the lock."""
        if self._closing is None:
            loop = asyncio.get_running_loop()
            self._closing = loop.create_future()
            self._queue.put(_Close())
            await loop.run_in_executor(None, self._writer.join)
            os.close(self._fd)
            os.close(self._lock)
            self._grown.set()
            self._closing.set_result(None)
        await asyncio.shield(self._closing)

    # ---- reading -------------------------------------------------------------------------------------------------

    def _check_readable(self, start: Position) -> None:
        if self._closing is not None:
            raise JournalClosedError
        if start < self.first:
            raise TrimmedError(start, self.first)

    def _read(self, start: Position, last: Position) -> Iterator[Frame]:
        while start <= last:
            segments = self._segments
            number = bisect_right(segments, start, key=lambda segment: segment.first) - 1
            if number < 0:
                raise TrimmedError(start, self.first)
            segment = segments[number]
            try:
                with open_segment(segment.path) as fd:
                    offset = segment.offsets[start - segment.first]
                    count = min(last + 1, segment.first + len(segment.offsets)) - start
                    for _, frame in walk_frames(fd, segment.path, offset, start, None):
                        yield frame
                        start += 1
                        count -= 1
                        if count == 0:
                            break
                    else:
                        raise JournalDamagedError(segment.path, os.fstat(fd).st_size, start, "the file ends too early")
            except FileNotFoundError as error:
                if start < self.first:
                    raise TrimmedError(start, self.first) from error
                raise JournalDamagedError(segment.path, 0, start, "the file is gone") from error

    async def _follow(self, start: Position) -> AsyncGenerator[Frame, None]:
        while self._closing is None:
            if (recent := self._recent.get(start)) is not None:
                yield recent
                start += 1
            elif start <= self._last:
                for frame in await asyncio.to_thread(self._read_some, start, self._last):
                    yield frame
                    start += 1
            else:
                await self._grown.wait()

    def _read_some(self, start: Position, last: Position) -> list[Frame]:
        frames = []
        room = _FOLLOW_READ_BYTES
        for frame in self._read(start, last):
            frames.append(frame)
            room -= len(frame.payload) + _FRAME_MEMORY_BYTES
            if room <= 0:
                break
        return frames

    # ---- on the event loop ---------------------------------------------------------------------------------------

    def _new_future(self) -> asyncio.Future[Position]:
        if self._closing is not None:
            raise JournalClosedError
        if self._failed is not None:
            raise JournalFailedError(self._failed)
        return asyncio.get_running_loop().create_future()

    def _publish(self, group: list[_Append], frames: list[Frame]) -> None:
        self._last = frames[-1].position
        self._last_digest = frames[-1].digest
        for frame in frames:
            self._recent[frame.position] = frame
            self._recent_bytes += len(frame.payload) + _FRAME_MEMORY_BYTES
        while self._recent_bytes > self._settings.recent_bytes_max:
            oldest = self._recent.pop(next(iter(self._recent)))
            self._recent_bytes -= len(oldest.payload) + _FRAME_MEMORY_BYTES
        for item, frame in zip(group, frames, strict=True):
            if not item.future.done():
                item.future.set_result(frame.position)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    # ---- the writer thread ---------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        closing = False
        while not closing:
            group, after = self._take()
            if group:
                self._commit(group)
            if isinstance(after, _Trim):
                self._carry_out(after)
            closing = isinstance(after, _Close)

    def _take(self) -> tuple[list[_Append], _Trim | _Close | None]:
        """Wait for work, and return the appends that are queued, up to what a group holds, and what came after them."""
        group: list[_Append] = []
        room = self._settings.group_bytes_max
        item = self._queue.get()
        while isinstance(item, _Append):
            group.append(item)
            room -= len(item.payload)
            if room <= 0:
                return group, None
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, None
        return group, item

    def _commit(self, group: list[_Append]) -> None:
        try:
            frames = self._store(group)
        except JournalError as error:
            self._on_loop(group[0].future, _reject, [item.future for item in group], error)
        except Exception as error:
            # A bug, yet whoever waits for these appends must not wait for ever; and the journal takes no more.
            log.exception("journal.writer_broke")
            self._failed = f"the writer broke: {error!r}"
            self._on_loop(group[0].future, _reject, [item.future for item in group], MaybeDoneError(self._failed))
        else:
            self._on_loop(group[0].future, self._publish, group, frames)

    def _carry_out(self, trim: _Trim) -> None:
        try:
            self._remove_segments(trim.before)
        except OSError as error:
            self._on_loop(trim.future, _reject, [trim.future], MaybeDoneError(f"trimming: {error}"))
        else:
            self._on_loop(trim.future, _resolve, trim.future, self.first)

    @staticmethod
    def _on_loop(future: asyncio.Future[Position], call: Callable[..., None], *arguments: Any) -> None:
        # A loop that was closed has nobody left who waits.
        with suppress(RuntimeError):
            future.get_loop().call_soon_threadsafe(call, *arguments)

    def _store(self, group: list[_Append]) -> list[Frame]:
        """Write and sync a group. Raises `JournalFullError`, `JournalFailedError` or `MaybeDoneError`."""
        if self._failed is not None:
            raise JournalFailedError(self._failed)
        frames: list[Frame] = []
        buffers: list[bytes] = []
        sizes: list[int] = []
        digest = self._written_digest
        for position, item in enumerate(group, start=self._written + 1):
            head, tail, digest = pack_frame(position, digest, item.payload)
            buffers += (head, item.payload, tail)
            sizes.append(frame_bytes(len(item.payload)))
            frames.append(Frame(position, item.payload, digest))
        segment = self._segments[-1]
        if segment.offsets and segment.end + sum(sizes) > self._settings.segment_bytes:
            segment = self._begin_segment()
        self._write(buffers, segment.end)
        self._sync()
        for size in sizes:
            segment.offsets.append(segment.end)
            segment.end += size
        self._written = frames[-1].position
        self._written_digest = digest
        if self._full:
            self._full = False
            log.info("journal.room_again", position=self._written)
        return frames

    def _write(self, buffers: list[bytes], end: int) -> None:
        """Write at the end of the last segment, or leave it as it was. Raises what `_store` raises."""
        try:
            _write_all(self._disk, self._fd, buffers, end)
        except OSError as error:
            try:
                self._disk.ftruncate(self._fd, end)
                self._disk.fsync(self._fd)
            except OSError as second:
                self._fail(f"cutting back a failed write: {second}")
                raise MaybeDoneError(str(second)) from error
            if error.errno not in _NO_ROOM:
                raise JournalFailedError(self._fail(f"write: {error}")) from error
            raise self._no_room(error) from error

    def _sync(self) -> None:
        try:
            self._disk.fdatasync(self._fd)
        except OSError as error:
            raise MaybeDoneError(self._fail(f"fdatasync: {error}")) from error

    def _begin_segment(self) -> _Segment:
        """Begin the segment for the frame after the last one. Nothing of the group is on the disk by now."""
        first = self._written + 1
        try:
            fd, segment = _create_segment(self._disk, self._directory, first, self._written_digest)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise self._no_room(error) from error
            raise JournalFailedError(self._fail(f"beginning a segment: {error}")) from error
        os.close(self._fd)
        self._fd = fd
        self._segments = (*self._segments, segment)
        return segment

    def _remove_segments(self, before: Position) -> None:
        """Remove whole segments, oldest first, each durably before the next: so a crash never leaves a gap."""
        while len(self._segments) > 1 and self._segments[1].first <= before:
            oldest, *rest = self._segments
            self._segments = tuple(rest)
            oldest.path.unlink(missing_ok=True)
            _sync_directory(self._disk, self._directory)
            log.info("journal.trimmed", file=str(oldest.path), first=self.first)

    def _fail(self, reason: str) -> str:
        self._failed = reason
        log.error("journal.failed", reason=reason, last=self._written)
        return reason

    def _no_room(self, error: OSError) -> JournalFullError:
        if not self._full:
            self._full = True
            log.warning("journal.full", reason=str(error), last=self._written)
        return JournalFullError(str(error))


def _resolve(future: asyncio.Future[Position], result: Position) -> None:
    if not future.done():
        future.set_result(result)


def _reject(futures: list[asyncio.Future[Position]], error: JournalError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def _write_all(disk: Disk, fd: int, buffers: list[bytes], offset: int) -> None:
    for begin in range(0, len(buffers), _WRITEV_BUFFERS_MAX):
        part = buffers[begin : begin + _WRITEV_BUFFERS_MAX]
        left = sum(map(len, part))
        while written := disk.pwritev(fd, part, offset):
            offset += written
            left -= written
            if left == 0:
                break
            # A short write is rare: mostly the disk is full, and the next call says so.
            part = [b"".join(part)[-left:]]
        else:
            raise OSError(errno.EIO, "the disk took no bytes")


def _take_lock(directory: Path) -> int:
    fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).strip()
        os.close(fd)
        raise JournalLockedError(directory, int(holder) if holder.isdigit() else None) from error
    # The process id is for the message only: the lock is the kernel's, and ends with the process. A full disk may
    # have no room for it.
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _recover(directory: Path, disk: Disk) -> tuple[tuple[_Segment, ...], Position, bytes]:
    """Check the journal, cut a torn tail, make a first segment; return the segments, the last position and digest."""
    found = list_segments(directory)
    if found:
        _sync_what_is_read(directory, found[-1][1], disk)
    segments: list[_Segment] = []
    last, digest = 0, DIGEST_NONE
    for item in check_segments(found):
        if isinstance(item, Torn):
            _cut(item, disk)
        elif isinstance(item, SegmentFound):
            last, digest = item.first - 1, item.previous_digest
            segments.append(_Segment(item.first, item.file, array("Q"), SEGMENT_HEADER_BYTES))
        else:
            end, frame = item
            last, digest = frame.position, frame.digest
            segments[-1].offsets.append(segments[-1].end)
            segments[-1].end = end
    for left_over in directory.glob(segment_name(0).replace("0" * 20, "*") + _NEW_SUFFIX):
        left_over.unlink()
    if not segments:
        fd, segment = _create_segment(disk, directory, 1, DIGEST_NONE)
        os.close(fd)
        segments.append(segment)
    return tuple(segments), last, digest


def _sync_what_is_read(directory: Path, newest: Path, disk: Disk) -> None:
    """Make sure that what is going to be read is what a power cut would leave, before it is taken as durable.

    A process that was killed before its fdatasync leaves frames in the page cache only: so sync. One whose fdatasync
    failed leaves pages there that look clean and are not on the disk: so drop them, to read the disk itself.
    """
    fd = os.open(newest, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    _sync_directory(disk, directory)


def _cut(torn: Torn, disk: Disk) -> None:
    log.warning(
        "journal.tail_cut",
        file=str(torn.file),
        offset=torn.offset,
        bytes=torn.bytes,
        position=torn.position,
        reason=torn.reason,
    )
    fd = os.open(torn.file, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk.ftruncate(fd, torn.offset)
        disk.fsync(fd)
    finally:
        os.close(fd)


def _create_segment(disk: Disk, directory: Path, first: Position, previous_digest: bytes) -> tuple[int, _Segment]:
    """Make a segment durable, header, name and all. Whatever step a crash comes after, the journal stays sound."""
    path = directory / segment_name(first)
    new = path.with_name(path.name + _NEW_SUFFIX)
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write_all(disk, fd, [pack_segment_header(first, previous_digest)], 0)
        disk.fsync(fd)
        new.rename(path)
        _sync_directory(disk, directory)
    except BaseException:
        os.close(fd)
        with suppress(OSError):
            new.unlink()
        raise
    return fd, _Segment(first, path, array("Q"), SEGMENT_HEADER_BYTES)


def _sync_directory(disk: Disk, directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(fd)
    finally:
        os.close(fd)

"""The file journal: a folder of segment files, written by one thread, synced once for a whole group of appends.

How an append becomes durable: the event loop puts it into a queue, and the writer thread takes all that is queued,
packs it into frames, writes them with one system call, syncs them with one fdatasync and hands the group back to the
event loop in one call. Whatever arrives meanwhile is the next group, so the busier the journal is, the less a sync
costs each append, and there are no timers. The loop itself never touches the disk. How a write may fail, and what is
known then, stands in `fivenines.journal.writer`; what makes a file sound, in `fivenines.journal.format`.

Followers are served from the newest frames, which stay in memory, and from the disk when they are behind.
"""

import asyncio
import os
import queue
import threading
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Self

import structlog
from msgspec import Struct

from fivenines.journal.disk import (
    NEW_SUFFIX,
    Disk,
    create_segment,
    cut_file,
    make_directory,
    release_lock,
    sync_directory,
    sync_then_forget,
    take_lock,
)
from fivenines.journal.format import DIGEST_NONE
from fivenines.journal.port import (
    Frame,
    FrameTooLargeError,
    Journal,
    JournalClosedError,
    JournalDamagedError,
    JournalError,
    JournalFailedError,
    MaybeDoneError,
    Position,
    TrimmedError,
)
from fivenines.journal.recent import RecentFrames, take_some
from fivenines.journal.segments import SegmentFound, check_segments, list_segments, open_segment, walk_frames
from fivenines.journal.writer import Segment, SegmentWriter, empty_segment

__all__ = ["FileJournal", "FileJournalSettings"]

log = structlog.get_logger(__name__)

_BYTES_PER_NEWS = 4 * 1024 * 1024


class FileJournalSettings(Struct, frozen=True, kw_only=True):
    """How a file journal uses disk and memory."""

    segment_bytes: int = 64 * 1024 * 1024
    """A segment that would grow beyond this is followed by a new one, yet holds at least one group. Trimming works by
    whole segments."""
    payload_bytes_max: int = 16 * 1024 * 1024
    """The longest payload. A follower and a reader hold one of these at a time, whatever their other bounds."""
    group_bytes_max: int = 8 * 1024 * 1024
    """A group takes no more appends beyond this: what bounds the time of one write and sync."""
    recent_bytes_max: int = 16 * 1024 * 1024
    """The newest frames stay in memory up to this, for followers that keep up."""


DEFAULT_SETTINGS = FileJournalSettings()


class _Append(Struct, gc=False):
    payload: bytes
    future: asyncio.Future[Position]


class _Trim(Struct):
    before: Position
    future: asyncio.Future[Position]


class _Close(Struct):
    future: asyncio.Future[Position]


class FileJournal(Journal):
    """A journal in a folder. Made by `open`; see `Journal` for what it promises."""

    def __init__(
        self,
        settings: FileJournalSettings,
        lock: tuple[int, ...],
        writer: SegmentWriter,
        last: Position,
        last_digest: bytes,
    ) -> None:
        self._settings = settings
        self._lock = lock
        self._closing: asyncio.Future[Position] | None = None
        # What is published: changed on the event loop only, when a group is durable.
        self._last = last
        self._last_digest = last_digest
        self._recent = RecentFrames(settings.recent_bytes_max)
        # What the writer thread works with; the loop reads `segments` and `failed`, and no more.
        self._writer = writer
        self._queue: queue.SimpleQueue[_Append | _Trim | _Close] = queue.SimpleQueue()
        threading.Thread(target=self._write_until_closed, name="journal-writer", daemon=True).start()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        settings: FileJournalSettings = DEFAULT_SETTINGS,
        disk: Disk = os,
        on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Self:
        """Open the journal in `directory` for writing, making it if there is none.

        Takes the lock, checks every frame and cuts a torn tail, with a logged line. Blocks on the disk; `on_progress`
        is told, now and then, how many bytes are checked, and of how many.

        Raises `JournalLockedError` or `JournalDamagedError`, having changed nothing, and OSError when the folder cannot
        be read or written.
        """
        make_directory(disk, directory)
        lock = take_lock(directory)
        try:
            segments, last, last_digest = _recover(directory, disk, on_progress)
            writer = SegmentWriter(disk, directory, segments, last, last_digest, settings.segment_bytes)
        except BaseException:
            release_lock(lock)
            raise
        return cls(settings, lock, writer, last, last_digest)

    @property
    def first(self) -> Position:
        """The oldest position that can be read."""
        return self._writer.segments[0].first

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
        return self._writer.failed

    @property
    def cut_off(self) -> str | None:
        """Never: a folder is there, or the journal has failed."""
        return None

    @property
    def age_s(self) -> float:
        """Nobody else writes to it, so we always know where it ends."""
        return 0.0

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
            self._closing = asyncio.get_running_loop().create_future()
            self._queue.put(_Close(self._closing))
        await asyncio.shield(self._closing)

    # ---- reading -------------------------------------------------------------------------------------------------

    def _check_readable(self, start: Position) -> None:
        if self._closing is not None:
            raise JournalClosedError
        if start < self.first:
            raise TrimmedError(start, self.first)

    def _read(self, start: Position, last: Position) -> Iterator[Frame]:
        digest = None
        while start <= last:
            segment = self._segment_of(start)
            # Beyond these the file may hold frames that are not durable yet.
            count = min(last + 1, segment.first + len(segment.offsets)) - start
            try:
                with open_segment(segment.path) as fd:
                    offset = segment.offsets[start - segment.first]
                    frames = walk_frames(fd, segment.path, offset, os.fstat(fd).st_size, start, digest)
                    for _, frame in islice(frames, count):
                        yield frame
                        start, digest, count = start + 1, frame.digest, count - 1
            except FileNotFoundError as error:
                self._segment_of(start)
                raise JournalDamagedError(segment.path, 0, start, "the file is gone") from error
            if count > 0:
                raise JournalDamagedError(segment.path, segment.offsets[start - segment.first], start, "the file ends")

    def _segment_of(self, position: Position) -> Segment:
        segments = self._writer.segments
        if position < segments[0].first:
            raise TrimmedError(position, segments[0].first)
        return segments[bisect_right(segments, position, key=lambda segment: segment.first) - 1]

    async def _follow(self, start: Position) -> AsyncGenerator[Frame, None]:
        while True:
            changed = self._recent.changed
            if (recent := self._recent.get(start)) is not None:
                yield recent
                start += 1
            elif self._closed:
                return
            elif start <= self._last:
                reader = self._read(start, self._last)
                while (frames := await asyncio.to_thread(take_some, reader, _itself)) and not self._closed:
                    for frame in frames:
                        yield frame
                        start += 1
            else:
                await changed.wait()

    @property
    def _closed(self) -> bool:
        return self._closing is not None and self._closing.done()

    # ---- on the event loop ---------------------------------------------------------------------------------------

    def _new_future(self) -> asyncio.Future[Position]:
        if self._closing is not None:
            raise JournalClosedError
        if self._writer.failed is not None:
            raise JournalFailedError(self._writer.failed)
        return asyncio.get_running_loop().create_future()

    def _publish(self, group: list[_Append], frames: list[Frame]) -> None:
        self._last = frames[-1].position
        self._last_digest = frames[-1].digest
        for frame in frames:
            self._recent.add(frame)
        for item, frame in zip(group, frames, strict=True):
            _resolve(item.future, frame.position)
        self._recent.wake()

    def _finish_closing(self, future: asyncio.Future[Position]) -> None:
        _resolve(future, self._last)
        self._recent.wake()

    # ---- in the writer thread ------------------------------------------------------------------------------------

    def _write_until_closed(self) -> None:
        while True:
            group, after = self._take()
            if group:
                self._commit(group)
            if isinstance(after, _Trim):
                self._trim(after)
            elif isinstance(after, _Close):
                self._writer.close()
                release_lock(self._lock)
                _on_loop(after.future, self._finish_closing, after.future)
                return

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
        error: JournalError
        try:
            frames = self._writer.store([item.payload for item in group])
        except JournalError as known:
            error = known
        except Exception as bug:
            # Whoever waits for these appends must not wait for ever, and the journal takes no more.
            log.exception("journal.writer_broke")
            error = MaybeDoneError(self._writer.fail(f"the writer broke: {bug!r}"))
        else:
            _on_loop(group[0].future, self._publish, group, frames)
            return
        _on_loop(group[0].future, _reject, [item.future for item in group], error)

    def _trim(self, trim: _Trim) -> None:
        try:
            self._writer.trim(trim.before)
        except OSError as error:
            _on_loop(trim.future, _reject, [trim.future], MaybeDoneError(f"trimming: {error}"))
        else:
            _on_loop(trim.future, _resolve, trim.future, trim.before)


def _itself(frame: Frame) -> Frame:
    return frame


def _on_loop(future: asyncio.Future[Position], call: Callable[..., None], *arguments: Any) -> None:
    # A loop that is closed has nobody left who waits.
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(call, *arguments)


def _resolve(future: asyncio.Future[Position], result: Position) -> None:
    if not future.done():
        future.set_result(result)


def _reject(futures: list[asyncio.Future[Position]], error: JournalError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def _recover(
    directory: Path, disk: Disk, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[tuple[Segment, ...], Position, bytes]:
    """Check the journal, cut a torn tail, make a first segment; return the segments, the last position and digest."""
    found = list_segments(directory)
    if found:
        _, newest = found[-1]
        sync_then_forget(disk, newest)
        sync_directory(disk, directory)
    segments: list[Segment] = []
    last, digest = 0, DIGEST_NONE
    total_bytes = sum(path.stat().st_size for _, path in found)
    bytes_before = 0
    news_at = _BYTES_PER_NEWS
    for item in check_segments(found):
        if isinstance(item, tuple):
            end, frame = item
            last, digest = frame.position, frame.digest
            segment = segments[-1]
            segment.offsets.append(segment.end)
            segment.end = end
            if bytes_before + end >= news_at:
                on_progress(bytes_before + end, total_bytes)
                news_at = bytes_before + end + _BYTES_PER_NEWS
        elif isinstance(item, SegmentFound):
            last, digest = item.first - 1, item.previous_digest
            bytes_before += segments[-1].end if segments else 0
            segments.append(empty_segment(item.first, item.file))
        else:
            log.warning(
                "journal.tail_cut",
                file=str(item.file),
                offset=item.offset,
                bytes=item.length_bytes,
                position=item.position,
                reason=item.reason,
            )
            cut_file(disk, item.file, item.offset)
    for unfinished in directory.glob(f"journal-*.log{NEW_SUFFIX}"):
        unfinished.unlink()
    if not segments:
        fd, path = create_segment(disk, directory, 1, DIGEST_NONE)
        os.close(fd)
        sync_directory(disk, directory)
        segments.append(empty_segment(1, path))
    return tuple(segments), last, digest

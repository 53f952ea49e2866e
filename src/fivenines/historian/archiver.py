"""The archiver: frames become segments, states become snapshots, and both go to object storage.

It follows the journal at its own pace and writes nothing there but a notice of how far it has come, behind which nodes
may trim. What it seals goes into the spool first, on its own disk, and from there to each store.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import structlog

from fivenines.historian import beginning
from fivenines.historian.follower import Follower, Step
from fivenines.historian.settings import ArchiveSettings
from fivenines.historian.source import History
from fivenines.historian.spool import Carrier, Spool
from fivenines.journal import Frame, Position, SharedJournal
from fivenines.journal.archive import (
    Archive,
    Catalogue,
    MissingFramesError,
    ObjectDamagedError,
    OtherJournalError,
    SegmentName,
    SnapshotName,
    Store,
    StoreError,
    first_epoch,
    pack_segment,
    pack_snapshot,
    put_in_all,
)
from fivenines.journal.archive.objects import path_through
from fivenines.node import snapshots

__all__ = ["Archiver", "Statistics", "Stopped"]

_log = structlog.get_logger("fivenines.historian")

_LOOK_S = 0.25
_AGAIN_S = 2.0
_SEALED_NAME = "sealed"


class Stopped(Exception):  # noqa: N818 - it is no error
    """The journal was closed."""


@dataclass(slots=True)
class Statistics:
    """What an archiver has done since its start."""

    frames: int = 0
    bytes: int = 0
    segments: int = 0
    snapshots: int = 0
    snapshots_failed: int = 0
    gaps: int = 0


class Archiver:
    """Keeps the archive of one region.

    Args:
        directory: the historian's own disk: the spool and snapshots to start from.
        journal: open.
        epoch: the journal's.
        stores: where to write.
        peers: other regions' stores, to read what ours lack.
        settings: how.
        bring: fetches a snapshot of a node into `directory`, if there is a newer one.
        spool_store: the folder for what waits.
        on_step: is told of each step.
    """

    def __init__(
        self,
        directory: Path,
        journal: SharedJournal,
        epoch: int,
        stores: list[Store],
        peers: list[Store],
        settings: ArchiveSettings,
        *,
        bring: Callable[[], Awaitable[object]],
        spool_store: Store,
        on_step: Callable[[Step], None] = lambda _step: None,
    ) -> None:
        assert stores
        self.directory = directory
        self.stores = stores
        self.statistics = Statistics()
        self.follower: Follower | None = None
        self.spool = Spool(spool_store, len(stores))
        self.carriers: list[Carrier] = []
        self.sealed: Position = 0
        """Up to which everything is in the stores, or in the spool on the way there."""
        self.behind: dict[str, Position] = {}
        """Stores that lack frames which others have, up to where they are whole: a new one, or one that was emptied."""
        self._journal = journal
        self._epoch = epoch
        self._settings = settings
        self._bring = bring
        self._on_step = on_step
        self._archive = Archive([spool_store, *stores, *peers], on_damage=_tell_damage)
        self._pending: list[Frame] = []
        self._pending_bytes = 0
        self._pending_since_s = 0.0
        self._sealed_digest = b""
        self._sealing = asyncio.Lock()
        self._commands_since_snapshot = self._bytes_since_snapshot = 0
        self._snapshot_wanted = asyncio.Event()

    @property
    def position(self) -> Position:
        """Up to which frames are applied here."""
        return self.follower.state.position if self.follower is not None else 0

    @property
    def archived(self) -> dict[str, Position]:
        """Up to where frames are in each store; for the first one, in our own region, what is on our disk counts."""
        found: dict[str, Position] = {}
        for number, carrier in enumerate(self.carriers):
            name = carrier.store.name
            waiting = (
                each.first
                for each in self.spool.waiting_for(carrier.done)
                if isinstance(each, SegmentName) and each.epoch == self._epoch
            )
            has = self.sealed if number == 0 else min(self.sealed, min(waiting, default=self.sealed + 1) - 1)
            found[name] = min(has, self.behind.get(name, has))
        return found

    async def run(self) -> None:
        """Keep the archive until the journal is closed or this is cancelled.

        Raises:
            OtherJournalError: the archive is of another journal.
            JournalError: the journal must be opened anew.
            StoreError: our own disk is in the way.
            CodecError, RulesUnsupportedError: it takes a newer release to go on.
        """
        async with asyncio.TaskGroup() as tasks:
            found = await self._begin()
            self.carriers = [Carrier(self.spool, store, each) for store, each in zip(self.stores, found, strict=True)]
            others = [tasks.create_task(each.run(), name=f"carrier to {each.store.name}") for each in self.carriers]
            others.append(tasks.create_task(self._snapshot_at_intervals(), name="snapshots"))
            try:
                await self._follow()
            finally:
                for task in others:
                    task.cancel()

    # ---- beginning -----------------------------------------------------------------------------------------------

    async def _begin(self) -> list[Catalogue | None]:
        """Find where to go on, and return what is in each store, None where that cannot be said now."""
        archive, spool = self._archive, self.spool.store
        await asyncio.to_thread(self.spool.look)
        await asyncio.to_thread(archive.look)
        lacking = {error.store for error in archive.unreachable}
        epoch = archive.epochs.get(self._epoch)
        if epoch is None and self._epoch == 1:
            epoch = first_epoch()
        if epoch is not None:
            unwritten = [store for store in self.stores if epoch not in archive.listed(store).epochs]
            failed = await asyncio.to_thread(put_in_all, unwritten, epoch.name, msgspec.json.encode(epoch))
            for error in failed:
                _log.warning("archive.unreachable", store=error.store, reason=error.reason)
        stored = beginning.stored_positions(archive, self.stores, self._epoch, self._remembered())
        waiting = archive.listed(spool).segments_of(self._epoch)
        reached = max(*stored.values(), *(name.last for name in waiting), 0)
        self.behind = {
            name: position for name, position in stored.items() if path_through(waiting, position + 1)[1] < reached
        }
        snapshots.tell_left(await asyncio.to_thread(snapshots.clean, self.directory))
        self.follower = await asyncio.to_thread(
            beginning.follower_with_frames, archive, self._epoch, self.directory, reached, self._journal.first
        )
        if self.follower is None:
            if archive.unreachable:
                raise archive.unreachable[0]  # it may have what is lacking
            await self._leave_gap(reached)
        else:
            self.sealed = reached
            self._sealed_digest = await asyncio.to_thread(self._digest_of, reached)
            if self.follower.state.position == reached:
                self._check_same_journal(self.follower.frame_digest)
        return [None if store.name in lacking else archive.listed(store) for store in self.stores]

    def _digest_of(self, reached: Position) -> bytes:
        """Return the digest of the last frame that is archived; empty where no copy of it is good. Blocks."""
        try:
            return self._archive.digest_at(self._epoch, reached)
        except MissingFramesError as error:
            _log.error("archive.unreadable", reason=str(error))
            return b""

    def _check_same_journal(self, digest: bytes) -> None:
        """Hold the journal's frame where the archive ends against the archive's, before anything is put after it."""
        if self._sealed_digest and digest != self._sealed_digest:
            raise OtherJournalError(
                f"the journal's frame {self.sealed} is not the one in the archive, so what comes after it does not "
                "follow: this archive is of another journal"
            )
        self._sealed_digest = digest

    def _remembered(self) -> Position | None:
        """Return up to where an earlier process had sealed, None if that is not known."""
        try:
            return int((self.directory / _SEALED_NAME).read_text())
        except (OSError, ValueError):
            return None

    def _remember(self, position: Position) -> None:
        """Remember for the next start up to where all is sealed. Blocks. Late is harmless, so it is not synced."""
        draft = self.directory / f"{_SEALED_NAME}.draft"
        draft.write_text(str(position))
        draft.replace(self.directory / _SEALED_NAME)

    async def _leave_gap(self, reached: Position) -> None:
        """Go on from the oldest state that the journal carries on: what lies between is lost to history.

        Raises:
            MissingFramesError: there is no such state anywhere.
        """
        first = self._journal.first
        look = partial(beginning.follower_from, self._archive, self._epoch, self.directory, max(first, reached + 1))
        if (found := await asyncio.to_thread(look)) is None:
            await self._bring()
            found = await asyncio.to_thread(look)
        if found is None:
            raise MissingFramesError(first, None, ["no node and no store has a snapshot that the journal carries on"])
        self.follower = found
        self.sealed, self._sealed_digest = self.follower.state.position, self.follower.frame_digest
        self._pending, self._pending_bytes = [], 0
        self.statistics.gaps += 1
        _log.error("archive.gap", first=reached + 1, last=self.sealed)
        self._snapshot_wanted.set()  # what comes after the gap can only be restored from here

    # ---- following and sealing -----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        assert self.follower is not None
        history = History(self._archive, self._journal, self._epoch)
        async with asyncio.TaskGroup() as tasks:
            sealing = tasks.create_task(self._seal_at_intervals(), name="sealing")
            failed_at = -1
            while True:
                try:
                    async for step in history.steps(self.follower):
                        self._take(step)
                        if self._pending_bytes >= self._settings.segment_bytes:
                            await self.seal()
                    break
                except MissingFramesError as error:
                    _log.error("archive.unreadable", reason=str(error))
                    await self.seal()
                    position = self.follower.state.position
                    if self._archive.unreachable or position != failed_at:
                        failed_at = position  # a store may come back, or what was put together be listed
                        await asyncio.sleep(_AGAIN_S)
                        continue
                    await self._leave_gap(position)
            await self.seal()
            sealing.cancel()
        raise Stopped("the journal was closed")

    def _take(self, step: Step) -> None:
        frame = step.frame
        self._on_step(step)
        self.statistics.frames += 1
        self.statistics.bytes += len(frame.payload)
        self._commands_since_snapshot += len(step.batch.commands)
        self._bytes_since_snapshot += len(frame.payload)
        if frame.position > self.sealed:
            if not self._pending:
                self._pending_since_s = time.monotonic()
            self._pending.append(frame)
            self._pending_bytes += len(frame.payload)
        elif frame.position == self.sealed:
            self._check_same_journal(frame.digest)
        if (
            self._commands_since_snapshot >= self._settings.snapshot_commands
            or self._bytes_since_snapshot >= self._settings.snapshot_journal_bytes
        ):
            self._snapshot_wanted.set()

    async def _seal_at_intervals(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._pending and time.monotonic() - self._pending_since_s >= self._settings.seal_s:
                await self.seal()

    async def seal(self) -> None:
        """Make a segment of what is pending, durably on our disk."""
        async with self._sealing:
            if not self._pending:
                return
            assert self.follower is not None
            await self.spool.wait_room(self._settings.spool_bytes_max)
            frames, self._pending, self._pending_bytes = self._pending, [], 0
            name = SegmentName(self._epoch, frames[0].position, frames[-1].position)
            outcomes = self.follower.state.outcomes_digest if frames[-1].position == self.position else bytes(32)
            data = await asyncio.to_thread(pack_segment, frames, self._sealed_digest, outcomes)
            await self.spool.put(name, data)
            self.sealed, self._sealed_digest = frames[-1].position, frames[-1].digest
            await asyncio.to_thread(self._remember, self.sealed)
            self.statistics.segments += 1

    # ---- snapshots -----------------------------------------------------------------------------------------------

    async def _snapshot_at_intervals(self) -> None:
        while True:
            await self._snapshot_wanted.wait()
            self._snapshot_wanted.clear()
            await self.snapshot()

    async def snapshot(self) -> bool:
        """Write a snapshot of the present state, and put it on its way; return whether it is.

        That it cannot be written is told and counted, and no reason to stop: a restore only takes longer.
        """
        assert self.follower is not None
        state, digest = self.follower.state, self.follower.frame_digest
        name = SnapshotName(self._epoch, state.position, state.time_us)
        if name.position == 0:
            return False
        self._commands_since_snapshot = self._bytes_since_snapshot = 0
        try:
            gc.freeze()  # as a node does, for the child's memory
            pid = snapshots.fork_snapshot(self.directory, state, digest)
            if (reason := await snapshots.wait_written(pid, self._settings.snapshot_s_max)) is not None:
                self._snapshot_failed(name.position, reason)
                return False
            path = self.directory / f"snapshot-{name.position:020}.snap"
            data = await asyncio.to_thread(lambda: pack_snapshot(path.read_bytes()))
            await self.spool.put(name, data)
        except (OSError, StoreError) as error:
            self._snapshot_failed(name.position, str(error))
            return False
        self.statistics.snapshots += 1
        snapshots.tell_left(snapshots.prune(self.directory, keep=self._settings.snapshots_kept))
        return True

    def _snapshot_failed(self, position: Position, reason: str) -> None:
        self.statistics.snapshots_failed += 1
        _log.error("snapshot.failed", position=position, reason=reason)


def _tell_damage(error: ObjectDamagedError) -> None:
    _log.error("archive.damaged", store=error.store, name=error.name, reason=error.reason)

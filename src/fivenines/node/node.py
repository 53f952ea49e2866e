"""A node: a replica of the ledger, the writer in front of the journal, and snapshots at intervals.

It knows nothing of HTTP; the gateway stands on it. Everything runs on one event loop. The tasks live in one group: if
one fails, which only a bug or a broken machine can bring about, all end and so does the process; starting again from
the journal is always right.
"""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from fivenines.journal import Frame, Journal, JournalError, SharedJournal
from fivenines.ledger import Applied, Batch, CodecError, RulesUnsupportedError
from fivenines.node import snapshots
from fivenines.node.fleet import Fleet
from fivenines.node.recovery import Recovered, recover
from fivenines.node.replica import Replica
from fivenines.node.settings import FleetSettings, Identity, NodeSettings
from fivenines.node.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Node", "Statistics", "now_us", "open_fleet_node", "open_node"]

_log = structlog.get_logger("fivenines.node")

_CLOCK_BEHIND_US_MAX = 60_000_000  # clocks in step differ by far less
_STOP_S_MAX = 60.0  # to apply what was appended; a stop that takes longer is a failure


def now_us() -> int:
    """Return this machine's clock: microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class Statistics:
    """What a node has done since its start; read by the metrics."""

    frames: int = 0
    commands: int = 0
    journal_bytes: int = 0
    snapshots: int = 0
    snapshots_failed: int = 0
    snapshot_position: int = 0
    snapshot_digest: bytes = b""
    """Of the state in it."""
    snapshot_s: float = 0.0


class Node:
    """A running node. Made by `open_node`."""

    def __init__(
        self,
        directory: Path,
        journal: Journal,
        recovered: Recovered,
        settings: NodeSettings,
        clock_us: Callable[[], int] = now_us,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.directory = directory
        self.journal = journal
        self.settings = settings
        self.recovered = recovered
        self.clock_us = clock_us
        self.state = recovered.state
        self.replica = Replica(recovered.state, journal, recovered.frame_digest)
        self.writer = Writer(journal, recovered.state, settings, clock_us, random_bytes(16))
        self.statistics = Statistics(snapshot_position=recovered.snapshot_position)
        self.fleet: Fleet | None = None
        """The other nodes of a shared journal; None for a journal of our own."""
        self.left = asyncio.Event()
        """Set when the node takes itself out of service."""
        self.is_suspect = False
        """Whether the state itself is in doubt, and with it every snapshot that was taken of it."""
        self.fatal: Exception | None = None
        """What this release cannot go on after, however often it starts anew."""
        self._out_of_service: str | None = None
        self._is_stopping = False
        self._commands_since_snapshot = recovered.commands_replayed
        self._bytes_since_snapshot = 0
        self._snapshot_wanted = asyncio.Event()
        self.replica.recognise(self.writer.batch_of)
        self.replica.listen(self.writer.on_applied)
        self.replica.listen(self._count)
        self._note_snapshot()

    @property
    def is_stopping(self) -> bool:
        """Whether nobody shall wait for what is yet to come."""
        return self._is_stopping

    def stop_waiting(self) -> None:
        """Send those home who wait for positions to come, since the node is about to stop."""
        self._is_stopping = True
        self.replica.stop_waiting()

    @property
    def out_of_service(self) -> str | None:
        """Why this node answers nothing any more from its state, None if it does."""
        return self._out_of_service

    def leave(self, reason: str, *, is_suspect: bool = False) -> None:
        """Take this node out of service, for good: whoever runs it makes a new one, from a snapshot."""
        if self._out_of_service is None:
            _log.error("node.out_of_service", reason=reason, position=self.replica.position)
            self._out_of_service = reason
            self.is_suspect = is_suspect
            self.writer.disown(reason)
            self.replica.stop_waiting()
            self.left.set()

    async def follow(self) -> None:
        """Apply what the journal brings, until cancelled or until the journal is closed.

        Of a shared journal we may need what is trimmed by now, or what is begun anew, or what only a newer release can
        read: then the node leaves. Of a journal of our own that is raised.
        """
        try:
            await self.replica.run()
        except JournalError as error:
            if self.fleet is None:
                raise
            self.leave(str(error))
        except (CodecError, RulesUnsupportedError) as error:
            if self.fleet is None:
                raise
            self.fatal = error
            self.leave(str(error))

    @property
    def unready_reason(self) -> str | None:
        """Why this node should get no writes, None if it should."""
        if self._out_of_service:
            return f"out of service: {self._out_of_service}"
        if self.journal.failed:
            return f"the journal failed: {self.journal.failed}"
        if (cut_off := self.journal.cut_off) is not None:
            return f"the journal is out of reach: {cut_off}"
        ahead_ms = (self.state.time_us - self.clock_us()) // 1000
        if ahead_ms > self.state.rules.retention_ms:
            # A clock was far ahead once, and the journal's time never goes back: honest ids are below the horizon.
            return f"the journal's time is {ahead_ms // 86_400_000} days ahead of the clock: every id looks expired"
        if self.writer.journal_full:
            return self.writer.journal_full
        if self.replica.position < self.journal.last:
            behind = self.journal.last - self.replica.position
            return f"{behind} frames behind the journal" if behind > self.settings.appends_in_flight_max else None
        return None

    async def snapshot(self) -> bool:
        """Write a snapshot of the present state without stalling anybody; return whether it is durable.

        That it cannot be written is logged and counted, and no reason to stop: the next start only takes longer.
        """
        began = time.perf_counter()
        position = self.replica.position
        if position == 0:
            return False
        self._commands_since_snapshot = 0
        self._bytes_since_snapshot = 0
        try:
            if not snapshots.has_room(self.directory):
                self._snapshot_failed(position, "there is no room for it beside the journal")
                return False
            # What lives for long is put out of the collector's sight. That also spares the child's memory: the
            # collector writes into every object that it looks at, and a page that is written to is no longer shared.
            gc.freeze()
            pid = snapshots.fork_snapshot(self.directory, self.state, self.replica.frame_digest)
        except OSError as error:
            self._snapshot_failed(position, error.strerror or str(error))
            return False
        reason = await self._wait_snapshot(pid)
        if reason is not None:
            self._snapshot_failed(position, reason)
            return False
        self._snapshot_done(position, time.perf_counter() - began)
        await self._prune()
        return True

    async def _wait_snapshot(self, pid: int) -> str | None:
        """Wait for the child that writes a snapshot; return None when it is durable, otherwise why it is not."""
        try:
            return await snapshots.wait_written(pid, self.settings.snapshot_s_max)
        except BaseException:
            # The node stops, which writes a newer snapshot itself.
            snapshots.tell_left(snapshots.clean(self.directory))
            raise

    async def _prune(self) -> None:
        """Delete old snapshots, and trim the journal behind those that stay. What cannot be deleted stays."""
        keep = self.settings.snapshots_kept
        snapshots.tell_left(snapshots.prune(self.directory, keep=keep))
        kept = snapshots.paths(self.directory)[:keep]
        if self.settings.journal_frames_kept is None or not kept:
            return
        oldest = snapshots.position_of(kept[-1])
        try:
            await self.journal.trim(min(oldest, self.journal.last - self.settings.journal_frames_kept) + 1)
        except (OSError, JournalError) as error:
            _log.error("journal.not_trimmed", reason=str(error))

    def _snapshot_done(self, position: int, took_s: float) -> None:
        self.statistics.snapshots += 1
        self.statistics.snapshot_position = position
        self.statistics.snapshot_s = took_s
        self._note_snapshot()
        _log.info("snapshot.written", position=position, seconds=round(took_s, 3))

    def _note_snapshot(self) -> None:
        found = snapshots.paths(self.directory)[:1]
        with contextlib.suppress(OSError):  # it was there a moment ago; the next one will be looked at as well
            self.statistics.snapshot_digest = snapshots.digest_of(found[0]) if found else b""

    def _snapshot_failed(self, position: int, reason: str) -> None:
        self.statistics.snapshots_failed += 1
        _log.error("snapshot.failed", position=position, reason=reason)
        snapshots.tell_left(snapshots.clean(self.directory))  # what it left would take room that the journal needs

    def _count(self, frame: Frame, batch: Batch, _applied: Applied) -> None:
        count = len(batch.commands)
        self.statistics.frames += 1
        self.statistics.commands += count
        self.statistics.journal_bytes += len(frame.payload)
        self._commands_since_snapshot += count
        self._bytes_since_snapshot += len(frame.payload)
        if (
            self._commands_since_snapshot >= self.settings.snapshot_commands
            or self._bytes_since_snapshot >= self.settings.snapshot_journal_bytes
        ):
            self._snapshot_wanted.set()

    async def snapshot_at_intervals(self) -> None:
        """Write a snapshot whenever the journal has grown enough, until cancelled."""
        while True:
            await self._snapshot_wanted.wait()
            self._snapshot_wanted.clear()
            await self.snapshot()

    def write_last_snapshot(self) -> None:
        """Write a snapshot at a clean stop, when nothing is served any more. Blocks.

        Without one the next start only takes longer, so that it cannot be written is no reason to stop less cleanly.
        """
        position = self.replica.position
        if position == self.statistics.snapshot_position:
            return
        began = time.perf_counter()
        try:
            snapshots.write(self.directory, self.state, self.replica.frame_digest)
        except OSError as error:
            self._snapshot_failed(position, error.strerror or str(error))
            return
        self._snapshot_done(position, time.perf_counter() - began)
        snapshots.tell_left(snapshots.prune(self.directory, keep=self.settings.snapshots_kept))


@asynccontextmanager
async def open_node(
    directory: Path,
    journal: Journal,
    settings: NodeSettings | None = None,
    *,
    clock_us: Callable[[], int] = now_us,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> "AsyncIterator[Node]":
    """Recover a node from `directory` and a journal of its own, run it, and at the end stop it, with a snapshot.

    Blocks the event loop while it recovers; nothing else is to be served meanwhile. Raises as `recover` does.
    """
    snapshots.tell_left(snapshots.clean(directory))
    recovered = recover(directory, journal, on_progress=on_progress)
    node = _ready(Node(directory, journal, recovered, settings or NodeSettings(), clock_us))
    async with _running(node):
        yield node


@asynccontextmanager
async def open_fleet_node(
    directory: Path,
    journal: SharedJournal,
    identity: Identity,
    settings: NodeSettings | None = None,
    fleet_settings: FleetSettings | None = None,
    *,
    clock_us: Callable[[], int] = now_us,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> "AsyncIterator[Node]":
    """Recover a node of a journal that others share, and run it as `open_node` does.

    It recovers in a thread, since the journal has to be looked after meanwhile. A node that left is stopped without a
    snapshot, and without waiting for anything: nobody shall start from its state. Raises as `recover` does.
    """
    snapshots.tell_left(snapshots.clean(directory))
    recovered = await asyncio.to_thread(recover, directory, journal, on_progress=on_progress)
    node = _ready(Node(directory, journal, recovered, settings or NodeSettings(), clock_us))
    node.fleet = Fleet(node, journal, identity, fleet_settings or FleetSettings())
    async with _running(node):
        yield node


def _ready(node: Node) -> Node:
    """Prepare this process for a state that lives long, and tell how it was come by."""
    recovered = node.recovered
    _log.info(
        "node.recovered",
        position=recovered.state.position,
        accounts=len(recovered.state.accounts),
        snapshot_position=recovered.snapshot_position,
        frames_replayed=recovered.frames_replayed,
        seconds=round(recovered.snapshot_s + recovered.replay_s, 3),
    )
    ahead_us = recovered.state.time_us - node.clock_us()
    if ahead_us > _CLOCK_BEHIND_US_MAX:
        # The journal's time never goes back. Honest ids are refused once they look too old beside it.
        _log.warning("clock.behind_journal", seconds=ahead_us // 1_000_000)
    gc.collect()
    gc.freeze()
    # The state grows by objects that live for ever and have no cycles: looking through them for garbage often, as the
    # defaults would, costs a node a good part of its time and its clients their patience.
    gc.set_threshold(100_000, 20, 100)
    return node


@asynccontextmanager
async def _running(node: Node) -> "AsyncIterator[None]":
    """Run the tasks of a node, and at the end finish what was taken, apply it, and write a snapshot."""
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(node.follow(), name="replica")
        writing = tasks.create_task(node.writer.run(), name="writer")
        others = [tasks.create_task(node.snapshot_at_intervals(), name="snapshots")]
        if node.fleet is not None:
            others.append(tasks.create_task(node.fleet.run(), name="fleet"))
        try:
            yield
        finally:
            node.writer.close()
            for task in others:
                task.cancel()
        if node.out_of_service is None:
            await writing
        writing.cancel()
        if node.out_of_service is None:
            await node.replica.wait_position(node.journal.last, _STOP_S_MAX)
        following.cancel()
    if node.out_of_service is None:
        node.write_last_snapshot()

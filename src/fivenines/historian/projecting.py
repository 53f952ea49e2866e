"""Projecting: each version of the SQL history is carried on by a task of its own, at its own pace.

A task begins with a state that is not later than what its version has stored, lives on from there, and hands over what
its version lacks, in batches as large as have come together while the one before was written. A database that is away
is waited for. Versions come and go while this runs: the registry in the database says which are kept.
"""

import asyncio
import gc
from collections import deque
from pathlib import Path

import structlog
from sqlalchemy import Engine

from fivenines.historian.beginning import follower_with_frames
from fivenines.historian.follower import Step
from fivenines.historian.source import History
from fivenines.historian.sql import Projector, SqlHistoryError, install, projections
from fivenines.journal import Position, SharedJournal
from fivenines.journal.archive import Archive, ArchiveError, MissingFramesError, OtherJournalError, Store

__all__ = ["SqlKeeper"]

_log = structlog.get_logger("fivenines.historian")

_COMMANDS_MAX = 20_000
"""In one batch."""
_COMMANDS_WAITING_MAX = 100_000
"""What waits: it bounds the memory of a database that is slow."""
_COMMANDS_FEW = 1_000
_GATHER_S = 0.1
"""After a batch that small it waits for the next to gather: a commit of each single frame, when they come one by one,
would cost more than all else that a historian does."""
_LOOK_S = 2.0
_PAUSE_S_MAX = 15.0
_OTHER_LIFE = (
    "the history in SQL has a frame at position {} that the journal has not: it is of another life of the ledger. "
    "Begin a new one, in another database"
)


class SqlKeeper:
    """Keeps the history in one database.

    Args:
        engine: the database's.
        directory: where the historian's own snapshots are.
        journal: open.
        epoch: the journal's.
        stores: where the archive is, our own spool first.
    """

    def __init__(
        self, engine: Engine, directory: Path, journal: SharedJournal, epoch: int, stores: list[Store]
    ) -> None:
        self.engine = engine
        self.problem: str | None = "it is starting"
        """Why history in SQL is not abreast, None if it is."""
        self.positions: dict[int, Position] = {}
        """Where each version is."""
        self._directory = directory
        self._journal = journal
        self._epoch = epoch
        self._stores = stores

    async def run(self) -> None:
        """Keep it, until cancelled. What is wrong with the database or the archive is told and tried again."""
        tasks: dict[int, asyncio.Task[None]] = {}
        is_installed = False
        try:
            while True:
                try:
                    if not is_installed:
                        await asyncio.to_thread(self._install)
                        is_installed = True
                    kept = {
                        found.version
                        for found in await asyncio.to_thread(projections, self.engine)
                        if found.status != "retired"
                    }
                except SqlHistoryError as error:
                    self._tell(error)
                else:
                    for version in kept - tasks.keys():
                        tasks[version] = asyncio.create_task(self._keep(version), name=f"projection {version}")
                    for version in tasks.keys() - kept:
                        tasks.pop(version).cancel()
                        self.positions.pop(version, None)
                await asyncio.sleep(_LOOK_S)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _install(self) -> None:
        """Make the first version, where there is no history yet."""
        if not projections(self.engine):
            install(self.engine)

    def _tell(self, error: Exception) -> None:
        if self.problem != str(error):
            _log.warning("history.waits", reason=str(error))
        self.problem = str(error)

    async def _keep(self, version: int) -> None:
        pause_s = 0.5
        while True:
            try:
                await self._project(version)
            except (SqlHistoryError, ArchiveError, OSError) as error:
                self._tell(error)
            except ExceptionGroup as group:
                first = group.exceptions[0]
                if not isinstance(first, SqlHistoryError | ArchiveError | OSError):
                    _log.error("history.broke", version=version, exc_info=first)  # and the archive is kept all the same
                self._tell(first)
            except Exception as error:  # noqa: BLE001 - and the archive is kept all the same
                _log.error("history.broke", version=version, exc_info=error)
                self._tell(error)
            gc.collect()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    async def _project(self, version: int) -> None:
        """Carry one version on, until the journal is closed. Raises what is in the way."""
        projector = await asyncio.to_thread(Projector, self.engine, version)
        stored = projector.position
        if stored > self._journal.last:
            raise OtherJournalError(_OTHER_LIFE.format(stored))
        archive = Archive(self._stores)
        await asyncio.to_thread(archive.look)
        follower = await asyncio.to_thread(
            follower_with_frames, archive, self._epoch, self._directory, stored, self._journal.first
        )
        if follower is None:
            raise MissingFramesError(stored + 1, self._journal.first - 1, ["neither the archive has them"])
        if follower.state.position == stored and follower.frame_digest != projector.frame_digest:
            raise OtherJournalError(_OTHER_LIFE.format(stored))
        pending = _Pending()
        history = History(archive, self._journal, self._epoch)
        self.positions[version] = stored
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write(projector, pending), name=f"writing {version}")
            try:
                async for step in history.steps(follower):
                    if step.frame.position > stored:
                        await pending.put(step)
                    elif step.frame.position == stored and step.frame.digest != projector.frame_digest:
                        raise OtherJournalError(_OTHER_LIFE.format(stored))
            finally:
                writing.cancel()

    async def _write(self, projector: Projector, pending: "_Pending") -> None:
        while True:
            steps = await pending.take()
            await asyncio.to_thread(projector.project, steps)
            if sum(len(step.batch.commands) for step in steps) < _COMMANDS_FEW:
                await asyncio.sleep(_GATHER_S)
            self.positions[projector.version] = steps[-1].frame.position
            self.problem = None


class _Pending:
    """Steps that wait to be written: all that have come are taken together, and no more come than are bounded."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self._commands = 0
        self._some, self._room = asyncio.Event(), asyncio.Event()

    async def put(self, step: Step) -> None:
        """Add a step, when there is room."""
        while self._commands >= _COMMANDS_WAITING_MAX:
            self._room.clear()
            await self._room.wait()
        self._steps.append(step)
        self._commands += len(step.batch.commands)
        self._some.set()

    async def take(self) -> list[Step]:
        """Take what is there, up to a batch's worth, when there is something."""
        await self._some.wait()
        taken: list[Step] = []
        commands = 0
        while self._steps and commands < _COMMANDS_MAX:
            taken.append(self._steps.popleft())
            commands += len(taken[-1].batch.commands)
        self._commands -= commands
        self._room.set()
        if not self._steps:
            self._some.clear()
        return taken

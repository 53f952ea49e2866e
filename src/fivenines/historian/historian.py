"""The historian, as a process: it keeps the archive of its region, for as long as it takes.

HTTP is there from the start to the end and says how it is. Behind it an archiver follows the journal, and is made anew
whenever the journal has to be opened anew, or its own disk was in the way. It tells the nodes how far it has come by a
notice beside the frames, as they tell each other; like them it digests its state at fixed positions, and should it
differ from most nodes it begins again from what the archive has.
"""

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import structlog
from starlette.routing import BaseRoute, Mount

import fivenines
from fivenines.historian.archiver import Archiver, Statistics, Stopped
from fivenines.historian.feed.pages import feed_pages
from fivenines.historian.feed.signing import Secrets
from fivenines.historian.feed.source import PolledSource
from fivenines.historian.feed.webhooks import Webhooks
from fivenines.historian.follower import Step
from fivenines.historian.pages import HistorianDoor, HistorianStatus, StoreStatus
from fivenines.historian.projecting import SqlKeeper
from fivenines.historian.settings import ArchiveSettings
from fivenines.historian.sql import HistoryUnavailableError, Queries, open_engine
from fivenines.historian.sql import pages as history_pages
from fivenines.historian.tidying import Tidier
from fivenines.journal import JournalError, JournalFailedError, SharedJournal
from fivenines.journal.archive import ArchiveError, open_store
from fivenines.journal.disk import release_lock, take_lock
from fivenines.ledger import IMAGE_VERSION, RULES, State
from fivenines.node import snapshots
from fivenines.node.audit import Auditor, dissent
from fivenines.node.fleet import Statement, audits_of, members_of
from fivenines.node.http import HttpServer, connections_that_fit, listen
from fivenines.node.joining import bring_snapshot
from fivenines.node.settings import Identity, Limits

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["HistorianSettings", "keep_history"]

_log = structlog.get_logger("fivenines.historian")

_PAUSE_S = 1.0
_NICE = 5
_LOOK_S, _END_S_MAX = 0.1, 30.0
_POST_S, _POST_S_MAX, _REFRESH_S = 0.5, 1.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorianSettings:
    """Where a historian listens, what it is called, and where it keeps what."""

    directory: Path
    identity: Identity
    stores: tuple[str, ...]
    """The URLs of the stores that it writes to, the first one in its own region."""
    peers: tuple[str, ...] = ()
    """The URLs of other regions' stores, to repair from."""
    sql: str | None = None
    """The URL of the database for history in SQL: None for a file of SQLite in `directory`, "off" for none."""
    secrets: Path | None = None
    """The folder of the secrets that webhooks are signed with; None for the environment only."""
    host: str = "127.0.0.1"
    port: int = 9960
    """0 takes a free one."""
    stop_s_max: int = 20
    archive: ArchiveSettings = field(default_factory=ArchiveSettings)


class _Keeper:
    """Sees to it that there is an archiver, again and again."""

    def __init__(self, settings: HistorianSettings, open_journal: Callable[[], Awaitable[SharedJournal]]) -> None:
        self.settings = settings
        self.archiver: Archiver | None = None
        self.tidier: Tidier | None = None
        self.problem: str | None = "it is starting"
        self._open_journal = open_journal
        self._stores = [open_store(url) for url in settings.stores]
        self._peers = [open_store(url) for url in settings.peers]
        self._spool = open_store(str(settings.directory / "spool"))
        self.engine: Engine | None = None
        if settings.sql != "off":
            self.engine = open_engine(settings.sql or f"sqlite:///{settings.directory.absolute() / 'history.db'}")
        self.sql: SqlKeeper | None = None
        self._instance = uuid4().hex
        self._auditor: Auditor | None = None
        self._audited: State | None = None
        self._epoch = 0
        self._told = ""

    async def run(self) -> None:
        """Keep history until cancelled. Raises what only a newer release gets over."""
        while True:
            try:
                await self._live()
            except ExceptionGroup as group:
                error = _first(group)
                if not isinstance(error, JournalError | ArchiveError | OSError | Stopped):
                    raise error from group
                self._tell(error)
            except (JournalError, ArchiveError, OSError) as error:
                self._tell(error)
            self.archiver = self.tidier = self.sql = self._audited = None
            gc.unfreeze()
            gc.collect()
            await asyncio.sleep(_PAUSE_S)

    def _tell(self, error: Exception) -> None:
        self.problem = str(error)
        if self.problem != self._told:
            self._told = self.problem
            _log.warning("historian.waits", reason=self.problem)

    async def _live(self) -> None:
        """Live one archiver's life."""
        settings = self.settings
        journal = await self._open_journal()
        try:
            self._epoch = getattr(journal, "epoch", 1)
            directory = settings.directory / f"epoch-{self._epoch}"
            directory.mkdir(parents=True, exist_ok=True)
            archiver = Archiver(
                directory,
                journal,
                self._epoch,
                self._stores,
                self._peers,
                settings.archive,
                bring=lambda: bring_snapshot(directory, journal, settings.identity),
                spool_store=self._spool,
                on_step=self._on_step,
            )
            self.archiver, self._auditor = archiver, None
            self.tidier = tidier = Tidier(self._stores, self._peers, self._epoch, settings.archive)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(archiver.run(), name="archiver")
                if self.engine is not None:
                    stores = [self._spool, *self._stores, *self._peers]
                    self.sql = SqlKeeper(self.engine, directory, journal, self._epoch, stores)
                    tasks.create_task(self.sql.run(), name="history in SQL")
                tasks.create_task(self._post_at_intervals(archiver, tidier, journal), name="notices")
                tasks.create_task(tidier.run(), name="tidying")
        finally:
            await journal.close()

    def _on_step(self, step: Step) -> None:
        assert self.archiver is not None
        assert self.archiver.follower is not None
        state = self.archiver.follower.state
        if self._auditor is None or state is not self._audited:
            self._auditor, self._audited = Auditor(state), state
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 20, 100)  # as a node's: what grows here lives for ever
        self._auditor.on_applied(step.frame, step.batch, step.applied)

    async def _end_with(self, archiver: Archiver, journal: SharedJournal, reason: str) -> None:
        """Archive what there still is of a journal that failed, as when it is fenced. Raises `JournalFailedError`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S_MAX):
                while archiver.position < journal.last:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(_LOOK_S)
                await archiver.seal()
                while archiver.spool.waiting:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(_LOOK_S)
        raise JournalFailedError(reason)

    async def _post_at_intervals(self, archiver: Archiver, tidier: Tidier, journal: SharedJournal) -> None:
        posted: object = None
        posted_s = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            if journal.failed is not None:
                await self._end_with(archiver, journal, journal.failed)
            for store in archiver.stores:
                if store.name in tidier.filled:
                    archiver.behind.pop(store.name, None)
                elif store.name in archiver.behind:
                    tidier.fill(store, archiver.sealed)
            news = archiver.archived
            self.problem = None if archiver.follower is not None else "it is catching up"
            if archiver.follower is not None and (news != posted or loop.time() - posted_s > _REFRESH_S):
                self._look_for_dissent(archiver, journal)
                try:
                    async with asyncio.timeout(_POST_S_MAX):
                        statement = self._statement(archiver)
                        await journal.post_notice(self.settings.identity.name, msgspec.json.encode(statement))
                    posted, posted_s = news, loop.time()
                    self._told = ""
                except (JournalError, TimeoutError) as error:
                    _log.info("historian.not_posted", reason=str(error) or f"no answer within {_POST_S_MAX} s")
            await asyncio.sleep(_POST_S)

    def _look_for_dissent(self, archiver: Archiver, journal: SharedJournal) -> None:
        """Begin again when our state is not that of most nodes. Raises `ArchiveError`."""
        if self._auditor is None:
            return
        members = members_of(journal.notices, asyncio.get_running_loop().time())
        audits = audits_of(members, other_than=self.settings.identity.name)
        if (position := dissent(self._auditor.audits, audits)) is not None:
            for error in snapshots.set_aside(archiver.directory):
                _log.error("snapshot.not_set_aside", file=str(error.filename), reason=error.strerror or str(error))
            raise ArchiveError(f"our state differs from that of the nodes at position {position}: beginning again")

    def _statement(self, archiver: Archiver) -> Statement:
        identity = self.settings.identity
        return Statement(
            role="historian",
            instance=self._instance,
            region=identity.region,
            url=identity.url,
            version=fivenines.__version__,
            rules=sorted(RULES),
            position=archiver.position,
            snapshot_position=0,
            snapshot_digest="",
            image=IMAGE_VERSION,
            audits=self._auditor.audits if self._auditor is not None else {},
            out_of_service=None,
            archived=archiver.archived,
            copies=self.settings.archive.copies,
        )

    def status(self) -> HistorianStatus:
        """How it is, for pages and metrics."""
        archiver, tidier, sql, identity = self.archiver, self.tidier, self.sql, self.settings.identity
        carriers = {each.store.name: each for each in archiver.carriers} if archiver is not None else {}
        archived = archiver.archived if archiver is not None else {}
        statistics = archiver.statistics if archiver is not None else Statistics()
        return HistorianStatus(
            name=identity.name,
            region=identity.region,
            version=fivenines.__version__,
            epoch=self._epoch,
            position=archiver.position if archiver is not None else 0,
            sealed=archiver.sealed if archiver is not None else 0,
            problem=self.problem,
            spool_bytes=archiver.spool.bytes if archiver is not None else 0,
            segments=statistics.segments,
            snapshots=statistics.snapshots,
            snapshots_failed=statistics.snapshots_failed,
            gaps=statistics.gaps,
            sql_problem=sql.problem if sql is not None else None,
            sql_positions=dict(sql.positions) if sql is not None else {},
            archived_bytes=statistics.bytes,
            scrubbed=tidier.scrubbed if tidier is not None else 0,
            repaired=tidier.repaired if tidier is not None else 0,
            damaged=tidier.beyond_repair if tidier is not None else 0,
            stores=[
                StoreStatus(
                    name=store.name,
                    archived=archived.get(store.name, 0),
                    problem=carriers[store.name].problem if store.name in carriers else self.problem,
                )
                for store in self._stores
            ],
        )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group of groups."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def keep_history(
    settings: HistorianSettings,
    open_journal: Callable[[], Awaitable[SharedJournal]],
    *,
    on_ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Keep history until SIGTERM or SIGINT. `on_ready` is called with the URL once it listens.

    Raises:
        OSError: the address cannot be had.
        JournalLockedError: another historian keeps its things in this folder.
        StoreUrlError: a URL names no store.
        CodecError, RulesUnsupportedError: it takes a newer release to go on.
    """
    with contextlib.suppress(OSError):
        os.nice(_NICE)  # beside a node on the same machine, the node goes first
    settings.directory.mkdir(parents=True, exist_ok=True)
    lock = take_lock(settings.directory)
    try:
        await _keep(settings, open_journal, on_ready)
    finally:
        release_lock(lock)


async def _keep(
    settings: HistorianSettings,
    open_journal: Callable[[], Awaitable[SharedJournal]],
    on_ready: Callable[[str], None],
) -> None:
    listener = listen(settings.host, settings.port)
    try:
        keeper = _Keeper(settings, open_journal)
        routes: list[BaseRoute] = []
        tasks: list[asyncio.Task[None]] = []
        if keeper.engine is not None:
            queries = Queries(keeper.engine)
            source = PolledSource(queries.events_after, queries.position, unavailable=(HistoryUnavailableError,))
            webhooks = Webhooks(keeper.engine, source, Secrets(settings.secrets), owner=settings.identity.name)
            routes += [*feed_pages(source, webhooks).routes, Mount("/", history_pages(queries))]
            tasks.append(asyncio.create_task(_deliver(webhooks), name="webhooks"))
        server = HttpServer(
            HistorianDoor(keeper.status, routes),
            listener,
            limits=Limits(),
            connections_max=connections_that_fit(256),
            stop_s_max=settings.stop_s_max,
        )
        if not settings.identity.url:
            keeper.settings = replace(settings, identity=replace(settings.identity, url=server.url))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.stop)
        server.listen()
        tasks += [
            serving := asyncio.create_task(server.serve(), name="http"),
            keeping := asyncio.create_task(keeper.run(), name="history"),
        ]
        on_ready(server.url)
        try:
            await asyncio.wait({serving, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                await keeping  # raises
            if keeper.archiver is not None:
                with contextlib.suppress(TimeoutError, ArchiveError):  # the journal has what is not sealed
                    async with asyncio.timeout(settings.stop_s_max):
                        await keeper.archiver.seal()
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        listener.close()
    _log.info("historian.stopped", position=keeper.status().position)


async def _deliver(webhooks: Webhooks) -> None:
    """Deliver webhooks until cancelled. A bug there is told, and history is kept all the same."""
    while True:
        try:
            await webhooks.run()
        except Exception:  # noqa: BLE001 - whatever it is, history is kept
            _log.exception("webhooks.broke")
        await asyncio.sleep(_PAUSE_S)

"""A node in a region, as a process: on a journal that it shares, for as long as it takes.

HTTP is there from the start to the end; behind it a node comes, and may go: when its journal was begun anew, when the
frames that it needs are trimmed, or when its state is not that of the majority. Then the process answers 503 with the
reason, makes a new node, from a snapshot of its own or another's, and goes on. A journal that is out of reach is waited
for. Only what starting anew cannot mend ends the process.
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from starlette.types import Receive, Scope, Send

from fivenines.journal import JournalError, NotDoneError, SharedJournal
from fivenines.journal.disk import release_lock, take_lock
from fivenines.journal.segments import list_segments
from fivenines.node import snapshots
from fivenines.node.gateway import Gateway, send_answer
from fivenines.node.http import HttpServer, connections_that_fit, listen
from fivenines.node.joining import bring_snapshot
from fivenines.node.metrics import Metrics
from fivenines.node.node import Node, open_fleet_node
from fivenines.node.pages import pages
from fivenines.node.problems import Answer, problem
from fivenines.node.recovery import FramesTrimmedError, RecoveryError
from fivenines.node.settings import FleetSettings, Identity, NodeSettings

__all__ = ["Front", "RegionSettings", "serve_in_region"]

_log = structlog.get_logger("fivenines.node")

_PAUSE_S = 0.5
"""Between two tries to have a node."""
_LIVE = Answer(200, b'{"live":true}')


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSettings:
    """Where a node listens, what it is called, and where it keeps its snapshots."""

    directory: Path
    identity: Identity
    host: str = "127.0.0.1"
    port: int = 9959
    """0 takes a free one."""
    connections_max: int = 4_096
    """See `ServeSettings`."""
    stop_s_max: int = 20
    """How long a stop waits for requests in flight."""
    node: NodeSettings = field(default_factory=NodeSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)


class Front:
    """The door of the process: it leads to the node that there is, or says why there is none."""

    def __init__(self, *, retry_after_s: int) -> None:
        self._retry_after_s = retry_after_s
        self._node: Node | None = None
        self._gateway: Gateway | None = None
        self._reason = "the node is starting"
        self._position = 0

    @property
    def position(self) -> int:
        """The position of the node, or of the last one that there was."""
        return self._position if self._gateway is None else self._gateway.position

    def lead_to(self, node: Node) -> None:
        """Let requests through to a node."""
        metrics = Metrics(node)
        self._node, self._gateway = node, Gateway(node, pages(node, metrics), metrics)

    def shut(self, reason: str) -> None:
        """Answer that there is no node, and why."""
        self._position = self.position
        self._node = self._gateway = None
        self._reason = reason

    def stop_waiting(self) -> None:
        """Send those home who wait for positions to come."""
        if self._node is not None:
            self._node.stop_waiting()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._gateway is not None and self._node is not None and self._node.out_of_service is None:
            await self._gateway(scope, receive, send)
            return
        reason = self._node.out_of_service if self._node is not None else self._reason
        answer = _LIVE if scope["path"] == "/live" else self._refusal("out_of_service", reason or self._reason)
        await send_answer(send, answer, self.position)

    async def refuse_connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request on a connection that is one too many."""
        if self._gateway is not None:
            await self._gateway.refuse_connection(scope, receive, send)
        else:
            await send_answer(send, self._refusal("too_many_connections", self._reason), self.position)

    def _refusal(self, name: str, reason: str) -> Answer:
        return problem(
            503,
            name,
            "This node does not serve now.",
            detail=f"{reason}; nothing was done: another node will do, or this one after a while",
            retry_after_s=self._retry_after_s,
        )


async def serve_in_region(
    settings: RegionSettings,
    open_journal: Callable[[], Awaitable[SharedJournal]],
    *,
    on_ready: Callable[[Node, str], None] = lambda _node, _url: None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    `on_ready` is called with the URL once there is a node. `on_progress` is told, now and then, from another thread,
    how many frames of the journal are replayed, and of how many.

    Raises:
        OSError: the address cannot be had.
        JournalLockedError: another process serves from this folder.
        JournalError, RecoveryError, CodecError, RulesUnsupportedError: what starting anew cannot mend.
    """
    settings.directory.mkdir(parents=True, exist_ok=True)
    if list_segments(settings.directory):
        raise RecoveryError(
            f"{settings.directory} holds a journal of its own: a node on a journal that is shared wants another folder"
        )
    lock = take_lock(settings.directory)
    try:
        await _serve(settings, open_journal, on_ready, on_progress)
    finally:
        release_lock(lock)


async def _serve(
    settings: RegionSettings,
    open_journal: Callable[[], Awaitable[SharedJournal]],
    on_ready: Callable[[Node, str], None],
    on_progress: Callable[[int, int], None],
) -> None:
    listener = listen(settings.host, settings.port)
    front = Front(retry_after_s=settings.node.limits.retry_after_s)
    server = HttpServer(
        front,
        listener,
        limits=settings.node.limits,
        connections_max=connections_that_fit(settings.connections_max),
        stop_s_max=settings.stop_s_max,
    )
    if not settings.identity.url:
        settings = replace(settings, identity=replace(settings.identity, url=server.url))
    keeper = _Keeper(settings, open_journal, front, lambda node: on_ready(node, server.url), on_progress)

    def stop() -> None:
        front.stop_waiting()
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    server.listen()
    serving = asyncio.create_task(server.serve(), name="http")
    keeping = asyncio.create_task(keeper.run(), name="node")
    try:
        await asyncio.wait({serving, keeping}, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            await keeping  # raises
        keeper.stop()
        if not keeper.has_node:
            keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    finally:
        for task in (serving, keeping):
            task.cancel()
        await asyncio.gather(serving, keeping, return_exceptions=True)
        listener.close()
    _log.info("node.stopped", position=front.position)


class _Keeper:
    """Sees to it that there is a node, again and again."""

    def __init__(
        self,
        settings: RegionSettings,
        open_journal: Callable[[], Awaitable[SharedJournal]],
        front: Front,
        on_serving: Callable[[Node], None],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.has_node = False
        self._settings = settings
        self._open_journal = open_journal
        self._front = front
        self._on_serving = on_serving
        self._on_progress = on_progress
        self._stopping = asyncio.Event()
        self._has_served = False

    def stop(self) -> None:
        """Have `run` stop the node cleanly, and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Have a node until told to stop; raises what making another one cannot mend."""
        while not self._stopping.is_set():
            try:
                await self._live()
            except NotDoneError as error:
                self._tell(f"the journal is out of reach: {error}")
            except (JournalError, RecoveryError) as error:
                if not self._has_served and not isinstance(error, FramesTrimmedError):
                    raise  # another start would find the same; a snapshot that is wanted may come, from another node
                self._tell(str(error))
            if not self._stopping.is_set():
                # The state that was left is large, and out of the collector's sight, like all that lives long.
                gc.unfreeze()
                gc.collect()
                await asyncio.sleep(_PAUSE_S)

    def _tell(self, reason: str) -> None:
        self._front.shut(reason)
        _log.warning("node.waits", reason=reason)

    async def _live(self) -> None:
        """Live one node's life, from the opening of the journal until it leaves or is stopped."""
        settings = self._settings
        journal = await self._open_journal()
        try:
            await bring_snapshot(settings.directory, journal, settings.identity, settings.fleet)
            async with open_fleet_node(
                settings.directory,
                journal,
                settings.identity,
                settings.node,
                settings.fleet,
                on_progress=self._on_progress,
            ) as node:
                await self._serve(node)
        finally:
            self.has_node = False
            await journal.close()
        if node.fatal is not None:
            raise node.fatal
        if node.is_suspect:
            for error in await asyncio.to_thread(snapshots.set_aside, settings.directory):
                _log.error("snapshot.not_set_aside", file=str(error.filename), reason=error.strerror or str(error))

    async def _serve(self, node: Node) -> None:
        self.has_node = True
        self._front.lead_to(node)
        if not self._has_served:
            self._has_served = True
            self._on_serving(node)
        _log.info("node.serving", position=node.replica.position)
        waiting = [asyncio.create_task(event.wait()) for event in (self._stopping, node.left)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        self._front.shut(node.out_of_service or "the node is stopping")

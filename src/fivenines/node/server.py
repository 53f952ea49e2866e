"""A node as a process: opens the journal, recovers, serves HTTP until it is told to stop, and stops cleanly.

The order of a stop: take no new connection, finish what is in flight, write what is queued, apply it, write the last
snapshot, let go of the journal.
"""

import asyncio
import functools
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
import uvicorn

from fivenines.journal import FileJournal, FileJournalSettings
from fivenines.node.connections import Connection, close_late
from fivenines.node.gateway import Gateway
from fivenines.node.metrics import Metrics
from fivenines.node.node import Node, open_node
from fivenines.node.pages import pages
from fivenines.node.recovery import check_has_journal
from fivenines.node.settings import NodeSettings

__all__ = ["ServeSettings", "serve"]

_log = structlog.get_logger("fivenines.node")

_BACKLOG = 1024
"""Connections that wait to be accepted."""
_OPEN_FILES_MAX = 65_536
"""More would be of no use; and where a thousand million are allowed, closing all that may be open takes minutes."""
_FILES_RESERVED = 128
"""File descriptors for all that is no connection: the journal and who reads it, snapshots, and connections beyond the
bound, which are held until they can be refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Where a node listens and keeps its data."""

    directory: Path
    host: str = "127.0.0.1"
    port: int = 9959
    """0 takes a free one."""
    connections_max: int = 4_096
    """A connection beyond takes the place of an idle one; where none is idle, its request is answered 503. There are
    fewer where the process may not open so many files."""
    stop_s_max: int = 20
    """How long a stop waits for requests in flight."""
    node: NodeSettings = field(default_factory=NodeSettings)
    journal: FileJournalSettings = field(default_factory=FileJournalSettings)


async def serve(
    settings: ServeSettings,
    *,
    on_ready: Callable[[Node, str], None] = lambda _node, _url: None,
    on_check: Callable[[int, int], None] = lambda _done, _total: None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    `on_ready` is called with the URL. Before that, now and then, `on_check` is while the journal is checked, with the
    bytes done and their total, and `on_progress` while it is replayed, with the frames done and their total.

    Raises:
        OSError: the address cannot be had.
        JournalLockedError, JournalDamagedError, RecoveryError: the data cannot be served; nothing was changed.
    """
    settings = replace(settings, connections_max=_connections_that_fit(settings.connections_max))
    listener = _listen(settings.host, settings.port)
    try:
        check_has_journal(settings.directory)
        journal = FileJournal.open(settings.directory, settings=settings.journal, on_progress=on_check)
        try:
            async with open_node(settings.directory, journal, settings.node, on_progress=on_progress) as node:
                await _serve_http(node, listener, settings, on_ready)
        finally:
            await journal.close()
    finally:
        listener.close()
    _log.info("node.stopped", position=node.replica.position)


async def _serve_http(
    node: Node, listener: socket.socket, settings: ServeSettings, on_ready: Callable[[Node, str], None]
) -> None:
    metrics = Metrics(node)
    gateway = Gateway(node, pages(node, metrics), metrics)
    connection = functools.partial(
        Connection, gateway=gateway, limits=settings.node.limits, connections_max=settings.connections_max
    )
    config = uvicorn.Config(
        gateway,
        loop="none",
        http=connection,  # type: ignore[arg-type]  # whatever makes a connection will do
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.stop_s_max,
        timeout_keep_alive=75,
        backlog=_BACKLOG,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        node.stop_waiting()
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    listener.listen(_BACKLOG)  # whoever is told that we are ready may connect at once
    host, port = listener.getsockname()[:2]
    on_ready(node, f"http://{f'[{host}]' if ':' in host else host}:{port}")
    _log.info("node.serving", host=host, port=port, position=node.replica.position)
    await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: who runs the process decides about signals."""

    def stop(self) -> None:
        """Stop gracefully; a second time, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections, ten times a second; called by uvicorn."""
        if counter % 10 == 0:
            close_late(list(self.server_state.connections), asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals to `serve`."""
        return nullcontext()


def _connections_that_fit(wanted: int) -> int:
    """Let this process open as many files as it may and can use; return how many of them may be connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < most:
        # Some systems allow less than the limit that they state; then what there is must do.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY or soft >= wanted + _FILES_RESERVED:
        return wanted
    fitting = max(1, soft - min(_FILES_RESERVED, soft // 2))
    _log.warning("connections.bounded", connections_max=fitting, wanted=wanted, open_files_max=soft)
    return fitting


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener

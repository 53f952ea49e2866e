"""A node as a process: opens the journal, recovers, serves HTTP until it is told to stop, and stops cleanly.

The order of a stop: take no new connection, finish what is in flight, write what is queued, apply it, write the last
snapshot, let go of the journal.
"""

import asyncio
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from fivenines.journal import FileJournal, FileJournalSettings
from fivenines.node.gateway import Gateway
from fivenines.node.http import HttpServer, connections_that_fit, listen
from fivenines.node.metrics import Metrics
from fivenines.node.node import Node, open_node
from fivenines.node.pages import pages
from fivenines.node.recovery import check_has_journal
from fivenines.node.settings import NodeSettings

__all__ = ["ServeSettings", "serve"]

_log = structlog.get_logger("fivenines.node")


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
    settings = replace(settings, connections_max=connections_that_fit(settings.connections_max))
    listener = listen(settings.host, settings.port)
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
    server = HttpServer(
        Gateway(node, pages(node, metrics), metrics),
        listener,
        limits=settings.node.limits,
        connections_max=settings.connections_max,
        stop_s_max=settings.stop_s_max,
    )

    def stop() -> None:
        node.stop_waiting()
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    server.listen()  # whoever is told that we are ready may connect at once
    on_ready(node, server.url)
    _log.info("node.serving", url=server.url, position=node.replica.position)
    await server.serve()

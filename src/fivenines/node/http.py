"""HTTP: uvicorn on our own connections, under an application that may come and go.

Whoever runs the process decides about signals; this serves until it is told to stop, and then finishes what is in
flight.
"""

import asyncio
import fcntl
import functools
import resource
import socket
import sys
from contextlib import AbstractContextManager, nullcontext, suppress

import structlog
import uvicorn

from fivenines.node.connections import Connection, Door, close_late
from fivenines.node.settings import OPEN_FILES_MAX, Limits

__all__ = ["HttpServer", "connections_that_fit", "listen"]

_log = structlog.get_logger("fivenines.node")

_BACKLOG = 1024
"""Connections that wait to be accepted."""
_FILES_RESERVED = 128
"""File descriptors for all that is no connection: the journal and who reads it, snapshots, and connections beyond the
bound, which are held until they can be refused."""
_FILES_LAST = 16
"""The highest numbers of files, for listeners."""


class HttpServer:
    """Serves a door on a listening socket."""

    def __init__(
        self, door: Door, listener: socket.socket, *, limits: Limits, connections_max: int, stop_s_max: int
    ) -> None:
        connection = functools.partial(Connection, gateway=door, limits=limits, connections_max=connections_max)
        config = uvicorn.Config(
            door,
            loop="none",
            http=connection,  # type: ignore[arg-type]  # whatever makes a connection will do
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=stop_s_max,
            timeout_keep_alive=75,
            backlog=_BACKLOG,
        )
        self._listener = listener
        self._server = _Server(config)

    @property
    def url(self) -> str:
        """Where it is reached."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def listen(self) -> None:
        """Let clients connect, from now on; they are served once `serve` runs."""
        self._listener.listen(_BACKLOG)

    def stop(self) -> None:
        """Have `serve` finish what is in flight, and return; a second time, return at once."""
        self._server.stop()

    async def serve(self) -> None:
        """Serve until told to stop."""
        await self._server.serve(sockets=[self._listener])


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


def connections_that_fit(wanted: int) -> int:
    """Let this process open as many files as it may and can use; return how many of them may be connections."""
    soft = _allow_files()
    if soft >= wanted + _FILES_RESERVED:
        return wanted
    fitting = max(1, soft - min(_FILES_RESERVED, soft // 2))
    _log.warning("connections.bounded", connections_max=fitting, wanted=wanted, open_files_max=soft)
    return fitting


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address, and does not listen yet. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return _among_the_last(listener)


def _among_the_last(listener: socket.socket) -> socket.socket:
    """Return a socket under one of the highest numbers that a file may have here; as it is, if all are taken.

    Linux lets go of the files of a process that was killed from the highest number down. A listener with a low one
    takes connections for some milliseconds after all others have broken off, and an edge repeats what broke off at the
    very node that has just died, until it has no repeat left. Let go of first, it refuses them, and the edge goes
    elsewhere.
    """
    try:
        number = fcntl.fcntl(
            listener.fileno(), fcntl.F_DUPFD_CLOEXEC, min(_allow_files(), OPEN_FILES_MAX) - _FILES_LAST
        )
    except OSError as error:
        _log.info("listener.not_among_the_last", reason=str(error))
        return listener
    listener.close()
    return socket.socket(fileno=number)


def _allow_files() -> int:
    """Let this process open as many files as it may and can use, and return how many; it may have been allowed more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < most:
        # Some systems allow less than the limit that they state; then what there is must do.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return most
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft

"""The tries of one call that race each other, in threads: what came of them, and how to hang up on those that lost."""

import contextlib
import socket
import threading
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any

from fivenines.client.retry import Came, Session, Try
from fivenines.client.wire import Failure, Reply

__all__ = ["Line", "Race"]


class Line:
    """One try, and the connection that it uses."""

    def __init__(self, step: Try) -> None:
        self.step = step
        self._lock = threading.Lock()
        self._streams: dict[Any, Any] = {}
        self._transport: Any = None
        self._is_hung_up = False

    def begin(self, transport: Any, streams: dict[Any, Any]) -> None:
        """Take note of the transport that carries it. `streams` has the one connection of each transport."""
        with self._lock:
            self._transport, self._streams = transport, streams

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear from httpcore what becomes of the connection."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            with self._lock:
                self._streams[self._transport] = info["return_value"]
                self._hang_up()

    def end(self) -> None:
        """Take note that the connection is somebody else's now."""
        with self._lock:
            self._transport = None

    def hang_up(self) -> None:
        """End the connection under the thread that waits on it, which then wakes up."""
        with self._lock:
            self._is_hung_up = True
            self._hang_up()

    def _hang_up(self) -> None:
        stream = self._streams.get(self._transport)
        if self._is_hung_up and stream is not None and (found := stream.get_extra_info("socket")) is not None:
            # Not the method of a TLS socket, which takes its state away from under whoever reads.
            with contextlib.suppress(OSError):  # it is closed already
                socket.socket.shutdown(found, socket.SHUT_RDWR)


class Race:
    """The tries of one call. The thread of the caller begins them, threads of ours tell what came of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._came: SimpleQueue[Came | BaseException] = SimpleQueue()
        self._lock = threading.Lock()
        self._all_came = threading.Event()
        self._is_over = False
        self.lines: dict[Line, None] = {}
        """Under way."""

    def begin(self, step: Try) -> Line:
        """Take note of one more try."""
        line = Line(step)
        with self._lock:
            self.lines[line] = None
        return line

    def first(self, patience_s: float | None) -> Came | None:
        """Return what came first of the tries under way; None when nothing came within the patience."""
        try:
            came = self._came.get(timeout=patience_s)
        except Empty:
            return None
        if isinstance(came, BaseException):
            raise came
        return came

    def arrived(self, line: Line, what: Reply | Failure | BaseException | None) -> None:
        """Take note of what came of a try; None: it was not begun after all."""
        with self._lock:
            self.lines.pop(line, None)
            is_over = self._is_over
            if is_over and not self.lines:
                self._all_came.set()
        if isinstance(what, Reply | Failure):
            came = Came(line.step, what)
            if is_over:
                self._session.answered_late(came)
            else:
                self._came.put(came)
        elif what is not None:
            self._came.put(what)

    def end(self) -> None:
        """Take note that the call has its answer, or needs none any more."""
        with self._lock:
            self._is_over = True
            if not self.lines:
                self._all_came.set()
        while True:
            try:
                came = self._came.get_nowait()
            except Empty:
                return
            if isinstance(came, Came):
                self._session.answered_late(came)

    def wait_for_all(self, timeout_s: float) -> None:
        """Wait until something has come of every try, but no longer than that."""
        self._all_came.wait(timeout_s)

    def hang_up(self) -> None:
        """End the connections of all tries under way."""
        with self._lock:
            lines = list(self.lines)
        for line in lines:
            line.hang_up()

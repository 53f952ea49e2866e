"""Connections: uvicorn's, bounded in number, in time and in bytes, so that nobody can keep a node busy with nothing.

uvicorn waits for ever for a request that never becomes whole, and takes a head of any length. Here

- a request must be whole within `Limits.request_s_max`, and its head within `Limits.head_bytes_max`;
- of connections there are at most so many. A new one takes the place of those that have been idle for longest; where
  none is idle, its request is answered 503, like any other that is too much;
- an answer of which nothing is read for `Limits.unread_s_max` is dropped with its connection: it takes memory, and a
  stop would wait for it;
- what is no HTTP gets an answer like all others: a problem, with `Ledger-Position`;
- head and body of an answer leave in one piece. In two, a node that is killed between them has begun an answer that
  nobody can end, and an edge that has handed on its head cannot ask another node any more. It also spares a system
  call.

Nothing of this costs a timer for each request: one look at all connections, now and then, finds those that are late.
"""

import asyncio
import heapq
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fivenines.node.problems import Answer, problem
from fivenines.node.settings import Limits

__all__ = ["Connection", "Door", "close_late"]

_MADE_ROOM = 16  # one connection in so many of the idle ones is closed at once, which spares looking for each new one
_STOP_UNREAD_S_MAX = 2.0  # the same as Limits.unread_s_max, while the node stops
_STOP_LOOK_S = 0.25
_INTERIM = b"HTTP/1.1 1"  # 100 Continue, which no body follows


class Door(Protocol):
    """What a connection leads to: an ASGI application that also answers those who may not come in."""

    @property
    def position(self) -> int:
        """The position that an answer of now shows."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

    async def refuse_connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request on a connection that is one too many."""


class Connection(HttpToolsProtocol):
    """One connection; uvicorn makes them."""

    def __init__(self, *arguments: Any, gateway: Door, limits: Limits, connections_max: int, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._gateway = gateway
        self.limits = limits
        self._connections_max = connections_max
        self._since = 0.0  # when the present request began, or else when the last one was answered
        self._was_used = False
        self._is_receiving = False
        self._head_is_whole = False
        self._received_bytes = 0
        self._unread_bytes = 0  # at the last look
        self._read_at = self.loop.time()  # the last look that found that the peer reads, or has nothing to read

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return not self._is_receiving and self._is_answered

    @property
    def idle_since(self) -> float:
        """The event loop's time at which the connection became idle."""
        return self._since

    @property
    def _is_answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def is_late(self, now: float) -> bool:
        """Whether the connection has been idle, or its request incomplete, for too long."""
        if self._is_receiving or not self._was_used:
            return now - self._since > self.limits.request_s_max
        return self._is_answered and now - self._since > self.timeout_keep_alive

    def is_stuck(self, now: float, *, unread_s_max: float) -> bool:
        """Look whether the peer reads; return whether it has read nothing of what lies here for too long."""
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes == 0 or unread_bytes < self._unread_bytes:
            self._read_at = now
        self._unread_bytes = unread_bytes
        return now - self._read_at > unread_s_max

    def shutdown(self) -> None:
        """Finish what is under way, and then close; called by uvicorn at a stop."""
        super().shutdown()
        self._end_if_stuck()

    def _end_if_stuck(self) -> None:
        if self not in self.connections:
            return
        if self.is_stuck(self.loop.time(), unread_s_max=_STOP_UNREAD_S_MAX):
            self.transport.abort()
        else:
            self.loop.call_later(_STOP_LOOK_S, self._end_if_stuck)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, in the place of another if there are too many."""
        super().connection_made(transport)
        self.transport = _OnePiece(transport, self.loop)
        self._since = self.loop.time()
        if len(self.connections) > self._connections_max and not self._make_room():
            self.app = self._gateway.refuse_connection

    def _make_room(self) -> bool:
        idle = [c for c in _ours(self.connections) if c is not self and c.is_idle and not c.transport.is_closing()]
        for connection in heapq.nsmallest(len(idle) // _MADE_ROOM + 1, idle, key=lambda c: c.idle_since):
            connection.transport.close()
        return bool(idle)

    def data_received(self, data: bytes) -> None:
        """Take bytes, as long as what they begin may still become a request that we take."""
        super().data_received(data)
        if self._is_receiving:
            self._received_bytes += len(data)
            if not self._head_is_whole:
                if self._received_bytes > self.limits.head_bytes_max:
                    self._refuse(problem(431, "head_too_large", "The head of the request is too large."))
            elif self._received_bytes > self.limits.head_bytes_max + 2 * self.limits.body_bytes_max:
                # It was answered long ago, and goes on sending.
                self.transport.close()

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        super().on_message_begin()
        self._since = self.loop.time()
        self._was_used = True
        self._is_receiving = True
        self._head_is_whole = False
        self._received_bytes = 0

    def on_headers_complete(self) -> None:
        """Note that the head is whole."""
        self._head_is_whole = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that a request is whole."""
        self._is_receiving = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note that a request was answered."""
        if not self._is_receiving:
            self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(problem(400, "no_http", "This is not HTTP as we read it.", detail=msg))

    def _refuse(self, answer: Answer) -> None:
        if self.transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"content-type: {answer.content_type.decode()}\r\n"
            f"content-length: {len(answer.body)}\r\n"
            f"ledger-position: {self._gateway.position}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + answer.body)
        self.transport.close()


class _OnePiece(asyncio.Transport):
    """A transport that holds what is written until the next write of the same turn of the event loop, for both to go.

    uvicorn writes the head of an answer, and then its body. Where the body comes later, as in a stream, the head is
    held until the end of the turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport, self._loop = transport, loop
        self._held: bytes | bytearray | memoryview = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        elif data[: len(_INTERIM)] == _INTERIM:
            self._transport.write(data)
        elif data:
            self._held = data
            self._loop.call_soon(self._let_go)

    def _let_go(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)

    def close(self) -> None:
        self._let_go()
        self._transport.close()

    def abort(self) -> None:
        self._held = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        return len(self._held) + self._transport.get_write_buffer_size()


def close_late(connections: Iterable[object], now: float) -> None:
    """Close the connections that are late, and those whose peer does not read. `now` is the event loop's time."""
    for connection in _ours(connections):
        if connection.is_stuck(now, unread_s_max=connection.limits.unread_s_max):
            connection.transport.abort()  # closing it would wait for the peer to read
        elif connection.is_late(now):
            connection.transport.close()


def _ours(connections: Iterable[object]) -> list[Connection]:
    return [connection for connection in connections if isinstance(connection, Connection)]

"""One connection of `AsyncLedger` to a server: HTTP/1.1 as far as a ledger needs it, one request at a time.

The way of a request: its bytes are written in one piece, the parser of httptools reads what comes back, and the whole
answer is a `Reply`, or a `Failure` says what kept it away. The connection is made by the first request, kept for the
next one where the server allows it, and made anew where the server has closed it meanwhile. One timer bounds the whole
of an exchange, so that a server which sends a byte a second holds nobody.

httpx could do all of this, and does for whoever brings a transport of his own. It takes four times the work for the
same request: a client that asks a thousand times a second would have a core to itself.
"""

import asyncio
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlsplit

from fivenines.client.retry import Session, Try
from fivenines.client.servers import Server
from fivenines.client.shell import USER_AGENT
from fivenines.client.wire import JSON, Failure, Reply

if TYPE_CHECKING:
    import httptools

__all__ = ["Connection"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SAFE_IN_A_PATH: Final = "/%:@!$&'()*+,;=~"
_HEAD_BYTES_MAX: Final = 65_536
"""More than any answer has before its body."""
_UNTOLD: Final = b""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a server is, and what each request to it says in the same words."""

    host: str
    port: int
    is_secure: bool
    name: str
    """Whose certificate is expected."""
    prefix: str
    """What paths begin with."""
    headers: str


@lru_cache(maxsize=64)
def _place_of(server: Server) -> _Place:
    parts = urlsplit(server.origin)
    host = parts.hostname or ""
    default = _DEFAULT_PORTS[parts.scheme]
    said = server.host
    if said is None:
        ascii_host = host if host.isascii() else host.encode("idna").decode()
        ascii_host = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
        said = ascii_host if parts.port in {None, default} else f"{ascii_host}:{parts.port}"
    return _Place(
        host=host,
        port=default if parts.port is None else parts.port,
        is_secure=parts.scheme == "https",
        name=server.name or host,
        prefix=quote(parts.path, safe=_SAFE_IN_A_PATH),
        # Each request carries its ids, or is a read: whoever passes it on may do so twice.
        headers=f"Host: {said}\r\nAccept-Encoding: identity\r\nLedger-Retry: safe\r\nUser-Agent: {USER_AGENT}\r\n",
    )


def _as_bytes(step: Try, place: _Place) -> bytes:
    """Write a request as it goes over the wire."""
    request = step.request
    accept = JSON if request.media_type == JSON else f"{request.media_type}, {JSON};q=0.5"
    head = f"{request.method} {place.prefix}{request.path} HTTP/1.1\r\n{place.headers}Accept: {accept}\r\n"
    if request.body:
        head += f"Content-Type: {request.media_type}\r\n"
    if request.body or request.method != "GET":
        head += f"Content-Length: {len(request.body)}\r\n"
    return b"%b\r\n%b" % (head.encode("ascii"), request.body)


class Connection(asyncio.Protocol):
    """A connection to whichever server is asked; it is the taker's business to take it for one server only.

    Args:
        session: of the client.
        tls: how certificates are judged; None where no server is asked over TLS.
    """

    def __init__(self, session: Session, tls: ssl.SSLContext | None) -> None:
        self._room_max = session.limits.answer_bytes_max
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[Reply | Failure] | None = None
        self._step: Try | None = None
        self._begin_answer()
        self._room = self._head_room = 0

    async def exchange(self, step: Try) -> Reply | Failure:
        """Send a request and return what came of it. Where it is cancelled, the connection is not to be used again."""
        loop = asyncio.get_running_loop()
        place = _place_of(step.server)
        ends_at = loop.time() + step.timeout_s
        if self._transport is None or self._transport.is_closing():
            trouble = await self._connect(step, place)
            if trouble is not None:
                return trouble
        transport = self._transport
        if transport is None:
            return self._cut_off(step, " as it was made")
        self._room, self._head_room, self._step = self._room_max, _HEAD_BYTES_MAX, step
        self._waiter = loop.create_future()
        timer = loop.call_at(ends_at, self._time_is_up)
        try:
            transport.write(_as_bytes(step, place))
            return await self._waiter
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._waiter = self._step = None

    async def _connect(self, step: Try, place: _Place) -> Failure | None:
        import httptools

        self._transport, self._parser = None, httptools.HttpResponseParser(self)
        self._begin_answer()
        secure: dict[str, Any] = {"ssl": self._tls, "server_hostname": place.name} if place.is_secure else {}
        label = step.server.label
        try:
            async with asyncio.timeout(step.connect_timeout_s):
                await asyncio.get_running_loop().create_connection(lambda: self, place.host, place.port, **secure)
        except TimeoutError:
            self.close()
            return Failure("unreached", f"no connection to {label} within {step.connect_timeout_s:.3g} s")
        except (OSError, UnicodeError, asyncio.IncompleteReadError) as error:  # those of TLS are OSErrors, too
            self.close()
            return Failure("unreached", f"no connection to {label}: {error}")
        except BaseException:
            self.close()
            raise
        return None

    def close(self) -> None:
        """Close it at once; whatever was under way is cut off."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    async def aclose(self) -> None:
        """Close it."""
        self.close()

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of what to write to."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's says so only by what it can do

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that it is gone; an answer that lasts until then is whole now."""
        self._transport = None
        if self._step is not None:
            if exc is None and self._is_until_close:
                self._answer()
            else:
                why = f": {exc}" if exc else ": it was closed before the answer was whole"
                self._end(self._cut_off(self._step, why))

    def data_received(self, data: bytes) -> None:
        """Read on."""
        import httptools

        step = self._step
        if step is None or self._waiter is None or self._waiter.done():
            self.close()  # nobody has asked for this
            return
        if not self._is_begun:
            self._head_room -= len(data)
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._end(self._cut_off(step, f": {error}"))
            self.close()
            return
        if self._room < 0 or (self._head_room < 0 and not self._is_begun):
            self._end(Failure("garbled", "an answer that does not end"))
            self.close()

    def _time_is_up(self) -> None:
        step = self._step
        if step is None:
            return
        what = f"no whole answer within {step.timeout_s:.3g} s"
        if not self._is_begun:
            what = f"no answer from {step.server.label} within {step.timeout_s:.3g} s"
        self._end(Failure("timed_out", what))
        self.close()

    def _end(self, came: Reply | Failure) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(came)

    @staticmethod
    def _cut_off(step: Try, why: str) -> Failure:
        return Failure("cut_off", f"the connection to {step.server.label} broke{why}")

    # --- what the parser tells

    def _begin_answer(self) -> None:
        self._chunks: list[bytes] = []
        self._media_type = self._position = _UNTOLD
        self._retry_after: bytes | None = None
        self._date: bytes | None = None
        self._is_framed = self._is_until_close = self._is_begun = False

    def on_message_begin(self) -> None:
        """Begin a new answer. One that nobody waits for would be taken for that to the next request."""
        if self._waiter is None or self._waiter.done():
            self.close()
        self._begin_answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what a reply tells."""
        match name.lower():
            case b"content-type":
                self._media_type = value
            case b"ledger-position":
                self._position = value
            case b"retry-after":
                self._retry_after = value
            case b"date":
                self._date = value
            case b"content-length" | b"transfer-encoding":
                self._is_framed = True

    def on_headers_complete(self) -> None:
        """Take note that the body comes next."""
        self._is_begun = True
        self._is_until_close = not self._is_framed

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._chunks.append(body)
        self._room -= len(body)

    def on_message_complete(self) -> None:
        """Hand the answer over, unless it only says that another one will come."""
        assert self._parser is not None
        if self._parser.get_status_code() >= 200:
            keeps = self._parser.should_keep_alive()
            self._answer()
            if not keeps:
                self.close()

    def _answer(self) -> None:
        assert self._parser is not None
        position = self._position
        self._end(
            Reply(
                status=self._parser.get_status_code(),
                media_type=self._media_type.partition(b";")[0].strip().lower().decode("latin-1"),
                body=b"".join(self._chunks),
                position=int(position) if position.isdigit() and len(position) < 20 else None,
                retry_after=None if self._retry_after is None else self._retry_after.decode("latin-1"),
                date=None if self._date is None else self._date.decode("latin-1"),
            )
        )

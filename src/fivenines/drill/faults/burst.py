"""A helper that asks far more than it should: `python -m fivenines.drill.faults.burst FILE HOST PORT RATE FROM`.

Its requests are transactions between accounts that do not exist: they take the whole way through edge, node and
journal, and move nothing. They go out when they are due, whatever becomes of those before, on as many connections as it
takes up to a bound; what finds none free is not sent, and counted. All that is counted is written to the file, again
and again.
"""

import asyncio
import resource
import signal
import sys
import time
from pathlib import Path
from typing import cast

import httptools
import msgspec
import uvloop

from fivenines.ids import new_id

__all__ = ["Counted", "main"]

_CONNECTIONS_MAX = 2_560
"""More than an edge has under way at two nodes at once (1,024 each), and less than it has for all its clients: on few
connections we would wait for answers ourselves, and nothing would ever be too much."""
_TICK_S = 0.01
_TELL_S = 0.25
_BEHIND_S = 1.0
"""What it could not send for so long, being out of breath itself, is let go."""


class Counted(msgspec.Struct, kw_only=True):
    """What came of it all."""

    sent: int = 0
    answered: int = 0
    """With an answer of any other kind."""
    shed: int = 0
    """Turned away with 429 or 503."""
    shed_untold: int = 0
    """Of those, without a word when to come again (Retry-After)."""
    errors: int = 0
    """Other answers of 500 and above."""
    lost: int = 0
    """Connections that ended without an answer."""
    unsent: int = 0
    """Found no free connection, or us out of breath."""
    took_s: float = 0.0


class _Asking(asyncio.Protocol):
    """One connection: a request, its answer, the next one."""

    def __init__(self, burst: "_Burst") -> None:
        self._burst = burst
        self._transport: asyncio.Transport | None = None
        self._is_waiting = False
        self._says_when = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._burst.idle.append(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._burst.gone(self, was_waiting=self._is_waiting)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            assert self._transport is not None
            self._transport.abort()

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Called by the parser."""
        self._says_when |= name.lower() == b"retry-after"

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._is_waiting = False
        self._burst.count(self._parser.get_status_code(), says_when=self._says_when)
        assert self._transport is not None
        if self._parser.should_keep_alive():
            self._burst.idle.append(self)
        else:
            self._transport.close()

    def ask(self, request: bytes) -> None:
        """Send a request."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._is_waiting, self._says_when = True, False
        self._transport.write(request)


class _Burst:
    def __init__(self, host: str, port: int, rate_per_s: float, source: str) -> None:
        self.counted = Counted()
        self.idle: list[_Asking] = []
        self._to, self._rate_per_s = (host, port), rate_per_s
        self._source = (source, 0) if source else None
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()

    def count(self, status: int, *, says_when: bool) -> None:
        counted = self.counted
        if status in {429, 503}:
            counted.shed += 1
            counted.shed_untold += not says_when
        elif status >= 500:
            counted.errors += 1
        else:
            counted.answered += 1

    def gone(self, asking: _Asking, *, was_waiting: bool) -> None:
        self._open -= 1
        self.counted.lost += was_waiting
        if asking in self.idle:
            self.idle.remove(asking)

    async def run(self, until: asyncio.Event) -> None:
        began = last = time.monotonic()
        due = 0.0
        while not until.is_set():
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            due += min(now - last, _BEHIND_S) * self._rate_per_s
            self.counted.unsent += int(max(0.0, now - last - _BEHIND_S) * self._rate_per_s)
            last = now
            while due >= 1:
                due -= 1
                self._send()
            self.counted.took_s = round(now - began, 3)

    def _send(self) -> None:
        if self.idle:
            self.counted.sent += 1
            self.idle.pop().ask(self._request())
            return
        self.counted.unsent += 1
        if self._open < _CONNECTIONS_MAX:
            self._open += 1
            opening = asyncio.create_task(self._connect())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().create_connection(
                    lambda: _Asking(self), *self._to, local_addr=self._source
                )
        except OSError:
            self._open -= 1
            self.counted.lost += 1

    def _request(self) -> bytes:
        body = b'{"id":"%s","postings":[{"source":"burst:a","destination":"burst:b","amount":1}]}' % new_id().encode()
        host, port = self._to
        head = f"POST /v1/transactions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _run(file: Path, burst: _Burst) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    running = asyncio.create_task(burst.run(ended))
    while not running.done():
        await asyncio.wait({running}, timeout=_TELL_S)
        draft = file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(burst.counted))
        draft.replace(file)
    await running


def main(words: list[str]) -> None:
    """Do it until SIGTERM."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    file, host, port, rate, source = words
    uvloop.run(_run(Path(file), _Burst(host, int(port), float(rate), source)))


if __name__ == "__main__":
    main(sys.argv[1:])

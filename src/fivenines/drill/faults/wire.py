"""A stretch of wire that treats badly what goes through it: our own driver where the kernel can do nothing of the kind.

It is a TCP proxy: it passes bytes on, later, slower, or not at all. TCP does not lose bytes, so a wire that drops cuts
the connection in the middle of what it carries, or falls silent for ever, as a wire with a dead end does.
"""

import asyncio
import contextlib
import math
import random
from typing import Self

from msgspec import Struct

__all__ = ["SlowWire", "Weather"]

_CHUNK_BYTES = 64 * 1024


class Weather(Struct, frozen=True, kw_only=True):
    """How a wire treats what goes through it."""

    delay_s: float = 0.0
    """In each direction."""
    jitter_s: float = 0.0
    """Up to so much more, by chance; the order stays."""
    bytes_per_s: float = 0.0
    """In each direction of each connection; 0: as fast as it comes."""
    cut: float = 0.0
    """The chance of each piece of up to 64 KiB that the connection ends with it, without having passed it on."""
    silent: float = 0.0
    """The chance of each connection that nothing passes, though it was taken."""


class SlowWire:
    """A stretch of wire. An asynchronous context manager.

    Args:
        host: where it listens, on a free port.
        to: host and port that it leads to.
        delay_s: in each direction.
        weather: all of it, instead of the delay alone.
        chance: decides what is left to it.
    """

    def __init__(
        self,
        host: str,
        to: tuple[str, int],
        *,
        delay_s: float = 0.0,
        weather: Weather | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._host, self._to = host, to
        self._weather = weather or Weather(delay_s=delay_s)
        self._chance = chance or random.Random(0)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self.connections = 0
        """So many were taken."""
        self.cut = 0
        """So many were cut."""

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*(end.wait_closed() for end in self._ends), return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._chance.random() < self._weather.silent:
            self._ends.add(writer)
            return
        try:
            there, back = await asyncio.open_connection(*self._to)
        except OSError:
            writer.close()
            return
        self._ends |= {writer, back}
        for task in (self._carry(reader, back), self._carry(there, writer)):
            carrying = asyncio.create_task(task)
            self._tasks.add(carrying)
            carrying.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop, weather = asyncio.get_running_loop(), self._weather
        arrives = 0.0

        def pass_on(chunk: bytes) -> None:
            if sink.is_closing():
                return
            sink.write(chunk) if chunk else sink.close()

        def send(chunk: bytes) -> None:
            nonlocal arrives  # nothing overtakes what was sent before; the loop keeps no order of what is due at once
            arrives = max(
                math.nextafter(arrives, math.inf),
                loop.time() + weather.delay_s + self._chance.random() * weather.jitter_s,
            )
            loop.call_at(arrives, pass_on, chunk)

        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK_BYTES):
                if self._chance.random() < weather.cut:
                    self.cut += 1
                    sink.transport.abort()
                    return
                if weather.bytes_per_s:  # the last byte of it has to be through
                    await asyncio.sleep(len(chunk) / weather.bytes_per_s)
                send(chunk)
        send(b"")

"""A wire between a journal and a member that a test can cut, block, or make swallow the answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class Wire:
    """A TCP proxy in front of one member."""

    def __init__(self, target_port: int, *, target_host: str = "127.0.0.1") -> None:
        self.answers_to_swallow = 0
        """Connections that will swallow what the member says from now on, and then break."""
        self.swallowed = 0
        self._target = (target_host, target_port)
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.break_connections()
        await asyncio.sleep(0)

    def block(self) -> None:
        """Let nothing through, in either direction; connections stay."""
        self._open.clear()

    def unblock(self) -> None:
        self._open.set()

    def break_connections(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, upstream_writer}
        self._writers |= pair
        try:
            await asyncio.gather(
                self._pump(reader, upstream_writer, is_answer=False),
                self._pump(upstream_reader, writer, is_answer=True),
            )
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if is_answer and self.answers_to_swallow and len(data) > 30:
                    self.answers_to_swallow -= 1
                    self.swallowed += 1
                    self.break_connections()
                    return
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def wires(ports: list[int], hosts: Sequence[str] = ()) -> AsyncIterator[list[Wire]]:
    """Proxies in front of members, by the ports of these, and by their hosts if they are not all on 127.0.0.1."""
    made = [Wire(port, target_host=host) for port, host in zip(ports, hosts or ["127.0.0.1"] * len(ports), strict=True)]
    for wire in made:
        await wire.start()
    try:
        yield made
    finally:
        for wire in made:
            wire.unblock()
            await wire.stop()

"""A slow stretch of wire passes on all that it gets, in its order, later; and ends when either side does."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.drill.faults.wire import SlowWire, Weather
from fivenines.drill.members import free_ports

HOST = "127.0.0.1"
DELAY_S = 0.05

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, up to its end."""
    with suppress(OSError):
        while chunk := await reader.read(1000):
            writer.write(chunk)
            await writer.drain()


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """Run a server on a free port; every connection has ended in the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await handler(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, HOST, 0)
    async with server, asyncio.timeout(60):
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def over_a_wire(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]], handler: Handler = echo
) -> bytes:
    """Talk to a server at the other end of a slow wire."""

    async def whole() -> bytes:
        async with (
            served(handler) as port,
            SlowWire(HOST, (HOST, port), delay_s=DELAY_S) as wire,
            connected(wire.port) as ends,
        ):
            return await talk(*ends)

    return asyncio.run(whole())


def test_everything_arrives_in_its_order() -> None:
    sent = bytes(range(256)) * 2_000

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(sent)
        return await reader.readexactly(len(sent))

    assert over_a_wire(talk) == sent


def test_nothing_arrives_before_its_time() -> None:
    clock: list[float] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        time = asyncio.get_running_loop().time
        began = time()
        writer.write(b"ping")
        answer = await reader.readexactly(4)
        clock.append(time() - began)
        return answer

    assert over_a_wire(talk) == b"ping"
    # There and back; a timer may come a tick early, and as late as the machine likes.
    assert clock[0] > 2 * DELAY_S * 0.9


def test_the_end_of_one_side_reaches_the_other_after_what_was_sent_before() -> None:
    async def say_and_leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"the last words")
        await writer.drain()

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bytes:
        return await reader.read()

    assert over_a_wire(talk, say_and_leave) == b"the last words"


def test_a_wire_into_nothing_is_closed() -> None:
    async def whole() -> bytes:
        (port,) = free_ports(1)
        async with (
            asyncio.timeout(60),
            SlowWire(HOST, (HOST, port), delay_s=DELAY_S) as wire,
            connected(wire.port) as (reader, _writer),
        ):
            return await reader.read()

    assert asyncio.run(whole()) == b""


def test_a_wire_that_is_taken_away_takes_its_connections_along() -> None:
    ended: list[str] = []

    async def wait_for_the_end(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.readuntil(b"!")
            ended.append("arrived")
            await reader.read()
        ended.append("gone")

    async def whole() -> None:
        async with served(wait_for_the_end) as port:
            async with SlowWire(HOST, (HOST, port), delay_s=DELAY_S) as wire:
                reader, writer = await asyncio.open_connection(HOST, wire.port)
                writer.write(b"hello!")
                while not ended:  # noqa: ASYNC110 - that is the other end of the wire
                    await asyncio.sleep(DELAY_S)
            with suppress(OSError):
                assert await reader.read() == b""
            writer.close()

    asyncio.run(whole())
    assert ended == ["arrived", "gone"]


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1])
def test_pieces_of_any_size_pass(size: int) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"x" * size + b"!")
        return await reader.readexactly(size + 1)

    assert len(over_a_wire(talk)) == size + 1


async def told_over(weather: Weather, data: bytes, *, seed: int = 1) -> tuple[bytes, SlowWire]:
    """Send bytes to an echo over a wire with some weather, and return what comes back of them."""
    async with (
        served(echo) as port,
        SlowWire(HOST, (HOST, port), weather=weather, chance=random.Random(seed)) as wire,
        connected(wire.port) as (reader, writer),
    ):
        writer.write(data)
        back = b""
        with suppress(ConnectionError):
            while len(back) < len(data) and (chunk := await reader.read(1000)):
                back += chunk
        return back, wire


@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_what_wavers_arrives_in_its_order(seed: int) -> None:
    data = random.Random(seed).randbytes(20_000)
    back, _wire = asyncio.run(told_over(Weather(jitter_s=0.02), data, seed=seed))
    assert back == data


def test_a_narrow_wire_takes_its_time() -> None:
    began = time.monotonic()
    back, _wire = asyncio.run(told_over(Weather(bytes_per_s=20_000), b"x" * 4_000))
    assert back == b"x" * 4_000
    assert time.monotonic() - began >= 0.2


def test_a_wire_that_breaks_ends_the_connection() -> None:
    back, wire = asyncio.run(told_over(Weather(cut=1.0), b"data"))
    assert back == b""
    assert wire.cut == 1


def test_a_silent_wire_takes_connections_and_passes_nothing() -> None:
    async def run() -> int:
        async with (
            SlowWire(HOST, (HOST, free_ports(1)[0]), weather=Weather(silent=1.0)) as wire,
            connected(wire.port) as (reader, writer),
        ):
            writer.write(b"anybody?")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            return wire.connections

    assert asyncio.run(run()) == 1

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

import dns.message
import pytest

from fivenines.traffic.nameserver import Nameserver, NameserverSettings
from fivenines.traffic.table import write_table
from tests.unit.names.tables import table

QUESTION = dns.message.make_query("api.bank.test", "A").to_wire()
FRAMED = len(QUESTION).to_bytes(2, "big") + QUESTION
LATE_S = 30.0

Conversation = Callable[[Nameserver, int], Coroutine[None, None, None]]


def serve(
    folder: Path, converse: Conversation, *, connections_max: int = 256, idle_s: float = 60.0, summary_s: float = 60.0
) -> Nameserver:
    """Run a nameserver in this process for as long as a conversation lasts."""
    write_table(folder / "steering.json", table())
    settings = NameserverSettings(
        table=folder / "steering.json",
        port=0,
        connections_max=connections_max,
        idle_s=idle_s,
        summary_s=summary_s,
    )

    async def run() -> Nameserver:
        server = Nameserver(settings, chance=random.Random(7))
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(server.serve(lambda port, _: ready.set_result(port)))
        async with asyncio.timeout(LATE_S):
            try:
                await converse(server, await ready)
            finally:
                server.stop()
                await serving
        return server

    return asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - nobody tells it; `serve` bounds how long
        await asyncio.sleep(0.01)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


async def answer(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


def test_connections_beyond_the_bound_are_closed_at_once(tmp_path: Path) -> None:
    async def converse(server: Nameserver, port: int) -> None:
        first = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in first:
            writer.write(FRAMED)
            assert await answer(reader)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await is_closed(reader)
        writer.close()
        for reader, writer in first:
            writer.write(FRAMED)
            assert await answer(reader), "those that were there stay"
        first[0][1].close()
        await first[0][1].wait_closed()
        await until(lambda: server.connections == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FRAMED)
        assert await answer(reader), "there is room again"
        for _reader, each in (*first[1:], (reader, writer)):
            each.close()

    assert serve(tmp_path, converse, connections_max=2).refused_connections == 1


@pytest.mark.parametrize(
    "sent", [b"", b"\0", FRAMED[:-1], FRAMED], ids=["nothing", "half a length", "all but a byte", "a question"]
)
def test_a_connection_that_says_nothing_more_is_closed(tmp_path: Path, sent: bytes) -> None:
    async def converse(server: Nameserver, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if sent == FRAMED:
            assert await answer(reader)
        assert await is_closed(reader)
        writer.close()
        assert server.connections == 0

    assert serve(tmp_path, converse, idle_s=0.2).received["tcp"] == (sent == FRAMED)


def test_open_connections_do_not_keep_it_from_stopping(tmp_path: Path) -> None:
    async def converse(server: Nameserver, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FRAMED)
        assert await answer(reader)
        server.stop()
        assert await is_closed(reader)
        writer.close()

    assert serve(tmp_path, converse).received["tcp"] == 1


def test_who_sends_no_more_still_gets_the_answers(tmp_path: Path) -> None:
    async def converse(server: Nameserver, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FRAMED * 3)
        writer.write_eof()
        for _ in range(3):
            assert dns.message.from_wire(await answer(reader)).answer
        assert await is_closed(reader)
        writer.close()
        await until(lambda: server.connections == 0)

    assert serve(tmp_path, converse).received["tcp"] == 3


def test_who_asks_and_does_not_read_is_hung_up_on(tmp_path: Path) -> None:
    async def converse(server: Nameserver, port: int) -> None:
        talker = socket.create_connection(("127.0.0.1", port))
        talker.setblocking(False)
        with talker:
            await until(lambda: server.connections == 1)

            def talk() -> bool:
                with suppress(BlockingIOError, ConnectionError):
                    talker.send(FRAMED * 1_000)
                return server.connections == 0

            await until(talk)

    assert serve(tmp_path, converse, idle_s=0.3).received["tcp"]


def test_a_question_in_pieces_is_a_question(tmp_path: Path) -> None:
    async def converse(_: Nameserver, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in FRAMED:
            writer.write(bytes([byte]))
            await writer.drain()
        assert dns.message.from_wire(await answer(reader)).answer
        writer.close()

    assert serve(tmp_path, converse).received["tcp"] == 1


def test_what_was_answered_is_told_again_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def converse(_: Nameserver, __: int) -> None:
        await until(lambda: "nameserver_summary" in capsys.readouterr().out)

    assert serve(tmp_path, converse, summary_s=0.05).watch.refused == 0


def test_a_bug_beside_the_sockets_ends_the_process(tmp_path: Path) -> None:
    async def converse(server: Nameserver, _: int) -> None:
        server.watch.path = None  # type: ignore[assignment] # what no input can do
        await until(lambda: server.connections < 0)

    with pytest.raises(AttributeError, match="stat"):
        asyncio.run(_serve_until_it_ends(tmp_path, converse))


async def _serve_until_it_ends(folder: Path, converse: Conversation) -> None:
    write_table(folder / "steering.json", table())
    server = Nameserver(NameserverSettings(table=folder / "steering.json", port=0))
    async with asyncio.timeout(LATE_S):
        talking: list[asyncio.Future[None]] = []
        try:
            await server.serve(lambda port, _: talking.append(asyncio.ensure_future(converse(server, port))))
        finally:
            for each in talking:
                each.cancel()

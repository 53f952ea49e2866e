"""Clients that are shown an expired certificate, that ask too much, and that ask what nobody should."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from fivenines.drill.faults import certificates, poison
from fivenines.drill.faults.book import Book
from fivenines.drill.faults.burst import Counted
from fivenines.drill.faults.certificates import Front
from fivenines.drill.faults.force import InForce, begun
from fivenines.drill.members import free_ports
from tests.e2e.serving import run_server
from tests.integration.faults.drilling import check_within, drilling, wait_until_watched_no_more

HOST = "127.0.0.1"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[int]:
    """Run a server on a free port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(handle, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)


def need_tls() -> None:
    if (reason := certificates.why_not()) is not None:
        pytest.skip(reason)


def front_in(folder: Path, port: int, to: int) -> Front:
    return Front(folder, "eu-west", at=(HOST, port), to=(HOST, to))


async def expire(fault: InForce, folder: str, port: str, to: str) -> None:
    """Have a front's certificate expire; for `drilling`, too."""
    await certificates.expire(fault, front_in(Path(folder), int(port), int(to)))


def test_a_certificate_expires_and_is_good_again(tmp_path: Path) -> None:
    need_tls()
    port, to = free_ports(2)
    front = front_in(tmp_path / "tls", port, to)

    async def run() -> list[bool]:
        await front.start()
        try:
            trusted = [await certificates.is_trusted(front)]
            async with begun(tmp_path, "expired_certificate", "a front") as fault:
                await certificates.expire(fault, front)
                trusted.append(await certificates.is_trusted(front))
            return [*trusted, await certificates.is_trusted(front)]
        finally:
            await front.stop()

    assert asyncio.run(run()) == [True, False, True]
    wait_until_watched_no_more(tmp_path)


def test_a_killed_drill_leaves_no_expired_certificate(tmp_path: Path) -> None:
    need_tls()
    port, to = free_ports(2)
    front = front_in(tmp_path / "tls", port, to)

    def play() -> bool:
        with drilling(tmp_path, "test_faults_of_clients.expire", front.folder, port, to) as drill:
            assert not asyncio.run(certificates.is_trusted(front))
            os.kill(drill.pid, signal.SIGKILL)
            check_within(lambda: not Book(tmp_path).entries(), "the book is empty")
            return asyncio.run(certificates.is_trusted(front))

    async def run() -> bool:
        await front.start()
        try:
            return await asyncio.to_thread(play)
        finally:
            await front.stop()

    assert asyncio.run(run())


def test_every_kind_of_answer_to_a_burst_is_counted(tmp_path: Path) -> None:
    file, asked = tmp_path / "counted", 0
    answers = (b"201 Created\r\n", b"503 Busy\r\nRetry-After: 1\r\n", b"429 Too Many\r\n", b"500 Broken\r\n")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
            await reader.readexactly(int(length.split()[1]))
            writer.write(b"HTTP/1.1 " + answers[asked % len(answers)] + b"Content-Length: 0\r\n\r\n")
            asked += 1

    async def run() -> Counted:
        async with answering(answer) as port:
            words = ("-m", "fivenines.drill.faults.burst", str(file), HOST, str(port), "200", "127.0.0.9")
            process = await asyncio.create_subprocess_exec(sys.executable, *words)
            try:
                async with asyncio.timeout(60):
                    while asked < 40:  # noqa: ASYNC110 - it comes
                        await asyncio.sleep(0.05)
                process.send_signal(signal.SIGTERM)
                await process.wait()
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
        return msgspec.json.decode(file.read_bytes(), type=Counted)

    counted = asyncio.run(run())
    assert counted.sent >= 40
    assert min(counted.answered, counted.errors, counted.shed_untold) >= 9
    assert counted.shed >= 2 * counted.shed_untold - 1
    assert counted.answered + counted.errors + counted.shed <= counted.sent


def test_a_node_lives_through_all_that_is_hostile(tmp_path: Path) -> None:
    with run_server(tmp_path / "data") as server:
        came = asyncio.run(poison.send_all(HOST, server.server.port))
        assert set(came) == {each.name for each in poison.POISON}
        wrong = {name: answer for name, answer in came.items() if answer.startswith("5") or answer == "unreachable"}
        assert not wrong
        assert asyncio.run(poison.send(HOST, server.server.port, poison.Poison("none", GOOD))) == "200"


def test_who_hangs_up_or_says_nothing_is_told() -> None:
    async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        return

    async def say_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)

    async def run(answer: Answer) -> str:
        async with answering(answer) as port:
            return await poison.send(HOST, port, poison.POISON[0], patience_s=0.2)

    assert asyncio.run(run(hang_up)) == "closed"
    assert asyncio.run(run(say_nothing)) == "silence"
    assert asyncio.run(poison.send_all(HOST, free_ports(1)[0], poison.POISON[:1])) == {"broken JSON": "unreachable"}
    assert poison.count({"a": "400", "b": "404", "c": "closed"}) == {"sent": 3, "answers_4xx": 2, "closed": 1}


GOOD = b"GET /v1/platform HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"

"""The connection of `AsyncLedger`, against servers that answer in every way HTTP/1.1 allows, and in some others."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from fivenines.client import AsyncLedger, Limits, NotDoneError

T = TypeVar("T")

BODY = b'{"outcome":"done","id":"a","position":3}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nLedger-Position: 3\r\n"
FRAMED = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
IMPATIENT = Limits(backoff_s_min=0.001, backoff_s_max=0.01, try_timeout_s=5.0)


class Scripted:
    """A server that answers the requests of each connection with what it is told to; then it closes the connection."""

    def __init__(self, *connections: Sequence[bytes]) -> None:
        self._left = list(connections)
        self.requests: list[bytes] = []
        self.connections = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/under/this"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for answer in self._left.pop(0) if self._left else ():
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split()[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
            self.requests.append(head + await reader.readexactly(length))
            for part in answer.split(b"|"):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


async def opened(server: Scripted, count: int = 1, limits: Limits = IMPATIENT) -> list[int | None]:
    """Open accounts one after the other, and return the positions that were answered."""
    async with server as url, AsyncLedger(url, limits=limits, deadline_s=20) as ledger:
        return [(await ledger.open_account("a", asset="EUR/2")).position for _ in range(count)]


@pytest.mark.parametrize(
    "answer",
    [
        FRAMED,
        CHUNKED,
        b"|".join(bytes([byte]) for byte in FRAMED),
        b"|".join(bytes([byte]) for byte in CHUNKED),
        b"HTTP/1.1 100 Continue\r\n\r\n|HTTP/1.1 103 Early Hints\r\nLedger-Position: 9\r\n\r\n|" + FRAMED,
        HEAD + b"\r\n" + BODY,
        b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + BODY,
    ],
    ids=["framed", "chunked", "framed, in drops", "chunked, in drops", "after others", "until the end", "of old"],
)
def test_an_answer_is_read_in_whatever_form_it_comes(answer: bytes) -> None:
    server = Scripted([answer])
    assert run(opened(server)) == [3]
    assert server.connections == 1


def test_a_connection_is_kept_for_the_next_request() -> None:
    server = Scripted([FRAMED, CHUNKED, FRAMED])
    assert run(opened(server, 3)) == [3, 3, 3]
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /under/this/v1/accounts HTTP/1.1\r\nHost: 127.0.0.1:")
    assert len(set(server.requests)) == 1


def test_a_connection_that_the_server_closes_is_made_anew() -> None:
    closing = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    server = Scripted([closing], [FRAMED], [FRAMED])
    assert run(opened(server, 3)) == [3, 3, 3]
    assert server.connections == 3


def test_an_answer_that_nobody_asked_for_is_never_taken_for_the_next() -> None:
    another = FRAMED.replace(b'"position":3', b'"position":4')
    server = Scripted([FRAMED + another, FRAMED], [FRAMED])
    assert run(opened(server, 2)) == [3, 3]
    assert server.connections == 2


@pytest.mark.parametrize(
    "broken",
    [
        b"no HTTP at all\r\n\r\n",
        HEAD + b"Content-Length: 1000\r\n\r\n" + BODY,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nnot a number\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: another\r\nConnection: upgrade\r\n\r\n",
        HEAD + b"Padding: %b\r\n" % (b"x" * 1_000_000) + b"\r\n" + BODY,
        b"",
    ],
    ids=["no HTTP", "cut", "no chunk", "another protocol", "an endless head", "nothing"],
)
def test_what_is_no_whole_answer_is_asked_for_again(broken: bytes) -> None:
    server = Scripted([broken], [FRAMED])
    assert run(opened(server)) == [3]
    assert server.connections == 2


def test_a_server_that_is_not_there_is_said_to_be_unreached() -> None:
    async def ask_nobody() -> None:
        async with Scripted() as url:
            pass
        async with AsyncLedger(url, limits=IMPATIENT, deadline_s=0.3) as ledger:
            await ledger.open_account("a", asset="EUR/2")

    with pytest.raises(NotDoneError, match="no connection to http"):
        run(ask_nobody())

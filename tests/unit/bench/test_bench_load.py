"""The load tools against a small server on a socket, which answers as it was told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from bench.load_arrays import ArrayLoad, ArrayResult, LoadError, quantile
from bench.load_arrays import run as run_arrays
from bench.load_many import ManyLoad, ManyResult, run_load

ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + b'{"outcome":"posted"}'
REFUSED = b"HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n"
REFUSED_SILENTLY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
WRONG = b"HTTP/1.1 422 Wrong\r\ncontent-length: 2\r\n\r\nno"


class Server:
    """Answers each request by its number, from 0."""

    def __init__(self, answer: Callable[[int], bytes | None]) -> None:
        self._answer = answer
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                answer = self._answer(len(self.bodies) - 1)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen, and at the end wait until all clients have hung up."""
        handlers: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            handlers.add(asyncio.ensure_future(self.serve(reader, writer)))

        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1/transactions"
        finally:
            listener.close()
            if handlers:
                await asyncio.wait(handlers)

    def load_many(self, *, connections: int, rate: float | None = None, honour: bool = False) -> ManyResult:
        async def both() -> ManyResult:
            async with self.listening() as url:
                return await run_load(
                    ManyLoad(
                        url=url,
                        connections=connections,
                        seconds=0.2,
                        warm_up_s=0.05,
                        accounts=10,
                        salt=1,
                        honour_retry_after=honour,
                        rate=rate,
                    )
                )

        return asyncio.run(both())


def test_accepted_requests_are_counted_and_no_id_comes_twice() -> None:
    server = Server(lambda _number: ACCEPTED)
    result = server.load_many(connections=3)
    ids = [msgspec.json.decode(body)["id"] for body in server.bodies]
    assert 0 < result.accepted <= len(ids) == len(set(ids))
    assert result.goodput_per_s > 0
    assert 0 < result.p50_ms <= result.p99_ms
    assert (result.refused, result.broken, result.unsent) == (0, 0, 0)


@pytest.mark.parametrize("honour", [True, False])
def test_a_refused_request_is_sent_again_with_the_same_id(honour: bool) -> None:
    server = Server(lambda number: REFUSED if number % 2 == 0 else ACCEPTED)
    result = server.load_many(connections=1, honour=honour)
    assert result.refused > 0
    assert result.refused_without_retry_after == 0
    assert all(first == again for first, again in zip(server.bodies[::2], server.bodies[1::2], strict=False))


def test_a_refusal_that_does_not_say_when_to_try_again_is_told_apart() -> None:
    result = Server(lambda _number: REFUSED_SILENTLY).load_many(connections=2)
    assert result.refused == result.refused_without_retry_after > 0
    assert result.accepted == 0


def test_a_connection_that_is_lost_is_counted_and_made_anew() -> None:
    result = Server(lambda number: None if number % 3 == 0 else ACCEPTED).load_many(connections=2)
    assert result.broken > 0
    assert result.accepted > 0


def test_requests_by_the_clock_do_not_wait_for_answers_and_those_without_a_connection_are_unsent() -> None:
    result = Server(lambda _number: ACCEPTED).load_many(connections=1, rate=100_000)
    assert result.accepted > 0
    assert result.unsent > 0


def test_an_answer_that_is_neither_accepted_nor_refused_ends_the_load() -> None:
    with pytest.raises(LoadError, match="422"):
        Server(lambda _number: WRONG).load_many(connections=1)


def array_load(url: str) -> ArrayLoad:
    return ArrayLoad(url=url, format="msgpack", rows=3, connections=2, seconds=0.2, warm_up_s=0, accounts=10, salt=2)


def posted_array(count: int) -> bytes:
    body = b"posted" * count
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def with_arrays(server: Server) -> ArrayResult:
    async with server.listening() as url:
        return await asyncio.to_thread(run_arrays, array_load(url))


def test_arrays_are_counted_by_their_rows_and_no_id_comes_twice() -> None:
    server = Server(lambda number: REFUSED if number % 5 == 0 else posted_array(3))
    result = asyncio.run(with_arrays(server))
    ids = [row[0] for body in server.bodies for row in msgspec.msgpack.decode(body)]
    assert len(ids) == len(set(ids))
    assert result.posted == 3 * result.accepted > 0
    assert result.refused > 0
    assert len(server.bodies) - 2 <= result.accepted + result.refused <= len(server.bodies)


def test_an_outcome_other_than_posted_ends_the_load() -> None:
    with pytest.raises(LoadError, match="status 200"):
        asyncio.run(with_arrays(Server(lambda _number: posted_array(2))))


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50, 99, 100)
    assert quantile([7.0], 0.99) == 7
    assert quantile([], 0.99) == 0

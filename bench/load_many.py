"""Load of single transactions from a great many clients, told apart by how each request ended.

A process of its own: `python -m bench.load_many` takes one JSON object as its argument (ManyLoad) and prints one
(ManyResult). wrk is quicker, but it knows neither which requests were accepted nor what Retry-After says.

Closed loop: each connection sends its next request when it has its answer; refused, it sends the same again, at once or
after the time that Retry-After names. Open loop: requests come at a rate, whatever becomes of those before, each on a
connection that is free; when none is, the request counts as unsent.
"""

import asyncio
import random
import re
import resource
import sys
import time
from typing import Protocol, cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.bodies import id_text, json_row
from bench.ids import uuid7_bytes
from bench.load_arrays import LoadError, quantile
from bench.workload import account_names

__all__ = ["ManyLoad", "ManyResult", "run_load"]

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
CLOSING = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
TICK_S = 0.002
CONNECTING_AT_ONCE = 100
BODIES = 4_096
ID_AT = len(b'{"id":"')
ID_LENGTH = 36


class ManyLoad(msgspec.Struct, frozen=True):
    """What to send."""

    url: str
    connections: int
    seconds: float
    """Of measuring."""
    accounts: int
    salt: int
    """0 to 4,095, as in ArrayLoad."""
    honour_retry_after: bool = False
    warm_up_s: float = 1.0
    """What goes before, in which the load becomes steady."""
    rate: float | None = None
    """Requests a second in the open loop; None for the closed loop."""


class ManyResult(msgspec.Struct, frozen=True):
    """What came of it, within the time of measuring."""

    seconds: float
    sent: int
    accepted: int
    """Answered 200."""
    refused: int
    """Answered 429 or 503."""
    refused_without_retry_after: int
    broken: int
    """The connection was lost while an answer was awaited."""
    unsent: int
    """Of the open loop: found no free connection."""
    p50_ms: float
    """Latency of accepted requests, from their last sending."""
    p99_ms: float
    cpu_s: float
    """What the load itself took of the machine, its start included."""

    @property
    def goodput_per_s(self) -> float:
        """Requests accepted a second."""
        return self.accepted / self.seconds

    @property
    def offered_per_s(self) -> float:
        """Requests sent a second."""
        return self.sent / self.seconds


class Bodies:
    """Requests with fresh ids; accounts and amounts repeat after a while."""

    def __init__(self, load: ManyLoad) -> None:
        chance = random.Random(load.salt)
        names = account_names(load.accounts)
        parts = urlsplit(load.url)
        blank = uuid7_bytes(0, 0, 0)
        rows = []
        for _ in range(BODIES):
            source, destination = chance.sample(names, 2)
            rows.append(json_row(blank, source, destination, chance.randint(10, 99)))
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(rows[0])}\r\n\r\n"
        ).encode()
        self._head = head + rows[0][:ID_AT]
        self._tails = [row[ID_AT + ID_LENGTH :] for row in rows]
        self._salt = load.salt
        self._counter = 0

    def next(self) -> bytes:
        """Return a request."""
        self._counter = counter = self._counter + 1
        id = uuid7_bytes(time.time_ns() // 1_000_000, self._salt, counter)
        return b"%b%b%b" % (self._head, id_text(id), self._tails[counter % BODIES])


class Tally:
    """What was counted."""

    def __init__(self) -> None:
        self.sent = 0
        self.refused = 0
        self.refused_without_retry_after = 0
        self.broken = 0
        self.unsent = 0
        self.latencies_s: list[float] = []


class Mode(Protocol):
    """What a client does when it is free."""

    def on_free(self, client: "Client") -> None:
        """Go on after a request that was accepted, or after none."""

    def on_refused(self, client: "Client", request: bytes, retry_after_s: float) -> None:
        """Go on after a request that was refused."""


class Client(asyncio.Protocol):
    """One connection, made anew when the server closes it."""

    def __init__(self, run: "Run", mode: Mode) -> None:
        self._run = run
        self._mode = mode
        self._transport: asyncio.Transport | None = None
        self._request = b""
        self._sent_at = 0.0
        self._is_waiting = False
        self._received = b""

    @property
    def is_connected(self) -> bool:
        """Whether it can send."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Count what is lost, and connect again."""
        self._transport, self._received = None, b""
        was_waiting, self._is_waiting = self._is_waiting, False
        if not self._run.is_over:
            if was_waiting:
                self._run.tally.broken += 1
            self._run.reconnect(self, go_on=was_waiting)

    def go_on(self) -> None:
        """Become free."""
        self._mode.on_free(self)

    def send(self, request: bytes) -> None:
        """Send a request, if it is still time to."""
        if self._transport is None:
            return  # connection_lost comes first: connecting again sends
        self._request, self._is_waiting, self._sent_at = request, True, time.perf_counter()
        self._run.tally.sent += 1
        self._transport.write(request)

    def close(self) -> None:
        """Let go of the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read an answer."""
        self._received = received = self._received + data if self._received else data
        head_end = received.find(HEAD_END)
        if head_end < 0:
            return
        head = received[: head_end + 2]
        length = LENGTH.search(head)
        if length is None:
            raise LoadError(f"an answer without a length: {head!r}")
        if len(received) < head_end + len(HEAD_END) + int(length[1]):
            return
        self._received, self._is_waiting = b"", False
        self._judge(head, received)
        if CLOSING.search(head):
            self.close()

    def _judge(self, head: bytes, received: bytes) -> None:
        tally, status = self._run.tally, head[9:12]
        if status == b"200":
            tally.latencies_s.append(time.perf_counter() - self._sent_at)
            self._mode.on_free(self)
        elif status in {b"429", b"503"}:
            tally.refused += 1
            retry_after = RETRY_AFTER.search(head)
            if retry_after is None:
                tally.refused_without_retry_after += 1
            self._mode.on_refused(self, self._request, float(retry_after[1]) if retry_after else 0.0)
        else:
            raise LoadError(f"neither accepted nor refused: {received[:500]!r}")


class Closed:
    """Each client sends its next request as soon as it is free."""

    def __init__(self, run: "Run") -> None:
        self._run = run

    def on_free(self, client: Client) -> None:
        """Send the next request."""
        if not self._run.is_over:
            client.send(self._run.bodies.next())

    def on_refused(self, client: Client, request: bytes, retry_after_s: float) -> None:
        """Send the same again."""
        if self._run.load.honour_retry_after:
            asyncio.get_running_loop().call_later(retry_after_s, client.send, request)
        elif not self._run.is_over:
            client.send(request)


class Open:
    """Requests come by the clock; a client that is free waits for one."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._free: list[Client] = []

    def on_free(self, client: Client) -> None:
        """Wait for a request."""
        self._free.append(client)

    def on_refused(self, client: Client, request: bytes, retry_after_s: float) -> None:  # noqa: ARG002 - one interface
        """Wait for a request; nobody tries the refused one again."""
        self._free.append(client)

    async def run(self, rate: float) -> None:
        """Send at a rate until the end."""
        run, began, done = self._run, time.perf_counter(), 0
        while not run.is_over:
            due = int((time.perf_counter() - began) * rate)
            for _ in range(due - done):
                while self._free and not self._free[-1].is_connected:
                    self._free.pop()
                if self._free:
                    self._free.pop().send(run.bodies.next())
                else:
                    run.tally.unsent += 1
            done = due
            await asyncio.sleep(TICK_S)


class Run:
    """One load from begin to end."""

    def __init__(self, load: ManyLoad) -> None:
        self.load = load
        self.bodies = Bodies(load)
        self.tally = Tally()
        self.is_over = False
        parts = urlsplit(load.url)
        self._address = parts.hostname or "", parts.port or 80
        self._reconnects: set[asyncio.Task[None]] = set()

    def reconnect(self, client: Client, *, go_on: bool) -> None:
        """Connect a client again, which then goes on."""
        task = asyncio.get_running_loop().create_task(self._connect(client, go_on=go_on))
        self._reconnects.add(task)
        task.add_done_callback(self._reconnects.discard)

    async def _connect(self, client: Client, *, go_on: bool) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: client, *self._address)
        except OSError:
            self.tally.broken += 1
            await asyncio.sleep(0.1)
            if not self.is_over:
                self.reconnect(client, go_on=go_on)
            return
        if go_on:
            client.go_on()

    async def run(self) -> ManyResult:
        """Connect, let the load become steady, measure."""
        load = self.load
        mode: Closed | Open = Closed(self) if load.rate is None else Open(self)
        clients = [Client(self, mode) for _ in range(load.connections)]
        try:
            return await self._run(mode, clients)
        finally:
            self.is_over = True
            for client in clients:
                client.close()
            for task in self._reconnects:
                task.cancel()
            await asyncio.sleep(0)  # until what was closed has gone

    async def _run(self, mode: "Closed | Open", clients: list[Client]) -> ManyResult:
        load = self.load
        for start in range(0, len(clients), CONNECTING_AT_ONCE):
            part = clients[start : start + CONNECTING_AT_ONCE]
            await asyncio.gather(*[self._connect(client, go_on=False) for client in part])
        for client in clients:
            client.go_on()
        clock = None
        if isinstance(mode, Open) and load.rate is not None:
            clock = asyncio.create_task(mode.run(load.rate))
        await asyncio.sleep(load.warm_up_s)
        self.tally, began = Tally(), time.perf_counter()
        await asyncio.sleep(load.seconds)
        self.is_over, seconds, tally = True, time.perf_counter() - began, self.tally
        if clock is not None:
            await clock
        usage = resource.getrusage(resource.RUSAGE_SELF)
        latencies_s = sorted(tally.latencies_s)
        return ManyResult(
            seconds=seconds,
            sent=tally.sent,
            accepted=len(latencies_s),
            refused=tally.refused,
            refused_without_retry_after=tally.refused_without_retry_after,
            broken=tally.broken,
            unsent=tally.unsent,
            p50_ms=quantile(latencies_s, 0.50) * 1_000,
            p99_ms=quantile(latencies_s, 0.99) * 1_000,
            cpu_s=usage.ru_utime + usage.ru_stime,
        )


async def run_load(load: ManyLoad) -> ManyResult:
    """Send the load; what goes wrong in a callback ends it."""
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[ManyResult] = loop.create_future()

    def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if not failed.done():
            failed.set_exception(error if isinstance(error, Exception) else RuntimeError(str(context["message"])))

    loop.set_exception_handler(fail)
    running = asyncio.ensure_future(Run(load).run())
    await asyncio.wait({running, failed}, return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        running.cancel()
        await asyncio.wait({running})
        return failed.result()
    return await running


if __name__ == "__main__":
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    result = uvloop.run(run_load(msgspec.json.decode(sys.argv[1], type=ManyLoad)))
    print(msgspec.json.encode(result).decode())

"""Hear every answer on the wire, and know which requests are under way.

`Recorder` stands between the client library and the sockets. It keeps what no retry can talk away: the first answer to
each transaction, any answer that differs from it, each try that was cut off, and when what happened. A transaction is
**acknowledged** when its answer arrived here whole.

It also tells when a request is going out with others still unanswered. A kill at that very moment, before anything else
runs, cuts this one in two, and hits those that the ledger is at work on: `Killer` does that.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from fivenines.api import ItemResult
from fivenines.client.shell import Connections

__all__ = ["Answer", "Kill", "Killer", "Record", "Recorder", "Try", "id_bytes"]

_TRANSACTIONS = "/v1/transactions"


def id_bytes(text: str) -> bytes:
    """Return the 16 bytes of an id in text form."""
    return bytes.fromhex(text.replace("-", ""))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ledger said about one transaction."""

    outcome: str
    position: int | None


@dataclass(slots=True, eq=False)
class Try:
    """One request with transactions, as it went over the wire."""

    body: bytes
    """An array of transactions in msgpack or JSON."""
    is_msgpack: bool
    at: float
    """When it began."""
    address: str = ""
    """Where it went: `host:port`."""
    out_at: float = math.inf
    """When its head had gone out, and its body began to: from then on the ledger has something of it."""
    ended: float = math.inf
    acknowledged: int = 0
    """How many transactions its answer acknowledged; 0 when it was cut off or turned away."""

    def items(self) -> list[Any]:
        """The transactions, as plain maps."""
        found: list[Any] = (msgspec.msgpack if self.is_msgpack else msgspec.json).decode(self.body)
        return found

    def ids(self) -> list[bytes]:
        """The ids of the transactions."""
        return [id_bytes(item["id"]) for item in self.items()]


@dataclass(slots=True)
class Record:
    """Everything that was heard."""

    answers: dict[bytes, Answer] = field(default_factory=dict)
    """The first answer to each transaction, by its id."""
    changed: list[tuple[bytes, Answer]] = field(default_factory=list)
    """Later answers that were not the first one again."""
    answered: list[Try] = field(default_factory=list)
    """Tries that were acknowledged, in the order of their answers."""
    cut_off: list[Try] = field(default_factory=list)
    """Tries without an answer, of which something had gone out; those among them that another server overtook."""
    refused_connections: int = 0
    """Tries of which nothing went out: nobody was there."""
    turned_away: int = 0
    """Answers other than 200: the ledger asked to come back later."""


@dataclass(slots=True)
class Kill:
    """One kill, and what came of it."""

    what: str
    """What was killed, for people."""
    at: float
    after: int
    """How many transactions were acknowledged before."""
    requests: int
    """How many requests had gone out to what was killed, and were unanswered."""
    transactions: int
    """How many transactions those held."""
    cut_off: int = 0
    """How many of those requests were never answered: the answers to the others were on their way."""
    decided_unheard: int = 0
    """Transactions that the journal had by then, and nobody heard so: the retry got the answer."""
    recovery_s: float | None = None
    """From the kill to the first acknowledgement of a request sent after it."""


class Killer:
    """Kills the ledger each time a planned number of transactions is acknowledged.

    It waits for a moment with many requests under way, and is content with ever fewer the longer there is none.

    Args:
        targets: numbers of acknowledged transactions, ascending.
        patience: how many more may be acknowledged before one request under way is enough.
        wanted: how many requests should be under way to what is killed.
        is_hit: whether the next kill hits what goes to `host:port`.
        kill: ends something at once, and returns what it was.
    """

    def __init__(
        self,
        targets: Sequence[int],
        *,
        patience: int,
        wanted: int,
        is_hit: Callable[[str], bool],
        kill: Callable[[], str],
    ) -> None:
        self._targets = list(targets)
        self._patience = patience
        self._wanted = wanted
        self._is_hit = is_hit
        self._kill = kill
        self.kills: list[Kill] = []

    def consider(self, acknowledged: int, open_tries: Sequence[Try], going_out: Try) -> None:
        """Kill, if it is time to; called just when a request goes out.

        It has to go to what is killed: it is the one that is cut in two for certain. The answers to all others may
        already be on their way.
        """
        if not self._targets or acknowledged < self._targets[0] or not self._is_hit(going_out.address):
            return
        now = going_out.out_at
        if self.kills and self.kills[-1].recovery_s is None:
            return
        sent = [each for each in open_tries if each.out_at <= now and self._is_hit(each.address)]
        late = acknowledged - self._targets[0]
        if len(sent) < max(1, round(self._wanted * (1 - late / self._patience))):
            return
        what = self._kill()
        self._targets.pop(0)
        self.kills.append(Kill(what, now, acknowledged, len(sent), sum(len(each.items()) for each in sent)))

    def heard(self, answered: Try) -> None:
        """Take note of an acknowledgement: the first of a request that was sent after a kill ends the recovery."""
        if self.kills and self.kills[-1].recovery_s is None and answered.at > self.kills[-1].at:
            self.kills[-1].recovery_s = answered.ended - self.kills[-1].at


def _whole(response: httpx.Response, body: bytes) -> httpx.Response:
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(body))


class Recorder(httpx.AsyncBaseTransport):
    """A transport for `AsyncLedger` that records what is posted and answered, and passes everything on.

    Args:
        make: opens a transport of one connection.
        clock: seconds that only go forward.
    """

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport], *, clock: Callable[[], float]) -> None:
        self._connections = Connections(make, shared=None)
        self._clock = clock
        self._open: dict[Try, None] = {}
        self.record = Record()
        self.killer: Killer | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its answer when it is here whole."""
        if request.method != "POST" or request.url.path != _TRANSACTIONS:
            response, body = await self._exchange(request)
            return _whole(response, body)
        is_msgpack = request.headers.get("Content-Type", "").endswith("msgpack")
        address = f"{request.url.host}:{request.url.port}"
        this = Try(await request.aread(), is_msgpack, self._clock(), address)

        async def trace(event: str, _info: object) -> None:
            if event.endswith("send_request_body.started"):
                this.out_at = self._clock()
                if self.killer is not None:
                    self.killer.consider(len(self.record.answers), list(self._open), this)

        request.extensions = {**request.extensions, "trace": trace}
        self._open[this] = None
        try:
            response, body = await self._exchange(request)
        except (httpx.TransportError, asyncio.CancelledError) as error:
            if this.out_at < math.inf:
                self.record.cut_off.append(this)
            elif not isinstance(error, asyncio.CancelledError):
                self.record.refused_connections += 1
            raise
        finally:
            this.ended = self._clock()
            del self._open[this]
        if response.status_code == 200:
            self._acknowledged(this, body, is_msgpack="msgpack" in response.headers.get("Content-Type", ""))
        else:
            self.record.turned_away += 1
        return _whole(response, body)

    async def aclose(self) -> None:
        """Close the sockets."""
        for transport in self._connections.end():
            await transport.aclose()

    async def _exchange(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        address = f"{request.url.host}:{request.url.port}"
        transport = self._connections.take(address)
        try:
            response = await transport.handle_async_request(request)
            try:
                assert isinstance(response.stream, httpx.AsyncByteStream)
                body = b"".join([chunk async for chunk in response.stream])
            finally:
                await response.aclose()
        except httpx.TransportError:
            self._connections.give_back(transport, address)
            raise
        except BaseException:
            # Cancelled, as another server was first: see `AsyncLedger`.
            self._connections.discard(transport)
            await transport.aclose()
            raise
        self._connections.give_back(transport, address)
        return response, body

    def _acknowledged(self, answered: Try, body: bytes, *, is_msgpack: bool) -> None:
        decode = msgspec.msgpack.decode if is_msgpack else msgspec.json.decode
        record = self.record
        for item in decode(body, type=list[ItemResult]):
            id, answer = id_bytes(item.id), Answer(item.outcome, item.position)
            if record.answers.setdefault(id, answer) != answer:
                record.changed.append((id, answer))
            answered.acknowledged += 1
        record.answered.append(answered)
        if self.killer is not None:
            self.killer.heard(answered)

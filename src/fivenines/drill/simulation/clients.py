"""Clients that move money through whatever happens: the real client, over a simulated network.

Each tells the judge what it asked and what it was told (`Told`), and that is all that the judge knows of it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

import httpx

from fivenines.api import Posting
from fivenines.client import AsyncLedger, LedgerError, Limits, MaybeDoneError, NotDoneError, RefusedError
from fivenines.drill.simulation.fleet import START_US, SimulatedNode
from fivenines.ids import IdMaker, as_text

__all__ = ["Client", "Told", "Weather"]


@dataclass(frozen=True, slots=True)
class Told:
    """One transaction, and what its client was told about it."""

    id: str
    postings: tuple[Posting, ...]
    outcome: str
    """An outcome of the ledger; or `maybe`, or `not_done`."""
    position: int | None
    asked_s: float
    told_s: float


@dataclass(slots=True)
class Weather:
    """The network between clients and nodes. The simulator changes it."""

    delay_s: float
    lost: float


class Client:
    """One client: it submits one transaction after another, and sometimes one of them again."""

    def __init__(
        self, nodes: list[SimulatedNode], weather: Weather, random: Random, tell: Callable[[Told], None]
    ) -> None:
        self._told: list[Told] = []
        self._tell = tell
        self._random = random
        loop = asyncio.get_running_loop()
        urls = [f"http://{node.name}" for node in nodes]
        random.shuffle(urls)
        self._ledger = AsyncLedger(
            *urls,
            deadline_s=random.choice([2.0, 20.0]),
            limits=Limits(try_timeout_s=1.0, avoid_s=0.5, backoff_s_max=0.5),
            transport=_Network(nodes, weather, random),
            clock=loop.time,
            random=random.random,
        )
        self._ids = IdMaker(clock_ms=lambda: START_US // 1000 + int(loop.time() * 1000), random_bytes=random.randbytes)

    async def set_up(self, asset: str, accounts: dict[str, int | None]) -> None:
        """Register the asset and open the accounts, each with its min_balance, however long it takes."""
        await self._insist(partial(self._ledger.create_asset, asset))
        for account, floor in accounts.items():
            await self._insist(partial(self._ledger.open_account, account, asset=asset, min_balance=floor))

    async def _insist(self, operation: Callable[[], Awaitable[object]]) -> None:
        while True:
            with contextlib.suppress(NotDoneError, MaybeDoneError):
                await operation()
                return

    async def work(self, accounts: list[str], count: int) -> None:
        """Submit `count` transactions between `accounts`."""
        for _ in range(count):
            await asyncio.sleep(self._random.expovariate(1 / 0.05))
            if self._told and self._random.random() < 0.15:
                before = self._random.choice(self._told)
                await self._submit(before.id, before.postings)
                continue
            id = as_text(self._ids.numbers(1)[0].to_bytes(16, "big"))
            count_of_postings = self._random.choice([1, 1, 1, 2, 3])
            pairs = [self._random.sample(accounts, 2) for _ in range(count_of_postings)]
            postings = tuple(Posting(source, to, self._random.randint(1, 40)) for source, to in pairs)
            await self._submit(id, postings)

    async def _submit(self, id: str, postings: tuple[Posting, ...]) -> None:
        asked_s = asyncio.get_running_loop().time()
        position = None
        try:
            result = await self._ledger.transact(list(postings), id=id)
            outcome, position = result.outcome, result.position
        except RefusedError as error:
            outcome, position = error.outcome, error.position
        except MaybeDoneError:
            outcome = "maybe"
        except NotDoneError:
            outcome = "not_done"
        except LedgerError as error:
            raise AssertionError(f"a client got what it must never get: {error!r}") from error
        told = Told(id, postings, outcome, position, asked_s, asyncio.get_running_loop().time())
        self._told.append(told)
        self._tell(told)


class _Network(httpx.AsyncBaseTransport):
    """The way from a client to the nodes and back, in the weather."""

    def __init__(self, nodes: list[SimulatedNode], weather: Weather, random: Random) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._weather = weather
        self._random = random

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry a request to its node, and the answer back, if the weather lets them through."""
        try:
            async with asyncio.timeout(request.extensions["timeout"]["read"]):
                await self._leg()
                node = self._nodes[request.url.host]
                if node.node is None:
                    raise httpx.ConnectError("nobody listens", request=request)
                answer = await node.serve(request.method, request.url.path, request.content)
                if answer is None:
                    raise httpx.ReadError("the node fell", request=request)
                await self._leg()
        except TimeoutError:
            raise httpx.ReadTimeout("no answer", request=request) from None
        status, headers, body = answer
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))

    async def _leg(self) -> None:
        """Let a message pass, or get lost."""
        if self._random.random() < self._weather.lost:
            await asyncio.Event().wait()
        await asyncio.sleep(self._random.expovariate(1 / self._weather.delay_s))

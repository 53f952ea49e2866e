"""Clients that move money through whatever happens: the real client's decisions, over a simulated network.

Each keeps what it asked and what it was told (`Told`), and nothing else: that is what the judge goes by.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, TypeVar

from fivenines.api import Posting
from fivenines.client import LedgerError, Limits, MaybeDoneError, NotDoneError, RefusedError
from fivenines.client.operations import Operations
from fivenines.client.retry import Call, Servers, Session, Sleep, Try
from fivenines.client.wire import Failure, Reply
from fivenines.drill.simulation.fleet import START_US, SimulatedNode
from fivenines.ids import IdMaker, as_text

__all__ = ["Client", "Told", "Weather"]

T = TypeVar("T")


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

    def __init__(self, number: int, nodes: list[SimulatedNode], weather: Weather, random: Random) -> None:
        self.told: list[Told] = []
        self._nodes = {f"http://{node.name}": node for node in nodes}
        self._weather = weather
        self._random = random
        loop = asyncio.get_running_loop()
        urls = list(self._nodes)
        random.shuffle(urls)
        session = Session(
            servers=Servers(tuple(urls)),
            deadline_s=random.choice([2.0, 20.0]),
            limits=Limits(try_timeout_s=1.0, avoid_s=0.5, backoff_s_max=0.5),
            reads_own_writes=True,
            clock=loop.time,
            random=random.random,
        )
        self._operations = Operations(session)
        self._ids = IdMaker(clock_ms=lambda: START_US // 1000 + int(loop.time() * 1000), random_bytes=random.randbytes)
        self._number = number

    async def set_up(self, asset: str, accounts: dict[str, int | None]) -> None:
        """Register the asset and open the accounts, each with its min_balance, however long it takes."""
        await self._insist(lambda: self._operations.create_asset(asset))
        for account, floor in accounts.items():
            await self._insist(partial(self._operations.open_account, account, asset=asset, min_balance=floor))

    async def _insist(self, operation: Callable[[], Call[Any]]) -> None:
        while True:
            with contextlib.suppress(NotDoneError, MaybeDoneError):
                await self._run(operation())
                return

    async def work(self, accounts: list[str], count: int) -> None:
        """Submit `count` transactions between `accounts`."""
        for _ in range(count):
            await asyncio.sleep(self._random.expovariate(1 / 0.05))
            if self.told and self._random.random() < 0.15:
                before = self._random.choice(self.told)
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
            result = await self._run(self._operations.transact(list(postings), id=id))
            outcome, position = result.outcome, result.position
        except RefusedError as error:
            outcome, position = error.outcome, error.position
        except MaybeDoneError:
            outcome = "maybe"
        except NotDoneError:
            outcome = "not_done"
        except LedgerError as error:
            raise AssertionError(f"a client got what it must never get: {error!r}") from error
        self.told.append(Told(id, postings, outcome, position, asked_s, asyncio.get_running_loop().time()))

    async def _run(self, call: Call[T]) -> T:
        came: Reply | Failure | None = None
        while True:
            try:
                step = call.send(came)
            except StopIteration as end:
                answer: T = end.value
                return answer
            match step:
                case Try():
                    came = await self._try(step)
                case Sleep(seconds):
                    await asyncio.sleep(seconds)
                    came = None

    async def _try(self, step: Try) -> Reply | Failure:
        try:
            async with asyncio.timeout(step.timeout_s):
                await self._leg()
                node = self._nodes[step.url]
                if node.node is None:
                    return Failure("unreached", "nobody listens")
                answer = await node.serve(step.request.method, step.request.path, step.request.body)
                if answer is None:
                    return Failure("cut_off", "the node fell")
                await self._leg()
        except TimeoutError:
            return Failure("timed_out", "no answer")
        status, headers, body = answer
        return Reply(
            status=status,
            media_type=headers["content-type"],
            body=body,
            position=int(headers["ledger-position"]),
            retry_after=headers.get("retry-after"),
        )

    async def _leg(self) -> None:
        """Let a message pass, or get lost."""
        if self._random.random() < self._weather.lost:
            await asyncio.Event().wait()
        await asyncio.sleep(self._random.expovariate(1 / self._weather.delay_s))

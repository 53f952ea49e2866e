"""One simulated life of a fleet, drawn from a seed: `simulate(seed)`.

Three nodes share a journal, a few clients move money and a reader looks, while nodes crash and come back, links are cut
and messages are lost. That is the first part: nothing may be *wrong*. Then the faults stop, and within a bound all must
be *well*: every client has its answers, every node is at the end of the journal, all states are equal to the byte.

The same seed gives the same life, to the digest of the journal.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

from fivenines.drill.simulation import loop
from fivenines.drill.simulation.clients import Client, Weather
from fivenines.drill.simulation.fleet import SimulatedNode
from fivenines.drill.simulation.journal import Link, SharedLog
from fivenines.drill.simulation.judge import Seen, ViolationError, judge_told, read_log
from fivenines.journal import Frame, JournalError
from fivenines.ledger import Applied, Batch, digest
from fivenines.node import Node, OverloadedError
from fivenines.node.replica import PositionTimeoutError

__all__ = ["Life", "SimulationFailedError", "simulate"]

ASSET = "EUR/2"
ACCOUNTS: dict[str, int | None] = {"world": None, "a": 0, "b": 0, "c": 0, "d": -50}
FAULTY_S = 6.0
CALM_S_MAX = 120.0
_NODES = 3
_CONVERGED_S_MAX = 10.0


class SimulationFailedError(Exception):
    """A life went wrong. `seed` lives it again."""

    def __init__(self, seed: int, reason: str) -> None:
        super().__init__(f"seed {seed}: {reason}")
        self.seed = seed
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Life:
    """What happened in a life that went well."""

    seed: int
    digest: str
    """Of the journal and the last state: equal for two runs of one seed."""
    frames: int
    transactions: int
    answered: int
    unanswered: int
    """Answers that were no certainty: maybe done, or not done."""
    crashes: int
    reads: int
    virtual_s: float


def simulate(seed: int, *, make_node: Callable[..., Node] = Node) -> Life:
    """Live the life of `seed`, with nodes made by `make_node`.

    Raises:
        SimulationFailedError: a promise was broken, a node died of a bug, or the fleet did not get well.
    """
    try:
        return loop.run(_Fleet(seed, make_node).live())
    except loop.DeadlockError as error:
        raise SimulationFailedError(seed, "everybody waits, and nothing will ever happen") from error
    except Exception as error:
        raise SimulationFailedError(seed, str(error) or repr(error)) from error


class _Fleet:
    def __init__(self, seed: int, make_node: Callable[..., Node]) -> None:
        self._seed = seed
        self._random = Random(seed)
        self._make_node = make_node
        self._crashes = 0
        self._seen: list[Seen] = []
        self._digests: dict[int, bytes] = {}

    async def live(self) -> Life:
        random = self._random
        # The seed draws even the climate: a calm sea finds other bugs than a storm.
        fault_every_s = random.choice([0.1, 0.3, 1.0, 5.0])
        self._lost = random.choice([0.0, 0.01, 0.1])
        self._weather = Weather(delay_s=random.choice([0.001, 0.02]), lost=self._lost / 2)
        self._log = SharedLog()
        self._nodes = [
            SimulatedNode(f"node-{n}", self._log, Link(random.choice([0.001, 0.03])), random, self._make_watched)
            for n in range(_NODES)
        ]
        for node in self._nodes:
            node.start()
        clients = [Client(self._nodes, self._weather, random) for _ in range(random.randint(1, 5))]
        await clients[0].set_up(ASSET, ACCOUNTS)

        for node in self._nodes:
            node.link.lost = self._lost
        working = [asyncio.create_task(c.work(list(ACCOUNTS), random.randint(5, 40))) for c in clients]
        reading = asyncio.create_task(self._read(clients))
        breaking = asyncio.create_task(self._break(fault_every_s))
        await self._while_alive(asyncio.wait(working, timeout=FAULTY_S))
        breaking.cancel()

        self._heal()
        await self._while_alive(asyncio.wait(working, timeout=CALM_S_MAX))
        if not all(task.done() for task in working):
            raise ViolationError("after the faults were over, clients did not get their answers")
        reading.cancel()
        for task in (*working, reading):
            await asyncio.gather(task, return_exceptions=task is reading)
        await self._converge()
        return self._judge(clients)

    async def _while_alive(self, waiting: Coroutine[Any, Any, Any]) -> None:
        """Wait, and look at the nodes meanwhile: one that died of a bug ends the life."""
        task = asyncio.create_task(waiting)
        while not task.done():
            await asyncio.wait({task}, timeout=0.1)
            for node in self._nodes:
                node.check_alive()
        task.result()

    def _make_watched(self, *args: Any, **kwargs: Any) -> Node:
        node = self._make_node(*args, **kwargs)

        def compare(frame: Frame, _batch: Batch, _applied: Applied) -> None:
            outcomes = node.state.outcomes_digest
            if self._digests.setdefault(frame.position, outcomes) != outcomes:
                raise ViolationError(f"replicas differ at position {frame.position}")

        node.replica.listen(compare)
        return node

    # --- what goes wrong

    async def _break(self, every_s: float) -> None:
        random = self._random
        while True:
            await asyncio.sleep(random.expovariate(1 / every_s))
            node = random.choice(self._nodes)
            match random.choice(["crash", "start", "start", "cut", "heal", "snapshot", "damage", "slow"]):
                case "crash" if node.node is not None:
                    node.crash()
                    self._crashes += 1
                case "start" if node.node is None:
                    node.start()
                case "cut":
                    node.link.whole.clear()
                case "heal":
                    node.link.whole.set()
                case "snapshot":
                    node.snapshot()
                case "damage":
                    node.lose_newest_snapshot()
                case "slow":
                    node.link.delay_s = random.choice([0.001, 0.03, 0.3])

    def _heal(self) -> None:
        self._weather.lost = 0.0
        for node in self._nodes:
            node.link.whole.set()
            node.link.lost = 0.0
            node.link.delay_s = 0.001
            if node.node is None:
                node.start()

    # --- what is looked at

    async def _read(self, clients: list[Client]) -> None:
        random = self._random
        while True:
            await asyncio.sleep(random.expovariate(1 / 0.2))
            node = random.choice(self._nodes).node
            if node is None:
                continue
            told = max((answer.position or 0 for client in clients for answer in client.told), default=0)
            try:
                async with asyncio.timeout(1.0):
                    if random.random() < 0.5:
                        await node.replica.wait_position(told, 1.0)
                    else:
                        await node.writer.submit([])
            except (TimeoutError, JournalError, OverloadedError, PositionTimeoutError):
                continue  # this node cannot tell now, and says so
            balances = {id: account.balance for id, account in node.state.accounts.items()}
            self._seen.append(Seen(str(node.directory), told, node.state.position, balances))

    async def _converge(self) -> None:
        # An append of a client that has given up may still be on its way: go on until the end stays the end.
        end = 0
        while end != len(self._log.frames):
            end = len(self._log.frames)
            for node in self._nodes:
                assert node.node is not None
                await self._while_alive(node.node.replica.wait_position(end, _CONVERGED_S_MAX))

    def _judge(self, clients: list[Client]) -> Life:
        truth = read_log(self._log.frames)
        told = [answer for client in clients for answer in client.told]
        judge_told(truth, told, self._seen)
        states = []
        for node in self._nodes:
            assert node.node is not None
            state = node.node.state
            if state.imbalances():
                raise ViolationError(f"{node.name} has made or lost money: {state.imbalances()}")
            if {id: account.balance for id, account in state.accounts.items()} != truth.balances[state.position]:
                raise ViolationError(f"{node.name} ends with other balances than the log")
            states.append(digest(state))
        if len(set(states)) != 1:
            raise ViolationError("the nodes end with different states")
        unanswered = sum(answer.position is None for answer in told)
        return Life(
            seed=self._seed,
            digest=sha256(self._log.frames[-1].digest + states[0]).hexdigest(),
            frames=len(self._log.frames),
            transactions=len(truth.decided),
            answered=len(told) - unanswered,
            unanswered=unanswered,
            crashes=self._crashes,
            reads=len(self._seen),
            virtual_s=asyncio.get_running_loop().time(),
        )

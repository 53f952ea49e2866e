"""One simulated life of a fleet, drawn from a seed: `simulate(seed)`.

Three nodes share a journal in an etcd of three members, a few clients move money and a reader looks, while nodes and
members crash, hang and come back, leaders change, links are cut, messages are lost, and the journal is trimmed and
compacted under all of them. That is the first part: nothing may be *wrong*, at any step. Then the faults stop, and
within a bound all must be *well*: every client has its answers, every node is at the end of the journal, all states are
equal to the byte.

The same seed gives the same life, to the digest of the journal.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from hashlib import sha256
from random import Random
from typing import Any

from fivenines.drill.simulation import loop
from fivenines.drill.simulation.clients import Client, Weather
from fivenines.drill.simulation.etcd_channels import EtcdLink, outside_of
from fivenines.drill.simulation.etcd_members import SimulatedEtcd, later
from fivenines.drill.simulation.etcd_store import Change
from fivenines.drill.simulation.fleet import Parts, SimulatedNode
from fivenines.drill.simulation.judge import Judge, Seen, ViolationError
from fivenines.journal import Frame, JournalError
from fivenines.journal.etcd import EtcdJournalSettings, found
from fivenines.journal.etcd.layout import Keys, parse_place
from fivenines.ledger import Applied, Batch, digest
from fivenines.node import Node, OverloadedError
from fivenines.node.replica import PositionTimeoutError

__all__ = ["Life", "Parts", "SimulationFailedError", "simulate"]

ASSET = "EUR/2"
ACCOUNTS: dict[str, int | None] = {"world": None, "a": 0, "b": 0, "c": 0, "d": -50}
FAULTY_S = 6.0
CALM_S_MAX = 120.0
_NODES = 3
_CONVERGED_S_MAX = 20.0


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
    reads: int
    crashes: int
    """Of nodes."""
    member_faults: int
    """Members that crashed, hung or were cut off."""
    elections: int
    answers_lost: int
    """Answers of etcd to writes that it had carried out."""
    doubles: int
    """Writes that etcd was asked for more than once, and carried out each time."""
    compactions: int
    trims: int
    left: int
    """Nodes that took themselves out of service, as their journal was at an end, and came again."""
    fetched: int
    """Nodes that began with another's snapshot."""
    virtual_s: float


COUNTS = tuple(field.name for field in fields(Life) if field.type is int and field.name != "seed")


def simulate(seed: int, parts: Parts | None = None) -> Life:
    """Live the life of `seed`, with nodes made of `parts`.

    Raises:
        SimulationFailedError: a promise was broken, a node died of a bug, or the fleet did not get well.
    """
    try:
        return loop.run(_Fleet(seed, parts or Parts()).live())
    except loop.DeadlockError as error:
        raise SimulationFailedError(seed, "everybody waits, and nothing will ever happen") from error
    except loop.EndlessError as error:
        raise SimulationFailedError(seed, "somebody is busy for ever, and nothing comes of it") from error
    except Exception as error:
        raise SimulationFailedError(seed, str(error) or repr(error)) from error


class _Fleet:
    def __init__(self, seed: int, parts: Parts) -> None:
        self._seed = seed
        self._random = random = Random(seed)
        self._parts = parts
        self._crashes = self._member_faults = self._trims = 0
        self._wrong: BaseException | None = None
        # The seed draws even the climate: a calm sea finds other bugs than a storm.
        self._fault_every_s = random.choice([0.1, 0.3, 1.0, 5.0])
        self._fault_s = random.choice([0.3, 1.0, 3.0])
        self._lost = random.choice([0.0, 0.01, 0.1])
        self._weather = Weather(delay_s=random.choice([0.001, 0.02]), lost=self._lost / 2)
        self._keys = Keys("/")
        self._judge = Judge(self._keys.frames)
        self._settings = EtcdJournalSettings(
            endpoints=tuple(str(number) for number in range(_NODES)),
            prefix="/",
            piece_bytes_max=random.choice([100, 400, 64 * 1024]),
            lanes=random.choice([1, 3]),
            append_s_max=random.choice([1.0, 4.0]),
            mark_frames=random.choice([4, 16]),
            recent_bytes_max=random.choice([2_000, 20_000]),
        )

    async def live(self) -> Life:
        random = self._random
        asyncio.get_running_loop().set_exception_handler(self._note)
        self._etcd = SimulatedEtcd(random)
        self._etcd.listener = self._learn
        self._nodes = [self._make_machine(number) for number in range(_NODES)]
        await found(self._settings, outside=outside_of(self._nodes[0].links))
        for node in self._nodes:
            node.peers = self._nodes
            node.start()
        clients = [
            Client(self._nodes, self._weather, random, self._judge.check_told) for _ in range(random.randint(1, 4))
        ]
        await self._while_well(clients[0].set_up(ASSET, ACCOUNTS), [])

        for link in self._links:
            link.lost = self._lost
        self._etcd.is_restless = True
        working = [
            asyncio.create_task(client.work(list(ACCOUNTS), random.randint(5, 30)), name="client") for client in clients
        ]
        reading = asyncio.create_task(self._read(), name="reader")
        breaking = asyncio.create_task(self._break(), name="faults")
        acting = [*working, reading, breaking]
        await self._while_well(asyncio.wait(working, timeout=FAULTY_S), acting)
        breaking.cancel()

        self._heal()
        await self._while_well(asyncio.wait(working, timeout=CALM_S_MAX), acting)
        if not all(task.done() for task in working):
            raise ViolationError("after the faults were over, clients did not get their answers")
        reading.cancel()
        await self._while_well(self._converge(), [])
        return self._end()

    def _make_machine(self, number: int) -> SimulatedNode:
        """Make a machine in the region of the member of the same number, which is the nearest and comes first."""
        etcd, delay_s = self._etcd, self._random.choice([0.001, 0.01])
        links = [
            EtcdLink(etcd, etcd.members[(number + n) % len(etcd.members)], delay_s if n else delay_s / 5)
            for n in range(len(etcd.members))
        ]
        return SimulatedNode(f"node-{number}", links, self._random, self._settings, self._parts, self._watch)

    @property
    def _links(self) -> list[EtcdLink]:
        return [link for node in self._nodes for link in node.links]

    # ---- what is looked at ---------------------------------------------------------------------------------------

    def _watch(self, node: Node) -> None:
        def check(frame: Frame, _batch: Batch, _applied: Applied) -> None:
            self._judge.check_applied(str(node.directory), frame, node.state)

        self._judge.check_state(str(node.directory), node.state)
        node.replica.listen(check)

    def _learn(self, changes: list[Change]) -> None:
        self._judge.learn(changes)
        for change in changes:
            if change.key == self._keys.base and change.version > 1:
                self._trims += 1
                base = parse_place(change.key, change.value)
                if base.digest != self._judge.digests[base.position]:
                    raise ViolationError(f"the journal was trimmed to a place at {base.position} that never was")
                if not any(taken.position >= base.position for node in self._nodes for taken in node.snapshots):
                    raise ViolationError(f"the journal was trimmed to {base.position}, beyond all snapshots")

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # What fails in a callback has nobody else to be told.
        if "handle" in context and self._wrong is None:
            self._wrong = context["exception"]

    async def _while_well(self, waiting: Coroutine[Any, Any, Any], acting: list[asyncio.Task[None]]) -> None:
        """Wait, and look at everybody meanwhile: what went wrong ends the life."""
        task = asyncio.create_task(waiting)
        while not task.done():
            await asyncio.wait({task}, timeout=0.1)
            if self._wrong is not None:
                raise self._wrong
            for node in self._nodes:
                node.check_alive()
            for act in acting:
                if act.done() and not act.cancelled():
                    act.result()
        task.result()

    async def _read(self) -> None:
        random = self._random
        while True:
            await asyncio.sleep(random.expovariate(1 / 0.2))
            machine = random.choice(self._nodes)
            node = machine.node
            if node is None:
                continue
            wanted = max((answer.position or 0 for answer in self._judge.told), default=0)
            try:
                async with asyncio.timeout(1.0):
                    if random.random() < 0.5:
                        await node.replica.wait_position(wanted, 1.0)
                    else:
                        await node.writer.submit([])
            except (TimeoutError, JournalError, OverloadedError, PositionTimeoutError):
                continue  # this node cannot tell now, and says so
            if machine.node is node:
                balances = {id: account.balance for id, account in node.state.accounts.items()}
                self._judge.check_seen(Seen(machine.name, wanted, node.state.position, balances))

    # ---- what goes wrong -----------------------------------------------------------------------------------------

    async def _break(self) -> None:
        faults = (
            [self._break_node] * 2
            + [self._break_link] * 2
            + [self._break_member] * 2
            + [self._snapshot] * 3
            + [self._lose_snapshot, self._change_leader, self._compact]
        )
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._fault_every_s))
            self._random.choice(faults)()

    def _for_a_while(self, undo: Callable[[], None], *, times: float = 1) -> None:
        later(self._random.expovariate(1 / self._fault_s) * times, undo)

    def _break_node(self) -> None:
        node = self._random.choice(self._nodes)
        if node.is_up:
            node.crash()
            self._crashes += 1
            self._for_a_while(node.start)

    def _break_link(self) -> None:
        random = self._random
        node = random.choice(self._nodes)
        match random.choice(["cut", "cut_all", "slow"]):
            case "cut":
                self._cut(random.choice(node.links))
            case "cut_all":
                # For long: the others go on, and trim what it has not seen yet.
                for link in node.links:
                    self._cut(link, times=4)
            case "slow":
                random.choice(node.links).delay_s = random.choice([0.001, 0.03, 0.3])

    def _cut(self, link: EtcdLink, *, times: float = 1) -> None:
        link.cut(refuses=self._random.random() < 0.3)
        self._for_a_while(link.heal, times=times)

    def _break_member(self) -> None:
        random = self._random
        leader = self._etcd.leader
        member = leader if leader is not None and random.random() < 0.3 else random.choice(self._etcd.members)
        match random.choice(["crash", "hang", "cut_off", "slow"]):
            case "crash" if member.is_up:
                member.crash()
                self._for_a_while(member.start)
            case "hang" if member.is_serving:
                member.hang()
                self._for_a_while(member.go_on)
            case "cut_off" if not member.is_cut_off:
                member.cut_off()
                self._for_a_while(member.rejoin)
            case "slow":
                member.lag_s = random.choice([0.003, 0.1, 0.5])
                return
            case _:
                return
        self._member_faults += 1

    def _snapshot(self) -> None:
        self._random.choice(self._nodes).snapshot()

    def _lose_snapshot(self) -> None:
        # One disk of the three is bad. With two of them, what was trimmed behind both could be nowhere.
        self._nodes[self._seed % _NODES].lose_newest_snapshot()

    def _change_leader(self) -> None:
        if self._etcd.leader is not None:
            self._etcd.depose()

    def _compact(self) -> None:
        self._etcd.compact(max(1, self._etcd.store.view.revision - self._random.choice([0, 0, 3])))

    def _heal(self) -> None:
        self._weather.lost = 0.0
        self._etcd.is_restless = False
        for member in self._etcd.members:
            member.start()
            member.go_on()
            member.rejoin()
            member.lag_s = 0.003
        for link in self._links:
            link.heal()
            link.lost = 0.0
            link.delay_s = 0.001
        for node in self._nodes:
            node.start()

    # ---- the end -------------------------------------------------------------------------------------------------

    async def _converge(self) -> None:
        # An append of a client that has given up may still be on its way: go on until the end stays the end.
        end = 0
        now = asyncio.get_running_loop().time
        deadline = now() + _CONVERGED_S_MAX
        while end != self._judge.last or not all(self._is_at(node, end) for node in self._nodes):
            end = self._judge.last
            await asyncio.sleep(0.2)
            if now() > deadline:
                raise ViolationError("after the faults were over, " + "; ".join(map(self._described, self._nodes)))

    def _is_at(self, node: SimulatedNode, position: int) -> bool:
        return node.is_well and node.node is not None and node.node.replica.position == position

    def _described(self, node: SimulatedNode) -> str:
        where = f"is at {node.node.replica.position}" if node.node is not None else "is not there"
        return f"{node.name} {where} of {self._judge.last}"

    def _end(self) -> Life:
        judge = self._judge
        judge.check_all_told()
        states = []
        for node in self._nodes:
            assert node.node is not None
            state = node.node.state
            if state.imbalances():
                raise ViolationError(f"{node.name} has made or lost money: {state.imbalances()}")
            judge.check_state(node.name, state)
            states.append(digest(state))
        if len(set(states)) != 1:
            raise ViolationError("the nodes end with different states")
        unanswered = sum(answer.position is None for answer in judge.told)
        return Life(
            seed=self._seed,
            digest=sha256(judge.digests[-1] + states[0]).hexdigest(),
            frames=judge.last,
            transactions=len(judge.decided),
            answered=len(judge.told) - unanswered,
            unanswered=unanswered,
            reads=judge.reads,
            crashes=self._crashes,
            member_faults=self._member_faults,
            elections=self._etcd.elections,
            answers_lost=sum(link.answers_lost for link in self._links),
            doubles=self._etcd.doubles,
            compactions=self._etcd.compactions,
            trims=self._trims,
            left=sum(node.left for node in self._nodes),
            fetched=sum(node.fetched for node in self._nodes),
            virtual_s=round(asyncio.get_running_loop().time(), 3),
        )

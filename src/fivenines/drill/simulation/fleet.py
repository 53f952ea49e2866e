"""Nodes that live and die: the real journal, gateway, writer, replica and fleet, without sockets and disks.

A node that crashes loses everything but what a disk would have kept: the snapshots that it took, the newest of which
may turn out to be damaged. It starts again as a real one does (`node.region`, `node.joining`, `node.recovery`): it
opens the journal, fetches another's snapshot if its own is too old, and replays the rest. So does a node whose journal
has failed, or that needs frames which were trimmed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fivenines.drill.simulation.etcd_channels import EtcdLink, outside_of
from fivenines.drill.simulation.loop import Process
from fivenines.journal import JournalError
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings
from fivenines.journal.format import DIGEST_NONE
from fivenines.ledger import State, apply, decode, digest, image, restore
from fivenines.node import Limits, Node, NodeSettings, Recovered
from fivenines.node.fleet import Fleet, members_of, snapshot_sources
from fivenines.node.gateway import Gateway
from fivenines.node.metrics import Metrics
from fivenines.node.settings import FleetSettings, Identity

__all__ = ["START_US", "NodeDiedError", "Parts", "SimulatedNode", "Snapshot"]

_SETTINGS = NodeSettings(appends_in_flight_max=3, frame_commands_max=16, limits=Limits(queue_requests_max=24))
"""Small, so that queues fill and frames are cut at the loads of a simulation."""
_FLEET = FleetSettings(
    interval_s=0.2,
    refresh_s=2.0,
    silent_s_max=6.0,
    tail_bytes_max=1_500,
    tail_share=0.8,
    tidy_s=2.0,
    fetch_frames_min=40,
)
"""Such that there is something to trim, and whoever was down for a while finds it trimmed."""
_PAUSE_S = 0.2
_KEPT = 2

START_US = 1_760_000_000_000_000
"""The virtual clock's zero, as unix time."""


class NodeDiedError(Exception):
    """A task of a node failed, or it took itself for wrong: a bug, by definition."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What nodes are made of: where a test plants its bugs."""

    make_node: Callable[..., Node] = Node
    journal: type[EtcdJournal] = EtcdJournal


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot on a disk."""

    position: int
    frame_digest: bytes
    state_digest: bytes
    chunks: list[bytes]


class SimulatedNode:
    """One machine with a disk of its own, on which a node runs, or not."""

    def __init__(
        self,
        name: str,
        links: list[EtcdLink],
        random: Random,
        settings: EtcdJournalSettings,
        parts: Parts,
        on_made: Callable[[Node], None],
    ) -> None:
        self.name = name
        self.links = links
        self.node: Node | None = None
        self.peers: Sequence[SimulatedNode] = ()
        self.fetched = 0
        """How often it began with another's snapshot."""
        self.left = 0
        """How often its node took itself out of service."""
        self.snapshots: list[Snapshot] = []
        self._settings = settings
        self._clock_offset_us = random.randint(-500_000, 500_000)
        self._random = random
        self._parts = parts
        self._on_made = on_made
        self._process: Process | None = None
        self._living: asyncio.Task[None] | None = None
        self._gateway: ASGIApp | None = None
        self._down = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether its process runs; there may be no node in it yet."""
        return self._process is not None

    @property
    def is_well(self) -> bool:
        """Whether it serves."""
        return self.node is not None and self.node.out_of_service is None

    def start(self) -> None:
        """Start its process, if it does not run."""
        if self._process is None:
            self._process = Process()
            self._living = self._process.begin(self._live_on(), name=self.name)

    def crash(self) -> None:
        """Lose everything that is not on the disk, at once."""
        if self._process is not None:
            self._process.kill()
            self._process = self._living = None
            self._shut()

    def snapshot(self) -> None:
        """Take a snapshot, as a forked child would: of this very position."""
        node = self.node
        if node is None or not self.is_well or node.replica.position == 0:
            return
        taken = Snapshot(node.replica.position, node.replica.frame_digest, digest(node.state), list(image(node.state)))
        self._keep(taken)
        node.statistics.snapshot_position, node.statistics.snapshot_digest = taken.position, taken.state_digest

    def lose_newest_snapshot(self) -> None:
        """Have the newest snapshot turn out to be damaged: the one before it will be used, or another's."""
        if self.snapshots:
            self.snapshots.pop()

    def check_alive(self) -> None:
        """Raise what the node has died of: its assertions are a part of what is tested."""
        if self._living is not None and self._living.done():
            error = self._living.exception()
            raise NodeDiedError(f"{self.name} died of {error!r}") from error

    def clock_us(self) -> int:
        """Return this machine's clock, which is a little off."""
        return START_US + self._clock_offset_us + int(asyncio.get_running_loop().time() * 1e6)

    # ---- living --------------------------------------------------------------------------------------------------

    async def _live_on(self) -> None:
        """Have a node, again and again."""
        while True:
            # It is out of reach, or what is needed is trimmed and nobody has a snapshot yet.
            with contextlib.suppress(JournalError):
                await self._live()
            await asyncio.sleep(_PAUSE_S)

    async def _live(self) -> None:
        process = self._process
        assert process is not None
        journal = await self._parts.journal.open(self._settings, outside_of(self.links))
        try:
            identity = Identity(name=self.name, region=self.name)
            await self._bring_snapshot(journal)
            recovered = self._recover(journal)
            node = self._parts.make_node(
                Path(self.name), journal, recovered, _SETTINGS, self.clock_us, random_bytes=self._random.randbytes
            )
            node.statistics.snapshot_digest = self.snapshots[-1].state_digest if self.snapshots else b""
            node.fleet = Fleet(node, journal, identity, _FLEET)
            self._on_made(node)
            await self._serve(node)
        finally:
            if not process.is_dead:
                self._shut()
                await journal.close()

    async def _serve(self, node: Node) -> None:
        assert node.fleet is not None
        self.node = node
        self._gateway = Gateway(node, _no_pages, Metrics(node))
        self._down = asyncio.Event()
        tasks = [asyncio.create_task(work) for work in (node.follow(), node.writer.run(), node.fleet.run())]
        leaving = asyncio.create_task(node.left.wait())
        await asyncio.wait([*tasks, leaving], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
        if not node.left.is_set():
            raise NodeDiedError("one of its tasks has ended")
        if node.fatal is not None:
            raise node.fatal
        if node.is_suspect:
            raise NodeDiedError(node.out_of_service)
        self.left += 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _shut(self) -> None:
        self.node = self._gateway = None
        self._down.set()

    async def _bring_snapshot(self, journal: EtcdJournal) -> None:
        sources = snapshot_sources(
            members_of(journal.notices, asyncio.get_running_loop().time()),
            me=self.name,
            own=self.snapshots[-1].position if self.snapshots else None,
            first=journal.first,
            ahead_min=_FLEET.fetch_frames_min,
            silent_s_max=_FLEET.silent_s_max,
        )
        for source in sources:
            peer = next(peer for peer in self.peers if peer.name == source.name)
            await asyncio.sleep(self._random.expovariate(1 / 0.05))
            if peer.is_well and peer.snapshots and peer.snapshots[-1].position >= source.statement.snapshot_position:
                self._keep(peer.snapshots[-1])
                self.fetched += 1
                return

    def _keep(self, snapshot: Snapshot) -> None:
        self.snapshots = sorted(
            [*(kept for kept in self.snapshots if kept.position != snapshot.position), snapshot],
            key=lambda kept: kept.position,
        )[-_KEPT:]

    def _recover(self, journal: EtcdJournal) -> Recovered:
        state, frame_digest = State(), DIGEST_NONE
        if self.snapshots:
            state, frame_digest = restore(self.snapshots[-1].chunks), self.snapshots[-1].frame_digest
            if digest(state) != self.snapshots[-1].state_digest:
                raise NodeDiedError("a snapshot is restored to another state")
        position = state.position
        for frame in journal.read(position + 1):
            apply(state, decode(frame.payload))
            frame_digest = frame.digest
        return Recovered(state, position, state.position - position, 0, 0.0, 0.0, frame_digest)

    # ---- serving -------------------------------------------------------------------------------------------------

    async def serve(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        """Have the gateway answer a request; None if the node is not there, or is not any more."""
        if self._gateway is None or self._process is None:
            return None
        sent: list[Message] = []
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            return next(received)

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
        # Its client may give up and leave it behind.
        answering = self._process.begin(_answer(self._gateway, scope, receive, send), name="answer")
        down = self._down
        falling = asyncio.ensure_future(down.wait())
        await asyncio.wait({answering, falling}, return_when=asyncio.FIRST_COMPLETED)
        falling.cancel()
        if not answering.done() or down.is_set():
            answering.cancel()
            return None
        answering.result()
        start, end = sent
        return start["status"], {k.decode().lower(): v.decode() for k, v in start["headers"]}, end["body"]


async def _answer(gateway: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await gateway(scope, receive, send)


async def _no_pages(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("the simulated clients only write through the gateway")

"""Nodes that live and die: the real gateway, writer and replica, without sockets and disks.

A node that crashes loses everything but what a disk would have kept: the snapshots that it took, the newest of which
may turn out to be damaged. It starts again from the newest good one and the journal, as a real one does.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fivenines.drill.simulation.journal import Link, SharedJournal, SharedLog
from fivenines.ledger import State, apply, decode, image, restore
from fivenines.node import Limits, Node, NodeSettings, Recovered
from fivenines.node.gateway import Gateway
from fivenines.node.metrics import Metrics

__all__ = ["SETTINGS", "START_US", "NodeDiedError", "SimulatedNode"]

SETTINGS = NodeSettings(appends_in_flight_max=3, frame_commands_max=16, limits=Limits(queue_requests_max=24))
"""Small, so that queues fill and frames are cut at the loads of a simulation."""

START_US = 1_760_000_000_000_000
"""The virtual clock's zero, as unix time."""


class NodeDiedError(Exception):
    """A task of a node failed: a bug, by definition."""


class SimulatedNode:
    """One machine with a disk of its own, on which a node runs, or not."""

    def __init__(self, name: str, log: SharedLog, link: Link, random: Random, make_node: Callable[..., Node]) -> None:
        self.name = name
        self.link = link
        self.node: Node | None = None
        self.starts = 0
        self._clock_offset_us = random.randint(-500_000, 500_000)
        self._log = log
        self._random = random
        self._make_node = make_node
        self._snapshots: list[list[bytes]] = []
        self._gateway: ASGIApp | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._answering: set[asyncio.Future[None]] = set()
        self._down = asyncio.Event()

    def start(self) -> None:
        """Recover, and run."""
        assert self.node is None, f"{self.name} runs already"
        journal = SharedJournal(self._log, self.link, self._random)
        state = restore(self._snapshots[-1]) if self._snapshots else State()
        position = state.position
        for frame in journal.read(position + 1):
            apply(state, decode(frame.payload))
        recovered = Recovered(state, position, state.position - position, 0, 0.0, 0.0, journal.last_digest)
        self.node = node = self._make_node(
            Path(self.name), journal, recovered, SETTINGS, self.clock_us, random_bytes=self._random.randbytes
        )
        self._gateway = Gateway(node, _no_pages, Metrics(node))
        self._down = asyncio.Event()
        self._tasks = [
            asyncio.create_task(node.replica.run(), name=f"{self.name}: replica"),
            asyncio.create_task(node.writer.run(), name=f"{self.name}: writer"),
        ]
        self.starts += 1

    def crash(self) -> None:
        """Lose everything that is not on the disk, at once."""
        for task in (*self._tasks, *self._answering):
            task.cancel()
        self._tasks = []
        self.node = self._gateway = None
        self._down.set()

    def snapshot(self) -> None:
        """Take a snapshot, as a forked child would: of this very position."""
        if self.node is not None:
            self._snapshots.append(list(image(self.node.state)))

    def lose_newest_snapshot(self) -> None:
        """Have the newest snapshot turn out to be damaged: the one before it will be used."""
        if self._snapshots:
            self._snapshots.pop()

    def check_alive(self) -> None:
        """Raise what a task of the node has died of: its assertions are a part of what is tested."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise NodeDiedError(f"{self.name} died of {error!r}") from error

    def clock_us(self) -> int:
        """Return this machine's clock, which is a little off."""
        return START_US + self._clock_offset_us + int(asyncio.get_running_loop().time() * 1e6)

    async def serve(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        """Have the gateway answer a request; None if the node is not there, or is not any more."""
        if self._gateway is None:
            return None
        sent: list[Message] = []
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            return next(received)

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
        answering = asyncio.ensure_future(self._gateway(scope, receive, send))
        self._answering.add(answering)  # its client may give up and leave it behind
        answering.add_done_callback(self._answering.discard)
        falling = asyncio.ensure_future(self._down.wait())
        await asyncio.wait({answering, falling}, return_when=asyncio.FIRST_COMPLETED)
        falling.cancel()
        if not answering.done() or self._down.is_set():
            answering.cancel()
            return None
        answering.result()
        start, end = sent
        return start["status"], {k.decode().lower(): v.decode() for k, v in start["headers"]}, end["body"]


async def _no_pages(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("the simulated clients only write through the gateway")

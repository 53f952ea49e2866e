"""Our platform, running: `fivenines up` with three regions in network namespaces of their own."""

import asyncio
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

import fivenines
from bench.failover.figures import FAULTS, Fault
from bench.failover.load import Plan
from bench.processes import BenchError
from fivenines.drill.running import PlatformFailedError, RunningPlatform
from fivenines.journal import JournalError
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.local.isolation import IsolationError, Network

__all__ = ["Ours"]

_START_S_MAX: Final = 120.0
_TROUBLES: Final = (
    *(PlatformFailedError, AgentError, IsolationError, JournalError),
    *(httpx.HTTPError, OSError, TimeoutError, KeyError),
)


class Ours:
    """Our platform, as a candidate of the benchmark.

    Args:
        folder: for its data and logs.
        network: see `fivenines up --network`.
        seed: chooses the node that is killed.
    """

    name = "fivenines"
    faults: tuple[Fault, ...] = (*FAULTS, "node_killed")

    def __init__(self, folder: Path, *, network: int, seed: int = 1) -> None:
        self._platform = RunningPlatform(folder, network=network, options=("--isolation", "netns"))
        self._chance = random.Random(seed)
        self._network: Network | None = None

    @property
    def versions(self) -> dict[str, str]:
        """Of all that takes part."""
        return {"fivenines": fivenines.__version__}

    @property
    def settings(self) -> dict[str, str]:
        """How it is set up."""
        return {
            "hosts": f"{len(self._platform.regions)} regions, each in a network namespace of its own",
            "nodes": str(sum(len(place.nodes) for place in self._platform.topology.regions)),
            "platform.yaml": "none: all is as built in",
        }

    def plan(self, *, rate_per_s: float) -> Plan:
        """Describe the load: two clients in each region, which ask its nameserver first."""
        topology = self._platform.topology
        nearest_first = tuple(topology.nameservers_of(region) for region in self._platform.regions)
        return Plan(
            kind="fivenines", rate_per_s=rate_per_s, url=topology.url, nameservers=(*nearest_first, *nearest_first)
        )

    async def start(self) -> None:
        """Start all of it, and return when it is whole. Raises `BenchError`."""
        with _told():
            await self._platform.start()
            self._network = self._platform.network()
        await self.wait_whole(_START_S_MAX)

    async def prepare(self, fault: Fault) -> None:
        """Nothing has to be prepared."""

    async def hit(self, fault: Fault) -> str:
        """Begin a fault, and return what was hit. Raises `BenchError`."""
        with _told():
            if fault == "node_killed":
                node = await self._any_node()
                await self._platform.signal(node, signal.SIGKILL)
                return node
            leading = await asyncio.to_thread(self._platform.leading_region)
            if fault == "process_killed":
                await self._platform.signal(f"{leading}-journal", signal.SIGKILL)
                return f"{leading}-journal, which leads"
            assert self._network is not None
            await asyncio.to_thread(self._network.cut_off, leading)
            return f"{leading}, whose member leads the journal"

    async def mend(self) -> None:
        """End what somebody from outside has to end. Raises `BenchError`."""
        with _told():
            if self._network is not None:
                await asyncio.to_thread(self._network.heal)

    async def wait_whole(self, seconds: float) -> None:
        """Wait until everything runs and every region serves. Raises `BenchError`: not by then."""
        with _told():
            await self._platform.wait_whole(seconds)

    async def ids(self) -> set[bytes]:
        """Return the ids of all transactions that the journal, read from its first frame on, comes to."""
        with _told():
            return set((await self._platform.read_journal()).carried_out)

    async def discard(self) -> None:
        """Leave no process and no namespace behind."""
        await self._platform.discard()
        if self._network is not None:
            await asyncio.to_thread(self._network.remove)

    async def _any_node(self) -> str:
        """Choose a node, of a region by how much it has to do: where no client is, nothing is noticed."""
        platform = self._platform
        seen = await asyncio.gather(*(platform.agents.edge(region) for region in platform.regions))
        region = self._chance.choices(platform.regions, [1.0 + each.totals.requests_per_s**2 for each in seen])[0]
        return self._chance.choice(platform.topology.region(region).nodes)


@contextmanager
def _told() -> Iterator[None]:
    """Tell whatever goes wrong as a benchmark that cannot be carried out."""
    try:
        yield
    except _TROUBLES as error:
        raise BenchError(f"our platform: {error}") from error

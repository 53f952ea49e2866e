"""Three regions on this machine: a member of etcd and a node in each, as processes on loopback addresses.

Some nodes are run by `launcher.py`, in the place of `python -m fivenines`: it plants what the product has no switch
for.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from fivenines.drill.members import Cluster, make_cluster, running
from fivenines.drill.supervise import LedgerProcess, Ready
from tests.integration.etcd.clusters import need_etcd

__all__ = ["HOSTS", "NodeProcess", "Regions", "regions", "wait_until"]

HOSTS = ("127.0.1.1", "127.0.2.1", "127.0.3.1")
_PATIENCE_S = 60.0
_LAUNCHER = Path(__file__).with_name("launcher.py")


async def wait_until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until something holds; fail when it does not within a minute, which nothing here should take."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not await condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"it never came about that {what}") from None


class NodeProcess(LedgerProcess):
    """One node, running or not. Its log is in `<folder>.log`, beside its data."""

    def __init__(
        self, folder: Path, *, name: str, region: str, host: str, endpoints: Sequence[str], options: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.url = ""
        """Where it serves, once it has been started."""
        self.log_path = folder.with_name(folder.name + ".log")
        place = ("--host", host, "--name", name, "--region", region, "--journal", "etcd://" + ",".join(endpoints))
        super().__init__(folder, log=self.log_path, options=(*place, *options), name=name)

    async def start(self) -> Ready:
        """Start it, and wait until it serves."""
        ready = await super().start()
        self.url = ready.url
        return ready

    def plant(self, **planted: int) -> None:
        """From its next start on, have something wrong with it: see `launcher.py`."""
        self._program = (str(_LAUNCHER), json.dumps(planted))

    def add_options(self, *options: str) -> None:
        """From its next start on, give it further options."""
        self._options = (*self._options, *options)

    def signal(self, number: signal.Signals) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of this name that it logged, over all of its starts."""
        found = []
        for line in self.log_path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [each for each in found if each.get("event") == name]


class Regions:
    """The members and the nodes, and plain HTTP to these."""

    def __init__(self, folder: Path, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self.folder = folder
        self.cluster = cluster
        self.nodes: list[NodeProcess] = []
        self.http = http

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def add_node(
        self, region: int, name: str = "", *, endpoints: Sequence[str] | None = None, options: Sequence[str] = ()
    ) -> NodeProcess:
        """Describe one more node, whose nearest member is that of its region; it is not started."""
        all_of_them = self.cluster.endpoints
        node = NodeProcess(
            self.folder / (name or f"node{region + 1}"),
            name=name or f"region{region + 1}-1",
            region=f"region{region + 1}",
            host=HOSTS[region],
            endpoints=endpoints or (*all_of_them[region:], *all_of_them[:region]),
            options=options,
        )
        self.nodes.append(node)
        return node

    async def start(self) -> None:
        """Start all nodes that do not run, at the same time."""
        asleep = [node for node in self.nodes if node.pid is None]
        await asyncio.gather(*(node.start() for node in asleep))

    async def found(self) -> None:
        """Found the journal, as an operator does."""
        journal = "etcd://" + ",".join(self.cluster.endpoints)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fivenines", "journal", "found", "--journal", journal, "--json"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await process.wait() == 0

    async def platform(self, node: NodeProcess, **query: Any) -> dict[str, Any]:
        """Ask a node how it is."""
        response = await self.http.get(f"{node.url}/v1/platform", params=query)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found

    async def agreed(self) -> tuple[int, str]:
        """Wait until all nodes serve at one position; return it, and the digest of all outcomes that all must have."""
        return await self.agreed_among(*self.nodes)

    async def agreed_among(self, *nodes: NodeProcess) -> tuple[int, str]:
        """Do the same with some of the nodes."""
        states: list[tuple[int, str]] = []

        async def is_agreed() -> bool:
            states.clear()
            for node in nodes:
                try:
                    seen = await self.platform(node)
                except httpx.HTTPError:
                    return False
                states.append((seen["position"], seen["outcomes_digest"]))
            return len({position for position, _ in states}) == 1

        await wait_until(is_agreed, "all are at one position")
        assert len(set(states)) == 1, states
        return states[0]

    def check_logs(self) -> None:
        """Assert that no node met a bug."""
        for node in self.nodes:
            log = node.log_path.read_text()
            assert "Traceback" not in log, log[-6_000:]


@contextlib.asynccontextmanager
async def regions(
    folder: Path, *, founded: bool = True, options: Sequence[str] = (), **cluster: Any
) -> AsyncIterator[Regions]:
    """Three regions with a member and a node each; the nodes are described, not started. All end with the block."""
    need_etcd()
    members = make_cluster(folder, hosts=HOSTS, heartbeat_ms=20, election_ms=200, **cluster)
    with running(members):
        async with httpx.AsyncClient(timeout=30.0, trust_env=False) as http:
            made = Regions(folder, members, http)
            for region in range(len(HOSTS)):
                made.add_node(region, options=options)
            if founded:
                await made.found()
            try:
                yield made
            finally:
                for node in made.nodes:
                    await node.discard()

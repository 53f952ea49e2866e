"""Three regions on this machine: a member of etcd and a node in each, as processes on loopback addresses.

Some nodes are run by `launcher.py`, in the place of `python -m fivenines`: it plants what the product has no switch
for.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from fivenines.drill.members import Cluster, free_ports, make_cluster, running
from tests.integration.etcd.clusters import need_etcd

__all__ = ["HOSTS", "NodeProcess", "Regions", "regions", "wait_until"]

HOSTS = ("127.0.1.1", "127.0.2.1", "127.0.3.1")
_START_S_MAX = 60
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


class NodeProcess:
    """One node, running or not: `fivenines serve --journal`. Its log is in `<folder>.log`, beside its data."""

    def __init__(
        self, folder: Path, *, name: str, region: str, host: str, endpoints: Sequence[str], options: Sequence[str] = ()
    ) -> None:
        (port,) = free_ports(1, host=host)
        self.name, self.folder, self.url = name, folder, f"http://{host}:{port}"
        self.log_path = folder.with_name(folder.name + ".log")
        self.planted: dict[str, int] = {}
        """See `launcher.py`."""
        self.process: subprocess.Popen[bytes] | None = None
        self.options = [
            *("serve", "--json", "--data", str(folder), "--host", host, "--port", str(port)),
            *("--name", name, "--region", region, "--journal", "etcd://" + ",".join(endpoints), *options),
        ]

    def spawn(self) -> None:
        """Start the process, and do not wait."""
        assert self.process is None, f"{self.name} runs already"
        program = [str(_LAUNCHER), json.dumps(self.planted)] if self.planted else ["-m", "fivenines"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    async def start(self) -> dict[str, Any]:
        """Start the process, wait until it serves, and return what it said then."""
        self.spawn()
        return await self.ready()

    async def ready(self) -> dict[str, Any]:
        """Wait until it says that it serves, which it does once, and return what it said."""
        return await asyncio.to_thread(self._ready)

    def _ready(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        watchdog = threading.Timer(_START_S_MAX, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        assert line, f"{self.name} did not start:\n{self.log_path.read_text()[-4_000:]}"
        said: dict[str, Any] = json.loads(line)
        assert said["event"] == "ready", said
        return said

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL; nothing happens when it does not run."""
        if self.process is not None:
            self.process.kill()
            self._gone()

    def stop(self) -> int:
        """End it with SIGTERM, and return its exit status."""
        self.signal(signal.SIGTERM)
        return self._gone()

    def _gone(self) -> int:
        assert self.process is not None
        status = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def logged(self) -> list[dict[str, Any]]:
        """What it logged, over all of its starts."""
        found = []
        for line in self.log_path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        return [each for each in self.logged() if each.get("event") == name]


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
        asleep = [node for node in self.nodes if node.process is None]
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
                    node.kill()

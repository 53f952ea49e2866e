"""Nodes in several regions of this machine: a loopback address each region, a member of etcd in each, nodes in all."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.members import cpu_s, pids, running_members
from bench.processes import BenchError, free_port, running
from bench.server import Server
from fivenines.drill.members import Cluster

__all__ = ["Fleet", "Shape", "running_fleet"]

SAME_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a fleet consists of."""

    regions: int
    """Each with a member of etcd."""
    nodes: int
    """In all; they take turns in where they are."""

    @property
    def hosts(self) -> list[str]:
        """The loopback address of each region."""
        return [f"127.0.{region + 1}.1" for region in range(self.regions)]


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet that runs."""

    cluster: Cluster
    nodes: list[Server]
    processes: list[subprocess.Popen[bytes]]

    def cpu_s(self) -> float:
        """Return what all members and nodes have taken of the machine so far."""
        return cpu_s([*pids(self.cluster), *(process.pid for process in self.processes)])

    def moved(self) -> int:
        """Return the sum of all debits, once every node says the same."""
        deadline = time.monotonic() + SAME_S_MAX
        while True:
            sums = {node.moved() for node in self.nodes}
            if len(sums) == 1:
                return sums.pop()
            if time.monotonic() > deadline:
                raise BenchError(f"the nodes do not come to the same books: {sorted(sums)} moved")


@contextmanager
def running_fleet(folder: Path, shape: Shape) -> Iterator[Fleet]:
    """Run members and nodes on an empty ledger, with the accounts open, for as long as the block lasts."""
    folder.mkdir(parents=True)
    hosts = shape.hosts
    with ExitStack() as stack:
        cluster = stack.enter_context(running_members(folder, count=shape.regions, hosts=hosts))
        found(cluster.endpoints)
        nodes, processes = [], []
        for number in range(shape.nodes):
            region = number % shape.regions
            # The nearest member first, as each region's own configuration says.
            endpoints = [*cluster.endpoints[region:], *cluster.endpoints[:region]]
            port = free_port()
            node = Server(f"http://{hosts[region]}:{port}")
            stack.callback(node.close)
            name = f"region{region + 1}-{number // shape.regions + 1}"
            argv = [
                *(sys.executable, "-m", "fivenines", "serve", "--data", str(folder / name)),
                *("--host", hosts[region], "--port", str(port), "--journal", journal_url(endpoints)),
                *("--region", f"region{region + 1}", "--name", name),
            ]
            processes.append(
                stack.enter_context(running(argv, log=folder / f"{name}.log", ready=node.is_ready)),
            )
            nodes.append(node)
        nodes[0].open_accounts()
        yield Fleet(cluster, nodes, processes)


def journal_url(endpoints: list[str]) -> str:
    """Name a journal for the command line."""
    return "etcd://" + ",".join(endpoints)


def found(endpoints: tuple[str, ...]) -> None:
    """Found a journal."""
    argv = [sys.executable, "-m", "fivenines", "journal", "found", "--journal", journal_url(list(endpoints))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise BenchError(f"the journal was not founded: {done.stderr[-2_000:]}")

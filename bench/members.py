"""The members of an etcd that a benchmark starts, and what they take of the machine."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.processes import BenchError
from fivenines.drill.members import (
    ELECTION_MS,
    HEARTBEAT_MS,
    Cluster,
    EtcdMissingError,
    etcd_program,
    make_cluster,
    running,
)
from fivenines.journal.etcd.members import member_status

__all__ = [
    "ELECTION_MS",
    "HEARTBEAT_MS",
    "SNAPSHOT_COUNT",
    "cpu_s",
    "database_mb",
    "etcd_version",
    "memory_mb",
    "memory_peak_mb",
    "pids",
    "raft_term",
    "running_members",
]

SNAPSHOT_COUNT = 1_000
MB = 1024 * 1024


@contextmanager
def running_members(
    folder: Path,
    *,
    count: int = 3,
    hosts: Sequence[str] = (),
    heartbeat_ms: int = HEARTBEAT_MS,
    election_ms: int = ELECTION_MS,
) -> Iterator[Cluster]:
    """Run members whose data are below `folder` for as long as the block lasts."""
    cluster = make_cluster(
        folder,
        members=count,
        hosts=hosts,
        heartbeat_ms=heartbeat_ms,
        election_ms=election_ms,
        snapshot_count=SNAPSHOT_COUNT,
    )
    try:
        with running(cluster):
            yield cluster
    except EtcdMissingError as error:
        raise BenchError(str(error)) from error
    except TimeoutError as error:
        raise BenchError(f"etcd: {error}") from error


def etcd_version() -> str:
    """Return the version, as in `etcd 3.4.23`."""
    if not etcd_program():
        raise BenchError(str(EtcdMissingError()))
    printed = subprocess.run([etcd_program(), "--version"], capture_output=True, text=True, check=False).stdout
    return f"etcd {printed.partition(':')[2].partition(chr(10))[0].strip()}"


def pids(cluster: Cluster) -> list[int]:
    """Return the ids of the members' processes."""
    return [member.process.pid for member in cluster.members if member.process is not None]


def raft_term(cluster: Cluster) -> int:
    """Return the newest term that a member knows: it grows by at least one with each election."""
    statuses = [member_status(endpoint) for endpoint in cluster.endpoints]
    return max((status.header.raft_term for status in statuses if status is not None), default=0)


def database_mb(cluster: Cluster) -> float:
    """Return the size of the largest database file."""
    statuses = [member_status(endpoint) for endpoint in cluster.endpoints]
    return max((status.db_size for status in statuses if status is not None), default=0) / MB


def cpu_s(processes: Iterable[int]) -> float:
    """Return what processes have taken of the machine so far, in all; one that is gone counts as nothing."""
    ticks = 0
    for pid in processes:
        try:
            stat = (Path("/proc") / str(pid) / "stat").read_text(encoding="ascii")
        except OSError:
            continue
        user, system = stat.rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(processes: Iterable[int]) -> float:
    """Return the resident memory of the largest process now, its database's pages included."""
    return max(_status_mb(pid, "VmRSS") for pid in processes)


def memory_peak_mb(processes: Iterable[int]) -> float:
    """Return the most that any of the processes has ever had resident, its database's pages included."""
    return max(_status_mb(pid, "VmHWM") for pid in processes)


def _status_mb(pid: int, name: str) -> float:
    for line in (Path("/proc") / str(pid) / "status").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) / 1024
    raise BenchError(f"the system does not tell {name} of process {pid}")

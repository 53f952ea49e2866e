"""What the figures were measured on: without it they say nothing."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.members import etcd_version
from bench.peers.postgres import postgres_version
from bench.processes import BenchError, filesystem_of
from bench.wrk import wrk_version

__all__ = ["Machine", "describe_machine"]

SYNC_PROBES = 100
SYNC_PROBE_BYTES = 64 * 1024


class Machine(msgspec.Struct, frozen=True):
    """The machine, as it was when the run began."""

    cpu: str
    cores: int
    """Those that this process may use."""
    memory_gib: float
    kernel: str
    filesystem: str
    """Of the folder that the data is written to."""
    sync_ms: float
    """Median time to append 64 KiB to a file and fdatasync it there."""
    python: str
    etcd: str
    postgres: str
    wrk: str
    load_average: float
    """Processes that wanted to run during the last minute, before the benchmarks: above 0.2 the figures are noisy."""


def describe_machine(work: Path) -> Machine:
    """Look at the machine, and measure its disk below `work`."""
    return Machine(
        cpu=field_of(Path("/proc/cpuinfo"), "model name") or platform.processor() or "unknown",
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        filesystem=filesystem_of(work),
        sync_ms=round(measure_sync_ms(work), 3),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        etcd=version_or_none(etcd_version),
        postgres=version_or_none(postgres_version),
        wrk=version_or_none(wrk_version),
        load_average=round(os.getloadavg()[0], 2),
    )


def field_of(file: Path, name: str) -> str | None:
    """Return the first value of a field in a file of `name : value` lines."""
    if file.exists():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None


def version_or_none(ask: Callable[[], str]) -> str:
    """Return a program's version, or `not installed`."""
    try:
        return ask()
    except BenchError:
        return "not installed"


def measure_sync_ms(work: Path) -> float:
    """Measure what one durable write costs here, in milliseconds."""
    path, block, times_ms = work / "sync-probe", os.urandom(SYNC_PROBE_BYTES), []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNC_PROBES):
            started = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            times_ms.append((time.perf_counter() - started) * 1_000)
    path.unlink()
    return statistics.median(times_ms)

"""The benchmarks of fivenines over HTTP: one server process, the load from another one beside it.

Each run has a server of its own, so that each finds an empty ledger.
"""

import itertools
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from bench.harness import Benchmark, Figure, Run, Setting
from bench.load_arrays import ArrayLoad, ArrayResult
from bench.processes import BenchError
from bench.server import Server, ledger_server
from bench.workload import ACCOUNTS
from bench.wrk import AMOUNT, load_singles

__all__ = ["OVER_HTTP", "load_arrays", "random_salt"]

ROOT = Path(__file__).parents[1]
CONNECTIONS_SINGLE = 64


def random_salt() -> int:
    """Return what keeps the ids of one load apart from those of another."""
    return random.randrange(4_096)


def load_arrays(load: ArrayLoad) -> ArrayResult:
    """Send arrays from a process of its own."""
    command = [sys.executable, "-m", "bench.load_arrays", msgspec.json.encode(load).decode()]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, check=False, timeout=load.seconds + load.warm_up_s + 120
    )
    if done.returncode:
        raise BenchError(f"the load failed: {done.stderr.decode(errors='replace')[-2_000:]}")
    return msgspec.json.decode(done.stdout, type=ArrayResult)


@contextmanager
def prepare_singles(setting: Setting) -> Iterator[Run]:
    """Load with one transaction a request."""
    number = itertools.count()

    def run() -> Mapping[str, float]:
        with ledger_server(setting.work / str(next(number))) as server:
            url = server.transactions_url
            result = load_singles(url, accounts=ACCOUNTS, seconds=setting.seconds, connections=CONNECTIONS_SINGLE)
            if result.not_2xx or result.broken:
                raise BenchError(f"{result.not_2xx} requests were refused, {result.broken} broke")
            check_booked(server, result.requests)
        return {
            "http_single_per_s": result.per_s,
            "http_single_p50_ms": result.p50_us / 1_000,
            "http_single_p99_ms": result.p99_us / 1_000,
        }

    yield run


def check_booked(server: Server, acknowledged: int) -> None:
    """Raise when the books are not those that the load was told of."""
    booked = server.moved() // AMOUNT
    # Requests under way when the load ended are posted, too, and were not counted.
    if not acknowledged <= booked <= acknowledged + CONNECTIONS_SINGLE:
        raise BenchError(f"{acknowledged} transactions were acknowledged and {booked} booked")


@contextmanager
def prepare_arrays(
    prefix: str, form: Literal["json", "msgpack"], rows: int, connections: int, setting: Setting
) -> Iterator[Run]:
    """Load with arrays."""
    number = itertools.count()

    def run() -> Mapping[str, float]:
        with ledger_server(setting.work / str(next(number))) as server:
            load = ArrayLoad(
                url=server.transactions_url,
                format=form,
                rows=rows,
                connections=connections,
                seconds=setting.seconds,
                accounts=ACCOUNTS,
                salt=random_salt(),
            )
            result = load_arrays(load)
            if result.refused or result.broken:
                raise BenchError(f"{result.refused} arrays were refused, {result.broken} broke")
        return {f"{prefix}_per_s": result.per_s, f"{prefix}_p99_ms": result.p99_ms}

    yield run


def arrays(form: Literal["json", "msgpack"], rows: int, *, connections: int, goal: float) -> Benchmark:
    """Describe a benchmark of arrays."""
    prefix = f"http_{form}_{rows}"
    meaning = f"HTTP, arrays of {rows:,} as {form}, connections: {connections}"
    figures = {
        f"{prefix}_per_s": Figure("transactions/s", meaning, goal),
        f"{prefix}_p99_ms": Figure("ms", "the same: latency of 99 arrays in 100", less_is_better=True),
    }
    return Benchmark(prefix, figures, partial(prepare_arrays, prefix, form, rows, connections))


OVER_HTTP = (
    Benchmark(
        "http_single",
        {
            "http_single_per_s": Figure("transactions/s", "HTTP, one transaction a request, 64 connections", 12_000),
            "http_single_p50_ms": Figure("ms", "the same: median latency", less_is_better=True),
            "http_single_p99_ms": Figure("ms", "the same: latency of 99 in 100", 20, less_is_better=True),
        },
        prepare_singles,
    ),
    arrays("json", 1_000, connections=4, goal=100_000),
    arrays("msgpack", 8_000, connections=2, goal=300_000),
)

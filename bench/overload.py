"""What becomes of a server that is given ten times the load that it can bear.

First its peak: as many connections as in the other benchmarks, each sending when it has its answer. Then, against the
same server, ten times as many, by clients that try again at once when they are refused and by clients that wait as long
as Retry-After says; and an open loop, in which requests come at ten times the peak's rate whatever becomes of those
before, as far as this machine can send them beside the server: the rate that was really offered is a figure, too.

Goodput is what was accepted a second; its share is of the peak, by the same load tool on the same server.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.harness import Benchmark, Figure, Run, Setting
from bench.load_arrays import ArrayLoad, ArrayResult
from bench.load_many import ManyLoad, ManyResult
from bench.over_http import load_arrays, random_salt
from bench.processes import BenchError
from bench.server import ledger_server
from bench.workload import ACCOUNTS

__all__ = ["OVERLOAD"]

ROOT = Path(__file__).parents[1]
TIMES = 10
CONNECTIONS_PEAK = 64
CONNECTIONS_OPEN = 3_000
"""Of the open loop: with those of the load before, whose refusals the server may still be holding back, fewer than the
4,096 beyond which it hangs up on whoever comes."""
ARRAY_ROWS = 8_000
ARRAY_CONNECTIONS_PEAK = 2
GOODPUT_SHARE_GOAL = 0.8


def load_many(load: ManyLoad) -> ManyResult:
    """Send single transactions from a process of its own."""
    command = [sys.executable, "-m", "bench.load_many", msgspec.json.encode(load).decode()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=load.seconds + 120)
    if done.returncode:
        raise BenchError(f"the load failed: {done.stderr.decode(errors='replace')[-2_000:]}")
    result = msgspec.json.decode(done.stdout, type=ManyResult)
    if result.refused_without_retry_after:
        raise BenchError(f"{result.refused_without_retry_after} refusals did not say when to try again")
    return result


@contextmanager
def prepare_singles(setting: Setting) -> Iterator[Run]:
    """Overload with single transactions."""
    with ledger_server(setting.work / "singles") as server:

        def load(connections: int, *, rate: float | None = None, honour: bool = False) -> ManyResult:
            return load_many(
                ManyLoad(
                    url=server.transactions_url,
                    connections=connections,
                    seconds=setting.seconds,
                    accounts=ACCOUNTS,
                    salt=random_salt(),
                    honour_retry_after=honour,
                    rate=rate,
                )
            )

        def run() -> Mapping[str, float]:
            peak = load(CONNECTIONS_PEAK)
            eager = load(TIMES * CONNECTIONS_PEAK)
            patient = load(TIMES * CONNECTIONS_PEAK, honour=True)
            unbound = load(CONNECTIONS_OPEN, rate=TIMES * peak.goodput_per_s)
            return {
                "overload_peak_per_s": peak.goodput_per_s,
                "overload_peak_p99_ms": peak.p99_ms,
                "overload_eager_share": eager.goodput_per_s / peak.goodput_per_s,
                "overload_eager_p99_ms": eager.p99_ms,
                "overload_patient_share": patient.goodput_per_s / peak.goodput_per_s,
                "overload_patient_p99_ms": patient.p99_ms,
                "overload_open_share": unbound.goodput_per_s / peak.goodput_per_s,
                "overload_open_p99_ms": unbound.p99_ms,
                "overload_open_offered_per_s": unbound.offered_per_s,
            }

        yield run


@contextmanager
def prepare_arrays(setting: Setting) -> Iterator[Run]:
    """Overload with arrays."""
    with ledger_server(setting.work / "arrays") as server:

        def load(connections: int, *, honour: bool = False) -> ArrayResult:
            return load_arrays(
                ArrayLoad(
                    url=server.transactions_url,
                    format="msgpack",
                    rows=ARRAY_ROWS,
                    connections=connections,
                    seconds=setting.seconds,
                    accounts=ACCOUNTS,
                    salt=random_salt(),
                    honour_retry_after=honour,
                )
            )

        def run() -> Mapping[str, float]:
            peak = load(ARRAY_CONNECTIONS_PEAK)
            eager = load(TIMES * ARRAY_CONNECTIONS_PEAK)
            patient = load(TIMES * ARRAY_CONNECTIONS_PEAK, honour=True)
            return {
                "overload_arrays_peak_per_s": peak.per_s,
                "overload_arrays_peak_p99_ms": peak.p99_ms,
                "overload_arrays_eager_share": eager.per_s / peak.per_s,
                "overload_arrays_eager_p99_ms": eager.p99_ms,
                "overload_arrays_patient_share": patient.per_s / peak.per_s,
                "overload_arrays_patient_p99_ms": patient.p99_ms,
            }

        yield run


def share(meaning: str) -> Figure:
    """Describe goodput under overload."""
    return Figure("of the peak", meaning, goal=GOODPUT_SHARE_GOAL)


def latency(meaning: str = "the same: latency of 99 in 100 that were accepted") -> Figure:
    """Describe a latency."""
    return Figure("ms", meaning, less_is_better=True)


OVERLOAD = (
    Benchmark(
        "overload",
        {
            "overload_peak_per_s": Figure("transactions/s", "one a request, 64 connections, by the same load tool"),
            "overload_peak_p99_ms": latency("the same: latency of 99 in 100"),
            "overload_eager_share": share("goodput with 640 connections that try again at once"),
            "overload_eager_p99_ms": latency(),
            "overload_patient_share": share("goodput with 640 connections that honour Retry-After"),
            "overload_patient_p99_ms": latency(),
            "overload_open_share": share("goodput when requests come at ten times the peak, as far as can be sent"),
            "overload_open_p99_ms": latency(),
            "overload_open_offered_per_s": Figure("requests/s", "the same: what was really sent"),
        },
        prepare_singles,
        runs_max=3,
    ),
    Benchmark(
        "overload_arrays",
        {
            "overload_arrays_peak_per_s": Figure("transactions/s", "arrays of 8,000 as msgpack, 2 connections"),
            "overload_arrays_peak_p99_ms": latency("the same: latency of 99 in 100"),
            "overload_arrays_eager_share": share("goodput with 20 connections that try again at once"),
            "overload_arrays_eager_p99_ms": latency(),
            "overload_arrays_patient_share": share("goodput with 20 connections that honour Retry-After"),
            "overload_arrays_patient_p99_ms": latency(),
        },
        prepare_arrays,
        runs_max=3,
    ),
)

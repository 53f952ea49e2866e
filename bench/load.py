"""What the load of drills can do: how many requests a second of one core, and how late it sends them.

The load is what a drill runs: a process of its own, four clients, the mix of requests of drills, the real client
library. It asks one node, `fivenines serve` with its journal on disk, which has the other core. What counts is not how
quick the node is but how well it is asked: by each second of processor time that the load took, and by how much later
than planned requests went out. A load that is late blames the ledger for its own delays.

Then every shape and, where their folder is known, every trace is asked for real, compressed to the length of a run.
Nothing may fail, and exactly what was planned must have been asked.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from bench.harness import Benchmark, Figure, Run, Setting
from bench.members import cpu_s
from bench.processes import BenchError
from bench.server import ledger_server
from fivenines.drill.load.latencies import Latencies, latencies_of
from fivenines.drill.load.plan import Plan
from fivenines.drill.load.running import LoadFailedError, RunningLoad
from fivenines.drill.load.shapes import SHAPES, Steady
from fivenines.drill.load.traces import TRACES, TraceError, folder_of_traces, read_counts, recorded

__all__ = ["LOAD"]

CLIENTS = 4
RATES = (300, 1_000, 2_000)
GOAL_PER_CORE_S = 2_000
REPLAY_PER_S = 300.0
"""On average, of a replay; of a shape, as its own help says."""
_names = count(1)


async def _carry_out(plan: Plan, log: Path) -> tuple[Latencies, float]:
    """Return what was seen, and the seconds of processor time that the load took for it."""
    load = RunningLoad(plan, log)
    try:
        await load.start()
        before_s, after_s = cpu_s([load.pid]), 0.0
        over = asyncio.create_task(load.wait_over())
        while not over.done():
            after_s = max(after_s, cpu_s([load.pid]))
            await asyncio.wait({over}, timeout=0.05)
        await over
    finally:
        await load.discard()
    return latencies_of(load.asked), after_s - before_s


def carry_out(plan: Plan, work: Path) -> tuple[Latencies, float]:
    """Carry a plan out whole. Raises BenchError if something failed, or something else was asked than planned."""
    try:
        seen, took_s = asyncio.run(_carry_out(plan, work / "load.log"))
    except LoadFailedError as error:
        raise BenchError(str(error)) from error
    planned = sum(1 for _ in plan.due())
    if seen.asked != planned or seen.failed:
        raise BenchError(f"{planned} requests were planned, {seen.asked} asked, and {seen.failed} failed")
    return seen, took_s


def plan_for(url: str, seconds: float, shape: object) -> Plan:
    """Make a plan with accounts of its own."""
    return Plan(
        url=url,
        nameservers=(None,) * CLIENTS,
        shape=shape,  # type: ignore[arg-type]  # one of them
        seconds=seconds,
        name=f"bench-{next(_names)}",
    )


@contextmanager
def prepare_rates(setting: Setting) -> Iterator[Run]:
    """Run a node, and ask it at steady rates."""
    with ledger_server(setting.work / "ledger") as server:

        def run() -> Mapping[str, float]:
            figures: dict[str, float] = {}
            for rate in RATES:
                plan = plan_for(server.url, setting.seconds, Steady(rate_per_s=float(rate)))
                seen, took_s = carry_out(plan, setting.work)
                figures[f"load_{rate}_per_core_s"] = seen.asked / took_s
                figures[f"load_{rate}_late_p50_ms"] = seen.late.percentile(50) / 1_000
                figures[f"load_{rate}_late_p99_ms"] = seen.late.percentile(99) / 1_000
                figures[f"load_{rate}_p99_ms"] = seen.answered.percentile(99) / 1_000
            return figures

        yield run


@contextmanager
def prepare_shapes(setting: Setting) -> Iterator[Run]:
    """Run a node, and ask it in every shape."""
    with ledger_server(setting.work / "ledger") as server:

        def run() -> Mapping[str, float]:
            figures: dict[str, float] = {}
            for name, kind in SHAPES.items():
                times = {"times": 4.0} if name == "spike" else {}
                length = {} if kind is Steady else {"seconds": setting.seconds, **times}
                if name == "spike":
                    length["spike_s"] = setting.seconds / 10
                shape = kind(rate_per_s=REPLAY_PER_S, **length)
                seen, _ = carry_out(plan_for(server.url, setting.seconds, shape), setting.work)
                figures[f"load_{name.replace('-', '_')}_late_p99_ms"] = seen.late.percentile(99) / 1_000
            return figures

        yield run


@contextmanager
def prepare_trace(name: str, setting: Setting) -> Iterator[Run]:
    """Run a node, and replay the first 5,000 stretches of a trace to it."""
    counts = read_counts(TRACES[name], folder_of_traces(_data()))
    with ledger_server(setting.work / "ledger") as server:

        def run() -> Mapping[str, float]:
            shape = recorded(
                counts,
                lasts_s=5_000 * counts.width_s,
                seconds=setting.seconds,
                average_per_s=REPLAY_PER_S,
            )
            seen, _ = carry_out(plan_for(server.url, setting.seconds, shape), setting.work)
            return {f"load_{name.replace('-', '_')}_late_p99_ms": seen.late.percentile(99) / 1_000}

        yield run


def _data() -> Path:
    """Return where data of others are: the folder that FIVENINES_DATA names, or the one beside this checkout."""
    return Path(os.environ.get("FIVENINES_DATA") or Path(__file__).parents[2] / "shared" / "data")


def _traces() -> Iterator[str]:
    """Yield the traces that are there: a machine without them measures all the rest."""
    try:
        folder = folder_of_traces(_data())
    except TraceError:
        return
    for name, trace in TRACES.items():
        if (folder / trace.file).is_file():
            yield name


def _late(what: str) -> Figure:
    return Figure("ms", f"load, {what}: how late 99 of 100 requests went out", less_is_better=True)


LOAD = (
    Benchmark(
        "load",
        {
            name: figure
            for rate in RATES
            for name, figure in {
                f"load_{rate}_per_core_s": Figure(
                    "requests/s",
                    f"load at {rate:,}/s: requests for each second of its core",
                    GOAL_PER_CORE_S if rate == max(RATES) else None,
                ),
                f"load_{rate}_late_p50_ms": Figure("ms", "the same: how late half went out", less_is_better=True),
                f"load_{rate}_late_p99_ms": Figure("ms", "the same: how late 99 of 100 went out", less_is_better=True),
                f"load_{rate}_p99_ms": Figure("ms", "the same: latency of 99 in 100", less_is_better=True),
            }.items()
        },
        prepare_rates,
        runs_max=3,
    ),
    Benchmark(
        "load_shapes",
        {
            f"load_{name.replace('-', '_')}_late_p99_ms": _late(f"{name.replace('-', ' ')} at {REPLAY_PER_S:g}/s")
            for name in SHAPES
        },
        prepare_shapes,
        runs_max=1,
    ),
    *(
        Benchmark(
            f"load_{name.replace('-', '_')}",
            {f"load_{name.replace('-', '_')}_late_p99_ms": _late(f"trace {name} at {REPLAY_PER_S:g}/s")},
            partial(prepare_trace, name),
            runs_max=1,
        )
        for name in _traces()
    ),
)

"""The benchmarks of nodes in several regions, all on this machine: what one journal for all of them costs.

The load is spread evenly over the nodes: as many connections to each as the figure says. After each load all nodes must
have the same books, with all in them that was acknowledged.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from bench.fleet import Fleet, Shape, running_fleet
from bench.harness import Benchmark, Figure, Run, Setting
from bench.load_arrays import ArrayLoad
from bench.over_http import load_arrays, random_salt
from bench.processes import BenchError
from bench.server import Server
from bench.workload import ACCOUNTS
from bench.wrk import AMOUNT, load_singles

__all__ = ["REGIONS"]

_T = TypeVar("_T")

SINGLE_CONNECTIONS = 192
"""In all, spread over the nodes: three times those of one node alone, as an answer takes longer."""
ARRAY_ROWS = 8_000
ARRAY_CONNECTIONS = 6
BASE = Shape(regions=3, nodes=3)
OTHERS = {
    "regions_1": Shape(regions=1, nodes=1),
    "regions_5": Shape(regions=5, nodes=5),
    "nodes_1": Shape(regions=3, nodes=1),
    "nodes_8": Shape(regions=3, nodes=8),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a load."""

    per_s: float
    p50_ms: float
    """Of all nodes the median one's, or the one between."""
    p99_ms: float
    """Of all nodes the worst one's."""
    cpu_us: float
    """What members and nodes took of the machine, for each transaction."""


def connections_of(total: int, nodes: int) -> list[int]:
    """Spread connections over nodes, as evenly as it goes, and at least one for each."""
    return [max(1, total // nodes + (number < total % nodes)) for number in range(nodes)]


def on_all(fleet: Fleet, connections: int, load: Callable[[Server, int], _T]) -> list[_T]:
    """Load all nodes at the same time, each from a process of its own."""
    with ThreadPoolExecutor(len(fleet.nodes)) as threads:
        return list(threads.map(load, fleet.nodes, connections_of(connections, len(fleet.nodes))))


def measure_singles(fleet: Fleet, seconds: float) -> Measured:
    """Load with one transaction a request."""
    moved_before, cpu_before = fleet.moved(), fleet.cpu_s()

    def load(node: Server, connections: int) -> tuple[float, float, float, int]:
        result = load_singles(node.transactions_url, accounts=ACCOUNTS, seconds=seconds, connections=connections)
        if result.not_2xx or result.broken:
            raise BenchError(f"{node.url}: {result.not_2xx} requests were refused, {result.broken} broke")
        return result.per_s, result.p50_us / 1_000, result.p99_us / 1_000, result.requests

    results = on_all(fleet, SINGLE_CONNECTIONS, load)
    cpu_s = fleet.cpu_s() - cpu_before
    acknowledged = sum(requests for _, _, _, requests in results)
    booked = (fleet.moved() - moved_before) // AMOUNT
    # Requests under way when the load ended are posted, too, and were not counted.
    if not acknowledged <= booked <= acknowledged + max(SINGLE_CONNECTIONS, len(fleet.nodes)):
        raise BenchError(f"{acknowledged} transactions were acknowledged and {booked} booked")
    return Measured(
        per_s=sum(per_s for per_s, _, _, _ in results),
        p50_ms=statistics.median(p50_ms for _, p50_ms, _, _ in results),
        p99_ms=max(p99_ms for _, _, p99_ms, _ in results),
        cpu_us=cpu_s / booked * 1e6,
    )


def measure_arrays(fleet: Fleet, seconds: float) -> Measured:
    """Load with arrays of 8,000 as msgpack."""
    ids_before, cpu_before = decided_ids(fleet), fleet.cpu_s()
    salts = itertools.count(random_salt())

    def load(node: Server, connections: int) -> tuple[float, float, float, int]:
        load = ArrayLoad(
            url=node.transactions_url,
            format="msgpack",
            rows=ARRAY_ROWS,
            connections=connections,
            seconds=seconds,
            accounts=ACCOUNTS,
            salt=next(salts) % 4_096,
        )
        result = load_arrays(load)
        if result.refused or result.broken:
            raise BenchError(f"{node.url}: {result.refused} arrays were refused, {result.broken} broke")
        return result.per_s, result.p50_ms, result.p99_ms, result.posted_in_all

    results = on_all(fleet, ARRAY_CONNECTIONS, load)
    cpu_s = fleet.cpu_s() - cpu_before
    fleet.moved()
    acknowledged = sum(posted for _, _, _, posted in results)
    booked = decided_ids(fleet) - ids_before
    if booked != acknowledged:
        raise BenchError(f"{acknowledged} transactions were acknowledged and {booked} booked")
    return Measured(
        per_s=sum(per_s for per_s, _, _, _ in results),
        p50_ms=statistics.median(p50_ms for _, p50_ms, _, _ in results),
        p99_ms=max(p99_ms for _, _, p99_ms, _ in results),
        cpu_us=cpu_s / booked * 1e6,
    )


def decided_ids(fleet: Fleet) -> int:
    """Return how many ids have been decided, which every node must agree on."""
    counts = {node.metric("fivenines_ledger_decided_ids") for node in fleet.nodes}
    if len(counts) > 1:
        raise BenchError(f"the nodes know of different numbers of ids: {sorted(counts)}")
    return int(counts.pop())


@contextmanager
def prepare_base(setting: Setting) -> Iterator[Run]:
    """Three regions, a node in each."""
    number = itertools.count()

    def run() -> Mapping[str, float]:
        with running_fleet(setting.work / str(next(number)), BASE) as fleet:
            singles = measure_singles(fleet, setting.seconds)
            arrays = measure_arrays(fleet, setting.seconds)
        return {
            "regions_single_per_s": singles.per_s,
            "regions_single_p50_ms": singles.p50_ms,
            "regions_single_p99_ms": singles.p99_ms,
            "regions_single_cpu_us": singles.cpu_us,
            "regions_msgpack_8000_per_s": arrays.per_s,
            "regions_msgpack_8000_p99_ms": arrays.p99_ms,
            "regions_msgpack_8000_cpu_us": arrays.cpu_us,
        }

    yield run


@contextmanager
def prepare_other(name: str, shape: Shape, setting: Setting) -> Iterator[Run]:
    """Take another number of regions or nodes, and the same load."""
    number = itertools.count()

    def run() -> Mapping[str, float]:
        with running_fleet(setting.work / str(next(number)), shape) as fleet:
            singles = measure_singles(fleet, setting.seconds)
            arrays = measure_arrays(fleet, setting.seconds)
        return {
            f"{name}_single_per_s": singles.per_s,
            f"{name}_single_cpu_us": singles.cpu_us,
            f"{name}_msgpack_8000_per_s": arrays.per_s,
            f"{name}_msgpack_8000_cpu_us": arrays.cpu_us,
        }

    yield run


def cost() -> Figure:
    """Describe what a transaction costs."""
    return Figure("us", "the same: processor time of members and nodes for a transaction", less_is_better=True)


def other(name: str, shape: Shape) -> Benchmark:
    """Describe a benchmark of another number of regions or nodes."""
    meaning = f"regions: {shape.regions}, nodes: {shape.nodes}"
    return Benchmark(
        name,
        {
            f"{name}_single_per_s": Figure("transactions/s", f"{meaning}, one a request"),
            f"{name}_single_cpu_us": cost(),
            f"{name}_msgpack_8000_per_s": Figure("transactions/s", f"{meaning}, arrays of 8,000 as msgpack"),
            f"{name}_msgpack_8000_cpu_us": cost(),
        },
        partial(prepare_other, name, shape),
        runs_max=2,
    )


REGIONS = (
    Benchmark(
        "regions",
        {
            "regions_single_per_s": Figure(
                "transactions/s", f"three regions, a node in each, one a request, {SINGLE_CONNECTIONS} connections"
            ),
            "regions_single_p50_ms": Figure("ms", "the same: median latency", less_is_better=True),
            "regions_single_p99_ms": Figure("ms", "the same: latency of 99 in 100", less_is_better=True),
            "regions_single_cpu_us": cost(),
            "regions_msgpack_8000_per_s": Figure(
                "transactions/s",
                f"three regions, arrays of 8,000 as msgpack, connections: {ARRAY_CONNECTIONS}",
                goal=180_000,
            ),
            "regions_msgpack_8000_p99_ms": Figure("ms", "the same: latency of 99 arrays in 100", less_is_better=True),
            "regions_msgpack_8000_cpu_us": cost(),
        },
        prepare_base,
        runs_max=3,
    ),
    *(other(name, shape) for name, shape in OTHERS.items()),
)

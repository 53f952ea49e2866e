"""Everything that can be measured, and what is compared with what."""

from bench.harness import Benchmark, Figure, Ratio
from bench.history import HISTORY
from bench.in_process import EMBEDDED
from bench.journal import JOURNAL
from bench.load import LOAD
from bench.names import NAMES
from bench.over_http import OVER_HTTP
from bench.overload import OVERLOAD
from bench.peers.benchmarks import PEERS
from bench.regions import REGIONS

__all__ = ["BENCHMARKS", "FIGURES", "RATIOS"]

BENCHMARKS: tuple[Benchmark, ...] = (
    *EMBEDDED,
    *OVER_HTTP,
    *OVERLOAD,
    *JOURNAL,
    *REGIONS,
    *HISTORY,
    *NAMES,
    *PEERS,
    *LOAD,
)


def times_the_peer(name: str, ours: str, peer: str, meaning: str) -> Ratio:
    """Describe how many times a peer's throughput ours is, which is meant to be at least four."""
    return Ratio(name, Figure("times", meaning, goal=4), ours, peer)


RATIOS: tuple[Ratio, ...] = (
    times_the_peer(
        "http_single_to_postgres", "http_single_per_s", "postgres_single_http_per_s", "single requests over HTTP"
    ),
    times_the_peer(
        "http_msgpack_8000_to_postgres_set",
        "http_msgpack_8000_per_s",
        "postgres_set_per_s",
        "sets of 8,000: ours over HTTP, PostgreSQL over its own protocol on a Unix socket",
    ),
    times_the_peer("durable_to_postgres_set", "durable_per_s", "postgres_set_per_s", "sets of 8,000: ours embedded"),
)

FIGURES: dict[str, Figure] = {
    **{name: figure for benchmark in BENCHMARKS for name, figure in benchmark.figures.items()},
    **{ratio.name: ratio.figure for ratio in RATIOS},
}

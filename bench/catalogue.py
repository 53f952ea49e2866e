"""Everything that can be measured, and what is compared with what."""

from bench.harness import Benchmark, Figure, Ratio
from bench.peers.benchmarks import PEERS
from bench.product import EMBEDDED

__all__ = ["BENCHMARKS", "FIGURES", "RATIOS"]

BENCHMARKS: tuple[Benchmark, ...] = (*EMBEDDED, *PEERS)

RATIOS: tuple[Ratio, ...] = ()

FIGURES: dict[str, Figure] = {
    **{name: figure for benchmark in BENCHMARKS for name, figure in benchmark.figures.items()},
    **{ratio.name: ratio.figure for ratio in RATIOS},
}

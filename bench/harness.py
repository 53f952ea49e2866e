"""The harness: runs benchmarks several times and keeps medians.

A `Benchmark` names the figures that it gives and knows how to `prepare` (start its servers, make its input); what it
prepares is a function that makes one run and returns one value for each figure. Only the run is timed, by the benchmark
itself. A `Ratio` sets one figure against another of the same execution: it is what comparisons rest on, since the
machine was the same for both.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.processes import BenchError

__all__ = ["Benchmark", "Figure", "Ratio", "Setting", "Summary", "measure", "ratios_of", "select", "summarise"]

Run = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a benchmark works with."""

    work: Path
    """An empty folder on a real disk, of this benchmark alone."""
    seconds: float
    """How long one run under load lasts, where the benchmark is timed and not counted."""
    quick: bool
    """Whether to do a tenth of the work: enough to see that it works, not enough to be quoted."""

    def scaled(self, count: int) -> int:
        """Return `count`, or a tenth of it in a quick run."""
        return count // 10 if self.quick else count


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that a benchmark gives."""

    unit: str
    meaning: str
    goal: float | None = None
    less_is_better: bool = False

    def is_met(self, value: float) -> bool | None:
        """Tell whether a value reaches the goal; None where there is no goal."""
        if self.goal is None:
            return None
        return value <= self.goal if self.less_is_better else value >= self.goal


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Something to measure."""

    name: str
    figures: Mapping[str, Figure]
    prepare: Callable[[Setting], AbstractContextManager[Run]]
    runs_max: int | None = None
    """For what takes long and varies little."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure divided by another."""

    name: str
    figure: Figure
    numerator: str
    denominator: str


class Summary(msgspec.Struct, frozen=True):
    """The values of one figure over the runs."""

    unit: str
    runs: int
    min: float
    median: float
    max: float


def summarise(unit: str, values: Sequence[float]) -> Summary:
    """Summarise the values of a figure."""
    return Summary(unit, len(values), *(rounded(f(values)) for f in (min, statistics.median, max)))


def rounded(value: float) -> float:
    """Round to what a reader can use: whole numbers from a thousand on, else four digits."""
    return float(round(value)) if abs(value) >= 1_000 else float(f"{value:.4g}")


def measure(
    benchmark: Benchmark, *, runs: int, work: Path, seconds: float, quick: bool, on_run: Callable[[], None]
) -> dict[str, Summary]:
    """Run a benchmark and summarise each of its figures; `on_run` is called after each run."""
    values: dict[str, list[float]] = {name: [] for name in benchmark.figures}
    with tempfile.TemporaryDirectory(prefix=f"{benchmark.name}-", dir=work) as folder:
        # Servers that run as another user must be able to pass through.
        Path(folder).chmod(0o711)
        with benchmark.prepare(Setting(Path(folder), seconds, quick)) as run:
            for _ in range(runs_of(benchmark, runs)):
                figures = run()
                if figures.keys() != values.keys():
                    raise BenchError(f"{benchmark.name} gave {sorted(figures)}, not {sorted(values)}")
                for name, value in figures.items():
                    values[name].append(value)
                on_run()
    return {name: summarise(benchmark.figures[name].unit, of_runs) for name, of_runs in values.items()}


def runs_of(benchmark: Benchmark, runs: int) -> int:
    """Return how often a benchmark is run when `runs` were asked for."""
    return min(runs, benchmark.runs_max or runs)


def select(benchmarks: Sequence[Benchmark], names: Sequence[str]) -> list[Benchmark]:
    """Return the benchmarks that are named, or that give a figure that is named; all of them for no names."""
    known = {name for benchmark in benchmarks for name in (benchmark.name, *benchmark.figures)}
    if unknown := [name for name in names if name not in known]:
        raise BenchError(f"nothing is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [b for b in benchmarks if not names or not {b.name, *b.figures}.isdisjoint(names)]


def ratios_of(ratios: Sequence[Ratio], measured: Mapping[str, Summary]) -> dict[str, Summary]:
    """Compute the ratios whose two figures were measured.

    The median is that of the medians; the least and the most are what the runs allow: worst against best, and the
    other way round.
    """
    found = {}
    for ratio in ratios:
        above, below = measured.get(ratio.numerator), measured.get(ratio.denominator)
        if above is not None and below is not None and below.min > 0:
            found[ratio.name] = Summary(
                ratio.figure.unit,
                min(above.runs, below.runs),
                rounded(above.min / below.max),
                rounded(above.median / below.median),
                rounded(above.max / below.min),
            )
    return found

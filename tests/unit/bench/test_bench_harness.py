from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from bench.catalogue import BENCHMARKS, FIGURES, RATIOS
from bench.harness import Benchmark, Figure, Ratio, Run, Setting, Summary, measure, ratios_of, select, summarise
from bench.machine import describe_machine
from bench.processes import BenchError
from bench.report import write_json

NAMED_BY_CONTRACT = {
    "apply_per_s",
    "durable_per_s",
    "http_single_per_s",
    "http_single_p99_ms",
    "http_json_1000_per_s",
    "http_msgpack_8000_per_s",
    "replay_1m_s",
    "snapshot_1m_accounts_s",
    "bytes_per_account",
    "bytes_per_id",
    "append_small_p50_ms",
    "append_frames_64k_per_s",
    "leader_kill_gap_s",
    "regions_single_per_s",
    "regions_msgpack_8000_per_s",
    "postgres_single_http_per_s",
    "postgres_set_per_s",
}


def benchmark_of(values: list[dict[str, float]], folders: list[Path]) -> Benchmark:
    @contextmanager
    def prepare(setting: Setting) -> Iterator[Run]:
        folders.append(setting.work)
        (setting.work / "data").write_text("something")
        given = iter(values)
        yield lambda: next(given)

    return Benchmark("two", {"rate": Figure("1/s", "a rate"), "wait": Figure("ms", "a wait")}, prepare)


def test_each_figure_is_summarised_over_the_runs_and_the_folder_is_gone(tmp_path: Path) -> None:
    folders: list[Path] = []
    runs_seen: list[None] = []
    benchmark = benchmark_of([{"rate": 5, "wait": 1}, {"rate": 9, "wait": 2}, {"rate": 6, "wait": 4}], folders)
    measured = measure(benchmark, runs=3, work=tmp_path, seconds=1, quick=False, on_run=lambda: runs_seen.append(None))
    assert measured == {"rate": Summary("1/s", 3, 5, 6, 9), "wait": Summary("ms", 3, 1, 2, 4)}
    assert len(runs_seen) == 3
    assert not folders[0].exists()


def test_a_benchmark_that_gives_other_figures_than_it_named_is_an_error(tmp_path: Path) -> None:
    benchmark = benchmark_of([{"rate": 5}], [])
    with pytest.raises(BenchError, match="rate"):
        measure(benchmark, runs=1, work=tmp_path, seconds=1, quick=False, on_run=lambda: None)


def test_a_benchmark_may_bound_its_runs(tmp_path: Path) -> None:
    benchmark = benchmark_of([{"rate": 5, "wait": 1}], [])
    bounded = Benchmark(benchmark.name, benchmark.figures, benchmark.prepare, runs_max=1)
    measured = measure(bounded, runs=9, work=tmp_path, seconds=1, quick=False, on_run=lambda: None)
    assert measured["rate"].runs == 1


def test_a_median_of_an_even_number_of_runs_lies_between_the_middle_two() -> None:
    assert summarise("s", [4, 1, 2, 3]) == Summary("s", 4, 1, 2.5, 4)


def test_values_are_rounded_to_what_a_reader_can_use() -> None:
    assert summarise("1/s", [123_456.789]).median == 123_457
    assert summarise("s", [1.234_567]).median == 1.235


def test_a_ratio_spans_the_worst_against_the_best() -> None:
    ratio = Ratio("times", Figure("times", "ours to theirs"), "ours", "theirs")
    measured = {"ours": Summary("1/s", 3, 80, 100, 120), "theirs": Summary("1/s", 2, 10, 20, 40)}
    assert ratios_of([ratio], measured) == {"times": Summary("times", 2, 2, 5, 12)}


def test_a_ratio_needs_both_of_its_figures() -> None:
    ratio = Ratio("times", Figure("times", "ours to theirs"), "ours", "theirs")
    assert ratios_of([ratio], {"ours": Summary("1/s", 1, 1, 1, 1)}) == {}


@pytest.mark.parametrize(
    ("figure", "value", "met"),
    [
        (Figure("1/s", "", goal=10), 10, True),
        (Figure("1/s", "", goal=10), 9.9, False),
        (Figure("s", "", goal=3, less_is_better=True), 3, True),
        (Figure("s", "", goal=3, less_is_better=True), 3.1, False),
        (Figure("s", ""), 3, None),
    ],
)
def test_a_goal_is_a_bound_on_its_own_side(figure: Figure, value: float, met: bool | None) -> None:
    assert figure.is_met(value) is met


def test_a_benchmark_is_found_by_its_name_and_by_its_figures() -> None:
    benchmark = benchmark_of([], [])
    assert select([benchmark], []) == select([benchmark], ["two"]) == select([benchmark], ["wait"]) == [benchmark]
    with pytest.raises(BenchError, match="none"):
        select([benchmark], ["none"])


def test_the_catalogue_has_every_figure_that_others_rely_on_and_no_name_twice() -> None:
    names = [name for benchmark in BENCHMARKS for name in benchmark.figures] + [ratio.name for ratio in RATIOS]
    assert set(names) >= NAMED_BY_CONTRACT
    assert len(names) == len(set(names)) == len(FIGURES)
    assert {name for ratio in RATIOS for name in (ratio.numerator, ratio.denominator)} <= set(names)


def test_the_file_is_an_object_from_name_to_summary_with_the_machine_beside_it(tmp_path: Path) -> None:
    machine = describe_machine(tmp_path)
    output = tmp_path / "out" / "bench.json"
    write_json(output, machine, {"rate": Summary("1/s", 3, 5, 6, 9)})
    assert msgspec.json.decode(output.read_bytes()) == {
        "rate": {"unit": "1/s", "runs": 3, "min": 5, "median": 6, "max": 9}
    }
    beside = msgspec.json.decode((tmp_path / "out" / "bench.machine.json").read_bytes())
    assert beside["cores"] >= 1
    assert beside["sync_ms"] > 0
    assert beside["python"].split()[1].startswith("3.")

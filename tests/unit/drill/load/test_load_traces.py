"""Traces: what is read from a CSV file, how it is scaled, and how its mistakes are named."""

import datetime
from pathlib import Path

import pytest

from fivenines.drill.load.shapes import Curve, Diurnal, Ramp, Spike, Steady
from fivenines.drill.load.traces import (
    TRACES,
    Counts,
    Trace,
    TraceError,
    folder_of_traces,
    read_counts,
    recorded,
)

LITTLE = Trace(name="little", file="little.csv", time="at", count="seen", width_s=60.0, summary="a little one")
FIRST = datetime.datetime(2024, 2, 28, 23, 58)  # noqa: DTZ001 - a time of the trace's own place
COUNTS = Counts(first=FIRST, width_s=60.0, counts=[60, 0, 120, 30])


def written(folder: Path, *lines: str, head: str = "at,seen") -> Path:
    (folder / LITTLE.file).write_text("\n".join([head, *lines]) + "\n")
    return folder


def test_lines_that_are_missing_are_gaps(tmp_path: Path) -> None:
    folder = written(tmp_path, "2024-02-28 23:58:00,60", "2024-02-29 00:00:00,120", "2024-02-29 00:01:00,30")
    assert read_counts(LITTLE, folder) == COUNTS


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["2024-02-28 23:58:00,60", "yesterday,1"], r"line 3, column at: 'yesterday' is no time like"),
        (["2024-02-28 23:58:00,60", "2024-02-28 23:59:00,-1"], r"line 3, column seen: '-1' is no whole number"),
        (["2024-02-28 23:58:00,1.5"], r"line 2, column seen: '1.5' is no whole number"),
        (["2024-02-28 23:58:00"], r"line 2, column seen: '' is no whole number"),
        (["2024-02-28 23:58:00,1", "2024-02-28 23:58:30,1"], r"line 3, column at: .* not a whole number of 60 s on"),
        (["2024-02-28 23:58:00,1", "2024-02-28 23:58:00,1"], r"line 3, column at: .* not come after the line before"),
        (["2024-02-28 23:58:00,1", "9024-02-28 23:58:00,1"], r"line 3, column at: .* is too long after"),
        ([], r"has no line but its first"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_column(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(TraceError, match=said) as caught:
        read_counts(LITTLE, written(tmp_path, *lines))
    assert LITTLE.file in str(caught.value)


def test_a_file_without_the_column_or_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"little\.csv cannot be read"):
        read_counts(LITTLE, tmp_path)
    with pytest.raises(TraceError, match=r"little\.csv, line 1: there is no column seen"):
        read_counts(LITTLE, written(tmp_path, head="at,heard"))


def test_the_folder_is_the_one_that_is_given_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIVENINES_DATA", raising=False)
    with pytest.raises(TraceError, match="let FIVENINES_DATA name it"):
        folder_of_traces()
    monkeypatch.setenv("FIVENINES_DATA", str(tmp_path / "none"))
    with pytest.raises(TraceError, match="there is no folder"):
        folder_of_traces()
    assert folder_of_traces(tmp_path) == tmp_path
    (tmp_path / "traces").mkdir()
    assert folder_of_traces(tmp_path) == tmp_path / "traces"


def test_a_replay_is_as_it_was_unless_it_is_scaled() -> None:
    shape = recorded(COUNTS)
    assert shape.rates_per_s == (1.0, 0.0, 2.0, 0.5)
    assert shape.curve().count(240.0) == pytest.approx(210)


def test_a_replay_is_scaled_in_time_and_rate() -> None:
    average = recorded(COUNTS, seconds=8.0, average_per_s=100.0)
    assert average.curve().count(8.0) == pytest.approx(800)
    assert average.width_s == 2.0
    assert max(recorded(COUNTS, highest_per_s=300.0).rates_per_s) == pytest.approx(300)
    assert average.rates_per_s[1] == 0.0


def test_a_part_of_a_trace_can_be_replayed() -> None:
    assert recorded(COUNTS, begin="2024-02-29 00:00", lasts_s=60).rates_per_s == (2.0,)
    with pytest.raises(TraceError, match="2024-03-01 is not in it"):
        recorded(COUNTS, begin="2024-03-01")
    with pytest.raises(TraceError, match="begin: 'noon' is no time"):
        recorded(COUNTS, begin="noon")
    with pytest.raises(TraceError, match="nothing was seen"):
        recorded(COUNTS, begin="2024-02-28 23:59", lasts_s=60)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TraceError, match="seconds must be above 0, not 0"):
        recorded(COUNTS, seconds=0.0)
    with pytest.raises(TraceError, match="not both"):
        recorded(COUNTS, average_per_s=1.0, highest_per_s=1.0)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Steady(rate_per_s=0.0), "rate_per_s must be above 0"),
        (Ramp(seconds=-1.0), "seconds must be above 0, not -1"),
        (Diurnal(swing=1.5), "swing must be at most 1"),
        (Spike(seconds=1.0, spike_s=2.0), "spike_s must be at most seconds, 1, not 2"),
        (Steady(rate_per_s=float("nan")), "rate_per_s must be above 0"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(shape: Steady | Ramp | Diurnal | Spike, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        shape.curve()


def test_a_curve_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="begin at 0 s"):
        Curve([(1.0, 1.0)])
    with pytest.raises(ValueError, match="forward in time"):
        Curve([(0.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
    with pytest.raises(ValueError, match="not below 0, not -1"):
        Curve([(0.0, -1.0)])


@pytest.mark.parametrize("trace", TRACES.values(), ids=lambda trace: trace.name)
def test_the_traces_of_real_systems_can_be_replayed(trace: Trace, data_dir: Path) -> None:
    folder = folder_of_traces(data_dir)
    if not (folder / trace.file).exists():
        pytest.skip(f"there is no {trace.file}")
    counts = read_counts(trace, folder)
    assert sum(counts.counts) > 1_000
    shape = recorded(counts, lasts_s=3_000 * trace.width_s, seconds=30.0, average_per_s=50.0)
    assert shape.curve().count(30.0) == pytest.approx(1_500)

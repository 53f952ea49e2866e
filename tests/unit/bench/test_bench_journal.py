import os
import subprocess

import pytest
from msgspec.structs import replace

from bench.budget import Minute, judge
from bench.fleet import Shape
from bench.kills import Kills, longest_gap
from bench.members import cpu_s, memory_mb, memory_peak_mb
from bench.regions import connections_of

MINUTE = Minute(
    seconds=60,
    frames_per_s=550,
    p50_ms=14,
    p99_ms=60,
    max_ms=200,
    member_memory_mb=1_400,
    database_mb=450,
    elections=0,
    failed=0,
    failure="",
    members_cpu=1.3,
    journal_cpu=0.5,
)


@pytest.mark.parametrize(
    ("times", "gap"),
    [
        ([10.1, 10.2, 10.7, 10.8, 11.9], 1.1),
        ([11.0], 1.0),
        # What comes before the span, or after it, is no answer within it.
        ([9.0, 9.9, 12.5], 2.0),
        ([], 2.0),
    ],
)
def test_the_longest_gap_counts_from_the_begin_of_the_span_to_its_end(times: list[float], gap: float) -> None:
    assert longest_gap(times, begin=10.0, end=12.0) == pytest.approx(gap)


def test_kills_are_summed_up_by_their_median_and_their_worst() -> None:
    kills = Kills([0.2, 0.9, 0.3], failed=[])
    assert (kills.median_s, kills.worst_s) == (0.3, 0.9)


def test_a_budget_that_is_kept_meets_all_goals() -> None:
    assert all(goal.is_met for goal in judge([MINUTE, MINUTE]))


@pytest.mark.parametrize(
    ("field", "value", "missed"),
    [
        ("frames_per_s", 440.0, "frames a second, over all"),
        ("member_memory_mb", 1_600.0, "memory of a member at its most, MiB"),
        ("elections", 1, "needless elections"),
        ("failed", 2, "failed appends"),
    ],
)
def test_one_bad_minute_is_enough_to_miss_a_goal(field: str, value: float, missed: str) -> None:
    bad = replace(MINUTE, **{field: value})
    assert [goal.what for goal in judge([MINUTE, bad]) if not goal.is_met] == [missed]


def test_a_longer_minute_weighs_more_in_the_rate_over_all() -> None:
    short = replace(MINUTE, seconds=20.0)
    slow = replace(MINUTE, frames_per_s=150.0)
    assert judge([short, slow])[0].value == 250


def test_connections_are_spread_as_evenly_as_it_goes_and_no_node_has_none() -> None:
    assert connections_of(192, 3) == [64, 64, 64]
    assert connections_of(192, 5) == [39, 39, 38, 38, 38]
    assert connections_of(6, 8) == [1, 1, 1, 1, 1, 1, 1, 1]


def test_each_region_has_a_loopback_address_of_its_own() -> None:
    assert Shape(regions=3, nodes=8).hosts == ["127.0.1.1", "127.0.2.1", "127.0.3.1"]


def test_a_process_is_weighed_and_one_that_is_gone_took_nothing() -> None:
    assert 0 < memory_mb([os.getpid()]) <= memory_peak_mb([os.getpid()])
    assert cpu_s([os.getpid()]) > 0
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert cpu_s([gone.pid]) == 0

"""What histograms and slices say of a few requests that were counted by hand."""

import math

import pytest

from fivenines.drill.load.asked import Asked
from fivenines.drill.load.latencies import Histogram, latencies_of, slices

SEEN = (0, 1, 2, 2047, 2048, 2049, 4095, 4096, 5000, 123456, 1_000_000, 7_654_321, 30_000_000, 3_600_000_000)
PACKED = "HISTFAAAAEB4nJNpmSzMwMCgxAABzFCaEYoZ7D9ABJiYmDaKH5jFc5iDieU3PxPTQWam015Maw2YLusxbZZnmp7HBAA9AgxK"
"""The same of the Python package of HdrHistogram 0.10.8, for 1 to 2^32 with three digits."""


def request(due: float, took: float = 0.01, *, late: float = 0.0, error: str = "", refused: bool = False) -> Asked:
    asked = Asked(due=due, client=0, kind="post", sent=due + late, ended=due + took, error=error)
    asked.is_refused = refused
    return asked


def test_a_histogram_is_written_as_others_write_it() -> None:
    made = Histogram()
    for value in SEEN:
        made.add(value)
    made.add(1500, 100_000)
    assert made.pack() == PACKED
    assert [made.percentile(percent) for percent in (50, 90, 99, 99.9, 99.99)] == [1500, 1500, 1500, 1500, 2047]
    assert Histogram.unpack(PACKED).percentile(100) == 3_600_809_983


def test_a_histogram_of_nothing_says_0() -> None:
    assert (Histogram().percentile(50), Histogram().count, Histogram().highest) == (0, 0, 0)
    assert Histogram.unpack(Histogram().pack()) == Histogram()


def test_what_cannot_be_counted_is_refused_and_what_is_too_high_counts_as_the_highest() -> None:
    made = Histogram()
    with pytest.raises(ValueError, match="at least 0"):
        made.add(-1)
    with pytest.raises(ValueError, match="from 0 to 100, not 101"):
        made.percentile(101)
    made.add(2**60)
    assert made.percentile(100) == 2**32


def test_a_latency_counts_from_when_a_request_was_due() -> None:
    seen = latencies_of([request(5.0, 0.25, late=0.2)])
    assert seen.answered.percentile(50) == pytest.approx(250_000, rel=0.001)
    assert seen.late.percentile(50) == pytest.approx(200_000, rel=0.001)


def test_those_who_gave_up_have_waited_but_were_not_answered() -> None:
    asked = [request(0.0), request(0.5, 30.0, error="no answer"), request(1.0, 0.1, error="shed", refused=True)]
    asked += [request(1.5, 2.5), request(1.7, math.inf)]
    seen = latencies_of(asked)
    assert (seen.asked, seen.failed, seen.refused, seen.slow) == (5, 3, 1, 1)
    assert (seen.answered.count, seen.longest_s) == (2, 30.0)
    first, second = slices(asked, 0.0, 2.0)
    assert (first.asked, first.failed, first.slow, first.longest_ms) == (2, 1, 0, 30_000)
    assert (second.asked, second.failed, second.slow, second.longest_ms) == (3, 2, 1, 2_500)
    assert first.p50_ms == pytest.approx(10, rel=0.001)


def test_a_slice_without_requests_is_there_and_empty() -> None:
    found = slices([request(2.5)], 0.0, 3.0)
    assert [each.asked for each in found] == [0, 0, 1]
    with pytest.raises(ValueError, match="width_s must be above 0"):
        slices([], 0.0, 3.0, width_s=0.0)

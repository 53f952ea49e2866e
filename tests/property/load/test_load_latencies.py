"""A histogram tells of any numbers what a sorted list of them would, to three digits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.load.asked import Asked
from fivenines.drill.load.latencies import Histogram, latencies_of, slices

VALUES = st.integers(0, 2**32)


def counted(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


@given(st.lists(VALUES, min_size=1), st.floats(0, 100))
def test_a_percentile_is_that_of_the_sorted_list_to_three_digits(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(1, math.ceil(len(values) * percent / 100 - 1e-9)) - 1]
    assert exact <= counted(values).percentile(percent) <= exact * (1 + 1 / 1_024)


@given(st.lists(VALUES), st.lists(VALUES))
def test_two_that_are_added_up_are_as_one_of_all(one: list[int], other: list[int]) -> None:
    merged = counted(one)
    merged.merge(counted(other))
    whole = counted(one + other)
    assert merged == whole
    assert (merged.count, merged.highest) == (whole.count, whole.highest)


@given(st.lists(st.tuples(VALUES, st.integers(1, 2**40))))
def test_packing_loses_nothing(values: list[tuple[int, int]]) -> None:
    made = Histogram()
    for value, times in values:
        made.add(value, times)
    read = Histogram.unpack(made.pack())
    assert read == made
    assert read.count == made.count
    assert list(read) == list(made)


@given(st.one_of(st.text(), st.binary().map(lambda data: data.hex())))
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="histogram"):
        Histogram.unpack(text)


LATENCIES = st.lists(st.tuples(st.floats(0, 9.99), st.floats(0, 40), st.booleans()), max_size=60)


@given(LATENCIES, st.floats(0.3, 12.0))
def test_slices_count_every_request_once(seen: list[tuple[float, float, bool]], width: float) -> None:
    began = 1_000.0
    asked = [
        Asked(due=began + due, client=0, kind="read", sent=began + due, ended=began + due + took)
        for due, took, _ in seen
    ]
    for each, (_, _, failed) in zip(asked, seen, strict=True):
        each.error = "no answer" if failed else ""
    found = slices(asked, began, began + 10.0, width_s=width)
    assert [each.at for each in found] == pytest.approx([number * width for number in range(len(found))])
    assert len(found) == math.ceil(10.0 / width - 1e-9)
    assert sum(each.asked for each in found) == len(seen)
    assert sum(each.failed for each in found) == sum(failed for *_, failed in seen)
    assert sum(each.slow for each in found) == latencies_of(asked).slow
    assert max(each.longest_ms for each in found) == pytest.approx(
        1_000 * max((each.latency_s for each in asked), default=0)
    )

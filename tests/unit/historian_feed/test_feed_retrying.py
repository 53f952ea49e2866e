"""When a delivery is tried again, and when given up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.historian.feed.retrying import Retry

RETRY = Retry(first_s=1.0, pause_s_max=60.0, tries_max=5, age_s_max=100.0)


def test_pauses_double_up_to_the_longest() -> None:
    assert [RETRY.pause_s(tries, 1.0) for tries in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert RETRY.pause_s(3, 0.0) == 2.0


@given(tries=st.integers(1, 10_000), chance=st.floats(0, 1), asked_s=st.floats(0, 1e9))
def test_a_pause_is_within_its_bounds(tries: int, chance: float, asked_s: float) -> None:
    pause_s = RETRY.pause_s(tries, chance, at_least_s=asked_s)
    assert 0.5 <= pause_s <= 60.0
    assert pause_s >= min(asked_s, 60.0)


@pytest.mark.parametrize(("tries", "age_s", "is_over"), [(4, 99.0, False), (5, 0.0, True), (1, 100.0, True)])
def test_it_ends_by_tries_or_by_age(tries: int, age_s: float, is_over: bool) -> None:
    assert RETRY.is_over(tries, age_s) == is_over

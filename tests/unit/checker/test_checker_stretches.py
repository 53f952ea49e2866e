"""What clients noticed in a stretch of time: who failed and who waited for long is charged to the budget."""

import math

import pytest

from fivenines.drill.checker import stretch
from fivenines.drill.load.asked import SLOW_S, Asked


def post(number: int, *, due: float, latency_s: float = 0.05) -> Asked:
    id = number.to_bytes(16, "big")
    return Asked(due=due, client=0, kind="post", id=id, sent=due, ended=due + latency_s, outcome="posted")


def test_a_stretch_counts_what_was_due_in_it() -> None:
    asked = [post(number, due=float(number)) for number in range(1, 11)]
    found = stretch(asked, 3.0, 6.0, rate_per_s=1.0)
    assert found.requests == 3
    assert (found.failed, found.budget_s, found.errors) == (0, 0.0, ())
    assert found.longest_pause_s == pytest.approx(0.05)
    assert found.p99_ms == pytest.approx(50)


def test_who_failed_and_who_waited_for_long_is_charged_to_the_budget() -> None:
    asked = [post(number, due=number / 10) for number in range(1, 11)]
    for number in (2, 3):
        asked[number].outcome, asked[number].error = "", "gave up"
    asked[5].ended = asked[5].due + SLOW_S + 1
    found = stretch(asked, 0.0, 2.0, rate_per_s=10.0)
    assert (found.requests, found.failed) == (10, 2)
    assert found.errors == ("gave up",)
    assert found.budget_s == pytest.approx(0.3)
    assert found.longest_pause_s == pytest.approx(SLOW_S + 1)


def test_an_empty_stretch_is_no_trouble() -> None:
    found = stretch([], 0.0, 1.0, rate_per_s=10.0)
    assert (found.requests, found.failed, found.longest_pause_s, found.p99_ms) == (0, 0, 0.0, 0.0)


def test_one_that_has_not_ended_waits_for_ever() -> None:
    assert Asked(due=1.0, client=0, kind="read").latency_s == math.inf

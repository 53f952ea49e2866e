import math

import pytest

from fivenines.drill.reporting import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (0.0004, "< 1 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (1.234, "1.23 s"),
        (9.996, "10.0 s"),
        (99.9, "99.9 s"),
        (99.96, "1 min 40 s"),
        (125.4, "2 min 05 s"),
        (3_599.7, "1 h 00 min"),
        (86_460.0, "24 h 01 min"),
        (-1.5, "-1.50 s"),
        (math.inf, "without end"),
        (math.nan, "unknown"),
    ],
)
def test_a_duration_is_written_for_people(value: float | None, text: str) -> None:
    assert figures.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "100 %"),
        (0.9999999999, "99.99999 %"),
        (0.99999, "99.999 %"),
        (0.9999876, "99.99876 %"),
        (0.9978999999, "99.78999 %"),
        (0.5, "50.00 %"),
        (0.0, "0.00 %"),
        (math.nan, "unknown"),
    ],
)
def test_a_share_is_never_rounded_towards_the_good(value: float, text: str) -> None:
    assert figures.share(value) == text


def test_counts_money_and_moments_are_written_for_people() -> None:
    assert figures.count(1, "drill") == "1 drill"
    assert figures.count(12_345, "drill") == "12,345 drills"
    assert figures.count(math.inf) == "without end"
    assert figures.money(1_234.5, "EUR") == "1,234.50 EUR"
    assert figures.money(None, "EUR") == "–"
    assert figures.clock(1_790_000_000) == "2026-09-21 14:13:20 UTC"
    assert figures.date(1e300) == ""

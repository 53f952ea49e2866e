"""When a drill may not begin, and when it must stop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.drills.experiment import Guard
from fivenines.drill.drills.guarding import Harm, harm, why_not_begin

GUARD = Guard(budget_s=5.0, failed=3, pause_s=10.0)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (Harm(), None),
        (Harm(budget_s=5.0, failed=3, silent_s=10.0), None),
        (Harm(failed=4), "4 requests failed, 3 may"),
        (Harm(budget_s=5.1), "5.1 s of the error budget are used, 5 s may be"),
        (Harm(silent_s=11.0), "nobody has been answered for 11.0 s"),
        (Harm(lost=1), "1 acknowledged transactions are not to be found"),
    ],
)
def test_a_drill_stops_when_more_happens_than_may(seen: Harm, why: str | None) -> None:
    found = harm(GUARD, seen)
    assert found == why if why is None else found is not None and why in found


@given(st.floats(0, 100), st.integers(0, 100), st.floats(0, 100), st.integers(0, 5))
def test_what_is_lost_stops_any_drill_and_more_harm_never_stops_less(
    budget_s: float, failed: int, silent_s: float, lost: int
) -> None:
    seen = Harm(budget_s=budget_s, failed=failed, silent_s=silent_s, lost=lost)
    worse = Harm(budget_s=budget_s + 1, failed=failed + 1, silent_s=silent_s + 1, lost=lost)
    assert not lost or harm(GUARD, seen) is not None
    assert harm(GUARD, seen) is None or harm(GUARD, worse) is not None


@pytest.mark.parametrize(
    ("trouble", "left_s", "why"),
    [
        ("", 315.6, None),
        ("", 5.0, None),
        ("eu-west-1 is backoff", 315.6, "the platform is not whole: eu-west-1 is backoff"),
        ("", 0.0, "budget is spent"),
        ("", -20.0, "20.0 s more than there was"),
        ("", 4.0, "4.0 s are left of the year's error budget, and the drill may use 5 s"),
    ],
)
def test_a_drill_does_not_begin_where_it_could_do_harm(trouble: str, left_s: float, why: str | None) -> None:
    found = why_not_begin(trouble=trouble, budget_left_s=left_s, needed_s=5.0)
    assert found == why if why is None else found is not None and why in found

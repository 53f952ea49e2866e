"""Whatever a shape looks like, in any stretch of time as many requests are due as the area under its curve says."""

import math
from itertools import islice, pairwise, takewhile
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.load.plan import Plan
from fivenines.drill.load.shapes import SHAPES, Curve, Recorded, Spike, Steady, arrivals

RATES = st.one_of(st.just(0.0), st.floats(0.01, 200.0))
STEPS = st.one_of(st.just(0.0), st.floats(0.01, 5.0))
AFTER: st.SearchStrategy[Literal["stays", "repeats", "ends"]] = st.sampled_from(("stays", "repeats", "ends"))
SEEN_MAX = 3_000


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    at, knots = 0.0, [(0.0, draw(RATES))]
    for step, rate in draw(st.lists(st.tuples(STEPS, RATES), max_size=6)):
        at += step
        knots.append((at, rate))
    return Curve(knots, after=draw(AFTER))


@st.composite
def shapes(draw: st.DrawFn) -> Any:
    kind = SHAPES[draw(st.sampled_from(sorted(SHAPES)))]
    rate = draw(st.floats(1.0, 100.0))
    return kind(rate_per_s=rate) if kind is Steady else kind(rate_per_s=rate, seconds=draw(st.floats(6.0, 20.0)))  # type: ignore[call-arg]


def due_before(curve: Curve, until: float, **options: Any) -> list[float]:
    return list(islice(takewhile(lambda at: at < until, arrivals(curve, **options)), SEEN_MAX + 1))


@given(curves(), st.floats(0.0, 20.0), st.floats(0.0, 20.0))
def test_evenly_spaced_there_is_never_one_more_or_less_than_the_area(curve: Curve, one: float, other: float) -> None:
    began, ended = sorted((one, other))
    seen = due_before(curve, ended)
    if len(seen) <= SEEN_MAX:
        found = sum(began <= at for at in seen)
        assert abs(found - (curve.count(ended) - curve.count(began))) <= 1 + 1e-6


@given(shapes(), st.floats(0.0, 20.0), st.floats(0.0, 20.0), st.integers(0, 2**32))
def test_as_a_poisson_process_there_are_about_as_many_as_the_area(
    shape: Any, one: float, other: float, seed: int
) -> None:
    began, ended = sorted((one, other))
    curve = shape.curve()
    seen = due_before(curve, ended, seed=seed, kind="poisson")
    if len(seen) <= SEEN_MAX:
        area = curve.count(ended) - curve.count(began)
        found = sum(began <= at for at in seen)
        # Further off less than once in 10^11, by Chernoff's bound: hypothesis will not come across such a seed.
        assert abs(found - area) <= 8 * math.sqrt(area) + 30


@given(curves(), st.sampled_from(["even", "poisson"]), st.integers(0, 2**32))
def test_arrivals_are_in_order_and_the_same_for_the_same_seed(curve: Curve, kind: Any, seed: int) -> None:
    seen = due_before(curve, 20.0, seed=seed, kind=kind)
    assert all(earlier <= later for earlier, later in pairwise(seen))
    assert seen == due_before(curve, 20.0, seed=seed, kind=kind)


@given(curves(), st.floats(0.0, 20.0), st.floats(0.001, 1.0))
def test_the_area_is_that_of_the_rates(curve: Curve, at: float, width: float) -> None:
    steps = 200
    middles = [curve.rate(at + width * (step + 0.5) / steps) for step in range(steps)]
    # Each of the jumps, at most 21 in a second of repeating curves with steps of 0.01 s and more, is off by a step.
    assert curve.count(at + width) - curve.count(at) == pytest.approx(
        sum(middles) * width / steps, rel=0.02, abs=200.0 * width / steps * 110
    )


@given(shapes(), st.floats(0.0, 40.0))
def test_no_shape_ever_has_a_rate_below_0_or_beyond_what_was_asked_for(shape: Any, at: float) -> None:
    most = {"spike": 10, "diurnal": 1.8}.get(type(shape).__name__.lower(), 1)
    assert 0 <= shape.curve().rate(at) <= shape.rate_per_s * most * (1 + 1e-9)


@given(shapes(), st.sampled_from(["even", "poisson"]), st.integers(0, 9))
def test_a_plan_is_the_same_when_it_comes_over_a_wire(shape: Any, kind: Any, seed: int) -> None:
    plan = Plan(url="http://ledger.test", shape=shape, arrivals=kind, seed=seed, seconds=5.0)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
    assert all(at < 5.0 for at in islice(plan.due(), 100))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.floats(0.1, 2.0))
def test_what_was_recorded_comes_again_stretch_by_stretch(counts: list[int], width: float) -> None:
    shape = Recorded(rates_per_s=tuple(count / width for count in counts), width_s=width)
    seen = list(arrivals(shape.curve()))
    assert abs(len(seen) - sum(counts)) <= 1
    for number, count in enumerate(counts):
        began, ended = number * width, (number + 1) * width
        assert abs(sum(began <= at < ended for at in seen) - count) <= 2  # one may lie just beside a border


def test_a_load_that_is_steady_has_the_times_of_a_clock() -> None:
    seen = list(islice(arrivals(Steady(rate_per_s=40.0).curve()), 1_000))
    assert seen == pytest.approx([number / 40 for number in range(1_000)])


def test_a_spike_begins_and_ends_at_once() -> None:
    curve = Spike(rate_per_s=10.0, seconds=20.0, spike_s=2.0, times=10.0).curve()
    assert [curve.rate(at) for at in (8.999, 9.0, 10.999, 11.0)] == [10.0, 100.0, 100.0, 10.0]
    assert curve.count(20.0) == pytest.approx(10 * 20 + 90 * 2)

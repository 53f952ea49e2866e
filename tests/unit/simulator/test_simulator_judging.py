import pytest

from fivenines.drill.simulator.judging import bootstrap, clopper_pearson


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (1, 100, 0.00025, 0.0545)],
)
def test_exact_bounds_are_those_of_the_tables(hits: int, trials: int, low: float, high: float) -> None:
    found = clopper_pearson(hits, trials)
    assert found.low == pytest.approx(low, abs=1e-3)
    assert found.high == pytest.approx(high, abs=1e-3)
    assert found.value == hits / trials


def test_bounds_of_a_mean_are_as_wide_as_they_should_be() -> None:
    values = [float(number % 10) for number in range(1_000)]
    found = bootstrap(values, lambda some: sum(some) / len(some))
    assert found.value == 4.5
    # The standard error of the mean is 2.87 / sqrt(1000) = 0.091.
    assert found.value - found.low == pytest.approx(1.96 * 0.091, rel=0.2)
    assert found.high - found.value == pytest.approx(1.96 * 0.091, rel=0.2)

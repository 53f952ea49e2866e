import itertools

from hypothesis import given
from hypothesis import strategies as st

from fivenines.importers.day_chain import chain_day

TOLERANCE = 10

AMOUNTS = st.integers(-10_000, 10_000).map(lambda tens: tens * 10)
SLIPS = st.sampled_from((0, 0, 0, 10, -10))


@st.composite
def days(draw: st.DrawFn, *, slips: bool, size_max: int) -> tuple[int, list[tuple[int, int]], int]:
    """An opening balance, a day's rows in any order, and the balance that the last row really stated."""
    opening = balance = draw(AMOUNTS)
    rows = []
    for amount in draw(st.lists(AMOUNTS, min_size=1, max_size=size_max)):
        balance += amount + (draw(SLIPS) if slips else 0)
        rows.append((amount, balance))
    return opening, draw(st.permutations(rows)), balance


@given(days(slips=False, size_max=30))
def test_an_exact_day_is_found_whatever_its_order(day: tuple[int, list[tuple[int, int]], int]) -> None:
    opening, rows, closing = day
    chain = chain_day(opening, rows, tolerance=TOLERANCE)
    assert (chain.closing, chain.difference, chain.consistent) == (closing, 0, True)
    before = opening
    for index in chain.order:
        amount, after = rows[index]
        assert before + amount == after
        before = after


@given(days(slips=True, size_max=8))
def test_a_day_with_slips_is_found_and_its_difference_is_what_its_rows_leave(
    day: tuple[int, list[tuple[int, int]], int],
) -> None:
    opening, rows, _ = day
    chain = chain_day(opening, rows, tolerance=TOLERANCE)
    assert chain.consistent
    assert chain.difference == chain.closing - opening - sum(amount for amount, _ in rows)
    assert chain.closing == rows[chain.order[-1]][1]


@given(AMOUNTS, st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=5))
def test_it_is_never_worse_than_the_best_of_all_orders(opening: int, rows: list[tuple[int, int]]) -> None:
    def fits(order: tuple[int, ...]) -> bool:
        befores = [opening, *(rows[index][1] for index in order)]
        steps = zip(befores, order, strict=False)
        return all(abs(before + rows[index][0] - rows[index][1]) <= TOLERANCE for before, index in steps)

    possible = [order for order in itertools.permutations(range(len(rows))) if fits(order)]
    chain = chain_day(opening, rows, tolerance=TOLERANCE)
    assert chain.consistent == bool(possible)
    assert sorted(chain.order) == list(range(len(rows)))
    if possible:
        assert chain.order in possible
        came_to = opening + sum(amount for amount, _ in rows)
        assert abs(chain.difference) == min(abs(rows[order[-1]][1] - came_to) for order in possible)

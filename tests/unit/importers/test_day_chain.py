import itertools
import random

import pytest

from fivenines.importers.day_chain import THOROUGH_ROWS_MAX, chain_day

TOLERANCE = 10


def rows_of(opening: int, amounts: list[int], slips: list[int] | None = None) -> list[tuple[int, int]]:
    """Rows as a bank would state them: a slip moves what a row states, and all rows after it go on from there."""
    rows, balance = [], opening
    for amount, slip in itertools.zip_longest(amounts, slips or [], fillvalue=0):
        balance += amount + slip
        rows.append((amount, balance))
    return rows


def test_a_single_row_that_adds_up_is_exact() -> None:
    chain = chain_day(1_000, [(250, 1_250)], tolerance=TOLERANCE)
    assert (chain.closing, chain.difference, chain.consistent) == (1_250, 0, True)


def test_every_order_of_the_file_gives_the_same_closing_balance() -> None:
    rows = rows_of(100, [500, -200, 300, -50])
    for shuffled in itertools.permutations(rows):
        chain = chain_day(100, shuffled, tolerance=TOLERANCE)
        assert (chain.closing, chain.difference, chain.consistent) == (650, 0, True)
        assert [shuffled[index] for index in chain.order] == rows


def test_amounts_that_cancel_out_are_walked_as_a_loop() -> None:
    rows = rows_of(0, [100, -100, 100, -100, 70])
    chain = chain_day(0, rows[::-1], tolerance=TOLERANCE)
    assert (chain.closing, chain.consistent, sorted(chain.order)) == (70, True, [0, 1, 2, 3, 4])


def test_a_stated_balance_off_by_the_tolerance_is_still_a_chain() -> None:
    rows = rows_of(0, [1_000, 2_000], [0, 10])
    chain = chain_day(0, rows[::-1], tolerance=TOLERANCE)
    assert (chain.closing, chain.difference, chain.consistent) == (3_010, 10, True)


def test_slips_that_cancel_out_leave_no_difference() -> None:
    chain = chain_day(0, rows_of(0, [1_000, 2_000], [10, -10]), tolerance=TOLERANCE)
    assert (chain.difference, chain.consistent) == (0, True)


def test_a_missing_row_is_a_gap_and_the_rest_is_still_put_in_order() -> None:
    """As on the last day of the first file of the real books, where some interest rows were cut off."""
    rows = [(1_450_200, 5_556_590), (-760_000, 4_796_590), (-1_460, 4_795_130), (19_920, 4_106_390)]
    chain = chain_day(4_067_270, rows, tolerance=TOLERANCE)
    assert (chain.closing, chain.difference, chain.consistent) == (4_795_130, 19_200, False)
    assert chain.order == (3, 0, 1, 2)


def test_a_wrong_balance_amid_the_day_does_not_decide_the_closing() -> None:
    chain = chain_day(1_000, [(100, 1_900), (-50, 1_050)], tolerance=TOLERANCE)
    assert (chain.closing, chain.difference, chain.consistent) == (1_050, 0, False)


@pytest.mark.parametrize("count", [THOROUGH_ROWS_MAX, THOROUGH_ROWS_MAX + 1, 200])
def test_long_days_with_slips_are_put_in_order_too(count: int) -> None:
    dice = random.Random(count)
    amounts = [dice.choice((-1, 1)) * dice.randrange(1_000, 500_000) for _ in range(count)]
    rows = rows_of(77, amounts, [dice.choice((0, 0, 10, -10)) for _ in range(count)])
    shuffled = rows[:]
    dice.shuffle(shuffled)
    chain = chain_day(77, shuffled, tolerance=TOLERANCE)
    assert chain.consistent
    assert sorted(chain.order) == list(range(count))


def test_a_long_day_that_fits_nowhere_ends_in_bounded_time_and_says_so() -> None:
    rows = [(20, 7 * number) for number in range(500)]
    chain = chain_day(10**9, rows, tolerance=TOLERANCE)
    assert not chain.consistent
    assert sorted(chain.order) == list(range(500))

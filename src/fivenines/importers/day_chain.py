"""Find the order of an account's rows within a day from the balance that each row states after itself.

A day's rows come in no order, yet each states an amount and the balance after it. Taken as an edge from `balance -
amount` to `balance`, the rows of a day are a walk that begins at the closing balance of the day before and uses each
edge once: an Eulerian path. Where amounts and balances were rounded on their own, the ends of two edges may miss each
other by a little, the `tolerance`.

Three ways, from quick to thorough:
1. the walk without tolerance, in linear time: nearly every day of real books;
2. up to `THOROUGH_ROWS_MAX` rows: the best of all orders, by dynamic programming over sets of rows;
3. beyond that: a search with backtracking, the nearest row first, for a bounded number of steps.

Where the walk exists without tolerance, its last balance is the opening plus all amounts whatever the order, so the
closing balance is sure even where the order is not.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["SEARCH_STEPS_MAX", "THOROUGH_ROWS_MAX", "Chain", "chain_day"]

THOROUGH_ROWS_MAX = 8
"""2^8 sets of 8 last rows with 8 next ones: 16,384 steps at most."""

SEARCH_STEPS_MAX = 20_000
"""So that a hostile day costs a few hundredths of a second, and is then reported as contradictory."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The order that was found for a day's rows."""

    order: tuple[int, ...]
    """Indices into the rows."""
    closing: int
    """The balance that the day's last row states."""
    difference: int
    """`closing` less what the opening and all amounts come to: 0 for a day that adds up."""
    consistent: bool
    """Whether each row's balance follows from the one before it, within the tolerance."""


def chain_day(opening: int, rows: Sequence[tuple[int, int]], *, tolerance: int) -> Chain:
    """Find the order of one day's rows.

    Args:
        opening: the balance before the day.
        rows: of each row its signed amount and the balance it states after itself; at least one.
        tolerance: how far a stated balance may be from what it should be, in the same units.
    """
    assert rows
    order: Sequence[int] | None = range(1) if len(rows) == 1 else _walk(opening, rows)
    if order is None or not _fits(opening, rows, order, tolerance):
        if len(rows) <= THOROUGH_ROWS_MAX:
            order = _best_order(opening, rows, tolerance)
        else:
            order = _search(opening, rows, tolerance) or _nearest_last(opening, rows)
    closing = rows[order[-1]][1]
    return Chain(
        order=tuple(order),
        closing=closing,
        difference=closing - opening - sum(amount for amount, _ in rows),
        consistent=_fits(opening, rows, order, tolerance),
    )


def _fits(opening: int, rows: Sequence[tuple[int, int]], order: Sequence[int], tolerance: int) -> bool:
    before = opening
    for index in order:
        amount, after = rows[index]
        if abs(before + amount - after) > tolerance:
            return False
        before = after
    return True


def _walk(opening: int, rows: Sequence[tuple[int, int]]) -> list[int] | None:
    """Hierholzer's algorithm: a walk over all rows from the opening, or None where it does not reach them all.

    Where no such walk exists it may also give one with a gap in it: the caller checks.
    """
    leaving: dict[int, list[int]] = {}
    for index in range(len(rows) - 1, -1, -1):  # so that, all else equal, the rows stay in the order of the file
        amount, after = rows[index]
        leaving.setdefault(after - amount, []).append(index)
    trail: list[int] = []
    path: list[int] = []
    at = opening
    while True:
        if out := leaving.get(at):
            trail.append(out.pop())
        elif trail:
            path.append(trail.pop())
        else:
            break
        at = rows[trail[-1]][1] if trail else opening
    return path[::-1] if len(path) == len(rows) else None


def _search(opening: int, rows: Sequence[tuple[int, int]], tolerance: int) -> list[int] | None:
    """Depth first, the nearest next row first: the first order without a gap, or None within `SEARCH_STEPS_MAX`."""
    starts = sorted((after - amount, index) for index, (amount, after) in enumerate(rows))

    def next_rows(before: int) -> Iterator[int]:
        low = bisect_left(starts, (before - tolerance, -1))
        high = bisect_left(starts, (before + tolerance + 1, -1))
        return iter([index for _, index in sorted(starts[low:high], key=lambda start: (abs(start[0] - before), start))])

    order: list[int] = []
    used: set[int] = set()
    open_choices = [next_rows(opening)]
    for _ in range(SEARCH_STEPS_MAX):
        index = next((index for index in open_choices[-1] if index not in used), None)
        if index is not None:
            order.append(index)
            used.add(index)
            if len(order) == len(rows):
                return order
            open_choices.append(next_rows(rows[index][1]))
        elif order:
            open_choices.pop()
            used.remove(order.pop())
        else:
            return None
    return None


def _best_order(opening: int, rows: Sequence[tuple[int, int]], tolerance: int) -> list[int]:
    """The order with the fewest gaps, and then the smallest deviations, that ends as near as can be to the sum.

    For each set of rows and each last row in it the best way there is kept: how many steps were beyond the tolerance,
    how far the steps were off in all, and the row before.
    """
    count = len(rows)
    best: list[dict[int, tuple[int, int, int]]] = [{} for _ in range(1 << count)]
    for index, (amount, after) in enumerate(rows):
        off = abs(opening + amount - after)
        best[1 << index][index] = (off > tolerance, off, -1)
    for used in range(1, 1 << count):
        for last, (gaps, deviation, _) in best[used].items():
            before = rows[last][1]
            for index in range(count):
                if used >> index & 1:
                    continue
                off = abs(before + rows[index][0] - rows[index][1])
                way = (gaps + (off > tolerance), deviation + off, last)
                into = best[used | 1 << index]
                if index not in into or way < into[index]:
                    into[index] = way
    everything = (1 << count) - 1
    expected = opening + sum(amount for amount, _ in rows)

    def cost(last: int) -> tuple[bool, int, int, int, int]:
        gaps, deviation, _ = best[everything][last]
        missed = abs(rows[last][1] - expected)
        return missed > tolerance and gaps > 0, gaps, missed, deviation, last

    last, used, order = min(best[everything], key=cost), everything, []
    while last >= 0:
        order.append(last)
        used, last = used & ~(1 << last), best[used][last][2]
    return order[::-1]


def _nearest_last(opening: int, rows: Sequence[tuple[int, int]]) -> list[int]:
    """The order of the file, but for the row nearest to the sum, which comes last."""
    expected = opening + sum(amount for amount, _ in rows)
    last = min(range(len(rows)), key=lambda index: (abs(rows[index][1] - expected), index))
    return [*(index for index in range(len(rows)) if index != last), last]

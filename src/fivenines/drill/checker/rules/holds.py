"""Holds: what is settled of one never comes to more than was held, and one thing only brings it to an end.

Looked at three times over, each time by one witness alone: by the answers of our own clients, by every event feed, and
by every history in SQL. None of them needs the journal's word for it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from fivenines.drill.checker.case import Case
from fivenines.drill.checker.course import DONE
from fivenines.drill.checker.evidence import Told
from fivenines.drill.checker.telling import history, journal_says, smallest
from fivenines.drill.results import Finding
from fivenines.ids import as_text

__all__ = ["holds_settled_twice"]

SETTLED_TWICE = "hold settled twice"
_ENDS: Final = frozenset({"settled", "released"})


def holds_settled_twice(case: Case) -> Iterator[Finding]:
    """Find holds that gave more than they held, or went on after their end."""
    yield from _wrong(case, "the answers", _by_answers(case))
    for name, feed in case.evidence.feeds.items():
        yield from _wrong(case, f"the events of {name}", feed.events)
    for name, sql in case.evidence.sql.items():
        yield from _wrong(case, name, sql.transactions)


def _by_answers(case: Case) -> list[Told]:
    found = []
    for each in case.acknowledged:
        decision = case.course.decisions.get(each.id)
        item = decision.item if decision is not None and decision.position == each.position else 0
        found.append(Told(each.position, item, each.id, each.kind, each.outcome, each.hold, each.amount, each.is_final))
    return found


def _wrong(case: Case, by: str, told: Sequence[Told]) -> Iterator[Finding]:
    amounts: dict[bytes, int] = {}
    ends: dict[bytes, list[Told]] = defaultdict(list)
    for each in told:
        if each.outcome not in DONE:
            continue
        if each.kind == "hold":
            amounts[each.id] = each.amount
        elif each.hold and each.outcome in _ENDS:
            ends[each.hold].append(each)
    for hold, found in ends.items():
        held = amounts.get(hold)
        if held is None and (known := case.course.holds.get(hold)) is not None:
            held = known.amount  # its own answer was never heard
        if held is not None and _is_too_much(held, found):
            few = smallest(sorted(found, key=_place), lambda some, held=held: _is_too_much(held, some))  # type: ignore[misc]
            asked = [case.by_id[id] for id in (hold, *(each.id for each in few)) if id in case.by_id]
            said = [f"{by}: {_words(each)}" for each in few]
            yield Finding(
                kind=SETTLED_TWICE,
                guarantee="exactly once",
                what=f"by {by}, hold {_name(hold)} of {held} went on after its end, or gave more than it held",
                history=history(asked, *said, journal_says(case.course, hold)),
            )


def _is_too_much(held: int, told: Sequence[Told]) -> bool:
    left, is_ended = held, False
    for each in sorted(told, key=_place):
        if is_ended:
            return True
        if each.kind == "settle":
            left -= each.amount
            is_ended = each.is_final or not each.amount or left == 0
        else:
            is_ended = True
        if left < 0:
            return True
    return False


def _place(told: Told) -> tuple[int, int]:
    return told.position, told.item


def _words(told: Told) -> str:
    what = f"{told.amount or 'all'} settled" if told.kind == "settle" else "released"
    return f"{what} in frame {told.position} ({_name(told.id)})"


def _name(id: bytes) -> str:
    return as_text(id) if len(id) == 16 else id.hex()

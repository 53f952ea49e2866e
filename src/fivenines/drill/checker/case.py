"""What all rules look at: the evidence, what the journal comes to, and the requests in useful orders; once for all."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from fivenines.drill.checker.course import DONE, Course, Decision, course_of
from fivenines.drill.checker.evidence import Evidence
from fivenines.drill.checker.telling import ends_of
from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Finding

__all__ = ["READ", "Case", "Rule", "Seen"]

READ: Final = "read"

Rule = Callable[["Case"], Iterable[Finding]]
"""Looks at a case, and says what is wrong with it."""


@dataclass(slots=True)
class Seen:
    """The highest position that any answer had told of by a moment, and which answer that was."""

    _ends: list[float] = field(default_factory=list)
    _highest: list[Asked] = field(default_factory=list)
    _positions: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, answered: Iterable[tuple[Asked, int]]) -> "Seen":
        """Take answers, each with its position."""
        seen = cls()
        for asked, position in sorted(answered, key=lambda each: each[0].ended):
            if not seen._positions or position > seen._positions[-1]:
                seen._ends.append(asked.ended)
                seen._highest.append(asked)
                seen._positions.append(position)
        return seen

    def before(self, moment: float) -> tuple[int, Asked | None]:
        """The highest position that was told before a moment, and by which answer."""
        place = bisect_left(self._ends, moment)
        return (self._positions[place - 1], self._highest[place - 1]) if place else (0, None)


class Case:
    """What a judge looks at. Raises ValueError where the frames are not those of one journal from its beginning on."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.asked = evidence.asked
        self.course: Course = course_of(evidence.frames)
        self.until = evidence.until or self.course.position
        self.writes = [each for each in self.asked if each.id]
        self.reads = [each for each in self.asked if not each.id]
        self.by_id = {each.id: each for each in self.writes}
        self.acknowledged = [each for each in self.writes if each.outcome in DONE]

    @cached_property
    def changes(self) -> Mapping[str, Sequence[Decision]]:
        """What was carried out and names an account, by account, in the journal's order."""
        found: dict[str, list[Decision]] = defaultdict(list)
        for decision in self.course.decisions.values():
            if decision.is_done:
                for account in {name for ends in ends_of(decision) for name in ends}:
                    found[account].append(decision)
        return found

    def position_of(self, asked: Asked) -> int:
        """Where a request took its effect, or what it saw: by the journal, else by the answer; 0: nowhere."""
        if asked.id and (decision := self.course.decisions.get(asked.id)) is not None:
            return decision.position
        return asked.position if asked.outcome and not asked.id else 0

    def answered(self) -> Iterator[tuple[Asked, int]]:
        """Yield the requests that were answered, each with the position that this tells of."""
        for each in self.asked:
            if each.outcome and (position := self.position_of(each)):
                yield each, position

"""The judge: hears all rules, counts what is wrong, and says of each guarantee whether it was kept. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from fivenines.drill.checker.case import Case
from fivenines.drill.checker.evidence import Evidence
from fivenines.drill.checker.rules import RULES, Searched, no_order, search
from fivenines.drill.results import Finding, Guarantee, GuaranteeVerdict

__all__ = ["JUDGED", "Judgement", "judge"]

JUDGED: Final[tuple[Guarantee, ...]] = (
    "acknowledged is durable",
    "strictly serializable",
    "read your writes",
    "exactly once",
    "overload is shed",
    "corruption is found",
)
"""The guarantees that this judge says something of; those about faults are for whoever made the faults to judge."""

_EACH_MAX: Final = 5
"""So many findings of one kind are told; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is wrong, and how much was looked at."""

    findings: tuple[Finding, ...]
    """The first few of each kind."""
    counts: Mapping[str, int]
    """How many there are of each kind."""
    guarantees: tuple[GuaranteeVerdict, ...]
    requests: int
    acknowledged: int
    """Transactions that were said to be carried out."""
    failed: int
    """Requests without an answer, those that were turned away not counted."""
    refused: int
    """Requests that were turned away with a clear answer: nothing was done."""
    position: int
    """Of the journal's last frame."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong, and there was anything to look at: a judge who saw nothing passes nobody."""
        return not self.counts and self.acknowledged > 0

    @property
    def lost(self) -> int:
        """Acknowledged, and not in the journal."""
        return self.counts.get("lost", 0)

    @property
    def doubled(self) -> int:
        """Carried out more than once, or told of so by a history: each tells of everything once."""
        return sum(self.counts.get(kind, 0) for kind in ("doubled", "hold settled twice", "doubled in history"))

    @property
    def reordered(self) -> int:
        """Decided before what had been answered already."""
        return self.counts.get("reordered", 0)

    def __str__(self) -> str:
        found = sum(self.counts.values())
        lines = [f"{self.requests:,} requests, {self.acknowledged:,} acknowledged, {self.failed:,} failed, "]
        lines[0] += f"{self.refused:,} turned away; {found:,} findings"
        for each in self.findings:
            lines += [f"✗ {each.kind}: {each.what}", *(f"    {line}" for line in each.history)]
        return "\n".join(lines)


def judge(evidence: Evidence) -> Judgement:
    """Hold everything that anybody said against everything else.

    Raises:
        ValueError: the frames are not those of one journal, from its first one on.
        fivenines.journal.JournalDamagedError: a frame is no batch of commands.
    """
    case = Case(evidence)
    counts: Counter[str] = Counter()
    broken: dict[Guarantee, Finding] = {}
    told: list[Finding] = []
    searched = search(case)
    for finding in chain(chain.from_iterable(rule(case) for rule in RULES), no_order(searched)):
        counts[finding.kind] += 1
        broken.setdefault(finding.guarantee, finding)
        if counts[finding.kind] <= _EACH_MAX:
            told.append(finding)
    looked_at = _looked_at(case, searched)
    has_any = bool(case.acknowledged)
    verdicts = [
        GuaranteeVerdict(
            guarantee=each,
            is_kept=each not in broken and has_any,
            why=broken[each].what if each in broken else looked_at[each] if has_any else "nothing was acknowledged",
        )
        for each in JUDGED
    ]
    return Judgement(
        findings=tuple(told),
        counts=counts,
        guarantees=tuple(verdicts),
        requests=len(case.asked),
        acknowledged=len(case.acknowledged),
        failed=sum(bool(each.error) and not each.is_refused for each in case.asked),
        refused=sum(each.is_refused for each in case.asked),
        position=case.course.position,
    )


def _looked_at(case: Case, searched: Sequence[Searched]) -> dict[Guarantee, str]:
    """Say how much was looked at for each guarantee."""
    evidence, course = case.evidence, case.course
    refused = sum(each.is_undone for each in case.writes)
    maybe = sum(bool(each.error) and not each.is_undone for each in case.writes)
    holds = sum(each.kind == "hold" for each in case.writes)
    totals = sum(each.kind == "total" for each in case.reads)
    witnesses = (
        f"{_many(len({each.node for each in evidence.nodes}), 'node')}, {_many(len(evidence.feeds), 'event feed')}, "
        f"{_many(len(evidence.sql), 'history', 'histories')} in SQL and {_many(len(evidence.archives), 'archive')}"
    )
    return {
        "acknowledged is durable": f"{len(case.acknowledged):,} acknowledged are in the journal, {witnesses}",
        "strictly serializable": f"{len(case.asked):,} requests in the order of {course.position:,} frames respect "
        f"real time; {len(evidence.nodes):,} samples of all balances; {totals:,} sums of the bank test; "
        f"{_orders(searched)}",
        "read your writes": f"{len(case.reads) - totals:,} reads show no less than their client had seen",
        "exactly once": f"{len(case.writes):,} transactions with {maybe:,} in doubt and {holds:,} holds; "
        f"{sum(map(len, course.found_again.values())):,} found again in the journal, and decided once",
        "overload is shed": f"{refused:,} given up as surely not done are not in the journal as done",
        "corruption is found": f"{course.position:,} digests follow from each other, and are those of "
        f"{_many(len(evidence.archives), 'archive')}",
    }


def _orders(searched: Sequence[Searched]) -> str:
    """Say for how much there is an order, and of how much nobody knows."""
    found = [each.operations for each in searched if not each.is_given_up and each.violation is None]
    given_up = [each.operations for each in searched if each.is_given_up]
    said = f"an order found without the journal for {_many(sum(found), 'operation')} on {_many(len(found), 'group')} "
    said += "of accounts"
    if given_up:
        said += f", the search given up as too large for {_many(sum(given_up), 'operation')} on "
        said += _many(len(given_up), "group")
    return said


def _many(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"

"""What all drills together come to: one verdict, sums, and a row for each guarantee of the design. Pure.

A guarantee is `broken` as soon as one drill says so, by its verdict or by a finding; `kept` if a drill that was carried
out to its end says so and none says otherwise; `not tested` else. A drill that was stopped shows harm, but no proof.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from msgspec import Struct

from fivenines.drill.results import DrillResult, Guarantee, Verdict

__all__ = ["PROMISES", "GuaranteeRow", "State", "Summary", "guarantees_of", "summarize"]

State = Literal["kept", "broken", "not tested"]

PROMISES: Mapping[Guarantee, str] = {
    "acknowledged is durable": "What was acknowledged is on disk in a majority of regions, and stays.",
    "strictly serializable": "There is one order, and what came after an answer is ordered after it.",
    "read your writes": "A read that names a position is at least as new as that.",
    "exactly once": "The same id, sent again anywhere, is never applied twice.",
    "overload is shed": "Too much is turned away early, with a clear answer; nothing collapses.",
    "static stability": "With all that steers and keeps history down, money still moves.",
    "corruption is found": "Damage is detected, named, and repaired from another copy; it is never served.",
    "node lost": "A node that crashes, hangs or is slow fails no request.",
    "edge or region lost": "A client's next try goes to another region; none fails.",
    "journal leader lost": "Requests wait for one election, at most a second on one machine; none fails.",
    "journal majority lost": "Reads go on, writes are refused clearly, nothing is lost.",
    "all regions lost": "All that was archived is restored, to any position.",
    "caretakers lost": "Without controllers, historians, SQL or object storage, clients notice nothing.",
}
"""What each row of the design's guarantees says."""


class GuaranteeRow(Struct, frozen=True, kw_only=True):
    """One guarantee, and which drills show what of it, by their numbers from 0."""

    guarantee: Guarantee
    state: State
    kept_by: tuple[int, ...]
    broken_by: tuple[int, ...]


class Summary(Struct, frozen=True, kw_only=True):
    """All drills together."""

    verdict: Literal["passed", "failed", "incomplete"]
    """failed if any drill failed or was stopped; incomplete if one was refused, or none passed; else passed."""
    drills: int
    verdicts: Mapping[Verdict, int]
    requests: int
    acknowledged: int
    failed_requests: int
    refused_requests: int
    lost: int
    doubled: int
    reordered: int
    longest_pause_s: float
    longest_recovery_s: float | None
    availability: float | None
    """The mean over all requests; None if there were none."""
    budget_s: float
    costs: Mapping[str, float]
    """By currency."""
    began_at: float
    """Unix time; 0 if no drill knows when it began."""
    took_s: float
    guarantees: tuple[GuaranteeRow, ...]


def guarantees_of(result: DrillResult) -> list[Guarantee]:
    """Name the guarantees that a drill looked at, or found broken, each once."""
    named = [each.guarantee for each in result.guarantees] + [each.guarantee for each in result.findings]
    return list(dict.fromkeys(named))


def summarize(results: Sequence[DrillResult]) -> Summary:
    """Sum up drills."""
    verdicts: dict[Verdict, int] = dict.fromkeys(get_args(Verdict), 0) | Counter(each.verdict for each in results)
    requests = sum(each.requests for each in results)
    costs: dict[str, float] = {}
    for each in results:
        if each.cost is not None:
            costs[each.currency] = costs.get(each.currency, 0.0) + each.cost
    return Summary(
        verdict="failed"
        if verdicts["failed"] or verdicts["stopped"]
        else "incomplete"
        if verdicts["refused"] or not verdicts["passed"]
        else "passed",
        drills=len(results),
        verdicts=verdicts,
        requests=requests,
        acknowledged=sum(each.acknowledged for each in results),
        failed_requests=sum(each.failed_requests for each in results),
        refused_requests=sum(each.refused_requests for each in results),
        lost=sum(each.lost for each in results),
        doubled=sum(each.doubled for each in results),
        reordered=sum(each.reordered for each in results),
        longest_pause_s=max((each.longest_pause_s for each in results), default=0.0),
        longest_recovery_s=max(
            (one.recovery_s for each in results for one in each.recoveries if one.recovery_s is not None), default=None
        ),
        availability=sum(each.availability * each.requests for each in results) / requests if requests else None,
        budget_s=sum(each.budget_s for each in results),
        costs=costs,
        began_at=min((each.began_at for each in results if each.began_at), default=0.0),
        took_s=sum(each.took_s for each in results),
        guarantees=tuple(_row(guarantee, results) for guarantee in PROMISES),
    )


def _row(guarantee: Guarantee, results: Sequence[DrillResult]) -> GuaranteeRow:
    kept, broken = [], []
    for number, result in enumerate(results):
        said = [each.is_kept for each in result.guarantees if each.guarantee == guarantee]
        if not all(said) or any(each.guarantee == guarantee for each in result.findings):
            broken.append(number)
        elif said and result.verdict in {"passed", "failed"}:
            kept.append(number)
    return GuaranteeRow(
        guarantee=guarantee,
        state="broken" if broken else "kept" if kept else "not tested",
        kept_by=tuple(kept),
        broken_by=tuple(broken),
    )

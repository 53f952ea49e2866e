"""The error budget: what each disturbance costs, in seconds of the year's budget and in money. Pure.

A budget of (1 - slo) of a year's 365.25 days is 315.6 s at 99.999 %. A moment in which a part of all requests fails
uses up that part of its length: ten seconds at 5 % failed are half a second. What part fails is seen in two ways, and
the worse counts: the answers that failed at the edges, and the regions that get traffic while a majority of observers
has no answer from them. So pauses count as well, when nothing fails because nothing is answered.

The controller that leads keeps the books. What is lost while an incident is open is booked on it, in equal parts on
several.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from fivenines.control.desired import Desired
from fivenines.control.judging import SERVES, has_majority_of, voices
from fivenines.control.observed import Observed, Report

__all__ = ["YEAR_S", "Books", "OpenIncident", "book", "budget_s", "lost_part", "resolve", "year_of"]

YEAR_S = 365.25 * 86_400


class OpenIncident(Struct, frozen=True, kw_only=True):
    """A disturbance that goes on."""

    id: str
    opened_at: float
    """Unix time."""
    lost_s: float = 0.0
    cost: float = 0.0


class Books(Struct, frozen=True, kw_only=True):
    """What was used of the budget."""

    year: int = 0
    """Counted from 1970 in years of `YEAR_S`."""
    lost_s: float = 0.0
    """In this year."""
    cost: float = 0.0
    """In this year."""
    open: Mapping[str, OpenIncident] = {}
    """By `kind:target`."""
    at: float = 0.0
    """When they were written, unix time: no two are alike."""
    outages_until: float = 0.0
    """What was lost while nobody could write is in here, as far as it began before: unix time."""


def budget_s(desired: Desired) -> float:
    """Return the seconds of downtime that a year may have."""
    return (1.0 - desired.slo) * YEAR_S


def year_of(now: float) -> int:
    """Return the year of the budget that a unix time is in."""
    return int(now // YEAR_S)


def lost_part(desired: Desired, observed: Observed) -> float:
    """Return what part of all requests is lost just now, 0 to 1."""
    own = observed.reports.get(observed.here)
    # Who gets no answer from the store knows only what it sees itself.
    reports = voices(desired, observed) if observed.has_majority else [own] if own else []
    requests = sum(report.requests_per_s for report in reports)
    failed = sum(report.failed_per_s for report in reports)
    of_answers = min(1.0, failed / requests) if requests > 0 else 0.0
    served = {n: s.share for n, s in observed.states.items() if s.phase in SERVES}
    weights = {region.name: region.weight for region in desired.regions if region.name in served}
    # As the names do: where all that serve weigh 0, they weigh the same.
    shares = {n: weight * served[n] if any(weights.values()) else served[n] for n, weight in weights.items()}
    total = sum(shares.values())
    silent = sum(share for name, share in shares.items() if _is_unanswered(name, reports, desired, observed))
    return max(of_answers, silent / total if total > 0 else 0.0)


def _is_unanswered(region: str, reports: Sequence[Report], desired: Desired, observed: Observed) -> bool:
    seen = [report.probes.get(region) for report in reports]
    failed = sum(1 for probes in seen if probes is not None and probes.recent and not probes.recent[-1])
    return has_majority_of(failed, desired) if observed.has_majority else failed > 0


def book(
    books: Books,
    disturbances: Iterable[str],
    *,
    lost_s: float,
    cost_per_s: float,
    now: float,
    make_id: str,
    opened_at: Mapping[str, float] | None = None,
) -> tuple[Books, list[str]]:
    """Book what was lost since the last time, and open incidents that are new.

    Args:
        books: as they were.
        disturbances: what goes on now, as `kind:target`.
        lost_s: seconds of the budget that were lost.
        cost_per_s: what one costs.
        now: unix time.
        make_id: what the ids of new incidents begin with.
        opened_at: when new ones began, where that was not now.

    Returns:
        The books, and the keys of the incidents that are new.
    """
    year = year_of(now)
    if year > books.year:
        books = replace(books, year=year, lost_s=0.0, cost=0.0)
    incidents = dict(books.open)
    new = [key for key in sorted(set(disturbances)) if key not in incidents]
    for number, key in enumerate(new):
        incidents[key] = OpenIncident(id=f"{make_id}-{number}", opened_at=(opened_at or {}).get(key, now))
    cost = lost_s * cost_per_s
    for key, incident in incidents.items():
        part = 1 / len(incidents)
        incidents[key] = replace(incident, lost_s=incident.lost_s + lost_s * part, cost=incident.cost + cost * part)
    return replace(books, lost_s=books.lost_s + lost_s, cost=books.cost + cost, open=incidents), new


def resolve(books: Books, disturbances: Iterable[str]) -> tuple[Books, dict[str, OpenIncident]]:
    """Close the incidents that no longer go on; returns the books, and what was closed."""
    still = set(disturbances)
    closed = {key: incident for key, incident in books.open.items() if key not in still}
    if not closed:
        return books, {}
    return replace(books, open={key: found for key, found in books.open.items() if key in still}), closed

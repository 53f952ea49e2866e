"""What the controllers ask of what was observed: who sees whom, and who serves. Pure; nothing is decided here.

**A verdict** on a region is that of a majority of *all* declared regions, the region itself included. A region whose
report is too old says nothing, and is counted all the same: so two of three must agree, whoever is silent, and a single
blind observer moves nothing. An observer sees a region down after `losses_to_down` probes in a row that failed, so one
lost probe moves nothing either.
"""

from collections.abc import Iterable
from statistics import median

from fivenines.control.desired import Desired, DesiredRegion, Order
from fivenines.control.observed import Observed, Phase, Probes, RegionState, Report

__all__ = [
    "SERVES",
    "capacity_of",
    "down_s",
    "has_majority_of",
    "has_voice",
    "is_anyone_well",
    "is_seen_down",
    "is_seen_up",
    "is_served_without",
    "is_wanted",
    "latency_to",
    "middle",
    "order_for",
    "region_named",
    "serving",
    "voices",
    "why_down",
]

SERVES: frozenset[Phase] = frozenset({"serving", "few", "reads"})
"""The phases in which a region gets traffic."""
_DOUBLINGS_MAX = 10


def has_voice(report: Report | None, desired: Desired) -> bool:
    """Whether a report counts: it is there, and not too old."""
    return report is not None and report.age_s <= desired.timings.silent_s


def voices(desired: Desired, observed: Observed) -> list[Report]:
    """Return the reports that count, of declared regions, in the order of declaration."""
    found = (observed.reports.get(region.name) for region in desired.regions)
    return [report for report in found if report is not None and has_voice(report, desired)]


def has_majority_of(count: int, desired: Desired) -> bool:
    """Whether so many regions are more than half of those declared."""
    return 2 * count > len(desired.regions)


def is_seen_down(region: str, desired: Desired, observed: Observed) -> bool:
    """Whether a majority of all regions sees a region down."""
    losses = desired.timings.losses_to_down
    return has_majority_of(len(_observers(region, desired, observed, answered=False, in_a_row=losses)), desired)


def is_seen_up(region: str, desired: Desired, observed: Observed, *, in_a_row: int | None = None) -> bool:
    """Whether a majority of all regions sees a region up: by `wins_to_up` answers in a row, if not told otherwise."""
    wins = desired.timings.wins_to_up if in_a_row is None else in_a_row
    return has_majority_of(len(_observers(region, desired, observed, answered=True, in_a_row=wins)), desired)


def is_anyone_well(desired: Desired, observed: Observed) -> bool:
    """Whether any region that serves is seen up by a majority just now."""
    return any(is_seen_up(name, desired, observed, in_a_row=1) for name in serving(desired, observed))


def serving(desired: Desired, observed: Observed) -> list[str]:
    """Return the declared regions that get traffic, in the order of declaration.

    One without nodes is none of them, whatever its state says: nobody probes it, so it would never be seen down, and
    would stand for another region that serves when there is none.
    """
    states = observed.states
    found = (region.name for region in desired.regions if region.has_nodes)
    return [name for name in found if name in states and states[name].phase in SERVES]


def is_served_without(region: str, desired: Desired, observed: Observed) -> bool:
    """Whether another region serves that is not seen down."""
    return any(name != region and not is_seen_down(name, desired, observed) for name in serving(desired, observed))


def why_down(region: str, desired: Desired, observed: Observed) -> str:
    """Say who sees a region down, and why, for people."""
    losses = desired.timings.losses_to_down
    seeing = _observers(region, desired, observed, answered=False, in_a_row=losses)
    silent = [r.name for r in desired.regions if not has_voice(observed.reports.get(r.name), desired)]
    reasons = sorted({observed.reports[name].probes[region].reason or "no answer" for name in seeing})
    said = f"{len(seeing)} of {len(desired.regions)} regions see it down ({', '.join(seeing)}: {'; '.join(reasons)})"
    return said + (f"; {', '.join(silent)} silent" if silent else "")


def _observers(region: str, desired: Desired, observed: Observed, *, answered: bool, in_a_row: int) -> list[str]:
    return [
        report.region
        for report in voices(desired, observed)
        if _is_run(report.probes.get(region), answered=answered, length=in_a_row)
    ]


def _is_run(probes: Probes | None, *, answered: bool, length: int) -> bool:
    if probes is None or len(probes.recent) < length:
        return False
    return all(was is answered for was in probes.recent[-length:])


def region_named(name: str, desired: Desired) -> DesiredRegion | None:
    """Return the declaration of a region, None if there is none."""
    return next((region for region in desired.regions if region.name == name), None)


def order_for(kind: str, target: str, desired: Desired) -> Order | None:
    """Return the order of a kind for a target, None if there is none."""
    return next((order for order in desired.orders if order.kind == kind and order.target == target), None)


def is_wanted(region: DesiredRegion, state: RegionState | None, desired: Desired) -> bool:
    """Whether a region should get traffic as soon as it is well: it is active or promoted, and not ordered out."""
    if order_for("evacuate", region.name, desired) is not None:
        return False
    return region.mode == "active" or (state is not None and state.promoted)


def down_s(state: RegionState, desired: Desired) -> float:
    """Return how long a region that is down stays so at least: doubled with each time it went down again."""
    doublings = min(max(0, len(state.downs) - 1), _DOUBLINGS_MAX)
    timings = desired.timings
    return max(timings.down_s_min, min(timings.down_s_max, timings.down_s_min * 2.0**doublings))


def capacity_of(names: Iterable[str], desired: Desired) -> float:
    """Return the requests a second that regions can take together; undeclared ones count as the peak's equal parts."""
    actives = sum(region.mode == "active" and region.has_nodes for region in desired.regions)
    # Where nothing is declared all count alike, and the platform is one that survives the loss of one of them.
    usual = desired.peak_per_s / max(1, actives - 1)
    known = {region.name: region for region in desired.regions}
    return sum(usual if (c := known[name].capacity_per_s) is None else c for name in names if name in known)


def latency_to(region: str, observed: Observed) -> float | None:
    """Return the milliseconds from here to a region, as last measured."""
    own = observed.reports.get(observed.here)
    probes = own.probes.get(region) if own else None
    return probes.latency_ms if probes else None


def middle(values: Iterable[float]) -> float | None:
    """Return the median, None of nothing."""
    found = list(values)
    return median(found) if found else None

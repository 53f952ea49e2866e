"""Steering: from what all agreed on to the table that this region's nameserver answers by. Pure.

A table in which nobody gets anything would be an outage that the names make by themselves: where no region has a share,
the table keeps those that there were (fail open). A weight of 0 is no such reason: the table has the weights that count
(see `weighed`). Without the shared store the table stays as it is. The serial goes up only when something changed; a
latency counts as changed when it is another by more than a quarter, so the names do not change with every measurement.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from fivenines.control.desired import Desired
from fivenines.control.judging import latency_to
from fivenines.control.observed import Observed
from fivenines.traffic.steering import weighed
from fivenines.traffic.table import SteeredRegion, SteeringTable

__all__ = ["steer"]

_LATENCY_CHANGE = 0.25
_LATENCY_MS_MIN = 1.0


def steer(
    declared: SteeringTable, desired: Desired, observed: Observed, before: SteeringTable | None
) -> SteeringTable | None:
    """Return the table as it should be.

    Args:
        declared: zone, policy, names and regions, as they are declared; its serial is not looked at.
        desired: which regions are active.
        observed: the states that all agreed on, and this region's own latencies.
        before: the table as it is; None if there is none yet.

    Returns:
        The table, the very one that was before if nothing changed; None if there is none yet and nothing is known.
    """
    if not observed.has_majority or not observed.states:
        return before
    shares = _shares(declared, desired, observed, before)
    known = {region.name: region for region in before.regions} if before else {}
    regions = tuple(
        replace(region, share=shares[region.name], latency_ms=_latency(region.name, observed, known))
        for region in declared.regions
    )
    table = weighed(replace(declared, regions=regions, serial=before.serial if before else declared.serial))
    if table == before:
        return before
    return replace(table, serial=table.serial + 1)


def _shares(
    declared: SteeringTable, desired: Desired, observed: Observed, before: SteeringTable | None
) -> dict[str, float]:
    states = observed.states
    # Of a region that nothing was agreed on yet, as when a platform begins, what was declared counts.
    shares = {r.name: states[r.name].share if r.name in states else r.share for r in declared.regions}
    if any(shares.values()):
        return shares
    if before is not None:
        last = {region.name: region.share for region in before.regions}
        kept = {region.name: last.get(region.name, 0.0) for region in declared.regions}
        if any(kept.values()):
            return kept
    active = {region.name for region in desired.regions if region.mode == "active"}
    return {region.name: float(region.name in active or not active) for region in declared.regions}


def _latency(region: str, observed: Observed, known: Mapping[str, SteeredRegion]) -> float | None:
    new = latency_to(region, observed)
    old = known[region].latency_ms if region in known else None
    if new is None or old is None:
        return old if new is None else round(new, 1)
    return old if abs(new - old) <= max(_LATENCY_MS_MIN, _LATENCY_CHANGE * old) else round(new, 1)

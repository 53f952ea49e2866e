"""Clocks: a region whose clock is far from the others' is an incident.

The ledger takes its time from frames, and never goes back; ids, holds and budgets are in that time. So a clock that is
wrong by a little harms nothing, and one that is wrong by much gets its region's transactions refused (`id_in_future`).
A region is told on by most of the others, so of three clocks it is the one that is alone. The controller that leads
tells people; no controller sets a clock.
"""

from fivenines.control.actions import Action, RaiseIncident
from fivenines.control.desired import Desired
from fivenines.control.judging import middle, voices
from fivenines.control.observed import Observed

__all__ = ["decide"]


def decide(desired: Desired, observed: Observed, now: float) -> list[Action]:  # noqa: ARG001 - all controllers are alike
    """Say whose clock is wrong."""
    if not observed.is_leader:
        return []
    bound = desired.timings.skew_ms_max
    reports = voices(desired, observed)
    actions: list[Action] = []
    for region in desired.regions:
        seen = [r.skew_ms[region.name] for r in reports if r.region != region.name and region.name in r.skew_ms]
        wrong = [skew for skew in seen if abs(skew) > bound]
        if 2 * len(wrong) > len(seen):
            by = middle(wrong) or 0.0
            why = f"{len(wrong)} of {len(seen)} others see its clock {abs(by):.0f} ms {'ahead' if by > 0 else 'behind'}"
            actions.append(RaiseIncident(reason=why, kind="clock_skew", target=region.name))
    return actions

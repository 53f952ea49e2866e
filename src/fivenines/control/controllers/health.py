"""Health: which regions are down, and when one that was may begin to come back.

A region goes down when a majority sees it down *and* another region that serves is not. When all look down at once the
fault is in what they share, a journal without a majority for instance, and taking regions out would mend nothing: so
nothing is changed (fail open), and the last region that serves never goes.

It begins to come back when a majority sees it up and its time is over: `down_s_min`, doubled each time it went down
again without having served for `flap_s` between. Only where nobody else that serves is well does it come back at once:
patience protects clients from a region that flaps, and then there is nothing left to protect them by.
"""

from fivenines.control.actions import Action, SetPhase
from fivenines.control.controllers.traffic import SHARES
from fivenines.control.desired import Desired, DesiredRegion
from fivenines.control.judging import (
    SERVES,
    down_s,
    is_anyone_well,
    is_seen_down,
    is_seen_up,
    is_served_without,
    is_wanted,
    why_down,
)
from fivenines.control.observed import Observed, Phase, RegionState

__all__ = ["decide"]

_DOWNS_KEPT = 16


def decide(desired: Desired, observed: Observed, now: float) -> list[Action]:
    """Say which regions go down, and which begin to come back."""
    actions: list[Action] = []
    for region in desired.regions:
        state = observed.states.get(region.name)
        if state is None or not region.has_nodes:
            continue
        if state.phase in SERVES or state.phase == "standby":
            if is_seen_down(region.name, desired, observed) and (
                state.phase == "standby" or is_served_without(region.name, desired, observed)
            ):
                actions.append(_down(state, desired, observed, now))
        elif state.phase == "down":
            actions += _back(region, state, desired, observed)
    return actions


def _down(state: RegionState, desired: Desired, observed: Observed, now: float) -> SetPhase:
    steady = state.phase == "serving" and state.age_s >= desired.timings.flap_s
    downs = () if steady or state.phase == "standby" else state.downs
    return SetPhase(
        reason=why_down(state.name, desired, observed),
        region=state.name,
        phase="down",
        share=0.0,
        promoted=state.promoted,
        downs=(*downs, now)[-_DOWNS_KEPT:],
        seen_revision=state.revision,
    )


def _back(region: DesiredRegion, state: RegionState, desired: Desired, observed: Observed) -> list[Action]:
    if not is_seen_up(region.name, desired, observed):
        return []
    waited, wait = state.age_s, down_s(state, desired)
    wins = f"a majority sees it up, {desired.timings.wins_to_up} times in a row"
    phase: Phase
    if not is_wanted(region, state, desired):
        if waited < wait or region.mode == "active":
            return []  # ordered out: its order decides
        phase, share, reason = "standby", 0.0, f"{wins}; it stands by again"
    elif waited >= wait:
        phase, share, reason = "reads", SHARES["reads"], f"{wins}, and {wait:g} s have passed"
    elif not is_anyone_well(desired, observed):
        phase, share, reason = "serving", SHARES["serving"], f"{wins}, and no region that serves is well"
    else:
        return []
    return [
        SetPhase(
            reason=reason,
            region=region.name,
            phase=phase,
            share=share,
            promoted=state.promoted,
            downs=state.downs,
            seen_revision=state.revision,
        )
    ]

"""Standbys: one is promoted for each active region that is lost, and steps back when all active ones serve again.

It is promoted at once, in the order of declaration, if a majority sees it up: to a few of everything and on from there
by the steps of `traffic`, or to everything where no region is left that serves. It steps back the same way, few and
then none, when all active regions have served in full for `demote_s`. An order `promote` holds as long as it stands.
"""

from fivenines.control.actions import Action, SetPhase
from fivenines.control.controllers.traffic import SHARES
from fivenines.control.desired import Desired, DesiredRegion
from fivenines.control.judging import SERVES, is_seen_up, is_served_without, order_for
from fivenines.control.observed import Observed, Phase, RegionState

__all__ = ["decide"]


def decide(desired: Desired, observed: Observed, now: float) -> list[Action]:  # noqa: ARG001 - all controllers are alike
    """Say which standbys are promoted, and which step back."""
    states = observed.states
    known = [region for region in desired.regions if region.has_nodes and region.name in states]
    actives = [states[region.name] for region in known if region.mode == "active"]
    standbys = sorted((region for region in known if region.mode == "standby"), key=lambda region: region.rank)
    lost = [state for state in actives if state.phase in {"down", "evacuated"}]
    promoted = [region for region in standbys if states[region.name].promoted]
    helping = sum(states[region.name].phase in SERVES for region in promoted)
    actions: list[Action] = []
    for region in standbys:
        state = states[region.name]
        order = order_for("promote", region.name, desired)
        if order_for("evacuate", region.name, desired) is not None:
            continue
        if not state.promoted:
            if order is not None:
                actions += _promote(state, f"{order.by} ordered it", desired, observed)
            elif helping < len(lost) and (promotion := _promote(state, _why(lost), desired, observed)):
                actions += promotion
                helping += 1
        elif order is None and _is_steady(actives, desired):
            actions += _demote(state)
    for region in standbys:
        state = states[region.name]
        if not state.promoted and state.phase in SERVES and not any(_is_about(a, region) for a in actions):
            actions += _leave(region, state, desired)
    actions += [_turn(state) for state in actives if state.phase == "standby"]
    return actions


def _is_about(action: Action, region: DesiredRegion) -> bool:
    return isinstance(action, SetPhase) and action.region == region.name


def _why(lost: list[RegionState]) -> str:
    return "lost: " + ", ".join(f"{state.name} ({state.phase})" for state in lost)


def _is_steady(actives: list[RegionState], desired: Desired) -> bool:
    return bool(actives) and all(s.phase == "serving" and s.age_s >= desired.timings.demote_s for s in actives)


def _promote(state: RegionState, why: str, desired: Desired, observed: Observed) -> list[Action]:
    if state.phase not in {"standby", "few", "reads", "serving"} or not is_seen_up(state.name, desired, observed):
        return []
    phase: Phase = "few" if is_served_without(state.name, desired, observed) else "serving"
    return [_set(state, phase, f"promoted; {why}", promoted=True)]


def _demote(state: RegionState) -> list[Action]:
    if state.phase == "serving":
        return [_set(state, "few", "all active regions serve in full again: it steps back", promoted=False)]
    if state.phase in {"few", "reads"}:
        return [_set(state, state.phase, "all active regions serve in full again: it steps back", promoted=False)]
    return []


def _leave(region: DesiredRegion, state: RegionState, desired: Desired) -> list[Action]:
    if state.age_s < desired.timings.step_s:
        return []
    return [_set(state, "standby", f"{region.name} is a standby, and no longer promoted", promoted=False)]


def _turn(state: RegionState) -> SetPhase:
    return _set(state, "reads", "it is declared active now", promoted=False)


def _set(state: RegionState, phase: Phase, reason: str, *, promoted: bool) -> SetPhase:
    return SetPhase(
        reason=reason,
        region=state.name,
        phase=phase,
        share=SHARES[phase],
        promoted=promoted,
        downs=state.downs,
        seen_revision=state.revision,
    )

"""Traffic: how much of its usual share a region gets, on its way out by an order and on its way back.

A region comes back by steps, reads, then a few of everything, then all, each for `step_s` while a majority sees it
well: so what is wrong with it only under load hurts few. One that is not well stays on its step, and `health` takes it
down when a majority says so. An order `evacuate` takes a region out at once, and when the order is taken back it comes
back by the same steps. A region that nobody has agreed on anything about yet begins as it was declared.
"""

from fivenines.control.actions import Action, SetPhase
from fivenines.control.desired import Desired, DesiredRegion, Order
from fivenines.control.judging import is_seen_up, is_wanted, order_for
from fivenines.control.observed import Observed, Phase, RegionState

__all__ = ["SHARES", "decide"]

SHARES: dict[Phase, float] = {
    "serving": 1.0,
    "reads": 0.05,
    "few": 0.25,
    "down": 0.0,
    "evacuated": 0.0,
    "standby": 0.0,
}
"""Of its usual traffic, by phase."""
_NEXT: dict[Phase, Phase] = {"reads": "few", "few": "serving"}


def decide(desired: Desired, observed: Observed, now: float) -> list[Action]:  # noqa: ARG001 - all controllers are alike
    """Say which regions take the next step, leave by an order, or begin."""
    actions: list[Action] = []
    for region in desired.regions:
        state = observed.states.get(region.name)
        order = order_for("evacuate", region.name, desired)
        if state is None:
            actions.append(_begin(region))
        elif not region.has_nodes:
            continue  # its phase says nothing: no traffic comes or goes
        elif order is not None and state.phase != "evacuated":
            actions.append(_evacuate(state, order))
        elif order is None and state.phase == "evacuated":
            actions += _return(region, state, desired, observed)
        elif state.phase in _NEXT and is_wanted(region, state, desired):
            actions += _step(state, desired, observed)
    return actions


def _begin(region: DesiredRegion) -> SetPhase:
    phase: Phase = "serving" if region.mode == "active" else "standby"
    return SetPhase(
        reason=f"it is declared {region.mode}, and nothing was agreed on before",
        region=region.name,
        phase=phase,
        share=SHARES[phase],
        seen_revision=0,
    )


def _evacuate(state: RegionState, order: Order) -> SetPhase:
    return SetPhase(
        reason=f"{order.by} ordered it{': ' + order.why if order.why else ''}",
        region=state.name,
        phase="evacuated",
        share=SHARES["evacuated"],
        promoted=state.promoted,
        downs=state.downs,
        seen_revision=state.revision,
        override=order.override,
    )


def _return(region: DesiredRegion, state: RegionState, desired: Desired, observed: Observed) -> list[Action]:
    if not is_seen_up(region.name, desired, observed):
        return []
    phase: Phase = "reads" if is_wanted(region, state, desired) else "standby"
    return [
        SetPhase(
            reason="the order to evacuate it was taken back, and a majority sees it up",
            region=region.name,
            phase=phase,
            share=SHARES[phase],
            promoted=state.promoted,
            downs=state.downs,
            seen_revision=state.revision,
        )
    ]


def _step(state: RegionState, desired: Desired, observed: Observed) -> list[Action]:
    if state.age_s < desired.timings.step_s or not is_seen_up(state.name, desired, observed):
        return []
    phase = _NEXT[state.phase]
    return [
        SetPhase(
            reason=f"it was well for {state.age_s:.1f} s on the step '{state.phase}'",
            region=state.name,
            phase=phase,
            share=SHARES[phase],
            promoted=state.promoted,
            downs=state.downs,
            seen_revision=state.revision,
        )
    ]

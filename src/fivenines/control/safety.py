"""Safety: what no controller may do, whatever it decided. Pure; the last gate before anything is done.

The rules, in the order in which they are asked:

1. Without the shared store nothing is changed: the platform keeps the last good configuration. People are told all the
   same.
2. A change is made from what was seen: a phase names the revision of the state that it was decided from.
3. The last region that serves stays, and so does the last node of a pool.
4. What remains carries the peak, when a region is taken out by an order or steps back (the N-1 capacity).
5. A region that went down stays so for its time, if another one serves.
6. The journal keeps a majority of members that are well, before and after a member is removed or added.
7. One region at a time, one member at a time, one workload of a region at a time.

An order that was given with `override` passes 3 and 4; its reason says so then, and is in the timeline. Since the store
takes a change of phase only if *no* region's state changed meanwhile (`fivenines.control.store`), these rules hold for
all controllers together, and not just for each one by itself.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from fivenines.control.actions import (
    Action,
    AddMember,
    DrainNode,
    RaiseIncident,
    RemoveMember,
    ReplaceWorkload,
    SetNodeWeight,
    SetPhase,
)
from fivenines.control.desired import Desired
from fivenines.control.judging import SERVES, capacity_of, down_s, is_anyone_well, is_seen_down, is_seen_up, serving
from fivenines.control.observed import Observed, Phase, RegionState, ServerSeen
from fivenines.control.pools import pool_of

__all__ = ["Refused", "hold_back"]

_FIRST: tuple[Phase, ...] = ("down", "serving", "few", "reads", "evacuated", "standby")
"""Of several changes of phase in one round the first in this order is made; the others' turn comes in the next."""


class Refused(Struct, frozen=True):
    """An action that is not done, and why."""

    action: Action
    reason: str
    is_deferred: bool = False
    """Whether it only waits for its turn."""


def hold_back(
    actions: Sequence[Action], desired: Desired, observed: Observed, now: float
) -> tuple[list[Action], list[Refused]]:
    """Return the actions that may be done now, in a good order, and those that may not, with the reasons."""
    allowed: list[Action] = []
    refused: list[Refused] = []
    for action in sorted(actions, key=_order):
        if (reason := _turn(action, allowed, observed)) is not None:
            refused.append(Refused(action, reason, is_deferred=True))
            continue
        reason = _refusal(action, allowed, desired, observed, now)
        if reason is None:
            allowed.append(action)
        elif isinstance(action, SetPhase) and action.override and reason.startswith(_OVERRIDABLE):
            why = f"{action.reason} [safety overridden: {reason.removeprefix(_OVERRIDABLE)}]"
            allowed.append(replace(action, reason=why))
        else:
            refused.append(Refused(action, reason.removeprefix(_OVERRIDABLE)))
    return allowed, refused


_OVERRIDABLE = "override: "


def _order(action: Action) -> int:
    return _FIRST.index(action.phase) if isinstance(action, SetPhase) else len(_FIRST)


def _turn(action: Action, allowed: list[Action], observed: Observed) -> str | None:
    """Say whose turn it is, if not this action's."""
    match action:
        case SetPhase() if any(isinstance(other, SetPhase) for other in allowed):
            return "one region at a time"
        case RemoveMember() | AddMember() if any(isinstance(other, RemoveMember | AddMember) for other in allowed):
            return "one member at a time"
        case ReplaceWorkload() if any(isinstance(other, ReplaceWorkload) for other in allowed):
            return "one workload of a region at a time"
        case ReplaceWorkload() | SetNodeWeight() | DrainNode() if action.workload in observed.under_way:
            return "it is being seen to"
        case _:
            return None


def _refusal(action: Action, allowed: list[Action], desired: Desired, observed: Observed, now: float) -> str | None:
    if isinstance(action, RaiseIncident):
        return None
    if not observed.has_majority:
        return "the shared store does not answer: nothing is changed without a majority"
    match action:
        case SetPhase():
            return _phase_refusal(action, desired, observed, now)
        case SetNodeWeight(percent=0) | DrainNode():
            gone = {a.workload for a in allowed if isinstance(a, DrainNode | SetNodeWeight)}
            return _pool_refusal(action.workload, gone, desired, observed)
        case RemoveMember() | AddMember():
            return _member_refusal(action, observed)
        case _:
            return None


def _phase_refusal(action: SetPhase, desired: Desired, observed: Observed, now: float) -> str | None:  # noqa: ARG001
    state = observed.states.get(action.region)
    if (state.revision if state else 0) != action.seen_revision:
        return "it was decided from a state that is not the newest"
    if state is None or action.share >= state.share:
        return _return_refusal(action, state, desired, observed) if state is not None else None
    others = [
        name
        for name in serving(desired, observed)
        if name != action.region and not is_seen_down(name, desired, observed)
    ]
    is_taken_out = action.phase not in SERVES
    if is_taken_out and not others:
        return f"{_OVERRIDABLE}it is the last region that serves"
    if action.phase == "down":
        return None
    full = [name for name in others if observed.states[name].phase == "serving"]
    if is_taken_out and not any(is_seen_up(name, desired, observed, in_a_row=1) for name in full):
        return f"{_OVERRIDABLE}no other region serves in full and is seen up: it is the last healthy one"
    return _capacity_refusal(full, desired)


def _capacity_refusal(full: list[str], desired: Desired) -> str | None:
    if desired.peak_per_s > 0:
        capacity = capacity_of(full, desired)
        if capacity < desired.peak_per_s * (1 - 1e-9):
            return (
                f"{_OVERRIDABLE}those that remain ({', '.join(full) or 'none'}) carry {capacity:g} requests/s, "
                f"and the peak is {desired.peak_per_s:g}"
            )
        return None
    need = max(1, sum(region.mode == "active" and region.has_nodes for region in desired.regions) - 1)
    if len(full) < need:
        return f"{_OVERRIDABLE}{len(full)} of {need} regions that must serve in full would remain"
    return None


def _return_refusal(action: SetPhase, state: RegionState, desired: Desired, observed: Observed) -> str | None:
    if state.phase != "down" or action.phase not in SERVES or state.age_s >= (wait := down_s(state, desired)):
        return None
    if is_anyone_well(desired, observed):
        return f"it went down {state.age_s:.1f} s ago, and stays so for {wait:g} s"
    return None


def _pool_refusal(workload: str, gone: set[str], desired: Desired, observed: Observed) -> str | None:
    report = observed.reports.get(observed.here)
    servers = report.servers if report else ()
    own = next((server for server in servers if server.name == workload), None)
    drained = {seen.name for seen in report.workloads if seen.is_drained} if report else set()
    if own is None:
        return None  # its edge does not know it: there is nothing that could be taken out
    pool = pool_of(own, desired)
    rest = [s for s in servers if s.name not in {workload, *gone, *drained} and pool_of(s, desired) == pool]
    if not any(_takes_requests(server) for server in rest):
        return f"it is the last of {pool} in {observed.here} that takes requests"
    return None


def _takes_requests(server: ServerSeen) -> bool:
    return server.is_up and server.weight > 0 and not server.is_drained


def _member_refusal(action: RemoveMember | AddMember, observed: Observed) -> str | None:
    if not observed.is_leader:
        return "only the controller that leads changes the journal's members"
    voters = [member for member in observed.members if not member.is_learner]
    well = [member for member in voters if member.is_reachable]
    if 2 * len(well) <= len(voters):
        return f"only {len(well)} of the journal's {len(voters)} members are well: no majority"
    if isinstance(action, RemoveMember):
        if any(member.id == action.id and member.is_reachable for member in observed.members):
            return f"the member {action.name} is well"
        remain = [member for member in voters if member.id != action.id]
        if 2 * len(well) <= len(remain) or len(remain) < 1:
            return f"the removal would leave {len(well)} of {len(remain)} members well: no majority"
    elif 2 * len(well) <= len(voters) + 1:
        return f"with a new member only {len(well)} of {len(voters) + 1} would be well at first: no majority"
    return None

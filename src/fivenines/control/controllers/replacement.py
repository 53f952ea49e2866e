"""Replacement: workloads of this region that their agent could not bring back are begun anew, empty.

Agents restart what dies, and that nearly always helps. What it does not help against is in the workload's own folder,
a damaged file for instance; all that it had there it can get anew, from the journal. A workload is past help when it
was not ready for `dead_workload_s` and either was started three times in vain, or stays unready while another one of
its kind in the region is ready: then the cause is its own. When all of a kind are unready the cause is elsewhere, and
replacing them would only make the way back longer. Nor is a node past help that is only catching up: as long as its
position moves it comes closer by itself, and empty it would have the whole way before it once more.

One at a time, and each only once in `replace_again_s`; after that people are told. The journal's members hold what
others count on, so they are `journal_care`'s; nobody replaces the controller that decides.
"""

from fivenines.control.actions import Action, RaiseIncident, ReplaceWorkload
from fivenines.control.desired import Desired
from fivenines.control.observed import Observed, WorkloadSeen

__all__ = ["decide"]

_UNREADY = frozenset({"starting", "unready", "backoff"})
_NEVER = frozenset({"journal", "controller"})
_FAILED_STARTS = 3


def decide(desired: Desired, observed: Observed, now: float) -> list[Action]:  # noqa: ARG001 - all controllers are alike
    """Say which workload of this region is begun anew, if one is."""
    report = observed.reports.get(observed.here)
    if report is None:
        return []
    actions: list[Action] = []
    declared = {workload.name for workload in desired.workloads}
    for seen in sorted(report.workloads, key=lambda seen: -seen.unready_s):
        if seen.role in _NEVER or (declared and seen.name not in declared):
            continue
        if (why := _past_help(seen, report.workloads, desired)) is None:
            continue
        if seen.replaced_s is not None and seen.replaced_s < desired.timings.replace_again_s:
            if seen.unready_s >= 2 * desired.timings.dead_workload_s and seen.name not in observed.under_way:
                actions.append(
                    RaiseIncident(reason=f"it was begun anew, and still: {why}", kind="workload", target=seen.name)
                )
        elif not observed.under_way:
            actions.append(ReplaceWorkload(reason=why, workload=seen.name))
    first = next((action for action in actions if isinstance(action, ReplaceWorkload)), None)
    return [action for action in actions if action is first or isinstance(action, RaiseIncident)]


def _past_help(seen: WorkloadSeen, workloads: tuple[WorkloadSeen, ...], desired: Desired) -> str | None:
    if seen.state not in _UNREADY or seen.unready_s < desired.timings.dead_workload_s:
        return None
    since = f"it has not been ready for {seen.unready_s:.0f} s{': ' + seen.reason if seen.reason else ''}"
    if seen.failed_starts >= _FAILED_STARTS:
        return f"{since}; {seen.failed_starts} starts did not help"
    peers = [o.name for o in workloads if o.role == seen.role and o.name != seen.name and o.state == "ready"]
    is_moving = seen.stalled_s is not None and seen.stalled_s < desired.timings.dead_workload_s
    if seen.state == "unready" and peers and not is_moving:
        return f"{since}, while {peers[0]} is ready"
    return None

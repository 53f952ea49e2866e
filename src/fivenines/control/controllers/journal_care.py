"""Journal care: a member of the journal's etcd that is lost is taken out, and an empty one let in in its place.

In this order, as etcd recommends: a member that was let in and has not started counts for the majority, so letting it
in first makes the majority larger just when one is missing. Never without a strict majority of the present members
being well, and not while the member's region says nothing: a region that is cut off or without power comes back with
its data, and until then nobody could start a new member there. When it does, its member gets the whole patience to
come back in, for what is told first is that all is only starting. The controller that leads changes the cluster, one
member at a time; the one of the member's own region starts it, empty, once the cluster lists it.

A majority that is gone nobody here can mend: people are told, as they alone know whether it comes back.
"""

from fivenines.control.actions import Action, AddMember, RaiseIncident, RemoveMember, ReplaceWorkload
from fivenines.control.desired import Desired, DesiredWorkload
from fivenines.control.judging import has_voice
from fivenines.control.observed import MemberSeen, Observed

__all__ = ["decide"]


def decide(desired: Desired, observed: Observed, now: float) -> list[Action]:  # noqa: ARG001 - all controllers are alike
    """Say which member goes or comes, and whether the majority is lost."""
    if not observed.has_majority:
        return _without_majority(desired, observed)
    declared = [workload for workload in desired.workloads if workload.role == "journal"]
    members = observed.members
    if not members or not declared:
        return []
    actions = _start(declared, observed)
    well = [member for member in members if member.is_reachable and not member.is_learner]
    voters = [member for member in members if not member.is_learner]
    if not observed.is_leader or 2 * len(well) <= len(voters):
        return actions
    lost = [member for member in members if _is_lost(member, desired, observed)]
    if lost:
        longest = max(lost, key=lambda member: (member.away_s, member.id))
        if 2 * len(well) > len(voters) - 1:
            why = f"{longest.region} lost its member {longest.away_s:.0f} s ago; {len(well)} of {len(voters)} are well"
            actions.append(RemoveMember(reason=why, id=longest.id, name=longest.name or longest.region))
        return actions
    for workload in declared:
        region = workload.region
        if any(member.region == region for member in members):
            continue
        if has_voice(observed.reports.get(region), desired) and 2 * len(well) > len(voters) + 1:
            actions.append(AddMember(reason=f"the journal has no member in {region}", region=region))
            break
    return actions


def _without_majority(desired: Desired, observed: Observed) -> list[Action]:
    if observed.alone_s < desired.timings.alone_s_max:
        return []
    why = f"the journal has not answered {observed.here} for {observed.alone_s:.0f} s"
    return [RaiseIncident(reason=why, kind="journal_majority", target=desired.platform)]


def _is_lost(member: MemberSeen, desired: Desired, observed: Observed) -> bool:
    # One that was let in and has not started yet gets the time that its region needs to start it.
    patience_s = desired.timings.lost_member_s + (0.0 if member.name else _START_S_MAX)
    if member.is_reachable or member.away_s < patience_s:
        return False
    report = observed.reports.get(member.region)
    if report is None or not has_voice(report, desired):
        return False
    if report.heard_s is not None and report.heard_s < patience_s:
        return False
    # Its agent has to say that it does not run well: one that is only not reached from here is not lost, and neither
    # is one of a region that tells nothing of its workloads.
    own = [seen for seen in report.workloads if seen.role == "journal"]
    return bool(own) and all(seen.state != "ready" for seen in own)


def _start(declared: list[DesiredWorkload], observed: Observed) -> list[Action]:
    """Start the member of this region that the cluster has let in."""
    report = observed.reports.get(observed.here)
    own = next((workload for workload in declared if workload.region == observed.here), None)
    waits = any(m.region == observed.here and not m.name and not m.is_reachable for m in observed.members)
    if report is None or own is None or not waits or own.name in observed.under_way:
        return []
    seen = next((seen for seen in report.workloads if seen.name == own.name), None)
    if seen is None or (seen.replaced_s is not None and seen.replaced_s < _START_S_MAX):
        return []
    return [ReplaceWorkload(reason="the journal has let a new member in here", workload=own.name)]


_START_S_MAX = 30.0
"""What an empty member gets to join before it is begun anew once more."""

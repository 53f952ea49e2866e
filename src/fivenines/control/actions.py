"""What a controller can do: values, each with its reason. The loop and its driver carry them out."""

from typing import Literal

from msgspec import Struct

from fivenines.control.observed import Phase

__all__ = [
    "Action",
    "AddMember",
    "DrainNode",
    "RaiseIncident",
    "RemoveMember",
    "ReplaceWorkload",
    "SetNodeWeight",
    "SetPhase",
    "UndrainNode",
]


class _Action(Struct, frozen=True, kw_only=True):
    reason: str
    """What was seen that asks for it, for people."""


class SetPhase(_Action, frozen=True, kw_only=True, tag="set_phase"):
    """Change what all have agreed on about a region. Done by whoever comes first; it does nothing for those after."""

    region: str
    phase: Phase
    share: float
    promoted: bool = False
    downs: tuple[float, ...] = ()
    seen_revision: int
    """Of the state that the decision was made from."""
    override: bool = False
    """Whether an operator wanted it although a safety rule speaks against it."""


class ReplaceWorkload(_Action, frozen=True, kw_only=True, tag="replace_workload"):
    """Begin a workload of this region anew, with an empty folder where it has one: its own cannot be brought back."""

    workload: str


class SetNodeWeight(_Action, frozen=True, kw_only=True, tag="set_node_weight"):
    """Change the share of a node or service of this region at its edge; 0 ejects it."""

    workload: str
    percent: int


class DrainNode(_Action, frozen=True, kw_only=True, tag="drain_node"):
    """Take a node of this region out of its edge, and let it finish what it has."""

    workload: str


class UndrainNode(_Action, frozen=True, kw_only=True, tag="undrain_node"):
    """Put it back."""

    workload: str


class RemoveMember(_Action, frozen=True, kw_only=True, tag="remove_member"):
    """Take a member out of the journal's etcd."""

    id: int
    name: str


class AddMember(_Action, frozen=True, kw_only=True, tag="add_member"):
    """Let a member of a region into the journal's etcd, in the place of the one that was lost, and start it empty."""

    region: str


class RaiseIncident(_Action, frozen=True, kw_only=True, tag="raise_incident"):
    """Tell people of something that no controller can mend."""

    kind: Literal["clock_skew", "journal_majority", "capacity", "workload", "region"]
    target: str


Action = SetPhase | ReplaceWorkload | SetNodeWeight | DrainNode | UndrainNode | RemoveMember | AddMember | RaiseIncident

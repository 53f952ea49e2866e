"""What an agent tells of its region, as values."""

from msgspec import Struct

from fivenines.control.observed import ServerSeen, WorkloadSeen
from fivenines.traffic.edge import EdgeTotals

__all__ = ["AgentSeen", "EdgeSeen"]


class AgentSeen(Struct, frozen=True, kw_only=True):
    """What an agent says of its region."""

    region: str
    pid: int
    """Of the agent: whoever kills it, kills the region."""
    workloads: list[WorkloadSeen]


class EdgeSeen(Struct, frozen=True, kw_only=True):
    """What a region's edge sees."""

    servers: list[ServerSeen]
    totals: EdgeTotals

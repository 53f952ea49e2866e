"""The load of a drill: two clients in each region, who ask DNS and go on whatever happens."""

from fivenines.drill.load.plan import Plan
from fivenines.drill.load.shapes import Steady
from fivenines.platform.topology import Topology

__all__ = ["plan_for"]


def plan_for(topology: Topology, *, rate_per_s: float, seed: int = 1, name: str = "1") -> Plan:
    """Describe the load of a drill.

    Args:
        topology: of the platform.
        rate_per_s: requests a second, of all clients together.
        seed: what they ask is drawn from it.
        name: their accounts are their own.
    """
    nearest_first = tuple(topology.nameservers_of(place.name) for place in topology.regions)
    return Plan(
        url=topology.url,
        nameservers=(*nearest_first, *nearest_first),
        shape=Steady(rate_per_s=rate_per_s),
        seed=seed,
        name=name,
    )

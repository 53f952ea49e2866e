"""The load of a drill: two clients in each region, who ask DNS and go on whatever happens."""

from pathlib import Path

from fivenines.drill.load.plan import Plan
from fivenines.drill.load.running import RunningLoad
from fivenines.drill.load.shapes import Steady
from fivenines.drill.running import RunningPlatform
from fivenines.platform.topology import Topology

__all__ = ["load_for", "plan_for"]


def plan_for(topology: Topology, *, rate_per_s: float, seed: int, name: str) -> Plan:
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


def load_for(platform: RunningPlatform, *, rate_per_s: float, seed: int, name: str, log: Path) -> RunningLoad:
    """Return the load of a drill, not begun; `log` is for what goes wrong with it."""
    return RunningLoad(plan_for(platform.topology, rate_per_s=rate_per_s, seed=seed, name=name), log)

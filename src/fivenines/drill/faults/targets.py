"""Who is hit: targets by their role, chosen by seed and by who has something to do.

    journal leader, journal follower      a region's member of the journal
    any node                              of any region
    any node of the busiest region
    region, busiest region                everything in it
    edge, nameserver, controller, historian, service
                                          of any region
    NAME                                  a workload or a region by its own name

A region is chosen by how many requests its edge gets: where no client is, nothing that happens is noticed.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Literal

from fivenines.drill.faults.errors import BadFaultError
from fivenines.drill.faults.processes import Process, tree
from fivenines.drill.running import RunningPlatform
from fivenines.platform.local.agent_client import AgentError

__all__ = ["ROLES", "Target", "choose"]

_PARTS = {
    "edge": "edge",
    "nameserver": "names",
    "controller": "controller",
    "historian": "history",
}
ROLES = (
    *("any node", "any node of the busiest region", "journal leader", "journal follower"),
    *("region", "busiest region", *_PARTS, "service", "all nodes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is hit."""

    name: str
    """Of a workload, a region, or in words."""
    region: str
    """Where; empty: everywhere."""
    kind: Literal["workload", "region", "platform"]

    async def processes(self, platform: RunningPlatform) -> list[Process]:
        """Return its processes, a parent before its children. Raises `AgentError`, `BadFaultError`."""
        if self.kind == "workload":
            pid = (await platform.workload(self.name)).pid
        else:
            pid = (await platform.agents.seen(self.region)).pid
        try:
            return [] if pid is None else await asyncio.to_thread(tree, pid)
        except ProcessLookupError:
            return []


async def choose(platform: RunningPlatform, role: str, chance: random.Random) -> Target:
    """Choose what is hit.

    Args:
        platform: that it is a part of.
        role: one of `ROLES`, or a name.
        chance: of the drill, so that a seed repeats its choices.

    Raises:
        BadFaultError: the platform has nothing of the kind.
        TimeoutError: the journal elects no leader.
        AgentError: no agent answers.
    """
    topology = platform.topology
    if role in {"any node", "any node of the busiest region"}:
        with_nodes = {place.name for place in topology.regions if place.nodes}
        region = await _region(platform, chance, is_busiest=role != "any node", among=with_nodes)
        return _workload(chance.choice(topology.region(region).nodes), region)
    if role in {"journal leader", "journal follower"}:
        leader = await asyncio.to_thread(platform.leading_region)
        followers = [place.name for place in topology.regions if place.has_journal and place.name != leader]
        if role == "journal follower" and not followers:
            raise BadFaultError("target: the journal has one member only, so there is no follower")
        region = leader if role == "journal leader" else chance.choice(followers)
        return _workload(f"{region}-journal", region)
    if role in {"region", "busiest region"}:
        region = await _region(platform, chance, is_busiest=role != "region")
        return Target(name=region, region=region, kind="region")
    if role in _PARTS:
        having = {place.name for place in topology.regions if role != "historian" or place.nodes}
        region = await _region(platform, chance, among=having)
        return _workload(f"{region}-{_PARTS[role]}", region)
    if role == "service":
        copies = [(copy.name, place.name) for place in topology.regions for copy in place.services]
        if not copies:
            raise BadFaultError("target: the platform declares no service")
        return _workload(*chance.choice(copies))
    if role == "all nodes":
        return Target(name=role, region="", kind="platform")
    return _named(platform, role)


def _named(platform: RunningPlatform, name: str) -> Target:
    for place in platform.topology.regions:
        if place.name == name:
            return Target(name=name, region=name, kind="region")
        if any(each.name == name for each in place.workloads()):
            return _workload(name, place.name)
    raise BadFaultError(f"target: {name!r} is neither a workload nor a region, and none of: {', '.join(ROLES)}")


def _workload(name: str, region: str) -> Target:
    return Target(name=name, region=region, kind="workload")


async def _region(
    platform: RunningPlatform, chance: random.Random, *, is_busiest: bool = False, among: set[str] | None = None
) -> str:
    names = [name for name in platform.regions if among is None or name in among]
    if not names:
        raise BadFaultError("target: no region has one")
    asked = await asyncio.gather(*(platform.agents.edge(name) for name in names), return_exceptions=True)
    rates = {}
    for name, seen in zip(names, asked, strict=True):
        if isinstance(seen, AgentError):  # it is down: nothing more can happen to it
            continue
        if isinstance(seen, BaseException):
            raise seen
        rates[name] = seen.totals.requests_per_s
    if not rates:
        raise BadFaultError("target: no region's edge answers")
    if is_busiest:
        return max(rates, key=lambda name: rates[name])
    return chance.choices(list(rates), [1.0 + rate**2 for rate in rates.values()])[0]

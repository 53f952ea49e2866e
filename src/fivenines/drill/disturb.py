"""What happens to a platform in `make events`: faults of the catalogue, each for a while, aimed by role.

Nothing else is done: that all becomes whole again is the platform's own work, and is waited for.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import dns.rdatatype

from fivenines.drill.faults import FAULTS, in_force
from fivenines.drill.running import RunningPlatform
from fivenines.platform.topology import PORTS

__all__ = ["CATALOGUE", "Disturbance", "Happening"]

_LOOK_S = 0.1
_HANG_S_MAX = 90.0
_DNS_S_MAX = 20.0


@dataclass(slots=True)
class Happening:
    """One disturbance, as it happened."""

    name: str
    target: str = ""
    """What it hit."""
    facts: dict[str, float] = field(default_factory=dict)
    """What was measured beside the load; seconds where a name ends in _s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Something that can happen."""

    name: str
    fault: str
    """One of `faults.FAULTS`."""
    target: str = "any node"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    hold_s: float = 4.0
    """How long it is left alone, at least."""
    is_unnamed: bool = False
    """Whether the other regions' nameservers have to leave the region out of their answers; how long that takes is
    measured."""
    is_replaced: bool = False
    """Whether its agent has to find out, and start another process, before it ends."""

    @property
    def takes_netns(self) -> bool:
        """Whether regions must be in networks of their own."""
        return FAULTS[self.fault].takes_netns

    @asynccontextmanager
    async def happen(self, platform: RunningPlatform, chance: random.Random, this: Happening) -> AsyncIterator[None]:
        """Have it begin on entering, and end on leaving. Raises `FaultError`."""
        async with in_force(self.fault, platform, target=self.target, chance=chance, **self.parameters) as fault:
            this.target = fault.target
            if self.is_unnamed:
                await _until_unnamed(platform, this)
            hung = (await platform.workload(fault.target)).pid if self.is_replaced else None
            yield
            if self.is_replaced:
                await _until_replaced(platform, fault.target, hung)


async def _until_replaced(platform: RunningPlatform, workload: str, hung: int | None) -> None:
    """Wait until an agent has found out that a process hangs, which looks as ready as ever until then."""
    until = time.monotonic() + _HANG_S_MAX
    while (await platform.workload(workload)).pid in {None, hung} and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)


async def _until_unnamed(platform: RunningPlatform, this: Happening) -> None:
    """Measure how long the other regions' nameservers still answer with a region."""
    began = time.monotonic()
    host = platform.topology.region(this.target).host
    question = dns.message.make_query(f"api.{platform.topology.spec.zone}", dns.rdatatype.A)
    others = [place.host for place in platform.topology.regions if place.name != this.target]
    while others and time.monotonic() < began + _DNS_S_MAX:
        try:
            answer = await dns.asyncquery.udp(question, others[0], port=PORTS.nameserver, timeout=1.0)
            if not any(host in str(each) for each in answer.answer):
                others.pop(0)
                continue
        except (OSError, dns.exception.DNSException):
            pass
        await asyncio.sleep(_LOOK_S)
    this.facts["named_still_s"] = round(time.monotonic() - began, 2)


CATALOGUE: tuple[Disturbance, ...] = (
    Disturbance(name="node killed", fault="kill"),
    Disturbance(name="node hangs", fault="stop", is_replaced=True),
    Disturbance(name="node slow", fault="slow_wire"),
    Disturbance(name="edge killed", fault="kill", target="edge"),
    Disturbance(name="nameserver killed", fault="kill", target="nameserver"),
    Disturbance(name="controller killed", fault="kill", target="controller"),
    Disturbance(name="historian killed", fault="kill", target="historian"),
    Disturbance(name="journal leader killed", fault="kill", target="journal leader"),
    Disturbance(name="journal follower killed", fault="kill", target="journal follower"),
    Disturbance(name="rolling restart of all nodes", fault="restart", target="all nodes"),
    Disturbance(name="region killed", fault="kill", target="region", is_unnamed=True),
    Disturbance(name="region cut off from everybody", fault="partition", target="region", is_unnamed=True),
    Disturbance(
        name="region cut off from the others",
        fault="partition",
        target="region",
        parameters={"way": "regions"},
        is_unnamed=True,
    ),
    Disturbance(name="region cut off from clients", fault="partition", target="region", parameters={"way": "clients"}),
    Disturbance(
        name="region's answers are lost",
        fault="partition",
        target="region",
        parameters={"way": "one_way"},
        is_unnamed=True,
    ),
)

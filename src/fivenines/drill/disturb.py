"""What can happen to a platform, each as a thing with a beginning and an end, aimed by role.

Each disturbance is begun, left alone for a while, and ended where somebody from outside has to (a wire that is mended).
Nothing else is done: that all becomes whole again is the platform's own work, and is waited for.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import dns.asyncquery
import dns.exception
import dns.message
import dns.rdatatype

from fivenines.drill.running import RunningPlatform, SlowWire
from fivenines.platform.local.isolation import CLIENTS
from fivenines.platform.topology import PORTS

__all__ = ["CATALOGUE", "Disturbance", "Happening"]

_SLOW_S = 0.5
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


Doing = Callable[[RunningPlatform, random.Random, Happening], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Something that can happen.

    `happen` is a context: it begins on entering, and ends on leaving.
    """

    name: str
    happen: Doing
    hold_s: float = 4.0
    """How long it is left alone, at least."""
    takes_netns: bool = False
    """Whether regions must be in networks of their own."""


def _killing(pick: Callable[[RunningPlatform, random.Random], Awaitable[str]]) -> Doing:
    @asynccontextmanager
    async def happen(platform: RunningPlatform, chance: random.Random, this: Happening) -> AsyncIterator[None]:
        this.target = await pick(platform, chance)
        await platform.signal(this.target, signal.SIGKILL)
        yield

    return happen


async def _any_region(platform: RunningPlatform, chance: random.Random) -> str:
    """Choose a region by how much it has to do: where no client is, nothing that happens is noticed."""
    seen = await asyncio.gather(*(platform.agents.edge(region) for region in platform.regions))
    return chance.choices(platform.regions, [1.0 + each.totals.requests_per_s**2 for each in seen])[0]


async def _any_node(platform: RunningPlatform, chance: random.Random) -> str:
    return chance.choice(platform.topology.region(await _any_region(platform, chance)).nodes)


def _part(part: str) -> Callable[[RunningPlatform, random.Random], Awaitable[str]]:
    async def pick(platform: RunningPlatform, chance: random.Random) -> str:
        return f"{await _any_region(platform, chance)}-{part}"

    return pick


async def _journal_leader(platform: RunningPlatform, _chance: random.Random) -> str:
    return f"{await asyncio.to_thread(platform.leading_region)}-journal"


async def _journal_follower(platform: RunningPlatform, chance: random.Random) -> str:
    leader = await asyncio.to_thread(platform.leading_region)
    return f"{chance.choice([region for region in platform.regions if region != leader])}-journal"


@asynccontextmanager
async def _node_hangs(platform: RunningPlatform, chance: random.Random, this: Happening) -> AsyncIterator[None]:
    this.target = await _any_node(platform, chance)
    hung = await platform.signal(this.target, signal.SIGSTOP)
    yield
    # Nobody wakes it: its agent must find out. Until then it looks as ready as ever.
    until = time.monotonic() + _HANG_S_MAX
    while (await platform.workload(this.target)).pid in {None, hung} and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def _node_slow(platform: RunningPlatform, chance: random.Random, this: Happening) -> AsyncIterator[None]:
    this.target = await _any_node(platform, chance)
    place = next(each for each in platform.topology.regions if this.target in each.nodes)
    port = place.node_port(this.target)
    edge = platform.edge(place.name)
    outside = platform.network().outside or place.host
    async with SlowWire(outside, (place.host, port), delay_s=_SLOW_S) as wire:
        await edge.set_address(this.target, outside, wire.port)
        try:
            yield
        finally:
            await edge.set_address(this.target, place.host, port)
            await asyncio.sleep(2 * _SLOW_S)  # what is on the wire arrives yet


@asynccontextmanager
async def _region_killed(platform: RunningPlatform, chance: random.Random, this: Happening) -> AsyncIterator[None]:
    this.target = await _any_region(platform, chance)
    await platform.kill_region(this.target)
    await _until_unnamed(platform, this)
    yield  # `fivenines up` brings it back


def _losing(*, from_clients: bool, from_regions: bool, one_way: bool = False) -> Doing:
    @asynccontextmanager
    async def happen(platform: RunningPlatform, chance: random.Random, this: Happening) -> AsyncIterator[None]:
        this.target = await _any_region(platform, chance)
        network = platform.network()
        others = [region for region in platform.regions if region != this.target] if from_regions else []
        others += [CLIENTS] if from_clients else []
        ways = [(this.target, other) for other in others]
        ways += [] if one_way else [(other, this.target) for other in others]
        try:
            await asyncio.to_thread(network.lose, *ways)
            if from_regions:
                await _until_unnamed(platform, this)
            yield
        finally:
            await asyncio.to_thread(network.heal)

    return happen


@asynccontextmanager
async def _rolling_restart(platform: RunningPlatform, _chance: random.Random, this: Happening) -> AsyncIterator[None]:
    this.target = "all nodes, one after the other"
    for place in platform.topology.regions:
        for node in place.nodes:
            await platform.agents.change(place.name, node, "restart")
    yield


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
    Disturbance(name="node killed", happen=_killing(_any_node)),
    Disturbance(name="node hangs", happen=_node_hangs),
    Disturbance(name="node slow", happen=_node_slow),
    Disturbance(name="edge killed", happen=_killing(_part("edge"))),
    Disturbance(name="nameserver killed", happen=_killing(_part("names"))),
    Disturbance(name="controller killed", happen=_killing(_part("controller"))),
    Disturbance(name="historian killed", happen=_killing(_part("history"))),
    Disturbance(name="journal leader killed", happen=_killing(_journal_leader)),
    Disturbance(name="journal follower killed", happen=_killing(_journal_follower)),
    Disturbance(name="rolling restart of all nodes", happen=_rolling_restart),
    Disturbance(name="region killed", happen=_region_killed),
    Disturbance(
        name="region cut off from everybody",
        happen=_losing(from_clients=True, from_regions=True),
        takes_netns=True,
    ),
    Disturbance(
        name="region cut off from the others",
        happen=_losing(from_clients=False, from_regions=True),
        takes_netns=True,
    ),
    Disturbance(
        name="region cut off from clients",
        happen=_losing(from_clients=True, from_regions=False),
        takes_netns=True,
    ),
    Disturbance(
        name="region's answers are lost",
        happen=_losing(from_clients=True, from_regions=True, one_way=True),
        takes_netns=True,
    ),
)

"""`in_force`: one fault of the catalogue, on a platform, for as long as a block of code runs."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fivenines.drill.faults.catalogue import FAULTS
from fivenines.drill.faults.errors import BadFaultError, FaultImpossibleError
from fivenines.drill.faults.force import LIMIT_S, InForce, begun
from fivenines.drill.faults.kinds import Happening, Value
from fivenines.drill.faults.targets import choose
from fivenines.drill.running import RunningPlatform
from fivenines.platform.local.agent_client import AgentError
from fivenines.traffic.edge import EdgeUnreachableError, RefusedError

__all__ = ["in_force"]


@asynccontextmanager
async def in_force(
    name: str,
    platform: RunningPlatform,
    *,
    target: str | None = None,
    chance: random.Random,
    limit_s: float = LIMIT_S,
    **parameters: Value,
) -> AsyncIterator[InForce]:
    """Have a fault in force. It has begun on entering; leaving ends it, and checks that it is really gone.

    Faults compose: begin as many as you like, in any order, and end them in any order.

    Args:
        name: one of `FAULTS`.
        platform: a running one.
        target: a role of `targets.ROLES`, or the name of a workload or region; None: the fault's own.
        chance: chooses among those that have the role.
        limit_s: it is undone after so long, whoever still wants it.
        parameters: of the fault.

    Raises:
        BadFaultError: nothing is called so, or a target or parameter makes no sense; nothing was done.
        FaultImpossibleError: it cannot be done here, or not within `limit_s`; all of it is undone.
        FaultStaysError: on leaving: it was ended and is not gone.
        FaultTimedOutError: on leaving: its time was over before, and it was undone then.
    """
    kind = FAULTS.get(name)
    if kind is None:
        raise BadFaultError(f"no fault is called {name!r}; there are: {', '.join(FAULTS)}")
    read = kind.read(parameters)
    if limit_s <= 0:
        raise BadFaultError(f"{name}: limit_s: more than 0 seconds are wanted, not {limit_s:g}")
    if (reason := await asyncio.to_thread(kind.why_not, platform)) is not None:
        raise FaultImpossibleError(name, reason)
    try:
        hit = await choose(platform, target or kind.target, chance)
    except (AgentError, TimeoutError) as error:
        raise FaultImpossibleError(name, f"no target can be chosen: {error}") from error
    async with begun(platform.folder, name, hit.name, limit_s=limit_s) as fault:
        happening = Happening(fault=fault, platform=platform, target=hit, chance=chance, parameters=read)
        try:
            await kind.begin(happening)
        except (AgentError, EdgeUnreachableError, RefusedError, OSError) as error:
            raise FaultImpossibleError(name, str(error)) from error
        if fault.is_over and fault.lasts:  # the watchdog has undone what there was by then, and not what came after
            raise FaultImpossibleError(name, f"its time, {limit_s:g} s, was over before it had begun")
        yield fault

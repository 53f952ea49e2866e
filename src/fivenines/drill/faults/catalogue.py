"""All faults by their names, each with what it is, what it takes, and how it begins on a platform.

The modules beside do the work, on processes, addresses and files; here is chosen which ones those are.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Mapping

from fivenines.drill.faults import cutting, starving
from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.kinds import FaultKind, Happening, Parameter
from fivenines.drill.faults.undoing import Resume
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.local.isolation import why_not as why_no_netns

__all__ = ["FAULTS"]

_LOOK_S = 0.1


async def _kill(on: Happening) -> None:
    processes = await on.target.processes(on.platform)
    if not processes:
        raise FaultImpossibleError("kill", f"{on.target.name} does not run")
    processes[0].send(signal.SIGKILL)  # what it has started dies with it
    on.fault.facts["pid"] = processes[0].pid


async def _keep_away(on: Happening) -> None:
    """Kill a workload again and again for as long as it is in force."""

    async def keep_killing() -> None:
        while True:
            with contextlib.suppress(AgentError):
                for each in (await on.target.processes(on.platform))[:1]:
                    on.fault.facts["kills"] += each.send(signal.SIGKILL)
            await asyncio.sleep(_LOOK_S)

    on.fault.facts["kills"] = 0.0
    killing = asyncio.create_task(keep_killing(), name=f"keeping {on.target.name} away")

    async def stop() -> None:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)

    on.fault.stack.push_async_callback(stop)


async def _stop(on: Happening) -> None:
    processes = await on.target.processes(on.platform)
    if not processes:
        raise FaultImpossibleError("stop", f"{on.target.name} does not run")
    await on.fault.promise(*(Resume(each) for each in processes))
    for each in processes:
        each.send(signal.SIGSTOP)
    on.fault.facts["processes"] = len(processes)


async def _slow(on: Happening) -> None:
    processes = await on.target.processes(on.platform)
    if not processes:
        raise FaultImpossibleError("slow", f"{on.target.name} does not run")
    how = await starving.starve(on.fault, processes, share=on.parameters["share"], by=on.parameters["by"])
    on.fault.facts |= {"processes": len(processes), "by_group": how == "group"}


async def _partition(on: Happening) -> None:
    await cutting.partition(on.fault, on.platform.topology, on.target.region, on.parameters["way"])


async def _restart(on: Happening) -> None:
    """Restart nodes one after the other."""
    began = time.monotonic()
    for place in on.platform.topology.regions:
        for node in place.nodes:
            if on.target.kind == "platform" or on.target.name in {node, place.name}:
                await on.platform.agents.change(place.name, node, "restart")
    on.fault.facts["took_s"] = round(time.monotonic() - began, 2)


def _linux() -> str | None:
    return None if sys.platform == "linux" else "it takes Linux's /proc and signals"


_KINDS = (
    FaultKind(
        name="kill",
        summary="a process, or with its agent a whole region, ends at once (SIGKILL)",
        target="any node",
        begin=_kill,
        parameters={},
        needs="",
        undone="nothing to undo: its agent begins it again",
        possible=_linux,
    ),
    FaultKind(
        name="stop",
        summary="a process, or a whole region, stands still (SIGSTOP): it takes connections and answers nothing",
        target="any node",
        begin=_stop,
        parameters={},
        needs="",
        undone="SIGCONT; a process that its agent has replaced meanwhile is gone with it",
        possible=_linux,
    ),
    FaultKind(
        name="slow",
        summary="a process, or a whole region, gets too little of the processor",
        target="any node",
        begin=_slow,
        parameters={
            "share": Parameter(default=0.1, low=0.01, high=0.95, meaning="of one processor's time, for all of it"),
            "by": Parameter(default="best", choices=("best", "group", "duty"), meaning="control group, or stop and go"),
        },
        needs="better as root with control groups for the processor, version 1 or 2",
        undone="its processes go back to the group that they came from, and the group is taken away; or SIGCONT",
        possible=_linux,
    ),
    FaultKind(
        name="partition",
        summary="what is sent between a region and others is lost without a word",
        target="region",
        begin=_partition,
        parameters={
            "way": Parameter(default="whole", choices=cutting.WAYS, meaning="from whom, and in which direction")
        },
        needs="root, and a platform with '--isolation netns'",
        undone="the neighbour entries, or rules of routing, that lead packets to nobody are taken away",
        possible=why_no_netns,
        takes_netns=True,
    ),
    FaultKind(
        name="edge_loss",
        summary="an edge is killed as often as it comes back",
        target="edge",
        begin=_keep_away,
        parameters={},
        needs="",
        undone="nobody kills it any more; its agent begins it again within ten seconds",
        possible=_linux,
    ),
    FaultKind(
        name="dns_loss",
        summary="a nameserver is killed as often as it comes back",
        target="nameserver",
        begin=_keep_away,
        parameters={},
        needs="",
        undone="nobody kills it any more; its agent begins it again within ten seconds",
        possible=_linux,
    ),
    FaultKind(
        name="restart",
        summary="nodes are restarted, one after the other, as a rollout does",
        target="all nodes",
        begin=_restart,
        parameters={},
        needs="",
        undone="nothing to undo",
    ),
)
FAULTS: Mapping[str, FaultKind] = {kind.name: kind for kind in _KINDS}
"""All faults."""

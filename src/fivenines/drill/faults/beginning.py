"""How each fault begins on a platform: here is chosen which processes, addresses and files it is about.

The modules beside do the work, and know nothing of platforms.
"""

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path

import msgspec

from fivenines.drill.faults import certificates, clocks, cutting, disks, limits, poison, rotting, starving, stopping
from fivenines.drill.faults.burst import Counted
from fivenines.drill.faults.errors import BadFaultError, FaultImpossibleError
from fivenines.drill.faults.kinds import Happening
from fivenines.drill.faults.processes import Process
from fivenines.drill.faults.undoing import PointServer, PutFileBack
from fivenines.drill.faults.wire import SlowWire, Weather
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.local.edging import socket_file
from fivenines.platform.local.programs import archive_of, env_file
from fivenines.platform.topology import PORTS

__all__ = [
    "clock_drift",
    "clock_jump",
    "corrupt_file",
    "disk_full",
    "expired_certificate",
    "fd_exhaustion",
    "io_errors",
    "keep_away",
    "kill",
    "memory_pressure",
    "overload",
    "partition",
    "poisoned_request",
    "restart",
    "slow",
    "slow_fsync",
    "slow_wire",
    "stop",
]

_LOOK_S = 0.1
_RATE_PER_S_MIN = 200.0
"""What is overload for a platform that has nothing to do."""


async def kill(on: Happening) -> None:
    """Kill a process, or a region by its agent."""
    processes = await _processes(on)
    processes[0].send(signal.SIGKILL)  # what it has started dies with it
    on.fault.facts["pid"] = processes[0].pid


async def keep_away(on: Happening) -> None:
    """Kill a workload again and again for as long as it is in force."""

    async def kill_again() -> None:
        with contextlib.suppress(AgentError):
            for each in (await on.target.processes(on.platform))[:1]:
                if not on.fault.is_over:  # the agent may have taken long to answer
                    on.fault.facts["kills"] += each.send(signal.SIGKILL)

    on.fault.facts["kills"] = 0.0
    on.fault.keep_doing(kill_again, every_s=_LOOK_S, then=lambda: None)


async def stop(on: Happening) -> None:
    """Have it stand still."""
    processes = await _processes(on)
    await stopping.stop(on.fault, processes)
    on.fault.facts["processes"] = len(processes)


async def slow(on: Happening) -> None:
    """Starve it."""
    processes = await _processes(on)
    how = await starving.starve(on.fault, processes, share=on.parameters["share"], by=on.parameters["by"])
    on.fault.facts |= {"processes": len(processes), "by_group": how == "group"}


async def partition(on: Happening) -> None:
    """Cut a region off."""
    await cutting.partition(on.fault, on.platform.topology, on.target.region, on.parameters["way"])


async def restart(on: Happening) -> None:
    """Restart nodes one after the other."""
    began = time.monotonic()
    for place in on.platform.topology.regions:
        for node in place.nodes:
            if on.target.kind == "platform" or on.target.name in {node, place.name}:
                await on.platform.agents.change(place.name, node, "restart")
    on.fault.facts["took_s"] = round(time.monotonic() - began, 2)


async def slow_wire(on: Happening) -> None:
    """Put a bad stretch of wire between an edge and its nodes."""
    place = on.platform.topology.region(on.target.region)
    nodes = [node for node in place.nodes if on.target.name in {node, place.name}]
    if not nodes:
        raise BadFaultError(f"slow_wire: target: {on.target.name} is neither a node nor a region")
    weather = Weather(
        delay_s=on.parameters["delay_s"],
        jitter_s=on.parameters["jitter_s"],
        bytes_per_s=on.parameters["bytes_per_s"],
        cut=on.parameters["cut"],
        silent=on.parameters["silent"],
    )
    edge, admin = on.platform.edge(place.name), str(socket_file(on.platform.topology, place.name))
    outside = on.platform.network().outside or place.host
    on.fault.facts["connections"] = 0.0

    for node in nodes:
        wire = SlowWire(outside, (place.host, place.node_port(node)), weather=weather, chance=on.chance)
        await on.fault.stack.enter_async_context(wire)

        async def let_arrive(wire: SlowWire = wire) -> None:
            await asyncio.sleep(2 * (weather.delay_s + weather.jitter_s))  # what is on the wire arrives yet
            on.fault.facts["connections"] += wire.connections
            on.fault.facts["cut"] = on.fault.facts.get("cut", 0.0) + wire.cut

        on.fault.stack.push_async_callback(let_arrive)
        await on.fault.promise(PointServer(admin, node, place.host, place.node_port(node)))
        await edge.set_address(node, outside, wire.port)


async def slow_fsync(on: Happening) -> None:
    """Hold each sync back."""
    await disks.slow_fsync(on.fault, await _processes(on), delay_s=on.parameters["delay_s"])


async def io_errors(on: Happening) -> None:
    """Have calls about data fail."""
    calls, every = on.parameters["calls"], on.parameters["every"]
    await disks.io_errors(on.fault, await _processes(on), _folder(on), calls=calls, every=every)


async def disk_full(on: Happening) -> None:
    """Have the disk be full."""
    await disks.disk_full(on.fault, await _processes(on), _folder(on))


async def fd_exhaustion(on: Happening) -> None:
    """Let a process open next to nothing."""
    on.fault.facts["descriptors"] = 0.0
    for each in await _processes(on):
        on.fault.facts["descriptors"] += await limits.few_descriptors(on.fault, each, spare=on.parameters["spare"])


async def memory_pressure(on: Happening) -> None:
    """Let a process have next to no more memory."""
    spare_bytes = int(on.parameters["spare_mib"] * 1024 * 1024)
    on.fault.facts["mib"] = 0.0
    for each in await _processes(on):
        has = await limits.little_memory(on.fault, each, spare_bytes=spare_bytes)
        on.fault.facts["mib"] += has // (1024 * 1024)


async def clock_jump(on: Happening) -> None:
    """Have the clock of a process show another time."""
    clock = await _clock(on)
    await clock.jump(on.parameters["offset_s"])
    on.fault.facts["clock_off_s"] = on.parameters["offset_s"]


async def clock_drift(on: Happening) -> None:
    """Have the clock of a process go too fast or too slow."""
    (await _clock(on)).drift(on.parameters["seconds_per_s"])


async def corrupt_file(on: Happening) -> None:
    """Turn a bit round in the newest snapshot of a node, or the newest segment of a region's archive."""
    topology, region = on.platform.topology, on.target.region
    if on.parameters["what"] == "segment":
        folder, patterns = Path(archive_of(topology, region)), ("epochs/*/segments/*",)
        if "://" in archive_of(topology, region):
            raise FaultImpossibleError(on.fault.name, f"the archive of {region} is no folder of this machine")
    else:
        folder, patterns = _folder(on), ("snapshot-*.snap",)
    until = time.monotonic() + on.parameters["wait_s"]
    while (path := rotting.newest(folder, patterns)) is None:
        if time.monotonic() > until:
            raise FaultImpossibleError(on.fault.name, f"there is no {on.parameters['what']} in {folder} yet")
        await asyncio.sleep(_LOOK_S)
    on.fault.facts |= {"offset": await rotting.flip_byte(on.fault, path, on.chance), "bytes": path.stat().st_size}


async def expired_certificate(on: Happening) -> None:
    """Have the TLS front of a region show an expired certificate."""
    front = certificates.front_of(on.platform, on.target.region)
    try:
        await certificates.is_trusted(front)
    except OSError:  # nobody has started fronts: this fault has its own
        await on.fault.stack.enter_async_context(certificates.TlsFronts(on.platform))
    on.fault.facts["trusted_before"] = await certificates.is_trusted(front)
    await certificates.expire(on.fault, front)
    on.fault.facts["trusted_during"] = await certificates.is_trusted(front)


async def overload(on: Happening) -> None:
    """Ask one edge for many times of what the platform has to do."""
    rate_per_s = on.parameters["rate_per_s"]
    if not rate_per_s:
        now = 0.0
        for region in on.platform.regions:
            with contextlib.suppress(AgentError):
                now += (await on.platform.agents.edge(region)).totals.requests_per_s
        rate_per_s = max(_RATE_PER_S_MIN, now * on.parameters["times"])
    topology = on.platform.topology
    # Clients of their own, where addresses are to be had: a limit for each client shall not hit those of the drill.
    source = f"127.{topology.network}.0.9" if topology.isolation == "loopback" else ""
    file = on.fault.folder / f"{on.fault.id}.counted"
    await on.fault.promise(PutFileBack(str(file), None))
    on.fault.facts["rate_per_s"] = rate_per_s

    def read() -> None:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            counted = msgspec.json.decode(file.read_bytes(), type=Counted)
            on.fault.facts |= {name: float(value) for name, value in msgspec.structs.asdict(counted).items()}

    host = topology.region(on.target.region).host
    words = (str(file), host, str(PORTS.edge), str(rate_per_s), source)
    helper = await on.fault.helper(sys.executable, "-m", "fivenines.drill.faults.burst", *words)

    async def stop() -> None:
        helper.send(signal.SIGTERM)
        until = time.monotonic() + 5
        while helper.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_LOOK_S)
        read()

    on.fault.before_end(stop)


async def poisoned_request(on: Happening) -> None:
    """Send all of the catalogue of hostile requests to an edge, or to a node itself."""
    place = on.platform.topology.region(on.target.region)
    port = place.node_port(on.target.name) if on.target.name in place.nodes else PORTS.edge
    before = await _node_pids(on)
    came: dict[str, str] = {}
    for _ in range(on.parameters["times"]):
        came |= await poison.send_all(place.host, port)
    after = await _node_pids(on)
    lost = sum(1 for node, pid in before.items() if after.get(node) != pid)
    on.fault.facts |= {**poison.count(came), "nodes_lost": float(lost)}


async def _processes(on: Happening) -> list[Process]:
    processes = await on.target.processes(on.platform)
    if not processes:
        raise FaultImpossibleError(on.fault.name, f"{on.target.name} does not run")
    return processes


def _folder(on: Happening) -> Path:
    """Where a workload has its data."""
    place, name = on.platform.topology.region(on.target.region), on.target.name
    for ending in ("journal", "history"):
        if name == f"{place.name}-{ending}":
            return on.platform.topology.path / place.name / ending
    if name in place.nodes:
        return on.platform.topology.path / place.name / name
    raise BadFaultError(f"{on.fault.name}: target: {name} keeps no data; nodes, historians and the journal do")


async def _clock(on: Happening) -> clocks.Clock:
    """Restart a workload with a clock that can be changed."""
    if on.target.kind != "workload":
        raise BadFaultError(f"{on.fault.name}: target: {on.target.name} is no workload")
    if not (await _processes(on))[0].program().startswith("python"):
        raise FaultImpossibleError(on.fault.name, f"{on.target.name} is no Python process, and has its clock elsewhere")
    topology, region, name = on.platform.topology, on.target.region, on.target.name
    clock = clocks.Clock(on.fault, topology.path / region / "env", name)
    await clock.prepare(env_file(topology, region, name))
    await on.platform.agents.change(region, name, "restart")
    if "FAKETIME_TIMESTAMP_FILE" not in (await _processes(on))[0].environment():
        raise FaultImpossibleError(on.fault.name, f"{name} was started without libfaketime")
    return clock


async def _node_pids(on: Happening) -> dict[str, int | None]:
    seen = await on.platform.agents.seen(on.target.region)
    return {each.name: each.pid for each in seen.workloads if each.role == "node"}

"""A whole platform that runs beside a drill: `fivenines up` as a process, and what a drill may do to its parts.

Parts are found as anybody would find them, from their agents, and hit from outside (see `faults`). Whatever was begun
ends with `RunningPlatform.discard`, which leaves no process behind.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fivenines.control.observed import WorkloadSeen
from fivenines.drill.disk import OnDisk, replay_frames
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings
from fivenines.journal.etcd.members import member_status
from fivenines.platform.local.agent_client import AgentError, Agents
from fivenines.platform.local.dying import dying_with_us
from fivenines.platform.local.edging import socket_file
from fivenines.platform.local.isolation import Network
from fivenines.platform.local.up import is_whole, look
from fivenines.platform.topology import PORTS, Topology, read_topology
from fivenines.traffic.edge import Runtime

__all__ = ["PlatformFailedError", "RunningPlatform"]

_START_S_MAX = 180.0
_LOOK_S = 0.1
_LOG_TAIL_BYTES = 3_000


class PlatformFailedError(Exception):
    """The platform did not come up, become whole again, or stop; the sentence says what it said last."""


class RunningPlatform:
    """A platform on this machine.

    Args:
        folder: where its data and logs go.
        declared: its `platform.yaml`; None for the one that is built in.
        network: see `fivenines up --network`.
        options: further options of `fivenines up`.
    """

    def __init__(
        self, folder: Path, *, declared: Path | None = None, network: int = 0, options: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self._arguments = [*([str(declared)] if declared else []), "--folder", str(folder), "--network", str(network)]
        self._arguments += options
        self._process: Process | None = None
        self._agents: Agents | None = None
        self._topology: Topology | None = None
        self.ready_s = 0.0

    @property
    def topology(self) -> Topology:
        """Where everything is."""
        assert self._topology is not None, "it was not started"
        return self._topology

    @property
    def agents(self) -> Agents:
        """Its agents."""
        assert self._agents is not None, "it was not started"
        return self._agents

    @property
    def regions(self) -> list[str]:
        """The names of its regions."""
        return [place.name for place in self.topology.regions]

    @property
    def is_running(self) -> bool:
        """Whether `fivenines up` runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process id of `fivenines up`."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and return when all of it is ready. Raises `PlatformFailedError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "up.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*dying_with_us(), sys.executable, "-m", "fivenines", "up", "--json", *self._arguments),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_START_S_MAX):
                said = msgspec.json.decode(await self._process.stdout.readline())
        except (TimeoutError, msgspec.MsgspecError):
            await self.discard()
            raise self._failed("did not come up") from None
        self.ready_s = float(said["ready_s"])
        self._topology = read_topology(self.folder)
        self._agents = Agents(self._topology)

    async def stop(self) -> None:
        """Stop it as Ctrl-C does, and return when all of it has ended. Raises `PlatformFailedError`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(90):
                status = await self._process.wait()
        except TimeoutError:
            await self.discard()
            raise self._failed("did not stop") from None
        await self._close()
        if status != 0:
            raise self._failed(f"ended with status {status} when it was asked to stop")

    async def discard(self) -> None:
        """Leave no process behind, and no network: a platform that a drill has killed could not take its own away."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(30):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._close()
        if self._topology is not None:
            with contextlib.suppress(OSError):  # the next platform of that number takes it away
                await asyncio.to_thread(self.network().remove)

    async def workload(self, name: str) -> WorkloadSeen:
        """Return how a workload is. Raises `AgentError`, KeyError."""
        for place in self.topology.regions:
            if any(each.name == name for each in place.workloads()):
                for seen in (await self.agents.seen(place.name)).workloads:
                    if seen.name == name:
                        return seen
        raise KeyError(name)

    async def signal(self, workload: str, number: signal.Signals) -> int:
        """Send a workload's process a signal; returns its process id."""
        pid = (await self.workload(workload)).pid
        assert pid is not None, f"{workload} does not run"
        os.kill(pid, number)
        return pid

    async def kill_region(self, region: str) -> None:
        """End everything in a region at once, by ending its agent, with which all of it dies."""
        os.kill((await self.agents.seen(region)).pid, signal.SIGKILL)

    def leading_region(self) -> str:
        """Return the region whose member leads the journal. Blocks; raises TimeoutError."""
        until = time.monotonic() + 10.0
        while time.monotonic() < until:
            for place in self.topology.regions:
                if not place.has_journal:
                    continue
                status = member_status(f"{place.host}:{PORTS.journal}")
                if status is not None and status.leader and status.leader == status.header.member_id:
                    return place.name
            time.sleep(0.05)
        raise TimeoutError("the members elect no leader")

    def network(self) -> Network:
        """The network between regions, to lose things in."""
        return Network(self.topology)

    def edge(self, region: str) -> Runtime:
        """The runtime API of a region's edge."""
        return Runtime(socket_file(self.topology, region))

    async def wait_whole(self, seconds: float = 90.0) -> float:
        """Wait until everything runs and every region serves; returns how long that took.

        Raises:
            PlatformFailedError: it is not by then.
        """
        began = time.monotonic()
        why = ""
        while time.monotonic() < began + seconds:
            seen = await look(self.topology, self.agents)
            if is_whole(self.topology, seen):
                phases = await self.phases()
                if all(phases.get(region) == "serving" for region in self.regions):
                    return time.monotonic() - began
                why = f"phases: {phases}"
            else:
                why = "; ".join(
                    f"{each.name} is {each.state} ({each.reason})"
                    for region in seen.values()
                    for each in region.values()
                    if each.state != "ready"
                )
            await asyncio.sleep(_LOOK_S)
        raise self._failed(f"is not whole after {seconds:g} s: {why}")

    async def phases(self) -> dict[str, str]:
        """Return the phase of each region, as any controller that answers tells."""
        for region in self.regions:
            with contextlib.suppress(AgentError):
                return {name: state.phase for name, state in (await self.agents.view(region)).states.items()}
        return {}

    async def read_journal(self) -> OnDisk:
        """Work out what the journal comes to, from its first frame on. Raises `JournalError`."""
        settings = EtcdJournalSettings(endpoints=self.topology.journal_endpoints(self.regions[0]))
        journal = await EtcdJournal.open(settings)
        try:
            return await asyncio.to_thread(lambda: replay_frames(journal.read(1)))
        finally:
            await journal.close()

    async def _close(self) -> None:
        if self._agents is not None:
            await self._agents.close()
            self._agents = None

    def _failed(self, what: str) -> PlatformFailedError:
        told = []
        for name in ("up.log", "agents.log"):
            path = self.folder / name
            if path.exists():
                told.append(path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip())
        return PlatformFailedError(f"the platform {what}. It logged last:\n" + "\n".join(filter(None, told)))

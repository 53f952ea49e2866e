"""A ledger on a whole platform: `fivenines up` beside the drill, asked through DNS, hit where it hurts.

The kills go round: a node, the member that leads the journal, a region with all that is in it. Nobody starts anything
again but the platform itself; a drill only waits until it is whole.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from rich.console import RenderableType

from fivenines.drill.members import EtcdMissingError, etcd_program
from fivenines.drill.place import Place, ReadBack, Way
from fivenines.drill.running import PlatformFailedError, RunningPlatform
from fivenines.drill.supervise import LedgerFailedError, Ready
from fivenines.drill.witness import Witness
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.local.picture import Status, look_at, status_picture
from fivenines.platform.topology import PORTS

__all__ = ["OnPlatform"]

_LOOK_S = 0.2
_WATCH_S = 0.5
_WAIT_S_MAX = 3.0


def _position(url: str) -> int:
    with Witness(url) as witness:
        return witness.platform(0)[0]


class OnPlatform(Place):
    """Three regions with all their servers.

    Args:
        folder: where data and logs go.
        network: see `fivenines up --network`.
    """

    name = "a platform of three regions"
    requests_wanted = 1
    cuts_requests = False

    def __init__(self, folder: Path, *, network: int = 0) -> None:
        self.platform = RunningPlatform(folder / "platform", network=network)
        self._pids: dict[str, int] = {}
        """Of agents by their region, of all else by its name."""
        self._leader = ""
        self._status: Status | None = None
        self._kills = 0
        self._killed_at: float | None = None
        self._waited_from: float | None = None
        """Since when it is time for the next kill, and everything is whole."""
        self._whole_after_s: list[float] = []
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._is_up = False

    async def start(self) -> Sequence[Ready]:
        """Bring the platform up, unless it is. Raises `LedgerFailedError`."""
        if etcd_program() == "":
            raise EtcdMissingError
        if not self._is_up:
            try:
                await self.platform.start()
            except PlatformFailedError as error:
                raise LedgerFailedError(str(error)) from error
            self._is_up = True
            await self._look()
        ready = [
            Ready(f"http://{place.host}:{place.node_port(node)}", name=node, pid=self._pids.get(node, 0))
            for place in self.platform.topology.regions
            for node in place.nodes
        ]
        return [msgspec.structs.replace(each, position=await asyncio.to_thread(_position, each.url)) for each in ready]

    def ways(self) -> Sequence[Way]:
        """A client in each region, which asks its nameserver first."""
        topology = self.platform.topology
        return [Way((topology.url,), topology.nameservers_of(region)) for region in self.platform.regions]

    @property
    def whole_after_s(self) -> Sequence[float]:
        """For each kill that was got over: from the kill until everything ran and all regions served again."""
        return self._whole_after_s

    def picture(self) -> RenderableType | None:
        """The platform's status."""
        return None if self._status is None else status_picture(self.platform.topology, self._status)

    def is_hit(self, address: str) -> bool:
        """Whether the next kill concerns requests that go to an edge: that of its region; the journal is all's.

        Where nobody asks that region for a while, as its clients have moved to another, it concerns all requests, too.
        """
        if not self._is_whole.is_set():
            return False
        now = time.monotonic()
        self._waited_from = now if self._waited_from is None else self._waited_from
        target = self._next
        if target.endswith("-journal") or now > self._waited_from + _WAIT_S_MAX:
            return True
        region = next(each for each in self.platform.topology.regions if target in {each.name, *each.nodes})
        return address == f"{region.host}:{PORTS.edge}"

    @property
    def _next(self) -> str:
        """What the next kill ends: a region by its name, all else by that of the workload."""
        regions = self.platform.topology.regions
        place = regions[self._kills // 3 % len(regions)]
        return (place.nodes[0], f"{self._leader}-journal", regions[self._kills // 3 % len(regions) - 1].name)[
            self._kills % 3
        ]

    def kill(self) -> str:
        """Kill a node, the journal's leader, or a region."""
        target = self._next
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pids[target], signal.SIGKILL)
        self._kills += 1
        self._killed_at = time.monotonic()
        self._waited_from = None
        self._is_whole.clear()
        if target in self.platform.regions:
            return f"region {target}"
        return "the journal's leader" if target.endswith("-journal") else f"node {target}"

    async def keep_up(self, told: Callable[[str], None]) -> None:
        """See how the platform gets over kills, and know whom to hit next. Raises `LedgerFailedError`."""
        watching = asyncio.create_task(self._watch(), name="watching the platform")
        try:
            await self._get_over_kills(told)
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        """Look at it for the picture."""
        while True:
            self._status = await look_at(self.platform.topology, self.platform.agents)
            await asyncio.sleep(_WATCH_S)

    async def _get_over_kills(self, told: Callable[[str], None]) -> None:
        while True:
            if self._killed_at is None:
                with contextlib.suppress(AgentError, TimeoutError):
                    await self._look()
            else:
                began = self._killed_at
                try:
                    await self.platform.wait_whole()
                except PlatformFailedError as error:
                    raise LedgerFailedError(str(error)) from error
                after_s = time.monotonic() - began
                self._whole_after_s.append(after_s)
                with contextlib.suppress(AgentError, TimeoutError):
                    await self._look()
                told(f"everything runs and all regions serve again, {after_s:.1f} s after the kill")
                self._killed_at = None
                self._is_whole.set()
            if not self.platform.is_running:
                raise LedgerFailedError("fivenines up ended by itself: see up.log")
            await asyncio.sleep(_LOOK_S)

    async def wait_whole(self) -> None:
        """Wait until everything that was killed is back."""
        await self._is_whole.wait()

    async def stop(self) -> None:
        """Stop all of it. Raises `LedgerFailedError`."""
        self._is_up = False
        try:
            await self.platform.stop()
        except PlatformFailedError as error:
            raise LedgerFailedError(str(error)) from error

    async def read(self) -> ReadBack:
        """Bring it up again from its disks, and read the journal. Raises `JournalError`, `LedgerFailedError`.

        Without controllers: they probe by writing all the time, and nodes are to be compared at one position.
        """
        await self.start()
        keep = "journal,edge,nameserver,node,historian,service"
        await asyncio.gather(*(self.platform.agents.stop(region, keep=keep) for region in self.platform.regions))
        # Reading checks every piece, and that none is missing.
        return ReadBack(await self.platform.read_journal(), is_sound=True)

    async def discard(self) -> None:
        """Leave no process behind."""
        await self.platform.discard()

    async def _look(self) -> None:
        """Learn the process ids, and who leads the journal."""
        for region in self.platform.regions:
            seen = await self.platform.agents.seen(region)
            self._pids[region] = seen.pid
            self._pids.update({each.name: each.pid for each in seen.workloads if each.pid is not None})
        self._leader = await asyncio.to_thread(self.platform.leading_region)

"""A ledger in several regions, on this machine: in each a member of etcd and a node, as processes of their own.

Each region has a loopback address, `127.0.R.1`. A region that is killed loses everything at once, member and node, by
SIGKILL; what its disks hold is what it comes back with. Whichever way the drill ends, no process is left: a kill of its
own included, where `dying_with_us` can.
"""

import asyncio
import atexit
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fivenines.drill.disk import replay_frames
from fivenines.drill.members import Cluster, Member, make_cluster
from fivenines.drill.place import Place, ReadBack
from fivenines.drill.supervise import LedgerFailedError, LedgerProcess, Ready, dying_with_us
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings, JournalUnreachableError, found
from fivenines.journal.etcd.members import member_status

__all__ = ["REGION_NAMES", "Region", "Regions"]

REGION_NAMES = ("eu-west", "eu-north", "us-east", "us-west", "ap-south")
HEARTBEAT_MS, ELECTION_MS = 20, 200
"""For members on one machine; docs/operations.md says what suits real distances."""
_GONE_S = 2.0
"""How long a killed region stays away."""
_LOOK_S = 0.2
_MEMBERS_S_MAX = 60.0


@dataclass(slots=True)
class Region:
    """One region: its member of etcd, and its node."""

    name: str
    member: Member
    node: LedgerProcess


class Regions(Place):
    """Several regions with one ledger. The first kill ends a node, the next ones the region that leads the journal.

    Args:
        folder: where data and logs go.
        count: how many regions, up to five.
        options: further options of `fivenines serve`.
        launcher: runs the nodes; a test may give one that is up to no good.
    """

    requests_wanted = 4

    def __init__(
        self,
        folder: Path,
        *,
        count: int = 3,
        options: tuple[str, ...] = (),
        launcher: type[LedgerProcess] = LedgerProcess,
    ) -> None:
        assert 1 <= count <= len(REGION_NAMES), count
        self.name = f"{count} regions"
        hosts = [f"127.0.{number}.1" for number in range(1, count + 1)]
        self.cluster: Cluster = make_cluster(
            folder / "etcd", members=count, hosts=hosts, heartbeat_ms=HEARTBEAT_MS, election_ms=ELECTION_MS
        )
        for member in self.cluster.members:
            member.before = dying_with_us()  # all of them are started on the event loop, never by a worker thread
        endpoints = self.cluster.endpoints
        self.regions: list[Region] = []
        for number, (name, host, member) in enumerate(zip(REGION_NAMES, hosts, self.cluster.members, strict=False)):
            nearest_first = ",".join((*endpoints[number:], *endpoints[:number]))
            node = launcher(
                folder / name,
                log=folder / f"{name}.log",
                options=(
                    *("--host", host, "--journal", f"etcd://{nearest_first}"),
                    *("--region", name, "--name", f"{name}-1", *options),
                ),
                name=f"{name}-1",
            )
            self.regions.append(Region(name, member, node))
        self._settings = EtcdJournalSettings(endpoints=endpoints, append_s_max=30.0)
        self._addresses: dict[str, int] = {}
        self._leader = 0
        self._kills: list[tuple[int, bool]] = []
        """What was killed: which region, and whether all of it."""
        self._killed = asyncio.Event()
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._is_founded = False

    async def start(self) -> Sequence[Ready]:
        """Start the members, found the journal the first time, and start the nodes, all at the same time."""
        atexit.register(self.cluster.kill)
        for member in self.cluster.members:
            if member.process is None:
                member.start()
        await asyncio.to_thread(self.cluster.wait_ready)
        if not self._is_founded:
            await self._found()
            self._is_founded = True
        ready = await asyncio.gather(*(region.node.start() for region in self.regions))
        self._addresses = {each.url.partition("//")[2]: number for number, each in enumerate(ready)}
        return ready

    async def _found(self) -> None:
        until = time.monotonic() + _MEMBERS_S_MAX
        while True:
            try:
                await found(self._settings)
            except JournalUnreachableError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_LOOK_S)
            else:
                return

    @property
    def _next(self) -> tuple[int, bool]:
        """What the next kill ends: first one node, of a region that does not lead; then a leading region, whole."""
        is_whole = bool(self._kills) or len(self.regions) == 1
        return (self._leader if is_whole else (self._leader + 1) % len(self.regions)), is_whole

    def is_hit(self, address: str) -> bool:
        """Whether the next kill hits requests that go to `host:port`. None comes while something is away.

        Two regions at once would be one too many of three: that is no fault that a ledger gets over unnoticed.
        """
        return self._is_whole.is_set() and self._addresses.get(address) == self._next[0]

    def kill(self) -> str:
        """Kill a node, or a region."""
        number, is_whole = self._next
        region = self.regions[number]
        region.node.kill()
        if is_whole:
            region.member.kill()
        self._kills.append((number, is_whole))
        self._is_whole.clear()
        self._killed.set()
        return f"region {region.name}" if is_whole else f"node {region.name}-1"

    async def keep_up(self, told: Callable[[str], None]) -> None:
        """Start again what was killed: a node at once, a region after a while."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_members())
                minding = [tasks.create_task(self._mind(number)) for number in range(len(self.regions))]
                seen = 0
                while True:
                    await self._killed.wait()
                    self._killed.clear()
                    for number, is_whole in self._kills[seen:]:
                        seen += 1
                        minding[number].cancel()
                        minding[number] = tasks.create_task(self._bring_back(number, is_whole, told))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _mind(self, number: int) -> None:
        node = self.regions[number].node
        status = await node.wait()
        if not any(killed == number for killed, _ in self._kills) or status != -signal.SIGKILL:
            raise node.died(status)

    async def _bring_back(self, number: int, is_whole: bool, told: Callable[[str], None]) -> None:
        region = self.regions[number]
        await region.node.wait()
        if is_whole:
            await asyncio.sleep(_GONE_S)
            region.member.start()
        ready = await region.node.start()
        what = f"region {region.name} is back" if is_whole else f"node {region.name}-1 serves again"
        told(f"{what}, at position {ready.position:,}, process {ready.pid}")
        self._is_whole.set()
        status = await region.node.wait()
        if self._kills[-1][0] != number or status != -signal.SIGKILL:
            raise region.node.died(status)

    async def _watch_members(self) -> None:
        """Know which member leads, and see that none ends by itself."""
        while True:
            for number, (region, member) in enumerate((each, each.member) for each in self.regions):
                if member.process is None:
                    continue
                if (ended := member.process.poll()) is not None:
                    log = member.directory / "log"
                    raise LedgerFailedError(
                        f"the member of etcd in {region.name} ended by itself, with status {ended}: see {log}"
                    )
                status = await asyncio.to_thread(member_status, member.endpoint)
                if status is not None and status.leader and status.leader == status.header.member_id:
                    self._leader = number
            await asyncio.sleep(_LOOK_S)

    async def wait_whole(self) -> None:
        """Wait until every region is back."""
        await self._is_whole.wait()

    async def stop(self) -> None:
        """Stop the nodes cleanly, then kill all members at once and start them again: what they hold is on disk."""
        await asyncio.gather(*(region.node.stop() for region in self.regions))
        self.cluster.kill()
        self.cluster.start()
        await asyncio.to_thread(self.cluster.wait_ready)

    async def read(self) -> ReadBack:
        """Read the journal from its first frame to its last, as any follower would. Raises `JournalError`."""
        journal = await EtcdJournal.open(self._settings)
        try:
            # Reading checks every piece, and that none is missing.
            return ReadBack(await asyncio.to_thread(lambda: replay_frames(journal.read(1))), is_sound=True)
        finally:
            await journal.close()

    async def discard(self) -> None:
        """Kill everything that runs."""
        await asyncio.gather(*(region.node.discard() for region in self.regions))
        self.cluster.kill()
        atexit.unregister(self.cluster.kill)

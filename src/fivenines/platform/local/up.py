"""`fivenines up`: a whole platform on this machine, from its first process to its last.

It starts an agent for each region and then only minds them: an agent that has died is begun again after a while, as a
machine is that was switched off and on. Once, for a new platform, it founds the journal. When it is told to stop, all
regions stop what needs the journal first, and the journal last. When it is killed, everything dies with it.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fivenines.control.observed import WorkloadSeen
from fivenines.journal import JournalError
from fivenines.journal.etcd import EtcdJournalSettings, JournalExistsError, JournalUnreachableError, found
from fivenines.platform.local.agent_client import AgentError, Agents
from fivenines.platform.local.dying import dying_with_us
from fivenines.platform.local.edging import edge_settings
from fivenines.platform.local.isolation import IsolationError, Network
from fivenines.platform.local.programs import founded_file
from fivenines.platform.topology import PORTS, RegionPlace, Topology

__all__ = ["Up", "UpError", "held"]

_LOOK_S = 0.2
_JOURNAL_S_MAX = 60.0
_STOP_S_MAX = 60.0
_READY_S_MAX = 180.0
_NOBODYS = "127.255.255.254"
"""An address of this machine that no region of any network has."""

Seen = Mapping[str, Mapping[str, WorkloadSeen]]
"""The workloads of each region, by their names; a region whose agent does not answer has none."""


class UpError(Exception):
    """The platform cannot be brought up; the sentence says why, `hint` what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a platform's folder: one folder has one platform that runs. Raises `UpError`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UpError(
                f"a platform runs from {folder} already, started by process {file.read().strip() or 'unknown'}",
                hint="'fivenines status' shows it; another one wants another --folder and --network",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class Up:
    """A platform that runs on this machine.

    Args:
        topology: where everything is.
        away_s: how long a region whose agent has died stays away before it is begun again.
        told: is told what happens, for people.
    """

    def __init__(
        self, topology: Topology, *, away_s: float = 5.0, told: Callable[[str], None] = lambda _text: None
    ) -> None:
        self.topology = topology
        self._away_s = away_s
        self._told = told
        self._agents = Agents(topology)
        self.network = Network(topology)
        self._processes: dict[str, Process] = {}
        self._minding: dict[str, asyncio.Task[None]] = {}

    async def start(self, progress: Callable[[Seen], None] = lambda _seen: None) -> float:
        """Start everything, and return after how many seconds all of it was ready.

        Args:
            progress: is called now and then with what is there.

        Raises:
            UpError: it cannot be, or is not ready in time.
        """
        began = time.monotonic()
        self._check_edges()
        try:
            await asyncio.to_thread(self.network.make)
        except IsolationError as error:
            raise UpError(str(error)) from error
        self._check_addresses()
        self.topology.write()
        for place in self.topology.regions:
            await self._start_agent(place.name)
            self._minding[place.name] = asyncio.create_task(self._mind(place.name), name=f"minding {place.name}")
        founding = asyncio.create_task(self._found(), name="founding")
        try:
            while True:
                seen = await self.look()
                progress(seen)
                if founding.done():
                    founding.result()
                    if is_whole(self.topology, seen):
                        return time.monotonic() - began
                if time.monotonic() - began > _READY_S_MAX:
                    raise UpError(
                        f"not ready within {_READY_S_MAX:g} s: {'; '.join(_troubles(seen)) or 'agents do not answer'}",
                        hint=f"what each part said is in {self.topology.path / 'platform.log'}",
                    )
                await asyncio.sleep(_LOOK_S)
        finally:
            founding.cancel()
            with contextlib.suppress(asyncio.CancelledError, UpError):
                await founding

    async def look(self) -> Seen:
        """Ask all agents how everything is."""
        return await look(self.topology, self._agents)

    async def stop(self) -> None:
        """Stop everything in order, and leave no process behind."""
        for task in self._minding.values():
            task.cancel()
        await asyncio.gather(*self._minding.values(), return_exceptions=True)
        alive = [name for name, process in self._processes.items() if process.returncode is None]
        try:
            async with asyncio.timeout(_STOP_S_MAX):
                await asyncio.gather(
                    *(self._agents.stop(region, keep="journal") for region in alive), return_exceptions=True
                )
                for region in alive:
                    with contextlib.suppress(ProcessLookupError):
                        self._processes[region].send_signal(signal.SIGTERM)
                await asyncio.gather(*(self._processes[region].wait() for region in alive))
        except TimeoutError:
            self._told("not everything stopped in time: ending the rest")
        finally:
            self.kill()
            await asyncio.gather(*(process.wait() for process in self._processes.values()))
            await self._agents.close()
            await asyncio.to_thread(self.network.remove)

    def kill(self) -> None:
        """End all regions at once."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _start_agent(self, region: str) -> None:
        with (self.topology.path / "agents.log").open("ab") as log:
            self._processes[region] = await asyncio.create_subprocess_exec(
                *dying_with_us(),
                *self.network.inside(region),
                *(sys.executable, "-m", "fivenines", "agent", "--json"),
                *("--folder", self.topology.folder, "--region", region),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    async def _mind(self, region: str) -> None:
        """Begin a region again when its agent has died."""
        while True:
            status = await self._processes[region].wait()
            self._told(
                f"region {region} is gone: its agent ended with status {status}; it is back in {self._away_s:g} s"
            )
            await asyncio.sleep(self._away_s)
            await self._start_agent(region)

    async def _found(self) -> None:
        """Found the journal, if that was never done."""
        marker = founded_file(self.topology)
        if marker.exists():
            return
        settings = EtcdJournalSettings(endpoints=self.topology.journal_endpoints(self.topology.regions[0].name))
        until = time.monotonic() + _JOURNAL_S_MAX
        while True:
            try:
                await found(settings)
            except JournalExistsError:
                break  # the mark was lost, not the journal
            except JournalUnreachableError as error:
                if time.monotonic() > until:
                    raise UpError(f"the journal has no majority: {error}") from error
                await asyncio.sleep(_LOOK_S)
            except JournalError as error:
                raise UpError(str(error)) from error
            else:
                break
        marker.touch()

    def _check_edges(self) -> None:
        """See that every edge can do what it is to do: agents would die of it, again and again. Raises `UpError`."""
        for place in self.topology.regions:
            try:
                edge_settings(self.topology, place)
            except ValueError as error:
                is_of_folder = str(error).startswith("admin_socket")
                raise UpError(
                    f"HAProxy, the edge of {place.name}, cannot do with it: {error}",
                    hint="choose a --folder without them"
                    if is_of_folder
                    else "docs/platform-yaml.md has every field, and the rules",
                ) from error

    def _check_addresses(self) -> None:
        """See that nobody else has our addresses. Raises `UpError`."""
        if self.topology.isolation != "loopback":
            return
        for place in self.topology.regions:
            for port in _ports(self.topology, place):
                _check_free(place.host, port, socket.SOCK_STREAM)
            _check_free(place.host, PORTS.nameserver, socket.SOCK_DGRAM)


def _ports(topology: Topology, place: RegionPlace) -> list[int]:
    """Every port on which something of a region listens."""
    found = [PORTS.edge, PORTS.edge_stats, PORTS.nameserver, PORTS.nameserver_metrics, PORTS.agent, PORTS.controller]
    found += [PORTS.journal, PORTS.journal_peer] if place.has_journal else []
    found += [PORTS.historian] if place.nodes else []
    found += [place.node_port(node) for node in place.nodes]
    found += [copy.port for copy in place.services]
    return [*found, *(service.edge_port for service in topology.spec.services)]


def _check_free(host: str, port: int, kind: socket.SocketKind) -> None:
    """See that nobody has an address. Raises `UpError`."""
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:  # a connection that has ended does not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            hint = "another platform, or another program, listens there: choose another --network"
            if error.errno == errno.EADDRINUSE and _is_taken_everywhere(port, kind):
                listing = "ss -ltnp" if kind == socket.SOCK_STREAM else "ss -lunp"
                hint = (
                    f"something else has port {port} on all addresses, so another --network is of no use: find it with "
                    f"'sudo {listing}', and stop it"
                )
            raise UpError(f"{host}:{port}: {error.strerror}", hint=hint) from error


def _is_taken_everywhere(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_NOBODYS, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


async def look(topology: Topology, agents: Agents) -> Seen:
    """Ask all agents how everything is."""

    async def one(region: str) -> Mapping[str, WorkloadSeen]:
        try:
            return {each.name: each for each in (await agents.seen(region)).workloads}
        except AgentError:
            return {}

    names = [place.name for place in topology.regions]
    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))


def is_whole(topology: Topology, seen: Seen) -> bool:
    """Whether everything that should run is ready."""
    return all(
        (found := seen[place.name].get(workload.name)) is not None and found.state == "ready"
        for place in topology.regions
        for workload in place.workloads()
    )


def _troubles(seen: Seen) -> list[str]:
    return [
        f"{each.name} is {each.state}{f' ({each.reason})' if each.reason else ''}"
        for region in seen.values()
        for each in region.values()
        if each.state != "ready"
    ]

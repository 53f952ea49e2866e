"""The peer, running: three hosts in network namespaces of their own, each with etcd, Patroni and PostgreSQL.

The namespaces and the cut are made by the same code as those of our own platform
(`fivenines.platform.local.isolation`), so that both lose the very same thing. HAProxy runs outside, beside the clients.

Nothing outlives the benchmark, however it ends. Patroni keeps PostgreSQL in a session of its own and leaves it running
when it dies, so each Patroni is the first process of a process namespace: with it the kernel ends all that it started.
What starts it dies with us (`setpriv --pdeathsig`). Shared memory is in an IPC namespace, for the same reason, and
`sweeping.py` takes the network namespaces away.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import httpx
import psycopg

from bench.failover import settings
from bench.failover.figures import FAULTS, Fault
from bench.failover.load import ACCOUNTS, Plan, account
from bench.failover.settings import FAILOVER_AT_ONCE, FASTEST, PORTS, Host
from bench.members import etcd_version
from bench.peers.postgres import SCHEMA, installed, postgres_version
from bench.processes import BenchError
from fivenines.drill.members import etcd_program
from fivenines.platform.local.dying import dying_with_us
from fivenines.platform.local.isolation import Network, why_not
from fivenines.platform.spec import Platform, Region
from fivenines.platform.topology import make_topology
from fivenines.traffic.edge import find_haproxy

__all__ = ["Patroni", "is_whole", "why_no_peer"]

HOSTS: Final = 3
_START_S_MAX: Final = 150.0
_STOP_S_MAX: Final = 15.0
_LOOK_S: Final = 0.2
_LOG_TAIL_BYTES: Final = 2_000
_PROGRAM: Final = "/usr/bin/patroni"


def why_no_peer() -> str | None:
    """Say why the peer cannot run here, or return None."""
    if (reason := why_not()) is not None:
        return reason
    if not Path(_PROGRAM).exists():
        return "Patroni is not installed: on Debian and Ubuntu it is in the package patroni"
    if not etcd_program():
        return "etcd is not installed: on Debian and Ubuntu it is in the package etcd-server"
    if find_haproxy() is None:
        return "HAProxy is not installed: on Debian and Ubuntu it is in the package haproxy"
    for name in ("setpriv", "nsenter", "unshare"):
        if shutil.which(name) is None:
            return f"{name} is not installed: on Debian and Ubuntu it is in the package util-linux"
    try:
        installed()
    except BenchError as error:
        return str(error)
    return None


def patroni_version() -> str:
    """Return the version of Patroni that would run."""
    return subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def is_whole(members: Sequence[Mapping[str, Any]], standbys: Sequence[Mapping[str, Any]], *, hosts: int) -> bool:
    """Tell whether every host has a working PostgreSQL, all on one timeline, in step with the primary.

    Args:
        members: what Patroni says of the cluster.
        standbys: what the primary says of its standbys.
        hosts: how many there are.
    """
    roles = sorted(str(each.get("role")) for each in members)
    return (
        len(members) == hosts
        and roles.count("leader") == 1
        and roles.count("sync_standby") >= 1
        and all(each.get("state") in {"running", "streaming"} for each in members)
        and len({each.get("timeline") for each in members}) == 1
        and len(standbys) == hosts - 1
        and all(each.get("state") == "streaming" for each in standbys)
        and any(each.get("sync_state") == "sync" for each in standbys)
    )


class Patroni:
    """PostgreSQL with Patroni, as a candidate of the benchmark.

    Args:
        folder: for its data and logs; other users must be able to pass through to it.
        network: of the addresses, 10.N.x.1, and the names of the namespaces.
    """

    name = "patroni"
    faults: tuple[Fault, ...] = (*FAULTS, "process_killed_failover")

    def __init__(self, folder: Path, *, network: int) -> None:
        self._folder = folder
        regions = tuple(Region(name=f"host-{number}", provider="local") for number in range(1, HOSTS + 1))
        spec = Platform(platform="peer", regions=regions)
        self._topology = make_topology(spec, folder, home=folder, network=network, isolation="netns")
        self._network = Network(self._topology)
        self.hosts = [
            Host(name=each.name, address=each.host, folder=folder / each.name) for each in self._topology.regions
        ]
        self._servers: dict[str, Popen[bytes]] = {}
        self._http = httpx.AsyncClient(timeout=1.0, trust_env=False)

    @property
    def versions(self) -> dict[str, str]:
        """Of all that takes part."""
        haproxy = find_haproxy() or ""
        first = subprocess.run([haproxy, "-v"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        return {
            "patroni": patroni_version(),
            "postgres": postgres_version(),
            "etcd": etcd_version(),
            "haproxy": first.partition(" - ")[0],
            "psycopg": psycopg.__version__,
        }

    @property
    def settings(self) -> dict[str, str]:
        """How it is set up."""
        timings = FASTEST
        return {
            "hosts": f"{HOSTS}, each with etcd, Patroni and PostgreSQL, in a network namespace of its own",
            **{name: str(getattr(timings, name)) for name in timings.__struct_fields__},
            "synchronous_mode": "on, strict",
            "watchdog": "off",
            "API of etcd": "version 2, as version 3 loses what was acknowledged in this release",
            **{f"postgres {name}": str(value) for name, value in settings.POSTGRES.items()},
            **{f"etcd {name}": str(value) for name, value in settings.ETCD_OPTIONS.items()},
        }

    def plan(self, *, rate_per_s: float) -> Plan:
        """Describe the load."""
        return Plan(kind="patroni", rate_per_s=rate_per_s, dsn=settings.dsn(self._network.outside))

    async def start(self) -> None:
        """Start all of it, and return when it is whole and has empty books. Raises `BenchError`."""
        if (reason := why_no_peer()) is not None:
            raise BenchError(reason)
        programs, user = installed()
        assert user is not None, "only root can have network namespaces, and root has PostgreSQL run by a user"
        await asyncio.to_thread(self._network.make)
        for host in self.hosts:
            host.folder.mkdir(parents=True)
            host.folder.chmod(0o700)
            shutil.chown(host.folder, user, user)
            self._run(f"etcd-{host.name}", [etcd_program(), *settings.etcd_options(host, self.hosts)], host=host)
        text = settings.haproxy_config(self.hosts, outside=self._network.outside, timings=FASTEST)
        (self._folder / "haproxy.cfg").write_text(text, encoding="utf-8")
        self._run("haproxy", [find_haproxy() or "haproxy", "-db", "-f", str(self._folder / "haproxy.cfg")])
        network = f"{self._network.outside}/16"
        for host in self.hosts:
            text = settings.patroni_config(host, self.hosts, timings=FASTEST, programs=programs, network=network)
            (self._folder / f"{host.name}.yml").write_text(text, encoding="utf-8")
            self._run(
                f"patroni-{host.name}",
                [
                    *("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--ipc"),
                    *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--pdeathsig=KILL"),
                    *(_PROGRAM, str(self._folder / f"{host.name}.yml")),
                ],
                host=host,
            )
        await self.wait_whole(_START_S_MAX)
        await self._make_books()

    async def prepare(self, fault: Fault) -> None:
        """Have Patroni do about a crash what a fault is meant to show. Raises `BenchError`."""
        timings = FAILOVER_AT_ONCE if fault == "process_killed_failover" else FASTEST
        try:
            host = await self.primary()
            wanted = {"primary_start_timeout": timings.primary_start_timeout}
            answer = await self._http.patch(f"http://{host.address}:{PORTS.patroni}/config", json=wanted)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise BenchError(f"Patroni does not take its settings: {error}") from error
        await asyncio.sleep(3.0 * timings.loop_wait)  # each Patroni reads them when it looks the next time

    async def hit(self, fault: Fault) -> str:
        """Begin a fault, and return what was hit. Raises `BenchError`."""
        primary = await self.primary()
        if fault == "host_cut_off":
            await asyncio.to_thread(self._network.cut_off, primary.name)
            return f"{primary.name}, the primary's host"
        if fault not in {"process_killed", "process_killed_failover"}:
            raise BenchError(f"{fault} is no fault of the peer")
        pids = self._postgres_of(primary)
        if not pids:
            raise BenchError(f"{primary.name} is the primary and has no PostgreSQL")
        for pid in pids:  # the postmaster first: it has the lowest number
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return f"PostgreSQL of {primary.name}, {len(pids)} processes"

    async def mend(self) -> None:
        """End what somebody from outside has to end."""
        await asyncio.to_thread(self._network.heal)

    async def wait_whole(self, seconds: float) -> None:
        """Wait until every host is in step with the primary. Raises `BenchError`: not by then."""
        until, members, standbys = time.monotonic() + seconds, [], []
        while time.monotonic() < until:
            for name, process in self._servers.items():
                if process.poll() is not None:
                    raise BenchError(f"{name} ended with {process.returncode}:\n{self._log_of(name)}")
            try:
                primary = await self.primary()
                members = (await self._ask(primary, "cluster")).get("members", [])
                standbys = (await self._ask(primary, "patroni")).get("replication", [])
            except (BenchError, httpx.HTTPError, ValueError):
                pass
            else:
                if is_whole(members, standbys, hosts=HOSTS):
                    return
            await asyncio.sleep(_LOOK_S)
        logs = "\n".join(self._log_of(f"patroni-{host.name}") for host in self.hosts)
        raise BenchError(f"the peer is not whole after {seconds:g} s: {members}, {standbys}\n{logs}")

    async def ids(self) -> set[bytes]:
        """Return the ids of all transactions in the books."""
        async with await self._connect() as connection:
            found = await (await connection.execute("select id from transactions")).fetchall()
            return {row[0].bytes for row in found}

    async def discard(self) -> None:
        """Leave no process and no namespace behind."""
        await self._http.aclose()
        patronis = [process for name, process in self._servers.items() if name.startswith("patroni")]
        for process in patronis:
            for child in _children(process.pid):  # what is killed when this ends: asked to stop in order, first
                os.kill(child, signal.SIGTERM)
        until = time.monotonic() + _STOP_S_MAX
        while any(process.poll() is None for process in patronis) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S / 4)
        for process in self._servers.values():
            process.kill()
            process.wait()
        await asyncio.to_thread(self._network.remove)

    async def primary(self) -> Host:
        """Return the host that says that it is the primary. Raises `BenchError`."""

        async def says(host: Host) -> bool:
            try:
                return (await self._http.get(f"http://{host.address}:{PORTS.patroni}/primary")).status_code == 200
            except httpx.HTTPError:
                return False

        told = await asyncio.gather(*map(says, self.hosts))
        found = [host for host, is_primary in zip(self.hosts, told, strict=True) if is_primary]
        if len(found) != 1:
            raise BenchError(f"{len(found)} hosts say that they are the primary")
        return found[0]

    async def _ask(self, host: Host, what: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = (await self._http.get(f"http://{host.address}:{PORTS.patroni}/{what}")).json()
        return answer

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        until = time.monotonic() + 20.0
        while True:
            try:
                return await psycopg.AsyncConnection.connect(settings.dsn(self._network.outside), autocommit=True)
            except psycopg.OperationalError as error:
                if time.monotonic() > until:
                    raise BenchError(f"the peer takes no connections: {error}") from error
                await asyncio.sleep(_LOOK_S)

    async def _make_books(self) -> None:
        async with await self._connect() as connection:
            await connection.execute(SCHEMA.read_text(encoding="utf-8"))
            names = [account(number) for number in range(ACCOUNTS)]
            await connection.execute(
                "insert into accounts (id, min_balance) select unnest(%s::text[]), -1000000000000", (names,)
            )

    def _run(self, name: str, command: Sequence[str], *, host: Host | None = None) -> None:
        """Start a server, in the network of a host or outside."""
        inside = self._network.inside(host.name) if host is not None else ()
        with (self._folder / f"{name}.log").open("ab") as log:
            self._servers[name] = Popen(
                [*dying_with_us(), *inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def _postgres_of(self, host: Host) -> list[int]:
        """Return the processes of a host's PostgreSQL, as we number them, the postmaster first."""
        here = Path(f"/proc/{self._servers[f'patroni-{host.name}'].pid}/ns/pid_for_children").readlink()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "ns/pid").readlink() == here and (folder / "comm").read_text().strip() == "postgres":
                    found.append(int(folder.name))
            except OSError:  # it has ended meanwhile
                continue
        return sorted(found)

    def _log_of(self, name: str) -> str:
        return f"{name}: " + (self._folder / f"{name}.log").read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []

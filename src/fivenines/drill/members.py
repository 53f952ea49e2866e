"""Members of an etcd as processes: on loopback addresses and free ports, in a folder, ended by their process ids.

What drills, benchmarks and tests keep their journal in. Only what the system's package installs is run; a machine
without it is told so (`EtcdMissingError`).
"""

import contextlib
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fivenines.journal.etcd.members import member_status

__all__ = [
    "ELECTION_MS",
    "HEARTBEAT_MS",
    "REGION_NAMES",
    "Cluster",
    "EtcdMissingError",
    "Member",
    "etcd_program",
    "free_ports",
    "make_cluster",
    "running",
]

REGION_NAMES = ("eu-west", "eu-north", "us-east", "us-west", "ap-south")
"""For drills that need some."""
HEARTBEAT_MS, ELECTION_MS = 20, 200
"""For members on one machine; docs/operations.md says what suits real distances."""
START_S_MAX = 60.0
_PORTS = range(10_000, 32_768)
_PORTS_TRIED_MAX = 1_000
MIB = 1024 * 1024


class EtcdMissingError(Exception):
    """No etcd is installed here."""

    def __init__(self) -> None:
        super().__init__("etcd is not installed: on Debian and Ubuntu it is in the package etcd-server")


@dataclass
class Member:
    """One member of an etcd, running or not."""

    name: str
    directory: Path
    client_port: int
    peer_port: int
    scheme: str = "http"
    options: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    host: str = "127.0.0.1"
    before: tuple[str, ...] = ()
    """What stands before the program: another one, that becomes it."""

    @property
    def endpoint(self) -> str:
        """Where clients reach it: `host:port`."""
        return f"{self.host}:{self.client_port}"

    def start(self) -> None:
        """Start the process; its data are those that it had before."""
        assert self.process is None, f"{self.name} runs already"
        program = etcd_program()
        if not program:
            raise EtcdMissingError
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, program, *self.options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End the process at once, as a machine that loses its power does, but for what the kernel still writes."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def memory_bytes(self) -> int:
        """The resident memory of the process."""
        assert self.process is not None
        fields = (Path("/proc") / str(self.process.pid) / "statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Cluster:
    """The members of one etcd."""

    members: list[Member]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients reach them."""
        return tuple(member.endpoint for member in self.members)

    def start(self) -> None:
        """Start all of them."""
        for member in self.members:
            member.start()

    def kill(self) -> None:
        """Kill all of them at once."""
        for member in self.members:
            member.kill()

    def leader(self) -> Member:
        """Wait until the members agree on a leader, and return it."""
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            for member in self.members:
                if member.process is None:
                    continue
                status = member_status(member.endpoint)
                if status is not None and status.leader and status.leader == status.header.member_id:
                    return member
            time.sleep(0.02)
        raise TimeoutError("the members elect no leader")

    def wait_ready(self) -> None:
        """Wait until every member that should run answers, and knows a leader. Only for members without TLS."""
        deadline = time.monotonic() + START_S_MAX
        for member in self.members:
            while True:
                status = member_status(member.endpoint)
                if status is not None and status.leader:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(f"member {member.name} does not start: see {member.directory / 'log'}")
                time.sleep(0.05)


def etcd_program() -> str:
    """The path of etcd, or an empty string."""
    return shutil.which("etcd") or ""


def free_ports(count: int, *, host: str = "127.0.0.1") -> list[int]:
    """Find ports of a loopback address that nobody listens on.

    They are below those that the kernel gives to clients: until a server listens there, no connection of anybody takes
    one of them. And they are drawn by real chance, so that two who look at the same time find different ones.
    """
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.SystemRandom().sample(_PORTS, _PORTS_TRIED_MAX):
            if len(found) == count:
                break
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody has it
                probe.bind((host, port))
                found.append(port)
    if len(found) < count:
        raise OSError(errno.EADDRINUSE, f"there are not {count} free ports on {host}")
    return found


def make_cluster(
    directory: Path,
    *,
    members: int = 3,
    hosts: Sequence[str] = (),
    heartbeat_ms: int = 50,
    election_ms: int = 500,
    quota_bytes: int = 2048 * MIB,
    snapshot_count: int = 1_000,
    tls: Sequence[str] = (),
) -> Cluster:
    """Describe a cluster whose data are below `directory`; nothing is started.

    Args:
        directory: where their data and logs go, a folder each.
        members: how many.
        hosts: the loopback address of each, 127.0.0.1 for all if left out.
        heartbeat_ms: etcd's `--heartbeat-interval`.
        election_ms: etcd's `--election-timeout`.
        quota_bytes: etcd's `--quota-backend-bytes`.
        snapshot_count: etcd's `--snapshot-count`; with large entries its default takes gigabytes of memory.
        tls: options of etcd for clients over TLS; none for connections in the clear.
    """
    hosts = hosts or ("127.0.0.1",) * members
    ports = [port for host in hosts for port in free_ports(2, host=host)]
    names = [f"m{number}" for number in range(members)]
    scheme = "https" if tls else "http"
    peers = ",".join(f"{name}=http://{hosts[i]}:{ports[2 * i + 1]}" for i, name in enumerate(names))
    found = []
    for number, name in enumerate(names):
        client, peer = ports[2 * number : 2 * number + 2]
        folder, host = directory / name, hosts[number]
        options = [
            *("--name", name),
            *("--data-dir", str(folder / "data")),
            *("--listen-client-urls", f"{scheme}://{host}:{client}"),
            *("--advertise-client-urls", f"{scheme}://{host}:{client}"),
            *("--listen-peer-urls", f"http://{host}:{peer}"),
            *("--initial-advertise-peer-urls", f"http://{host}:{peer}"),
            *("--initial-cluster", peers),
            *("--initial-cluster-state", "new"),
            *("--heartbeat-interval", str(heartbeat_ms)),
            *("--election-timeout", str(election_ms)),
            *("--snapshot-count", str(snapshot_count)),
            *("--quota-backend-bytes", str(quota_bytes)),
            *("--auto-compaction-retention", "0"),
            *("--logger", "zap"),
            *("--log-level", "warn"),
            *tls,
        ]
        found.append(Member(name, folder, client, peer, scheme, options, host=host))
    return Cluster(found)


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """Start the members, wait until they answer, and kill them at the end."""
    try:
        cluster.start()
        if cluster.members[0].scheme == "http":
            cluster.wait_ready()
        yield cluster
    finally:
        for member in cluster.members:
            if member.process is not None:
                member.signal(signal.SIGCONT)
        cluster.kill()

"""A small etcd for tests: members on free loopback ports, in folders of the test, ended by their process ids."""

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from fivenines.journal.etcd import EtcdJournalSettings
from fivenines.journal.etcd import rpc_pb2 as rpc

START_S_MAX = 60.0
MIB = 1024 * 1024


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

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    def start(self) -> None:
        """Start the process; its data are those that it had before."""
        assert self.process is None
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [etcd_program(), *self.options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
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
        return tuple(member.endpoint for member in self.members)

    def start(self) -> None:
        for member in self.members:
            member.start()

    def kill(self) -> None:
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


def need_etcd() -> None:
    """Skip the test where etcd is not installed; scripts/setup.sh installs it where it can."""
    if not etcd_program():
        pytest.skip("etcd is not installed: Debian has it in the package etcd-server")


def fresh_settings(cluster: Cluster, **options: Any) -> EtcdJournalSettings:
    """Return settings of a journal that nobody else knows."""
    return EtcdJournalSettings(endpoints=cluster.endpoints, prefix=f"/test/{uuid.uuid4().hex}/", **options)


def etcd_program() -> str:
    """The path of etcd, or an empty string."""
    return shutil.which("etcd") or ""


def member_status(endpoint: str) -> rpc.StatusResponse | None:
    """Ask a member how it is; None when it does not answer."""
    with grpc.insecure_channel(endpoint) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.Maintenance/Status",
            request_serializer=rpc.StatusRequest.SerializeToString,
            response_deserializer=rpc.StatusResponse.FromString,
        )
        try:
            status: rpc.StatusResponse = call(rpc.StatusRequest(), timeout=1.0)
        except grpc.RpcError:
            return None
        return status


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def make_cluster(
    directory: Path,
    *,
    members: int = 3,
    heartbeat_ms: int = 50,
    election_ms: int = 500,
    quota_bytes: int = 2048 * MIB,
    snapshot_count: int = 1_000,
    tls: Sequence[str] = (),
) -> Cluster:
    """Describe a cluster whose data are below `directory`; nothing is started. `tls` are options for clients."""
    ports = free_ports(2 * members)
    names = [f"m{number}" for number in range(members)]
    scheme = "https" if tls else "http"
    peers = ",".join(f"{name}=http://127.0.0.1:{ports[2 * i + 1]}" for i, name in enumerate(names))
    found = []
    for number, name in enumerate(names):
        client, peer = ports[2 * number : 2 * number + 2]
        folder = directory / name
        options = [
            *("--name", name),
            *("--data-dir", str(folder / "data")),
            *("--listen-client-urls", f"{scheme}://127.0.0.1:{client}"),
            *("--advertise-client-urls", f"{scheme}://127.0.0.1:{client}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
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
        found.append(Member(name, folder, client, peer, scheme, options))
    return Cluster(found)


@contextmanager
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

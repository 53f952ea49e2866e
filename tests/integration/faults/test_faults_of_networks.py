"""Cables that are cut in every way, between network namespaces of their own; and an edge that is led astray."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from fivenines.drill.faults import cutting
from fivenines.drill.faults.book import Book
from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce, begun
from fivenines.drill.faults.undoing import PointServer, ask_haproxy
from fivenines.drill.members import free_ports
from fivenines.platform.builtin import BUILT_IN, BUILT_IN_NAME
from fivenines.platform.loading import parse
from fivenines.platform.local.isolation import Network, why_not
from fivenines.platform.topology import PORTS, Topology, make_topology, read_topology
from fivenines.traffic.edge import find_haproxy
from tests.integration.faults.drilling import check_within, drilling, running, wait_until_watched_no_more

OTHER_PORT = 8_000
ECHO = """
import socket, sys, threading
def serve(connection):
    while data := connection.recv(100):
        connection.sendall(data)
def accept(server):
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
servers = [socket.create_server((sys.argv[1], int(port))) for port in sys.argv[2:]]
for server in servers[1:]:
    threading.Thread(target=accept, args=(server,), daemon=True).start()
print("ready", flush=True)
accept(servers[0])
"""
ASK = """
import socket, sys
talks = {}
for line in sys.stdin:
    host, port = line.split()
    try:
        if (host, port) not in talks:
            talks[host, port] = socket.create_connection((host, int(port)), timeout=0.5)
        talks[host, port].sendall(b"x")
        answer = talks[host, port].recv(100)
        print("heard" if answer else "closed", flush=True)
    except OSError:
        print("lost", flush=True)
"""


class Streets:
    """Three regions with something that echoes, and somebody in each who asks over connections that stay open."""

    def __init__(self, topology: Topology, asking: "dict[str, subprocess.Popen[str]]") -> None:
        self.topology, self._asking = topology, asking

    def hears(self, source: str, destination: str, port: int) -> bool:
        """Whether somebody in one region gets an answer from another one, over the connection that they have."""
        asking = self._asking[source]
        assert asking.stdin is not None
        assert asking.stdout is not None
        asking.stdin.write(f"{self.topology.region(destination).host} {port}\n")
        asking.stdin.flush()
        return asking.stdout.readline().strip() == "heard"

    def heard(self, port: int) -> set[tuple[str, str]]:
        """All pairs of regions that hear from each other."""
        names = [place.name for place in self.topology.regions]
        return {(a, b) for a in names for b in names if a != b and self.hears(a, b, port)}


@contextmanager
def talking(before: tuple[str, ...], program: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*before, sys.executable, "-c", program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def streets(tmp_path: Path) -> Iterator[Streets]:
    """Regions with networks of their own, and no platform in them."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    taken = {path.name for path in Path("/sys/class/net").glob("fn*")}
    number = next(number for number in range(12, 40) if f"fn{number}" not in taken)
    spec = parse(BUILT_IN, file=BUILT_IN_NAME).platform
    topology = make_topology(spec, tmp_path / "platform", home=tmp_path, network=number, isolation="netns")
    topology.path.mkdir()
    topology.write()
    network = Network(topology)
    network.make()
    try:
        with contextlib.ExitStack() as stack:
            asking = {}
            for place in topology.regions:
                ports = (str(PORTS.journal), str(PORTS.journal_peer), str(OTHER_PORT))
                inside = network.inside(place.name)
                echo = stack.enter_context(talking(inside, ECHO, place.host, *ports))
                assert echo.stdout is not None
                assert echo.stdout.readline() == "ready\n"
                asking[place.name] = stack.enter_context(talking(inside, ASK))
            yield Streets(topology, asking)
    finally:
        network.remove()


async def cut(fault: InForce, folder: str, region: str, way: str) -> None:
    """Cut a region off; for `drilling`, too."""
    await cutting.partition(fault, read_topology(Path(folder)), region, way)


def while_cut(streets: Streets, way: str, port: int) -> set[tuple[str, str]]:
    """Who hears from whom while the first region is cut off in one way."""

    async def run() -> set[tuple[str, str]]:
        async with begun(streets.topology.path, "partition", "the first region") as fault:
            await cut(fault, streets.topology.folder, streets.topology.regions[0].name, way)
            return await asyncio.to_thread(streets.heard, port)

    found = asyncio.run(run())
    wait_until_watched_no_more(streets.topology.path)
    return found


@pytest.mark.parametrize("way", ["whole", "one_way", "one_way_in", "regions"])
def test_a_region_is_cut_off_and_then_is_not(streets: Streets, way: str) -> None:
    everybody = streets.heard(OTHER_PORT)
    assert len(everybody) == 6
    first = streets.topology.regions[0].name
    # Whoever hears needs both ways, so that one that is lost is as good as two.
    assert while_cut(streets, way, OTHER_PORT) == {pair for pair in everybody if first not in pair}
    check_within(lambda: streets.heard(OTHER_PORT) == everybody, "all hear again")


def test_clients_are_cut_off_alone(streets: Streets) -> None:
    everybody = streets.heard(OTHER_PORT)
    assert while_cut(streets, "clients", OTHER_PORT) == everybody


def test_the_journal_is_cut_off_alone(streets: Streets) -> None:
    """Also on connections that are open: those to other ports go on, those to the journal's do not."""
    everybody = streets.heard(OTHER_PORT)
    first = streets.topology.regions[0].name
    for port in (PORTS.journal, PORTS.journal_peer):
        assert streets.heard(port) == everybody
        assert while_cut(streets, "journal", port) == {pair for pair in everybody if first not in pair}
        check_within(lambda port=port: streets.heard(port) == everybody, "all hear again")  # type: ignore[misc]
    assert while_cut(streets, "journal", OTHER_PORT) == everybody


def test_two_cuts_at_once_leave_nothing(streets: Streets) -> None:
    everybody = streets.heard(OTHER_PORT)
    first, second, third = (place.name for place in streets.topology.regions)

    async def run() -> set[tuple[str, str]]:
        async with begun(streets.topology.path, "partition", first) as fault:
            await cut(fault, streets.topology.folder, first, "whole")
            async with begun(streets.topology.path, "partition", second) as other:
                await cut(other, streets.topology.folder, second, "whole")
            # The way between both was cut twice, and mended once.
            return await asyncio.to_thread(streets.heard, OTHER_PORT)

    assert asyncio.run(run()) == {(second, third), (third, second)}
    check_within(lambda: streets.heard(OTHER_PORT) == everybody, "all hear again")
    wait_until_watched_no_more(streets.topology.path)


@pytest.mark.parametrize("way", ["whole", "journal"])
def test_a_killed_drill_leaves_no_cable_cut(streets: Streets, way: str) -> None:
    everybody = streets.heard(PORTS.journal)
    folder, first = streets.topology.path, streets.topology.regions[0].name
    with drilling(folder, "test_faults_of_networks.cut", folder, first, way) as drill:
        assert not streets.hears(*next(pair for pair in everybody if first in pair), PORTS.journal)
        os.kill(drill.pid, signal.SIGKILL)
        check_within(lambda: not Book(folder).entries(), "the book is empty")
        check_within(lambda: streets.heard(PORTS.journal) == everybody, "all hear again")


def test_regions_without_a_member_have_no_journal_to_cut(tmp_path: Path) -> None:
    spec = parse(BUILT_IN, file=BUILT_IN_NAME).platform
    topology = make_topology(spec, tmp_path, home=tmp_path)
    places = tuple(msgspec.structs.replace(place, has_journal=False) for place in topology.regions)
    topology = msgspec.structs.replace(topology, regions=places)

    async def run() -> None:
        async with begun(tmp_path, "partition", "a test") as fault:
            await cutting.partition(fault, topology, "eu-west", "journal")

    with pytest.raises(FaultImpossibleError, match="eu-west has no member of the journal"):
        asyncio.run(run())
    wait_until_watched_no_more(tmp_path)


CONFIG = """
global
    stats socket {admin} mode 600 level admin
defaults
    mode tcp
    timeout connect 2s
    timeout client 5s
    timeout server 5s
frontend in
    bind 127.0.0.1:{port}
    default_backend ledger
backend ledger
    server node 127.0.0.1:{node}
backend ledger.last
    server node 127.0.0.1:{node}
"""


def test_a_killed_drill_leads_no_edge_astray(tmp_path: Path) -> None:
    haproxy = find_haproxy()
    if haproxy is None:
        pytest.skip("HAProxy is not installed: Debian has it in the package haproxy")
    port, node, wrong = free_ports(3)
    admin = str(tmp_path / "admin.sock")
    (tmp_path / "haproxy.cfg").write_text(CONFIG.format(admin=admin, port=port, node=node))
    right = PointServer(admin, "node", "127.0.0.1", node)

    def says() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as to:
            to.sendall(b"who?")
            return to.recv(100)

    with (
        running(haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")) as edge,
        running(sys.executable, "-c", ANSWERS, str(node), "right"),
        running(sys.executable, "-c", ANSWERS, str(wrong), "wrong"),
    ):
        check_within(lambda: bool(ask_haproxy(admin, "show info")), "the edge is there")
        check_within(lambda: says() == b"right", "the node answers")
        with drilling(tmp_path, "beginning.mislead", admin, "node", node, wrong) as drill:
            assert right.still()
            check_within(lambda: says() == b"wrong", "the other one answers")
            os.kill(drill.pid, signal.SIGKILL)
            check_within(lambda: not Book(tmp_path).entries(), "the book is empty")
            assert says() == b"right"
            assert not right.still()
        assert edge.is_alive()
    assert not right.still()  # an edge that is gone leads nobody astray


ANSWERS = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    to = server.accept()[0]
    if to.recv(100):
        to.sendall(sys.argv[2].encode())
    to.close()
"""

import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from msgspec.structs import replace

from fivenines.traffic.table import GeoPrefix, SteeringTable, write_table
from tests.integration.names.serving import Server, nameserver
from tests.unit.names.tables import region, table

pytestmark = pytest.mark.skipif(shutil.which("dig") is None, reason="there is no dig")

SEEN_S = 10.0
"""How long a test waits for a table to be seen; it takes a tenth of a second."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("names")
    networks = (GeoPrefix(network="192.0.2.0/24", latitude=40.0, longitude=-75.0),)
    write_table(folder / "steering.json", table(policy="geo", networks=networks))
    with nameserver(folder, "--metrics-port", "0") as running:
        yield running


def ask(server: Server, name: str = "api.bank.test", type_: str = "A") -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, type_), "127.0.0.1", port=server.port, timeout=5)


def addresses(server: Server) -> set[str]:
    return {str(record) for rrset in ask(server).answer for record in rrset}


def wait_addresses(server: Server, wanted: set[str]) -> None:
    late = time.monotonic() + SEEN_S
    while (found := addresses(server)) != wanted:
        if time.monotonic() > late:
            raise AssertionError(f"{found} is answered and not {wanted}")


def test_dig_is_answered_by_udp(server: Server) -> None:
    shown = server.dig("api.bank.test", "+norecurse")
    assert "status: NOERROR" in shown
    assert "flags: qr aa;" in shown
    assert "ANSWER: 2" in shown
    assert "(UDP)" in shown


def test_dig_is_answered_by_tcp(server: Server) -> None:
    shown = server.dig("api.bank.test", "+tcp")
    assert "status: NOERROR" in shown
    assert "(TCP)" in shown


def test_dig_with_a_subnet_gets_the_nearest_region_first_and_the_scope(server: Server) -> None:
    shown = server.dig("api.bank.test", "+subnet=192.0.2.128/25")
    assert "CLIENT-SUBNET: 192.0.2.128/25/24" in shown
    assert server.dig("api.bank.test", "+subnet=192.0.2.0/24", "+short").splitlines()[0] == "192.0.2.3"


def test_dig_any_gets_as_little_as_can_be(server: Server) -> None:
    assert server.dig("bank.test", "ANY", "+short").strip() == '"RFC8482" ""'


def test_dig_soa_gets_the_serial_of_the_table(server: Server) -> None:
    assert server.dig("bank.test", "SOA", "+short").split()[2] == "7"


def test_dig_ns_gets_names_that_lead_to_addresses(server: Server) -> None:
    names = server.dig("bank.test", "NS", "+short").split()
    assert names == ["ns-eu-west.bank.test.", "ns-eu-north.bank.test.", "ns-us-east.bank.test."]
    assert server.dig(names[0], "+short").strip() == "198.51.100.1"


def test_dig_for_a_name_that_is_not_there_gets_the_soa(server: Server) -> None:
    shown = server.dig("nothing.bank.test")
    assert "status: NXDOMAIN" in shown
    assert "SOA" in shown


def test_dig_outside_the_zone_is_refused(server: Server) -> None:
    assert "status: REFUSED" in server.dig("example.com")
    assert "status: REFUSED" in server.dig("version.bind", "TXT", "CH")


def test_dig_keeps_its_case_by_both_ways(server: Server) -> None:
    for way in ("+notcp", "+tcp"):
        assert "aPi.BaNk.TeSt." in server.dig("aPi.BaNk.TeSt", way)


def test_dig_with_a_newer_edns_is_told_the_version(server: Server) -> None:
    assert "status: BADVERS" in server.dig("api.bank.test", "+edns=1", "+noednsnegotiation")


def test_dig_is_refused_a_transfer(server: Server) -> None:
    assert "Transfer failed" in server.dig("bank.test", "AXFR")


def test_one_connection_takes_many_questions(server: Server) -> None:
    names = ["api.bank.test", "nothing.bank.test", "eu-west.bank.test", "api.bank.test"]
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        for name in names:
            query = dns.message.make_query(name, "A")
            dns.query.send_tcp(connection, query)
            answer, _ = dns.query.receive_tcp(connection, time.time() + 5)
            assert query.is_response(answer)
        queries = [dns.message.make_query(name, "A") for name in names]
        for query in queries:
            dns.query.send_tcp(connection, query)
        got = [dns.query.receive_tcp(connection, time.time() + 5)[0] for _ in queries]
    assert [answer.id for answer in got] == [query.id for query in queries]


def test_noise_does_not_stop_it(server: Server) -> None:
    chance = random.Random(7)
    query = dns.message.make_query("api.bank.test", "A", use_edns=0).to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        for _ in range(2_000):
            wire = bytearray(query)
            for _ in range(chance.randint(1, 6)):
                wire[chance.randrange(len(wire))] = chance.randrange(256)
            noise.sendto(
                bytes(wire) if chance.random() < 0.5 else chance.randbytes(chance.randint(0, 600)),
                server_address(server),
            )
    for junk in (b"\0", b"\0\1x", b"\xff\xff" + b"x" * 100, b"\0\0", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(server_address(server), 5) as connection:
            connection.sendall(junk)
    assert len(ask(server).answer) == 1
    assert "status: NOERROR" in server.dig("api.bank.test", "+tcp")
    assert server.process.poll() is None


def put(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(content)
    draft.replace(path)


def server_address(server: Server) -> tuple[str, int]:
    return "127.0.0.1", server.port


def test_prometheus_reads_the_counters(server: Server) -> None:
    ask(server)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=5) as response:
        text = response.read().decode()
    assert 'fivenines_dns_answers_total{rcode="NOERROR"}' in text
    assert "fivenines_dns_table_serial 7.0" in text
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/", timeout=5)


def test_a_new_table_is_seen(tmp_path: Path) -> None:
    one = table(region("eu-west", 1), region("eu-north", 2, share=0.0))
    write_table(tmp_path / "steering.json", one)
    with nameserver(tmp_path) as server:
        assert addresses(server) == {"192.0.2.1"}
        write_table(server.table, table(region("eu-west", 1, share=0.0), region("eu-north", 2), serial=8))
        wait_addresses(server, {"192.0.2.2"})
        assert server.dig("bank.test", "SOA", "+short").split()[2] == "8"


def test_a_table_that_makes_no_sense_is_kept_out_and_logged_once(tmp_path: Path) -> None:
    good = table(region("eu-west", 1))
    write_table(tmp_path / "steering.json", good)
    with nameserver(tmp_path) as server:
        for number, content in enumerate((b"{", b"\xff\xfe", b'{"zone": 1}'), 1):
            put(server.table, content)
            server.wait_event("table_refused", number)
            assert addresses(server) == {"192.0.2.1"}
        write_table(server.table, replace(good, answers_max=0))
        assert "answers_max" in server.wait_event("table_refused", 4)["reason"]
        write_table(server.table, replace(good, answers_max=0))
        server.table.unlink()
        server.wait_event("table_unreadable")
        assert addresses(server) == {"192.0.2.1"}
        write_table(server.table, table(region("eu-west", 4)))
        wait_addresses(server, {"192.0.2.4"})
        assert len(server.events("table_refused")) == 4


def test_when_nothing_is_well_the_last_good_set_is_answered(tmp_path: Path) -> None:
    def with_shares(serial: int, *shares: float) -> SteeringTable:
        names = ("eu-west", "eu-north", "us-east")
        return table(
            *(region(n, i, share=s) for i, (n, s) in enumerate(zip(names, shares, strict=True), 1)), serial=serial
        )

    write_table(tmp_path / "steering.json", with_shares(1, 0.0, 0.0, 0.0))
    with nameserver(tmp_path) as server:
        assert len(addresses(server)) == 2, "none was ever good, so any may be"
        write_table(server.table, with_shares(2, 0.0, 1.0, 0.0))
        wait_addresses(server, {"192.0.2.2"})
        write_table(server.table, with_shares(3, 0.0, 0.0, 0.0))
        server.wait_event("no_region_serves", 2)
        assert addresses(server) == {"192.0.2.2"}
        assert server.dig("bank.test", "SOA", "+short").split()[2] == "3"


def test_it_fails_until_there_is_a_table(tmp_path: Path) -> None:
    with nameserver(tmp_path) as server:
        assert ask(server).rcode() == dns.rcode.SERVFAIL
        write_table(server.table, table(region("eu-west", 1)))
        wait_addresses(server, {"192.0.2.1"})


@pytest.mark.parametrize("is_killed", [False, True])
def test_it_comes_back_on_the_same_port(tmp_path: Path, is_killed: bool) -> None:
    write_table(tmp_path / "steering.json", table(region("eu-west", 1)))
    with nameserver(tmp_path) as first:
        port = first.port
        # Its end leaves a TCP connection behind, which must not keep the port.
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            dns.query.send_tcp(connection, dns.message.make_query("api.bank.test", "A"))
            dns.query.receive_tcp(connection, time.time() + 5)
            if is_killed:
                first.process.kill()
                first.process.wait()
            else:
                assert first.stop() == 0
                assert first.events("nameserver_stopped")[0]["tcp"] == 1
    with nameserver(tmp_path, port=port) as second:
        assert second.port == port
        assert addresses(second) == {"192.0.2.1"}
        assert "status: NOERROR" in second.dig("api.bank.test", "+tcp")


def test_a_second_one_on_the_same_port_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "steering.json", table())
    with nameserver(tmp_path) as server:
        command = ["nameserver", "--table", str(server.table), "--port", str(server.port)]
        done = subprocess.run(
            [sys.executable, "-m", "fivenines", *command], capture_output=True, check=False, text=True, timeout=60
        )
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "--port" in done.stderr

"""A client that is given a name goes where the nameservers say, and on when they or the servers fail."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from fivenines import AsyncLedger, Ledger
from fivenines.client import Limits, NotDoneError
from tests.integration.client.little_nameserver import LittleNameserver, free_place
from tests.integration.client.shells import QUICK, SHELLS, Open
from tests.integration.client.unruly import UnrulyLedger, Word

shells = pytest.mark.parametrize("open_ledger", SHELLS)
HEDGED = Limits(hedge_s=0.1, try_timeout_s=20, connect_timeout_s=10, avoid_s=60)


@contextmanager
def regions(*scripts: list[Word]) -> Iterator[list[UnrulyLedger]]:
    """Serve one ledger in several regions, each at its own address, all at the same port."""
    with ExitStack() as stack:
        servers: list[UnrulyLedger] = []
        for number, script in enumerate(scripts, start=1):
            address = f"127.0.{number}.1"
            port = servers[0].port if servers else free_port(len(scripts))
            servers.append(stack.enter_context(UnrulyLedger(script, address=address, port=port)))
            servers[-1].book, servers[-1].done = servers[0].book, servers[0].done
        yield servers


def free_port(count: int) -> int:
    """Return a port that is free at the addresses of that many regions."""
    while True:
        with ExitStack() as stack:
            port = 0
            try:
                for number in range(1, count + 1):
                    probe = stack.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((f"127.0.{number}.1", port))
                    port = probe.getsockname()[1]
            except OSError:
                continue
            return port


def post(ledger: Ledger) -> None:
    assert ledger.post(source="a", destination="b", amount=1).outcome == "posted"


def asked_for(servers: list[UnrulyLedger]) -> list[int]:
    return [len(server.paths) for server in servers]


def post_until(ledger: Ledger, is_so: Callable[[], bool]) -> None:
    """Go on posting until something is so; the timeout of the test is the limit."""
    while not is_so():
        post(ledger)


@shells
def test_the_first_address_is_used_and_the_name_is_spoken_to(open_ledger: Open) -> None:
    with regions([], []) as servers, LittleNameserver(api=["127.0.2.1", "127.0.1.1"]) as nameserver:
        url = f"http://api.bank.test:{servers[0].port}"
        with open_ledger(url, nameservers=[nameserver.place]) as ledger:
            for _ in range(3):
                post(ledger)
        assert asked_for(servers) == [0, 3]
        assert {headers["Host"] for headers in servers[1].headers} == {url.removeprefix("http://")}
        assert {headers["Ledger-Retry"] for headers in servers[1].headers} == {"safe"}


@shells
def test_nameservers_come_from_the_environment_where_none_are_given(
    open_ledger: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with regions([]) as servers, LittleNameserver(api=["127.0.1.1"]) as nameserver:
        monkeypatch.setenv("FIVENINES_NAMESERVERS", f" {nameserver.place}, ")
        with open_ledger(f"http://api.bank.test:{servers[0].port}") as ledger:
            post(ledger)
        assert asked_for(servers) == [1]


@shells
def test_a_client_leaves_a_region_that_is_taken_out_of_the_answer(open_ledger: Open) -> None:
    with (
        regions([], []) as servers,
        LittleNameserver(api=["127.0.1.1", "127.0.2.1"]) as nameserver,
        open_ledger(f"http://api.bank.test:{servers[0].port}", nameservers=[nameserver.place]) as ledger,
    ):
        post(ledger)
        assert asked_for(servers) == [1, 0]
        nameserver.addresses["api.bank.test."] = ["127.0.2.1"]
        post_until(ledger, lambda: bool(servers[1].paths))
        before = asked_for(servers)
        for _ in range(5):
            post(ledger)
        assert asked_for(servers) == [before[0], before[1] + 5]


@shells
def test_a_region_that_dies_is_left_at_once_for_the_others_of_the_answer(open_ledger: Open) -> None:
    with regions([]) as servers, LittleNameserver(api=["127.0.3.1", "127.0.1.1"]) as nameserver:
        with open_ledger(f"http://api.bank.test:{servers[0].port}", nameservers=[nameserver.place]) as ledger:
            for _ in range(3):
                post(ledger)
        assert asked_for(servers) == [3]


@shells
def test_a_dead_nameserver_costs_little_and_the_next_one_is_remembered(open_ledger: Open) -> None:
    with (
        regions([]) as servers,
        LittleNameserver() as silent,
        LittleNameserver() as without_a_zone,
        LittleNameserver(api=["127.0.1.1"]) as nameserver,
    ):
        silent.is_silent = True
        places = [free_place(), silent.place, without_a_zone.place, nameserver.place]
        with open_ledger(f"http://api.bank.test:{servers[0].port}", nameservers=places) as ledger:
            post(ledger)
            assert (len(silent.asked), len(without_a_zone.asked)) == (1, 1)
            before = len(nameserver.asked)
            post_until(ledger, lambda: len(nameserver.asked) >= before + 2)
            assert (len(silent.asked), len(without_a_zone.asked)) == (1, 1)


@shells
def test_all_nameservers_gone_means_nothing_to_a_client_that_knows_where_to_go(open_ledger: Open) -> None:
    with regions([], []) as servers, LittleNameserver(api=["127.0.1.1", "127.0.2.1"]) as nameserver:
        ledger = open_ledger(
            f"http://api.bank.test:{servers[0].port}", nameservers=[nameserver.place], limits=HEDGED, deadline_s=60
        )
        session = ledger.operations.session
        with ledger:
            post(ledger)
            nameserver.is_silent = True
            post_until(ledger, lambda: len(nameserver.asked) > 2)
            post_until(ledger, lambda: "does not answer" in session.servers.reason)
            servers[0].script.extend(["hang_before"] * 100)
            post(ledger)
            assert servers[1].paths


@shells
def test_a_name_that_nobody_knows_is_told_with_whom_was_asked(open_ledger: Open) -> None:
    with LittleNameserver(api=["127.0.1.1"]) as nameserver:
        gone = free_place()
        with (
            open_ledger("http://apis.bank.test:1", nameservers=[nameserver.place, gone], deadline_s=2) as ledger,
            pytest.raises(NotDoneError, match=r"no address of apis\.bank\.test") as caught,
        ):
            post(ledger)
        assert f"{nameserver.place} says there is no such name" in caught.value.reason
        assert gone in caught.value.reason
        assert {kind for _, kind in nameserver.asked} == {"A"}


@shells
def test_a_long_answer_comes_over_tcp_and_noise_is_passed_over(open_ledger: Open) -> None:
    with regions([]) as servers, LittleNameserver(api=["127.0.1.1", "2001:db8::1"]) as nameserver:
        nameserver.is_short = True
        nameserver.noise = [b"", b"x", bytes(12), b"\xff" * 100]
        with open_ledger(f"http://api.bank.test:{servers[0].port}", nameservers=[nameserver.place]) as ledger:
            post(ledger)
            listed = [server.address for server in ledger.operations.session.servers._listed]
        assert nameserver.tcp == 2
        assert listed == ["127.0.1.1", "2001:db8::1"]
        assert asked_for(servers) == [1]


@shells
def test_localhost_and_addresses_need_no_nameserver(open_ledger: Open) -> None:
    with UnrulyLedger() as server:
        for host in ("localhost", "127.0.0.1"):
            with open_ledger(f"http://{host}:{server.port}", nameservers=[free_place()]) as ledger:
                post(ledger)
            with open_ledger(f"http://{host}:{server.port}", nameservers=[]) as ledger:
                post(ledger)
        assert asked_for([server]) == [4]


@shells
def test_a_name_that_the_system_does_not_know_is_told(open_ledger: Open) -> None:
    with (
        open_ledger("http://no-such-host.invalid:1", deadline_s=1.5, nameservers=[]) as ledger,
        pytest.raises(NotDoneError, match=r"no address of no-such-host\.invalid .*the system's resolver"),
    ):
        post(ledger)


@pytest.mark.parametrize("text", ["ns.bank.test", "127.0.0.1:x", "127.0.0.1:0", "127.0.0.1:70000", "[::1", "::1:z"])
@shells
def test_what_is_no_nameserver_is_refused_at_once(open_ledger: Open, text: str) -> None:
    with pytest.raises(ValueError, match="is no nameserver"):
        open_ledger("http://a", nameservers=[text])


# --- where a try hangs


@shells
def test_a_server_that_hangs_costs_one_delay_and_is_left(open_ledger: Open) -> None:
    with regions(["hang_after"] * 100, []) as servers:
        with LittleNameserver(api=["127.0.1.1", "127.0.2.1"]) as nameserver:
            url = f"http://api.bank.test:{servers[0].port}"
            with open_ledger(url, nameservers=[nameserver.place], limits=HEDGED, deadline_s=19) as ledger:
                for _ in range(5):
                    post(ledger)
        assert asked_for(servers) == [1, 5]
        assert set(servers[0].done.values()) == {1}
        assert len(servers[0].done) == 5


@shells
@pytest.mark.parametrize("word", ["cut_after", "bad_gateway", "noise", "half", "reset_after", "busy"])
def test_a_bad_answer_of_the_second_server_does_not_end_the_first(open_ledger: Open, word: Word) -> None:
    with regions(["hang_before"], [word, "serve"]) as servers:
        urls = [server.url for server in servers]
        limits = Limits(hedge_s=0.05, try_timeout_s=1, avoid_s=60, backoff_s_min=0.001, backoff_s_max=0.01)
        with open_ledger(*urls, limits=limits) as ledger:
            post(ledger)
        assert list(servers[0].done.values()) == [1]


SERVER = """
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"id":"a","outcome":"posted","position":1}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("Ledger-Position", "1")
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 100
server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@contextmanager
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server that can be stopped and killed."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server, f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


@shells
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_server_that_is_stopped_or_killed_between_requests_fails_none(open_ledger: Open, how: signal.Signals) -> None:
    with process() as (first, one), process() as (_, two), open_ledger(one, two, limits=HEDGED) as ledger:
        for _ in range(3):
            post(ledger)
        os.kill(first.pid, how)
        for _ in range(10):
            post(ledger)
        picked = ledger.operations.session.servers.pick(float("inf"))
        assert picked.url == two


def test_many_threads_pass_a_server_that_stops_answering() -> None:
    with process() as (first, one), process() as (_, two), Ledger(one, two, limits=HEDGED) as ledger:
        posted = []

        def work() -> None:
            for n in range(40):
                if n == 20:
                    os.kill(first.pid, signal.SIGSTOP)
                posted.append(ledger.post(source="a", destination="b", amount=1).outcome)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert posted == ["posted"] * 640


def test_many_tasks_pass_a_server_that_stops_answering() -> None:
    async def work(ledger: AsyncLedger, pid: int) -> list[str]:
        outcomes = []
        for n in range(40):
            if n == 20:
                os.kill(pid, signal.SIGSTOP)
            outcomes.append((await ledger.post(source="a", destination="b", amount=1)).outcome)
        return outcomes

    async def load(pid: int, *urls: str) -> list[list[str]]:
        async with AsyncLedger(*urls, limits=HEDGED) as ledger:
            return await asyncio.gather(*(work(ledger, pid) for _ in range(16)))

    with process() as (first, one), process() as (_, two):
        assert asyncio.run(load(first.pid, one, two)) == [["posted"] * 40] * 16


def test_a_closed_client_leaves_no_thread_even_where_a_server_hangs() -> None:
    def ours() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "fivenines-client"]

    with regions(["serve", "hang_before"], []) as servers:
        with Ledger(*(server.url for server in servers), limits=HEDGED) as ledger:
            post(ledger)
            post(ledger)
            assert ours()
        assert not ours()


def wait_until_hung_up(server: UnrulyLedger) -> int:
    """Wait until the clients of a server have ended all their connections, and return how many those were."""
    connections = list(server._connections)
    for connection in connections:
        assert connection.recv(1, socket.MSG_PEEK) == b""
    return len(connections)


def test_a_try_that_lost_is_hung_up_on() -> None:
    with (
        regions(["serve", "hang_before"], []) as servers,
        Ledger(*(server.url for server in servers), limits=HEDGED) as ledger,
    ):
        post(ledger)
        post(ledger)
        assert wait_until_hung_up(servers[0]) == 1


@shells
def test_connections_to_a_region_that_was_left_are_closed_after_a_while(
    open_ledger: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fivenines.client.shell.KEEP_IDLE_S", 0.01)
    with regions(["serve", "busy"], []) as servers:
        with open_ledger(*(server.url for server in servers), limits=HEDGED) as ledger:
            post(ledger)
            post_until(ledger, lambda: bool(servers[1].paths))
            while not servers[0].hung_up.is_set():
                post(ledger)
        assert len(servers[0].paths) == 2


def test_a_task_that_is_cancelled_leaves_no_other_behind() -> None:
    async def cancel(server: UnrulyLedger, *urls: str) -> int:
        async with AsyncLedger(*urls, limits=HEDGED) as ledger:
            task = asyncio.create_task(ledger.post(source="a", destination="b", amount=1))
            await asyncio.to_thread(server.arrived.wait)
            task.cancel()
            await asyncio.wait({task})
            return len(asyncio.all_tasks())

    with regions(["hang_before"], ["hang_before"]) as servers:
        assert asyncio.run(cancel(servers[1], *(server.url for server in servers))) == 1


def test_a_connection_whose_request_was_cancelled_is_never_used_again() -> None:
    async def cancel_and_go_on(server: UnrulyLedger) -> int:
        async with AsyncLedger(server.url) as ledger:
            task = asyncio.create_task(ledger.post(source="a", destination="b", amount=1))
            await asyncio.to_thread(server.arrived.wait)
            before = set(ledger._connections._all)
            task.cancel()
            await asyncio.wait({task})
            await ledger.post(source="a", destination="b", amount=1)
            return len(before & set(ledger._connections._all))

    with UnrulyLedger(["hang_before"]) as server:
        assert asyncio.run(cancel_and_go_on(server)) == 0


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a certificate of api.bank.test."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=api.bank.test "
        f"-addext subjectAltName=DNS:api.bank.test -keyout {path}.key -out {path}".split(),
        check=True,
        capture_output=True,
    )
    return str(path)


@shells
@pytest.mark.parametrize(("name", "is_trusted"), [("api", True), ("other", False)])
def test_certificates_are_judged_by_the_name(
    open_ledger: Open, certificate: str, name: str, *, is_trusted: bool
) -> None:
    with regions([]) as servers, LittleNameserver(**{name: ["127.0.1.1"]}) as nameserver:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate + ".key")
        asked: list[str | None] = []
        context.sni_callback = lambda _socket, server_name, _context: asked.append(server_name)
        servers[0]._http.socket = context.wrap_socket(servers[0]._http.socket, server_side=True)
        with open_ledger(
            f"https://{name}.bank.test:{servers[0].port}",
            nameservers=[nameserver.place],
            tls=ssl.create_default_context(cafile=certificate),
            limits=QUICK,
            deadline_s=10 if is_trusted else 0.5,
        ) as ledger:
            if is_trusted:
                post(ledger)
            else:
                with pytest.raises(NotDoneError, match="certificate"):
                    post(ledger)
        assert set(asked) == {f"{name}.bank.test"}

"""What README.md tells a newcomer to type works as it stands there, in the order in which it stands.

Only addresses are others, so that what runs at the reader's own is in nobody's way, and `fivenines` and `python` are
those of this checkout.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fivenines.drill.members import Cluster, make_cluster, running
from tests.e2e.platforms import free_network, left_of, need_servers
from tests.e2e.serving import Api, run_server
from tests.integration.etcd.clusters import need_etcd

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1:9959"
MEMBERS = "127.0.1.1:2379,127.0.2.1:2379,127.0.3.1:2379"
PLATFORM, ALONE = "Run a platform", "The ledger alone"
OTHERS = ("make ",)
"""Lines that other tests are about: `make demo` is run by CI, `make test` runs this."""
WATCH_S = 60.0
"""A machine may be busy with other tests; nothing here waits for so long where all is well."""


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Cluster]:
    """Three members of the test's own."""
    need_etcd()
    with running(make_cluster(tmp_path / "etcd")) as cluster:
        yield cluster


def blocks(section: str, language: str) -> list[str]:
    """The code blocks in one language of one section of README.md; of what stands before all sections: ''."""
    parts = re.split(r"^## (.*)\n", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    text = dict(zip(["", *parts[1::2]], parts[::2], strict=True))[section]
    return blocks_of(text, language)


def blocks_of(text: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content.replace("\\\n", "") for name, content in found if name == language]


def all_lines() -> list[str]:
    """The lines of all plain blocks of README.md, a line that goes on joined with the next."""
    return [line for block in blocks_of((ROOT / "README.md").read_text(), "") for line in block.splitlines()]


def lines(section: str, *programs: str) -> list[str]:
    """Those lines of a section's plain blocks that begin with one of the programs; of none: all."""
    found = [line for block in blocks(section, "") for line in block.splitlines()]
    return [line for line in found if not programs or line.split(maxsplit=1)[0] in programs]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder to put first on the PATH, with the `fivenines` of this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "fivenines").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fivenines "$@"\n')
    (folder / "fivenines").chmod(0o755)
    return folder


def environment(programs: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FIVENINES_")}
    return kept | {"PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "200", "NO_COLOR": "1"}


def type_in(line: str, programs: Path, folder: Path, address: str = "") -> str:
    """Type a line into a shell as it stands, but for the address, and return what it printed."""
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace(ADDRESS, address or ADDRESS)],
        cwd=folder,
        env=environment(programs) | ({"FIVENINES_URL": f"http://{address}"} if address else {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def host(api: Api) -> str:
    return api.server.url.removeprefix("http://")


def test_each_line_of_the_readme_is_run_by_a_test() -> None:
    run = {*lines(PLATFORM), *lines(ALONE)}
    assert [line for line in all_lines() if line not in run and not line.startswith(OTHERS)] == []
    assert len(lines(PLATFORM)) >= 10
    assert {line.split(maxsplit=1)[0] for line in lines(ALONE)} == {"fivenines", "curl"}
    assert len(lines(ALONE)) >= 12


def test_the_curl_lines_move_money(tmp_path: Path, programs: Path) -> None:
    with run_server(tmp_path / "data") as api:
        printed = [type_in(line, programs, tmp_path, host(api)) for line in lines(ALONE, "curl")]
        assert [each for each in printed if "/problems/" in each] == []
        assert '"balance":1250' in printed[-1]
        assert api.balance("customers:bob") == 1250


@pytest.mark.timeout(600)
def test_the_command_lines_do_what_they_say(tmp_path: Path, programs: Path) -> None:
    """`fivenines serve` on a folder of this test's own, and all others beside it while it runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    serve, *others = (line for line in lines(ALONE, "fivenines") if MEMBERS not in line)
    assert serve.split()[1] == "serve"
    log = tmp_path / "serve.log"
    with log.open("w") as stderr:
        line = f"exec {serve.partition('#')[0]} --port {address.rpartition(':')[2]}"
        server = subprocess.Popen(["/bin/sh", "-c", line], cwd=tmp_path, env=environment(programs), stderr=stderr)
    try:
        while not is_ready(address):
            assert server.poll() is None, log.read_text()
        printed = {line.split()[1]: type_in(line, programs, tmp_path, address) for line in others}
    finally:
        server.terminate()
        assert server.wait(60) == 0
    assert "Next: fivenines import berka bank" in printed["generate"]
    assert "not equal" in printed["import"]
    assert "berka:bank:" in printed["balance"]
    assert "sound" in printed["journal"]
    assert "transactions/s" in printed["bench"]
    assert (tmp_path / "data").is_dir()


def test_the_lines_about_regions_begin_a_journal_and_serve_from_it(
    tmp_path: Path, programs: Path, etcd: Cluster
) -> None:
    found, serve = (line for line in lines(ALONE, "fivenines") if MEMBERS in line)
    members = ",".join(etcd.endpoints)
    assert "there is a journal" in type_in(found.replace(MEMBERS, members), programs, tmp_path, ADDRESS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    line = f"exec {serve.replace(MEMBERS, members)} --port {address.rpartition(':')[2]}"
    log = tmp_path / "serve.log"
    with log.open("w") as stderr:
        server = subprocess.Popen(["/bin/sh", "-c", line], cwd=tmp_path, env=environment(programs), stderr=stderr)
    try:
        while not is_ready(address):
            assert server.poll() is None, log.read_text()
        said = httpx.get(f"http://{address}/v1/platform").json()
    finally:
        server.terminate()
        assert server.wait(60) == 0
    assert (said["region"], said["node"], [each["name"] for each in said["nodes"]]) == (
        *("eu-west", "eu-west-1"),
        ["eu-west-1"],
    )


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/ready").status_code == 200
    except httpx.TransportError:
        return False


# --- the platform


class Typed:
    """A platform that README's first line brought up, and its other lines typed beside it.

    All of README's addresses are in 127.0.*: here they are in another network, the same in `up` and everywhere else.
    """

    def __init__(self, network: int, programs: Path, folder: Path) -> None:
        self.net = f"127.{network}."
        self._programs, self._folder = programs, folder

    def line(self, *words: str) -> str:
        """The one line of the section that has all of these words, with the network of this test."""
        (found,) = (line for line in lines(PLATFORM)[1:] if all(word in line for word in words))
        return found.replace("127.0.", self.net)

    def type(self, *words: str) -> str:
        """Type that line in, and return what it printed."""
        return type_in(self.line(*words), self._programs, self._folder)

    def watch(self, *words: str, until: str) -> str:
        """Type a line in that goes on until Ctrl-C, look at it for a while, and press Ctrl-C."""
        with subprocess.Popen(
            ["/bin/sh", "-c", f"exec {self.line(*words).partition('#')[0]}"],
            cwd=self._folder,
            env=environment(self._programs) | {"FORCE_COLOR": "1"},  # as on a terminal
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdout is not None
            printed = ""
            for line in watching.stdout:
                printed += line
                if until in line:
                    break
            watching.send_signal(signal.SIGINT)
            printed += watching.stdout.read()
            assert watching.wait(30) == 0, printed
        return printed

    def move_money(self) -> None:
        """Run the Python example."""
        (example,) = blocks(PLATFORM, "python")
        program = example.replace("127.0.", self.net)
        assert program != example
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

    def wait_until_all_serve(self) -> None:
        """Wait: on a busy machine a region may still be coming to itself when `up` says that all of it runs."""
        self._wait("view", lambda view: [each["phase"] for each in view["states"].values()] == ["serving"] * 3)

    def wait_until_told(self, what: str) -> None:
        """Wait until something is in the timeline."""
        self._wait("timeline", lambda events: any(what in event["what"] for event in events))

    def _wait(self, page: str, holds: Callable[[Any], bool]) -> None:
        """Wait until something holds of a page of eu-west's controller."""
        until = time.monotonic() + WATCH_S
        while True:
            answer = httpx.get(f"http://{self.net}1.1:9902/v1/{page}", timeout=10)
            if answer.status_code == 200 and holds(answer.json()):
                return
            assert time.monotonic() < until, answer.text
            time.sleep(0.1)

    def stop_what_steers(self) -> None:
        """Stop all controllers, and with them the changes of names, and all historians, and services."""
        for region in (1, 2, 3):
            url = f"http://{self.net}{region}.1:9901/v1/stop?keep=journal,edge,nameserver,node"
            # us-east may be away yet.
            with httpx.Client(transport=httpx.HTTPTransport(retries=10), timeout=60) as patient:
                assert patient.post(url).status_code == 200

    def alice(self) -> int:
        """What the Python example has moved so far."""
        found = httpx.get(
            f"http://{self.net}2.1:9959/v1/accounts/customers:alice", params={"consistency": "linearizable"}
        )
        return int(found.json()["balance"])


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """What we start hears Ctrl-C, although we may have been started in the background, where that is not heard."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def platform(tmp_path: Path, programs: Path, hears_ctrl_c: None) -> Iterator[Typed]:
    """`fivenines up`, as README says it but for the network, in a folder of this test's own; stopped by Ctrl-C."""
    need_servers()
    network = free_network()
    first = lines(PLATFORM)[0]
    assert first.split() == ["fivenines", "up"]
    log = tmp_path / "up.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            ["/bin/sh", "-c", f"exec {first} --network {network}"],
            cwd=tmp_path,
            env=environment(programs),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as up,
    ):
        assert up.stdout is not None
        try:
            for line in up.stdout:
                if "Ctrl-C stops it" in line:
                    break
            assert up.poll() is None, log.read_text()
            yield Typed(network, programs, tmp_path)
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(120) == 0, log.read_text()
    assert left_of(tmp_path) == ""


@pytest.mark.timeout(600)
def test_the_lines_about_the_platform_do_what_they_say(platform: Typed) -> None:
    platform.wait_until_all_serve()
    regions = [f"{platform.net}{number}.1" for number in (1, 2, 3)]
    assert '"region":"eu-west"' in platform.type("curl", "/v1/platform")
    if shutil.which("dig"):
        answer = platform.type("dig", "api.bank.test").split()
        assert len(set(answer)) == len(answer) >= 2
        assert set(answer) <= set(regions)
    watched = platform.watch("status", "--watch", until="error budget")
    assert [region for region in ("eu-west", "eu-north", "us-east") if region not in watched] == []
    assert "accepted" in platform.type("fivenines plan")

    platform.move_money()
    assert platform.alice() == 1250
    assert "customers:alice" in platform.type("fivenines balance")

    assert "eu-north: evacuated" in platform.type("region evacuate")
    back = platform.type("region return")
    assert re.search(r"reads.*\n.*few.*\n.*serving", back), back
    assert "eu-west-1 is back" in platform.type("node restart")

    platform.type("kill -9")
    platform.move_money()  # and nobody notices
    assert platform.alice() == 2500
    platform.wait_until_told("us-east -> down")
    told = platform.type("fivenines timeline")
    assert "us-east -> down" in told
    assert re.search(r"order .*evacuate eu-north.*power works", told)

    platform.stop_what_steers()
    platform.move_money()
    assert platform.alice() == 3750


def test_dig_is_at_hand() -> None:
    if not shutil.which("dig"):
        pytest.skip("dig is not installed, so the lines with it were not run: Debian has it in bind9-dnsutils")
    assert lines(PLATFORM, "dig")

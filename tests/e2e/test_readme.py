"""What README.md tells a newcomer to type works as it stands there, in the order in which it stands.

Only the address is another, so that a server of the reader's own is in nobody's way, and `fivenines` and `python` are
those of this checkout.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fivenines.drill.members import Cluster, make_cluster, running
from tests.e2e.serving import Api, run_server
from tests.integration.etcd.clusters import need_etcd

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1:9959"
MEMBERS = "127.0.1.1:2379,127.0.2.1:2379,127.0.3.1:2379"
OTHERS = ("make ",)
"""Lines that other tests are about: `make demo` is run by CI, `make test` runs this."""


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Cluster]:
    """Three members of the test's own."""
    need_etcd()
    with running(make_cluster(tmp_path / "etcd")) as cluster:
        yield cluster


def blocks(language: str) -> list[str]:
    """The code blocks of README.md in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [content for name, content in found if name == language]


def command_lines() -> list[str]:
    """The lines of all plain blocks, a line that goes on joined with the next."""
    return [line for block in blocks("") for line in block.replace("\\\n", "").splitlines()]


def commands(*programs: str) -> list[str]:
    """Those command lines that begin with one of the programs."""
    return [line for line in command_lines() if line.split(maxsplit=1)[0] in programs]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder to put first on the PATH, with the `fivenines` of this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "fivenines").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fivenines "$@"\n')
    (folder / "fivenines").chmod(0o755)
    return folder


def type_in(line: str, programs: Path, folder: Path, address: str) -> str:
    """Type a line into a shell as it stands, but for the address, and return what it printed."""
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace(ADDRESS, address)],
        cwd=folder,
        env=os.environ | {"PATH": path, "FIVENINES_URL": f"http://{address}", "COLUMNS": "200", "NO_COLOR": "1"},
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
    run = {*commands("fivenines"), *commands("curl")}
    assert [line for line in command_lines() if line not in run and not line.startswith(OTHERS)] == []
    assert len(commands("curl")) >= 4
    assert len(commands("fivenines")) >= 6


def test_the_python_example_moves_money(tmp_path: Path) -> None:
    (example,) = blocks("python")
    with run_server(tmp_path / "data") as api:
        program = example.replace(ADDRESS, host(api))
        assert program != example
        for amount in (1250, 2500):  # a second run finds the accounts open, and moves as much again
            subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
            assert api.balance("customers:alice") == amount


def test_the_curl_lines_move_money(tmp_path: Path, programs: Path) -> None:
    with run_server(tmp_path / "data") as api:
        printed = [type_in(line, programs, tmp_path, host(api)) for line in commands("curl")]
        assert [each for each in printed if "/problems/" in each] == []
        assert '"balance":1250' in printed[-1]
        assert api.balance("customers:bob") == 1250


@pytest.mark.timeout(600)
def test_the_command_lines_do_what_they_say(tmp_path: Path, programs: Path) -> None:
    """`fivenines serve` on a folder of this test's own, and all others beside it while it runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    serve, *others = (line for line in commands("fivenines") if MEMBERS not in line)
    assert serve.split()[1] == "serve"
    log = tmp_path / "serve.log"
    with log.open("w") as stderr:
        line = f"exec {serve.partition('#')[0]} --port {address.rpartition(':')[2]}"
        server = subprocess.Popen(
            ["/bin/sh", "-c", line],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
            stderr=stderr,
        )
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
    found, serve = (line for line in commands("fivenines") if MEMBERS in line)
    members = ",".join(etcd.endpoints)
    assert "there is a journal" in type_in(found.replace(MEMBERS, members), programs, tmp_path, ADDRESS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    line = f"exec {serve.replace(MEMBERS, members)} --port {address.rpartition(':')[2]}"
    log = tmp_path / "serve.log"
    with log.open("w") as stderr:
        server = subprocess.Popen(
            ["/bin/sh", "-c", line],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
            stderr=stderr,
        )
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

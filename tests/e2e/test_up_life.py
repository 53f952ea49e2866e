"""The life of a platform, from its first process to its last: it goes on from its data, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fivenines.cli import app
from fivenines.client import Ledger
from fivenines.platform.local.dying import dying_with_us
from fivenines.platform.topology import PORTS
from fivenines.traffic.edge import process as edge_process
from tests.e2e.platforms import Played, free_network, left_of, need_servers, played, wait_until_nothing_is_left

pytestmark = pytest.mark.alone

UP = (sys.executable, "-m", "fivenines", "up")


def ledger_of(on: Played) -> Ledger:
    topology = on.platform.topology
    return Ledger(topology.url, nameservers=topology.nameservers, deadline_s=60)


def pids(on: Played) -> list[int]:
    """The process ids of all workloads, and of the agents."""
    found = []
    for region in on.platform.regions:
        seen = on.do(on.platform.agents.seen(region))
        found += [seen.pid, *(each.pid for each in seen.workloads if each.pid is not None)]
    return found


@pytest.mark.timeout(600)
def test_a_platform_goes_on_from_its_data_however_it_ended(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with played(folder) as on:
        with ledger_of(on) as ledger:
            ledger.create_asset("EUR/2")
            ledger.open_account("bank:cash", asset="EUR/2", min_balance=None)
            ledger.open_account("customers:alice", asset="EUR/2")
            ledger.post(source="bank:cash", destination="customers:alice", amount=10_000)
            position = ledger.platform().position
        first = pids(on)
        assert len(first) == 3 * 8

        on.do(on.platform.stop())  # as Ctrl-C does; it fails unless the exit status is 0
        assert left_of(folder) == ""
        assert [pid for pid in first if Path(f"/proc/{pid}").exists()] == []
        done = on.command("status")
        assert done.returncode == 1, "nothing runs: nothing is well"

        on.do(on.platform.start())
        with ledger_of(on) as ledger:
            assert ledger.account("customers:alice").balance == 10_000
            assert ledger.platform().position >= position
            ledger.post(source="bank:cash", destination="customers:alice", amount=1)

        if dying_with_us():
            os.kill(on.platform.pid, signal.SIGKILL)
            assert wait_until_nothing_is_left(folder) == ""


@pytest.mark.timeout(300)
def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    need_servers()
    command = [*UP, "--folder", str(tmp_path / "data"), "--network", str(free_network())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        try:
            until = time.monotonic() + 120
            while "etcd --name" not in left_of(tmp_path) and time.monotonic() < until:
                assert up.poll() is None
                time.sleep(0.05)
            up.send_signal(signal.SIGINT)
            said, _ = up.communicate(timeout=120)
        finally:
            up.kill()
    assert up.returncode == 0, said
    assert "Traceback" not in said
    assert left_of(tmp_path) == ""


def refused(*words: str, **environment: str) -> str:
    """What `fivenines up` says when it refuses."""
    done = subprocess.run(
        [*UP, *words], capture_output=True, text=True, check=False, timeout=120, env=os.environ | environment
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_error_in_a_platform_yaml_names_its_line(tmp_path: Path) -> None:
    need_servers()
    path = tmp_path / "platform.yaml"
    path.write_text("platform: bank\nregions:\n  - name: eu-west\n    providr: local-a\n")
    said = refused(str(path), "--folder", str(tmp_path / "data"))
    assert "platform.yaml:4" in said
    assert "providr" in said
    assert left_of(tmp_path) == ""


def test_a_platform_that_could_not_keep_its_promise_is_refused(tmp_path: Path) -> None:
    need_servers()
    path = tmp_path / "platform.yaml"
    path.write_text("platform: bank\nregions:\n  - {name: eu-west, provider: local-a, location: dublin}\n")
    said = refused(str(path), "--folder", str(tmp_path / "data"))
    assert "region" in said
    assert left_of(tmp_path) == ""


def test_a_machine_without_etcd_is_told_what_to_install(tmp_path: Path) -> None:
    said = refused("--folder", str(tmp_path / "data"), PATH=str(tmp_path))
    assert "not installed: etcd-server" in said
    assert "apt-get install etcd-server" in said


def test_a_machine_without_haproxy_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(edge_process, "_FOLDERS", (str(tmp_path),))  # it is found beside the PATH as well
    done = CliRunner().invoke(app, ["up", "--folder", str(tmp_path / "data")])
    assert done.exit_code == 1
    assert "apt-get install etcd-server haproxy" in " ".join(done.output.split())


@pytest.mark.parametrize("part", ["edge", "journal", "node"])
def test_an_address_that_is_taken_is_named(part: str, tmp_path: Path) -> None:
    need_servers()
    network = free_network()
    port = {"edge": PORTS.edge, "journal": PORTS.journal, "node": PORTS.nodes + 2}[part]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((f"127.{network}.2.1", port))
        taken.listen()
        said = refused("--folder", str(tmp_path / "data"), "--network", str(network))
    assert f"127.{network}.2.1:{port}: Address already in use" in said
    assert "--network" in said
    assert left_of(tmp_path) == ""

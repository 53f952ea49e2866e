"""What `up` refuses before it starts anything, and whose network it takes away."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fivenines.cli.output import CommandFailedError
from fivenines.cli.up import _check_folders
from fivenines.platform.builtin import BUILT_IN
from fivenines.platform.loading import parse
from fivenines.platform.local import isolation, up
from fivenines.platform.local.isolation import IsolationError, Network
from fivenines.platform.local.up import Up, UpError
from fivenines.platform.spec import Platform, Probe, Probes
from fivenines.platform.topology import Topology, make_topology
from tests.unit.platform.platforms import platform, region, service

BUILT = parse(BUILT_IN).platform
HOLD = """
import sys
from pathlib import Path
from fivenines.platform.local import isolation
isolation._LOCKS = Path(sys.argv[1])
network = isolation.Network.__new__(isolation.Network)
network._lock = None
network._topology = type("Topology", (), {"network": 7})
print(network._hold(), flush=True)
sys.stdin.read()
"""


def placed(spec: Platform, folder: Path) -> Topology:
    return make_topology(spec, folder, home=folder)


def refused(topology: Topology) -> UpError:
    """Start a platform that has to be refused before anything of it runs."""
    with pytest.raises(UpError) as caught:
        asyncio.run(Up(topology).start())
    assert not (topology.path / "platform.json").exists()
    return caught.value


# --- the edges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (platform(services=(service(name="ledger"),)), "'ledger' is there twice"),
        (platform(regions=(region("eu", "a"), region("eu-1", "b"), region("us", "c"))), "'eu-1' is there twice"),
        (platform(services=(service(probes=Probes(readiness=Probe(path="/health:ready"))),)), "/health:ready"),
    ],
)
def test_what_an_edge_cannot_do_is_told_at_once(spec: Platform, expected: str, tmp_path: Path) -> None:
    error = refused(placed(spec, tmp_path))
    assert expected in str(error)
    assert "platform-yaml.md" in error.hint


def test_a_folder_in_which_haproxy_takes_no_socket_is_told_at_once() -> None:
    error = refused(placed(BUILT, Path("/srv/my project")))
    assert "no blanks" in str(error)
    assert "/srv/my project/" in str(error)
    assert error.hint == "choose a --folder without them"


def test_a_service_in_a_folder_that_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    text = f"{BUILT_IN}\nservices:\n- {{name: pay, command: [./pay], port: 8081, edge_port: 9980, folder: FOLDER}}\n"
    line = text.splitlines().index(text.splitlines()[-1]) + 1
    with pytest.raises(
        CommandFailedError, match=rf"platform.yaml:{line}: services\[0\].folder: .*nowhere is no folder"
    ):
        _check_folders(parse(text.replace("FOLDER", "nowhere")), tmp_path)
    (tmp_path / "here").mkdir()
    _check_folders(parse(text.replace("FOLDER", "here")), tmp_path)
    _check_folders(parse(text.replace(", folder: FOLDER", "")), tmp_path)


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "command"), [(socket.SOCK_DGRAM, "ss -lunp"), (socket.SOCK_STREAM, "ss -ltnp")])
def test_who_has_a_port_on_all_addresses_is_not_got_round_by_another_network(
    kind: socket.SocketKind, command: str
) -> None:
    for host, is_everywhere in (("0.0.0.0", True), ("127.0.0.1", False)):
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind((host, 0))
            if kind == socket.SOCK_STREAM:
                other.listen()
            with pytest.raises(UpError) as caught:
                up._check_free("127.0.0.1", other.getsockname()[1], kind)
        assert (command in caught.value.hint) is is_everywhere
        assert ("choose another --network" in caught.value.hint) is not is_everywhere


# --- networks of their own --------------------------------------------------------------------------------------------


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is done to the kernel, in whose place there is nothing."""
    found: list[str] = []
    monkeypatch.setattr(isolation, "_LOCKS", tmp_path / "locks")
    monkeypatch.setattr(isolation, "why_not", lambda: None)
    monkeypatch.setattr(Network, "_clear", lambda _self: found.append("clear"))
    monkeypatch.setattr(Network, "_build", lambda _self: found.append("build"))
    return found


def apart(folder: Path, network: int = 7) -> Network:
    return Network(make_topology(BUILT, folder, home=folder, network=network, isolation="netns"))


def test_a_second_platform_leaves_the_network_of_the_one_that_runs(done: list[str], tmp_path: Path) -> None:
    first, second = apart(tmp_path / "a"), apart(tmp_path / "b")
    first.make()
    assert done == ["clear", "build"]
    with pytest.raises(IsolationError, match=r"^network 7 is that of a platform .* process \d+: choose another --net"):
        second.make()
    second.remove()
    assert done == ["clear", "build"]
    apart(tmp_path / "b", network=8).make()
    first.remove()
    assert done == ["clear", "build", "clear", "build", "clear"]
    second.make()
    assert done[5:] == ["clear", "build"]


def test_what_a_killed_platform_left_is_taken_away(done: list[str], tmp_path: Path) -> None:
    other = apart(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "locks")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        other.remove()
        with pytest.raises(IsolationError, match=f"process {process.pid}:"):
            other.make()
        assert done == []
        process.kill()
        process.wait()
        other.remove()
    assert done == ["clear"]
    other.remove()
    assert done == ["clear", "clear"]


def test_a_child_does_not_keep_the_lock(done: list[str], tmp_path: Path) -> None:
    first, second = apart(tmp_path / "a"), apart(tmp_path / "b")
    first.make()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False):
        first.remove()
        second.make()
    assert done == ["clear", "build", "clear", "clear", "build"]


def test_without_the_library_there_is_nothing_to_take_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(isolation, "_has_capabilities", lambda: True)
    network = apart(tmp_path)
    with pytest.raises(IsolationError, match="pyroute2 is not installed"):
        network.make()
    network.remove()

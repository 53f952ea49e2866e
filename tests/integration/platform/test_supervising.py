"""A workload is begun again when it ends, asked how it is, and stopped in the right order. On real processes."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from fivenines.drill.members import free_ports
from fivenines.platform.local.program import Probe, Program
from fivenines.platform.local.supervising import Workload
from tests.integration.platform.supervised import supervised

SERVER = Path(__file__).with_name("small_server.py")


class Edge:
    """Writes down what it is told; `busy` requests are in flight, one less each time somebody asks."""

    def __init__(self, folder: Path, busy: int = 0) -> None:
        self._folder = folder
        self.busy = busy
        self.told: list[str] = []

    async def ready(self, _program: Program) -> None:
        self.told.append("ready")

    async def drain(self, _program: Program) -> None:
        self.told.append("drain")

    async def in_flight(self, _program: Program) -> int:
        self.told.append(f"busy {self.busy}")
        self.busy = max(0, self.busy - 1)
        return self.busy


def program_in(folder: Path, *, timeout_s: float = 2.0, **changes: Any) -> Program:
    (port,) = free_ports(1)
    probe = Probe(port=port, path="/live", interval_s=0.05, timeout_s=timeout_s, failures=3)
    program = Program(
        name="small",
        role="service",
        command=(sys.executable, str(SERVER), str(port), str(folder)),
        folder=folder,
        startup=Probe(port=port),
        readiness=msgspec.structs.replace(probe, path="/ready"),
        liveness=probe,
        stop_s_max=10.0,
        is_in_edge=True,
    )
    return msgspec.structs.replace(program, **changes)


def run(test: Callable[[Workload, Edge], Awaitable[None]], tmp_path: Path, edge: Edge, **changes: Any) -> None:
    async def whole() -> None:
        folder = tmp_path / "small"
        folder.mkdir(exist_ok=True)
        async with supervised(tmp_path, program_in(folder, **changes), edge) as workload:
            await test(workload, edge)

    asyncio.run(whole())


async def until(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.01)
    return True


def test_a_workload_that_is_killed_is_begun_again(tmp_path: Path) -> None:
    async def test(workload: Workload, edge: Edge) -> None:
        await workload.wait_ready(30)
        first = workload.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert await until(lambda: workload.pid not in {None, first} and workload.seen().state == "ready")
        assert workload.seen().restarts == 1
        assert edge.told == ["ready", "ready"]

    run(test, tmp_path, Edge(tmp_path))


def test_a_workload_that_hangs_is_ended_and_begun_again(tmp_path: Path) -> None:
    async def test(workload: Workload, _edge: Edge) -> None:
        await workload.wait_ready(30)
        first = workload.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        assert await until(lambda: workload.pid not in {None, first} and workload.seen().state == "ready")

    run(test, tmp_path, Edge(tmp_path), timeout_s=0.3)


def test_one_that_is_not_ready_is_not_restarted(tmp_path: Path) -> None:
    async def test(workload: Workload, _edge: Edge) -> None:
        await workload.wait_ready(30)
        pid = workload.pid
        (tmp_path / "small" / "ready").touch()
        assert await until(lambda: workload.seen().state == "unready")
        assert "503" in workload.seen().reason
        (tmp_path / "small" / "ready").unlink()
        assert await until(lambda: workload.seen().state == "ready")
        assert workload.pid == pid

    run(test, tmp_path, Edge(tmp_path))


def test_one_that_does_not_live_is_restarted(tmp_path: Path) -> None:
    async def test(workload: Workload, _edge: Edge) -> None:
        await workload.wait_ready(30)
        pid = workload.pid
        (tmp_path / "small" / "live").touch()
        assert await until(lambda: workload.pid not in {None, pid})
        (tmp_path / "small" / "live").unlink()
        await workload.wait_ready(30)
        assert workload.seen().restarts >= 1

    run(test, tmp_path, Edge(tmp_path))


def test_a_restart_leaves_the_edge_first_and_waits_for_what_is_in_flight(tmp_path: Path) -> None:
    async def test(workload: Workload, edge: Edge) -> None:
        await workload.wait_ready(30)
        first = workload.pid
        await workload.restart()
        assert workload.pid != first
        assert edge.told == ["ready", "drain", "busy 3", "busy 2", "busy 1", "ready"]

    run(test, tmp_path, Edge(tmp_path, busy=3))


def test_one_that_is_drained_gets_nothing_even_when_it_is_begun_again(tmp_path: Path) -> None:
    async def test(workload: Workload, edge: Edge) -> None:
        await workload.wait_ready(30)
        await workload.drain()
        first = workload.pid
        assert workload.seen().state == "draining"
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert await until(lambda: workload.pid not in {None, first} and workload.seen().state == "draining")
        assert edge.told[-1] == "drain"
        await workload.undrain()
        assert workload.seen().state == "ready"
        assert edge.told[-1] == "ready"

    run(test, tmp_path, Edge(tmp_path))


def test_one_that_is_deaf_to_a_stop_is_killed(tmp_path: Path) -> None:
    async def test(workload: Workload, _edge: Edge) -> None:
        await workload.wait_ready(30)
        (tmp_path / "small" / "stubborn").touch()
        await workload.stop()
        assert workload.pid is None

    run(test, tmp_path, Edge(tmp_path), stop_s_max=0.3)


def test_a_replaced_one_begins_with_an_empty_folder(tmp_path: Path) -> None:
    async def test(workload: Workload, _edge: Edge) -> None:
        await workload.wait_ready(30)
        (tmp_path / "small" / "data").touch()
        await workload.replace()
        assert not (tmp_path / "small" / "data").exists()
        assert (tmp_path / "small" / "starts").read_text() == "x"

    run(test, tmp_path, Edge(tmp_path))


def test_a_program_that_is_not_there_is_tried_again_and_says_so(tmp_path: Path) -> None:
    async def test(workload: Workload, _edge: Edge) -> None:
        assert await until(lambda: workload.seen().state == "backoff")
        assert "no-such-program" in workload.seen().reason

    run(test, tmp_path, Edge(tmp_path), command=("no-such-program",))


def test_what_it_says_is_in_the_log_with_its_region_and_part(tmp_path: Path) -> None:
    async def test(workload: Workload, _edge: Edge) -> None:
        await workload.wait_ready(30)
        assert workload.seen().state == "ready"

    run(test, tmp_path, Edge(tmp_path))
    lines = [msgspec.json.decode(line) for line in (tmp_path / "platform.log").read_bytes().splitlines()]
    assert {"region": "eu-west", "part": "small", "event": "serving"} in lines
    assert {line["event"] for line in lines} >= {"workload.started", "workload.ready"}

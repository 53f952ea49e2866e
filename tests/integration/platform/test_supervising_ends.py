"""One process at a time, on an empty folder where that was asked for, and nothing left of it. On real processes."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from fivenines.drill.members import free_ports
from fivenines.platform.local.processes import end_group
from fivenines.platform.local.program import Probe, Program
from fivenines.platform.local.supervising import NotEmptiedError, Workload
from tests.integration.platform.supervised import supervised

SERVER = Path(__file__).with_name("small_server.py")
SHELL_WITH_CHILD = ("/bin/sh", "-c", "sleep 97.31; true")
"""A shell that has a child, for it has something to do after that."""


class Rmtree:
    """Stands in for `shutil.rmtree`: takes its time, or fails for as long as it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.fails = False
        self._rmtree = shutil.rmtree

    def __call__(self, path: Path, **options: Any) -> None:
        time.sleep(self.seconds)
        if self.fails and not options.get("ignore_errors"):
            raise OSError(16, "Device or resource busy", str(path))
        if not self.fails:
            self._rmtree(path, **options)


@pytest.fixture
def rmtree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rmtree]:
    found = Rmtree()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", found)
        yield found


def run(test: Callable[[Workload], Awaitable[None]], tmp_path: Path, program: Program) -> None:
    async def whole() -> None:
        async with supervised(tmp_path, program) as workload:
            await test(workload)

    uvloop.run(whole())  # as the agent is run


async def until(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.01)
    return True


def server(tmp_path: Path, *, first: str = "true", **changes: Any) -> Program:
    """A server that writes down, when it begins, what it finds in its folder, and then does what `first` says."""
    (port,) = free_ports(1)
    folder = tmp_path / "small"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "data").touch()
    shell = f"echo begun: $(ls {folder}) >> {tmp_path}/found; {first}; exec {sys.executable} {SERVER} {port} {folder}"
    program = Program(
        name="small",
        role="journal",
        command=("/bin/sh", "-c", shell),
        folder=folder,
        startup=Probe(port=port),
        readiness=Probe(port=port, path="/ready", interval_s=0.05),
        stop_s_max=10.0,
    )
    return msgspec.structs.replace(program, **changes)


def found(tmp_path: Path) -> list[str]:
    """What each process found in its folder when it began."""
    return (tmp_path / "found").read_text().splitlines()


def test_a_replaced_one_begins_only_when_its_folder_is_empty(tmp_path: Path, rmtree: Rmtree) -> None:
    async def test(workload: Workload) -> None:
        await workload.wait_ready(30)
        rmtree.seconds = 0.5
        await workload.replace()
        assert found(tmp_path) == ["begun: old", "begun:"]

    run(test, tmp_path, server(tmp_path))


def test_one_that_waits_to_be_begun_again_does_not_begin_while_its_folder_is_emptied(
    tmp_path: Path, rmtree: Rmtree
) -> None:
    async def test(workload: Workload) -> None:
        assert await until(lambda: workload.seen().state == "backoff")
        before = found(tmp_path)
        rmtree.seconds = 1.5
        await workload.replace()
        assert found(tmp_path) == [*before, "begun:"]

    run(test, tmp_path, server(tmp_path, first=f"test -e {tmp_path}/small/old && exit 1"))


def test_one_whose_folder_cannot_be_emptied_does_not_begin_until_it_can(tmp_path: Path, rmtree: Rmtree) -> None:
    async def test(workload: Workload) -> None:
        await workload.wait_ready(30)
        rmtree.fails = True
        with pytest.raises(NotEmptiedError, match="small could not be emptied"):
            await workload.replace()
        assert await until(lambda: workload.seen().state == "backoff")
        assert "resource busy" in workload.seen().reason
        assert workload.pid is None
        rmtree.fails = False
        await workload.wait_ready(30)
        assert found(tmp_path) == ["begun: old", "begun:"]

    run(test, tmp_path, server(tmp_path))


def test_a_folder_that_is_a_link_is_emptied_where_it_points(tmp_path: Path) -> None:
    program = server(tmp_path)
    (tmp_path / "small").rename(tmp_path / "disk")
    (tmp_path / "small").symlink_to(tmp_path / "disk")

    async def test(workload: Workload) -> None:
        await workload.wait_ready(30)
        await workload.replace()
        assert found(tmp_path) == ["begun: old", "begun:"]

    run(test, tmp_path, program)
    assert (tmp_path / "small").is_symlink()


def test_it_is_another_program_only_when_the_one_before_has_ended(tmp_path: Path) -> None:
    program = server(tmp_path, stop_s_max=0.5)
    (tmp_path / "small" / "stubborn").touch()
    other = msgspec.structs.replace(program, env={"JOINS": "1"})

    async def test(workload: Workload) -> None:
        await workload.wait_ready(30)
        first = workload.pid
        replacing = asyncio.create_task(workload.replace(other))
        while workload.pid == first:
            assert workload.program is program
            await asyncio.sleep(0.02)
        await replacing
        assert workload.program is other

    run(test, tmp_path, program)


def test_a_stop_while_it_is_begun_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[asyncio.subprocess.Process] = []
    begin = asyncio.create_subprocess_exec

    async def slowly(*words: Any, **options: Any) -> asyncio.subprocess.Process:
        begun.append(await begin(*words, **options))
        await asyncio.sleep(0.5)
        return begun[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)

    async def test(workload: Workload) -> None:
        assert await until(lambda: bool(begun))
        await workload.stop()
        assert begun[0].returncode is not None
        assert await until(lambda: workload.seen().state == "stopped")
        assert len(begun) == 1

    try:
        run(test, tmp_path, server(tmp_path))
    finally:
        for each in begun:
            if each.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)


def test_an_environment_that_cannot_be_read_is_told_and_it_is_tried_again(tmp_path: Path) -> None:
    env_file = tmp_path / "small.env"
    env_file.write_bytes(b"A=\xff")

    async def test(workload: Workload) -> None:
        assert await until(lambda: workload.seen().state == "backoff")
        assert "can't decode" in workload.seen().reason
        env_file.write_text("A=1")
        await workload.wait_ready(30)

    run(test, tmp_path, server(tmp_path, env_file=env_file))


# --- what a service has started ---------------------------------------------------------------------------------------


def others(group: int) -> list[int]:
    """The processes of a group without its leader, and without those that have ended."""
    members = []
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid, rest = int(each.name), (each / "stat").read_text().rpartition(")")[2].split()
            if int(rest[2]) == group != pid and rest[0] != "Z":
                members.append(pid)
    return members


@pytest.fixture
def groups() -> Iterator[list[int]]:
    """Collects groups, of which nothing is left afterwards."""
    known: list[int] = []
    yield known
    for each in known:
        for pid in others(each):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def service(role: str = "service", command: tuple[str, ...] = SHELL_WITH_CHILD) -> Program:
    return Program(name="small", role=role, command=command)  # type: ignore[arg-type]


async def begun(workload: Workload, groups: list[int], *, after: int | None = None) -> int:
    """Wait until it and its child run, and return its id."""
    assert await until(lambda: workload.pid not in {None, after} and bool(others(workload.pid or 0)))
    assert workload.pid is not None
    groups.append(workload.pid)
    return workload.pid


@pytest.mark.parametrize(
    "command",
    [SHELL_WITH_CHILD, ("/bin/sh", "-c", "trap '' TERM; sleep 97.31 & trap - TERM; wait; true")],
    ids=["willing", "deaf"],
)
def test_a_service_that_is_stopped_leaves_no_child(command: tuple[str, ...], tmp_path: Path, groups: list[int]) -> None:
    async def test(workload: Workload) -> None:
        group = await begun(workload, groups)
        await workload.stop()
        assert others(group) == []

    run(test, tmp_path, service(command=command))


def test_a_service_that_is_killed_leaves_no_child_to_the_next(tmp_path: Path, groups: list[int]) -> None:
    async def test(workload: Workload) -> None:
        first = await begun(workload, groups)
        os.kill(first, signal.SIGKILL)
        await begun(workload, groups, after=first)
        assert others(first) == []

    run(test, tmp_path, service())


def test_a_child_of_ours_may_outlive_us(tmp_path: Path, groups: list[int]) -> None:
    async def test(workload: Workload) -> None:
        group = await begun(workload, groups)
        await workload.stop()
        left = others(group)
        for each in left:
            os.kill(each, signal.SIGKILL)
        await asyncio.sleep(0.2)  # uvloop is not to be closed before it has seen the end of their output
        assert left != []

    run(test, tmp_path, service(role="node"))


def test_a_group_with_a_leader_is_not_touched() -> None:
    async def test() -> None:
        another = await asyncio.create_subprocess_exec("sleep", "97.31", start_new_session=True)
        assert not await end_group(another.pid, number=signal.SIGTERM, patience_s=0.1)
        assert another.returncode is None
        another.kill()
        await another.wait()

    uvloop.run(test())

"""Whatever happens to a drill, its faults are undone: when it is killed, interrupted, or takes too long."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from fivenines.drill.faults.book import Book, undo_left_over
from fivenines.drill.faults.errors import FaultStaysError
from fivenines.drill.faults.force import begun
from fivenines.drill.faults.processes import Process, process_of
from fivenines.drill.faults.starving import find_groups
from fivenines.drill.faults.undoing import Resume
from tests.integration.faults.beginning import slow, stop
from tests.integration.faults.drilling import check_within, drilling, running, wait_until_watched_no_more

BUSY = (sys.executable, "-c", "while True: pass")


def is_running(process: Process) -> bool:
    return process.state() in {"R", "S"}


def test_a_killed_drill_leaves_nothing_stopped(tmp_path: Path) -> None:
    with running("sleep", "600") as hit, drilling(tmp_path, "beginning.stop", hit.pid) as drill:
        assert hit.state() == "T"
        os.kill(drill.pid, signal.SIGKILL)
        check_within(lambda: is_running(hit), "it goes on")
        check_within(lambda: not Book(tmp_path).entries(), "the book is empty")


def test_ctrl_c_undoes_all(tmp_path: Path) -> None:
    with running("sleep", "600") as hit, drilling(tmp_path, "beginning.stop", hit.pid) as drill:
        os.killpg(drill.pid, signal.SIGINT)
        drill.wait(30)
        assert is_running(hit)  # undone by the drill itself, before it ended
        assert Book(tmp_path).entries() == []


def test_a_fault_ends_when_its_time_is_over(tmp_path: Path) -> None:
    with running("sleep", "600") as hit, drilling(tmp_path, "beginning.stop", hit.pid, limit_s=1.0) as drill:
        check_within(lambda: is_running(hit), "it goes on")
        assert drill.poll() is None


@pytest.mark.parametrize("by", ["group", "duty"])
def test_a_killed_drill_leaves_nothing_slow(tmp_path: Path, by: str) -> None:
    groups = find_groups()
    if by == "group" and groups is None:
        pytest.skip("no control groups for the processor can be made here")
    with running(*BUSY) as hit, drilling(tmp_path, "beginning.slow", hit.pid, 0.1, by) as drill:
        ours = set(re.findall(r"fivenines-slow-\S+", Path(f"/proc/{hit.pid}/cgroup").read_text()))
        assert len(ours) == (by == "group")
        os.kill(drill.pid, signal.SIGKILL)
        check_within(lambda: not Book(tmp_path).entries(), "the book is empty")
        assert hit.state() == "R"
        assert "fivenines" not in Path(f"/proc/{hit.pid}/cgroup").read_text()
        assert groups is None or not [name for name in ours if (groups.root / name).exists()]


@pytest.mark.parametrize("by", ["group", "duty"])
def test_a_starved_process_gets_its_share(tmp_path: Path, by: str) -> None:
    if by == "group" and find_groups() is None:
        pytest.skip("no control groups for the processor can be made here")

    def used(process: Process) -> int:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    async def run(hit: Process, free: Process) -> tuple[int, int]:
        async with begun(tmp_path, "slow", "a test") as fault:
            await slow(fault, str(hit.pid), "0.05", by)
            before = used(hit), used(free)
            while used(free) < before[1] + 50:  # noqa: ASYNC110 - ticks: half a second of work
                await asyncio.sleep(0.05)
            return used(hit) - before[0], used(free) - before[1]

    with running(*BUSY) as hit, running(*BUSY) as free:
        slowed, other = asyncio.run(run(hit, free))
        assert slowed < other / 2
    wait_until_watched_no_more(tmp_path)


def test_the_last_one_to_end_resumes_what_two_have_stopped(tmp_path: Path) -> None:
    async def run(hit: Process) -> list[str]:
        states = []
        async with begun(tmp_path, "stop", "a test") as first:
            await stop(first, str(hit.pid))
            async with begun(tmp_path, "stop", "a test") as second:
                await stop(second, str(hit.pid))
            states.append(hit.state())
        return [*states, hit.state()]

    with running("sleep", "600") as hit:
        states = asyncio.run(run(hit))
        assert states[0] == "T"
        assert states[1] in {"R", "S"}
    wait_until_watched_no_more(tmp_path)


def test_a_fault_that_stays_is_told_and_stays_in_the_book(tmp_path: Path) -> None:
    async def run(hit: Process) -> None:
        async with begun(tmp_path, "stop", "a test") as fault:
            await fault.promise(Resume(hit))
            os.kill(hit.pid, signal.SIGSTOP)
            await fault.promise(Held(hit))

    class Held(Resume, frozen=True, tag="resume"):  # the book knows it by the name of the real one
        def undo(self) -> None:
            return

        def still(self) -> str:
            return "somebody holds it"

    with running("sleep", "600") as hit:
        with pytest.raises(FaultStaysError, match=r"stop \(a test\) was ended and is not gone: somebody holds it"):
            asyncio.run(run(hit))
        assert [entry.fault for entry in Book(tmp_path).entries()] == ["stop"]
        assert undo_left_over(tmp_path, everything=True) == ["stop (a test) was undone"]
        assert is_running(hit)
    wait_until_watched_no_more(tmp_path)


def test_a_helper_that_ends_at_once_is_not_taken_for_one_that_cannot_start(tmp_path: Path) -> None:
    async def run() -> None:
        async with begun(tmp_path, "stop", "a test") as fault:
            helpers = [await fault.helper("true") for _ in range(5)]
            await asyncio.to_thread(
                check_within, lambda: not any(each.is_alive() for each in helpers), "they have ended"
            )

    asyncio.run(run())
    assert Book(tmp_path).entries() == []
    wait_until_watched_no_more(tmp_path)


def test_nothing_is_left_over_where_nothing_was(tmp_path: Path) -> None:
    assert undo_left_over(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_has_the_number_of_another_one_is_not_hit() -> None:
    with running("sleep", "600") as process:
        other = Process(process.pid, process.started + 1)
        assert not other.send(signal.SIGKILL)
        assert not other.is_alive()
        assert process.is_alive()
        assert process_of(process.pid) == process

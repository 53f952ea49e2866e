"""Whatever happens to a drill, its faults are undone: when it is killed, interrupted, or takes too long."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from fivenines.drill.faults import OVER_AFTER, beginning, inflicting
from fivenines.drill.faults.book import Book, undo_left_over
from fivenines.drill.faults.errors import FaultImpossibleError, FaultStaysError, FaultTimedOutError
from fivenines.drill.faults.force import begun
from fivenines.drill.faults.kinds import FaultKind, Happening
from fivenines.drill.faults.processes import Process, process_of
from fivenines.drill.faults.starving import find_groups, starve
from fivenines.drill.faults.targets import Target
from fivenines.drill.faults.undoing import Resume
from tests.integration.faults.beginning import slow, stop
from tests.integration.faults.drilling import check_within, drilling, running, wait_until_watched_no_more

if TYPE_CHECKING:
    from fivenines.drill.running import RunningPlatform

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


def test_a_fault_that_was_over_before_it_was_ended_is_told(tmp_path: Path) -> None:
    facts: dict[str, float] = {}

    async def run(hit: Process) -> None:
        async with begun(tmp_path, "stop", "a test", limit_s=1.0) as fault:
            await stop(fault, str(hit.pid))
            await asyncio.to_thread(check_within, lambda: is_running(hit), "it goes on")
        facts.update(fault.facts)

    with (
        running("sleep", "600") as hit,
        pytest.raises(
            FaultTimedOutError, match=r"stop \(a test\) was undone after 1 s, .* ended only after 1\."
        ) as told,
    ):
        asyncio.run(run(hit))
    assert told.value.limit_s == 1.0
    wait_until_watched_no_more(tmp_path)


def test_what_lasts_no_time_has_none_that_could_be_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with begun(tmp_path, "kill", "a test", limit_s=0.01) as fault:
            await asyncio.sleep(0.05)
        assert fault.is_over
        assert OVER_AFTER not in fault.facts

    asyncio.run(run())
    wait_until_watched_no_more(tmp_path)


def test_what_goes_wrong_meanwhile_is_told_rather_than_that_the_time_is_over(tmp_path: Path) -> None:
    async def run(hit: Process) -> None:
        async with begun(tmp_path, "stop", "a test", limit_s=0.3) as fault:
            await stop(fault, str(hit.pid))
            await asyncio.sleep(0.4)
            raise LookupError("something else")

    with running("sleep", "600") as hit, pytest.raises(LookupError, match="something else"):
        asyncio.run(run(hit))
    wait_until_watched_no_more(tmp_path)


def test_a_fault_that_takes_too_long_to_begin_has_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog has struck it off the book by then, and would not undo what is done after that."""

    async def begin_late(on: Happening) -> None:
        await on.fault.promise(Resume(hit))
        await asyncio.sleep(0.4)
        hit.send(signal.SIGSTOP)

    async def choose(*_: object) -> Target:
        return Target(name="a test", region="", kind="workload")

    class Folder:
        folder = tmp_path

    async def run() -> None:
        platform = cast("RunningPlatform", Folder())
        async with inflicting.in_force("late", platform, chance=random.Random(1), limit_s=0.2):
            pytest.fail("it is not in force")

    kind = FaultKind(name="late", summary="", target="service", begin=begin_late, undone="")
    monkeypatch.setattr(inflicting, "FAULTS", {"late": kind})
    monkeypatch.setattr(inflicting, "choose", choose)
    with running("sleep", "600") as hit:
        with pytest.raises(FaultImpossibleError, match=r"its time, 0\.2 s, was over before it had begun"):
            asyncio.run(run())
        check_within(lambda: is_running(hit), "it goes on")
    wait_until_watched_no_more(tmp_path)


def test_what_is_kept_away_comes_back_when_the_time_is_over(tmp_path: Path) -> None:
    """The drill lives, and thinks that it still holds the fault."""

    class Begun:
        """A workload that is begun again whenever somebody looks and it has ended."""

        name = "a test"

        def __init__(self) -> None:
            self.begin()

        def begin(self) -> None:
            self.process = subprocess.Popen(["sleep", "600"])

        async def processes(self, _: object) -> list[Process]:
            if self.process.poll() is not None:
                self.begin()
            return [process_of(self.process.pid)]

    async def run() -> None:
        async with begun(tmp_path, "edge_loss", "a test", limit_s=2.0) as fault:
            on = Happening(
                fault=fault,
                platform=cast("RunningPlatform", None),
                target=cast("Target", hit),
                chance=random.Random(1),
                parameters={},
            )
            await beginning.keep_away(on)
            while not fault.is_over:  # noqa: ASYNC110 - it comes, by its nature
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            kills.append(fault.facts["kills"])
            await hit.processes(None)
            await asyncio.sleep(1.0)
            kills.append(fault.facts["kills"])
            assert hit.process.poll() is None

    hit, kills = Begun(), list[float]()
    try:
        with pytest.raises(FaultTimedOutError):
            asyncio.run(run())
    finally:
        hit.process.kill()
        hit.process.wait()
    assert kills[0] == kills[1] > 0
    wait_until_watched_no_more(tmp_path)


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


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_starved_several_times_over_a_process_is_back_where_it_was(tmp_path: Path, order: Sequence[int]) -> None:
    """The group that a later fault found it in is gone when the earlier one has ended before."""
    groups = find_groups()
    if groups is None:
        pytest.skip("no control groups for the processor can be made here")

    async def run(hit: Process) -> None:
        stacks = [AsyncExitStack() for _ in order]
        for stack in stacks:
            fault = await stack.enter_async_context(begun(tmp_path, "slow", "a test"))
            assert await starve(fault, [hit], share=0.5, by="group") == "group"
            made.append(groups.home(hit))
        for number in order:
            assert groups.home(hit) != home
            await stacks[number].aclose()

    made: list[Path] = []
    with group_of_ours(groups.root) as home, running("sleep", "600") as hit:
        (home / "cgroup.procs").write_text(str(hit.pid))
        asyncio.run(run(hit))
        assert groups.home(hit) == home
        assert len(set(made)) == len(order)
        assert not any(each.exists() for each in made)
        assert Book(tmp_path).entries() == []
    wait_until_watched_no_more(tmp_path)


@contextmanager
def group_of_ours(root: Path) -> Iterator[Path]:
    """Have a control group that a process comes from."""
    group = root / f"fivenines-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        check_within(lambda: not (group / "cgroup.procs").read_text(), "its processes have ended")
        group.rmdir()


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

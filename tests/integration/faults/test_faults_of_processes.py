"""Limits, clocks and files: what they do to a process, and that nothing of it is left when the drill is killed."""

import asyncio
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.faults import clocks, limits, rotting
from fivenines.drill.faults.book import Book, undo_left_over
from fivenines.drill.faults.errors import FaultImpossibleError, FaultTimedOutError
from fivenines.drill.faults.force import InForce, begun
from fivenines.drill.faults.processes import Process, process_of
from fivenines.drill.faults.undoing import PutByteBack, Unlimit
from tests.integration.faults.drilling import check_within, drilling, running, wait_until_watched_no_more

OBEYING = """
import os, subprocess, sys, time
kept = []
for line in sys.stdin:
    try:
        if line.strip() == "open":
            kept.append(open(os.devnull))
        elif line.strip() == "take":
            kept.append(bytearray(64 * 1024 * 1024))
        elif line.strip() == "start":
            kept.append(subprocess.Popen("cat", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL))
        told = {"time": time.time, "start": lambda: kept[-1].pid}
        print(told.get(line.strip(), lambda: "done")(), flush=True)
    except (OSError, MemoryError) as error:
        print(getattr(error, "errno", None) or "MemoryError", flush=True)
"""


class Obeying:
    """A Python process that does what it is told, and says what came of it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.process = process_of(process.pid)

    def told(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def obeying(**env: str) -> Iterator[Obeying]:
    process = subprocess.Popen(
        [sys.executable, "-c", OBEYING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    with process:
        try:
            hit = Obeying(process)
            assert hit.told("nothing") == "done"
            yield hit
        finally:
            process.kill()


def test_a_process_opens_nothing_more_and_then_does(tmp_path: Path) -> None:
    async def run(hit: Obeying) -> list[str]:
        async with begun(tmp_path, "fd_exhaustion", "a test") as fault:
            await limits.few_descriptors(fault, hit.process, spare=2)
            return [hit.told("open") for _ in range(3)]

    with obeying() as hit:
        assert asyncio.run(run(hit)) == ["done", "done", str(errno.EMFILE)]
        assert hit.told("open") == "done"
    wait_until_watched_no_more(tmp_path)


def test_a_process_gets_no_more_memory_and_then_does(tmp_path: Path) -> None:
    async def run(hit: Obeying) -> str:
        async with begun(tmp_path, "memory_pressure", "a test") as fault:
            await limits.little_memory(fault, hit.process, spare_bytes=16 * 1024 * 1024)
            return hit.told("take")

    with obeying() as hit:
        assert hit.told("take") == "done"
        assert asyncio.run(run(hit)) == "MemoryError"
        assert hit.told("take") == "done"
    wait_until_watched_no_more(tmp_path)


@pytest.mark.parametrize(
    ("way", "kind"), [("fd_exhaustion", resource.RLIMIT_NOFILE), ("memory_pressure", resource.RLIMIT_AS)]
)
def test_a_killed_drill_leaves_no_limit(tmp_path: Path, way: str, kind: int) -> None:
    with running("sleep", "600") as hit:
        before = resource.prlimit(hit.pid, kind)
        with drilling(tmp_path, f"beginning.{way}", hit.pid) as drill:
            assert resource.prlimit(hit.pid, kind) != before
            os.kill(drill.pid, signal.SIGKILL)
            check_within(lambda: not Book(tmp_path).entries(), "the book is empty")
            assert resource.prlimit(hit.pid, kind) == before


def test_two_limits_end_in_any_order(tmp_path: Path) -> None:
    """The second one knows the limit as the first one has left it, and must not put that back."""

    async def run(hit: Process) -> None:
        async with begun(tmp_path, "fd_exhaustion", "a test") as first:
            await limits.limit(first, hit, resource.RLIMIT_NOFILE, 50)
            second = begun(tmp_path, "fd_exhaustion", "a test")
            other = await second.__aenter__()
            await limits.limit(other, hit, resource.RLIMIT_NOFILE, 40)
        await second.__aexit__(None, None, None)

    with running("sleep", "600") as hit:
        before = resource.prlimit(hit.pid, resource.RLIMIT_NOFILE)
        asyncio.run(run(hit))
        assert resource.prlimit(hit.pid, resource.RLIMIT_NOFILE) == before
    wait_until_watched_no_more(tmp_path)


LIMITS = [
    pytest.param("fd_exhaustion", resource.RLIMIT_NOFILE, id="descriptors"),
    pytest.param("memory_pressure", resource.RLIMIT_AS, id="memory"),
]


def child_of(hit: Obeying) -> Process:
    """Have it start a process."""
    return process_of(int(hit.told("start")))


@pytest.mark.parametrize(("name", "kind"), LIMITS)
def test_what_a_limited_process_has_started_is_not_limited_afterwards(tmp_path: Path, name: str, kind: int) -> None:
    async def run(hit: Obeying) -> Process:
        async with begun(tmp_path, name, "a test") as fault:
            await limits.limit(fault, hit.process, kind, 50 if kind == resource.RLIMIT_NOFILE else 2**33)
            heir = child_of(hit)
            assert resource.prlimit(heir.pid, kind) == resource.prlimit(hit.process.pid, kind) != before
            return heir

    with obeying() as hit:
        first, before = child_of(hit), resource.prlimit(hit.process.pid, kind)
        heir = asyncio.run(run(hit))
        assert [resource.prlimit(each.pid, kind) for each in (hit.process, first, heir)] == [before] * 3
        assert heir.is_alive()
    wait_until_watched_no_more(tmp_path)


def test_the_watchdog_frees_what_a_limited_process_has_started(tmp_path: Path) -> None:
    with obeying() as hit:
        before = resource.prlimit(hit.process.pid, resource.RLIMIT_FSIZE)
        with drilling(tmp_path, "beginning.no_files", hit.process.pid) as drill:
            heir = child_of(hit)
            assert resource.prlimit(heir.pid, resource.RLIMIT_FSIZE)[0] == 0
            os.kill(drill.pid, signal.SIGKILL)
            check_within(lambda: not Book(tmp_path).entries(), "the book is empty")
            assert resource.prlimit(heir.pid, resource.RLIMIT_FSIZE) == before


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_an_heir_that_another_fault_hits_has_all_again_in_any_order(tmp_path: Path, *, first_ends_first: bool) -> None:
    kind = resource.RLIMIT_NOFILE

    async def run(hit: Obeying) -> Process:
        first, second = (begun(tmp_path, "fd_exhaustion", "a test") for _ in range(2))
        await limits.limit(await first.__aenter__(), hit.process, kind, 50)
        heir = child_of(hit)
        await limits.limit(await second.__aenter__(), heir, kind, 40)
        if first_ends_first:
            await first.__aexit__(None, None, None)
            assert resource.prlimit(heir.pid, kind)[0] == 40  # the second one is in force
            await second.__aexit__(None, None, None)
        else:
            await second.__aexit__(None, None, None)
            await first.__aexit__(None, None, None)
        return heir

    with obeying() as hit:
        before = resource.prlimit(hit.process.pid, kind)
        heir = asyncio.run(run(hit))
        assert [resource.prlimit(each.pid, kind) for each in (hit.process, heir)] == [before] * 2
    wait_until_watched_no_more(tmp_path)


def test_what_a_process_with_the_same_number_has_started_is_left_alone() -> None:
    with obeying() as hit:
        child, kind = child_of(hit), resource.RLIMIT_NOFILE
        soft, hard = resource.prlimit(child.pid, kind, (40, resource.prlimit(child.pid, kind)[1]))
        undo = Unlimit(hit.process, kind, soft, hard)
        assert undo.heirs() == [child]
        assert undo.still() == f"processes {child.pid} have inherited a limit of resource {kind}"
        other = Unlimit(Process(hit.process.pid, hit.process.started + 1), kind, soft, hard)
        other.undo()
        assert not other.still()
        assert resource.prlimit(child.pid, kind)[0] == 40


@pytest.fixture
def may_change_clocks() -> None:
    """Skip where libfaketime is not installed."""
    if (reason := clocks.why_not()) is not None:
        pytest.skip(reason)


def off_s(hit: Obeying) -> float:
    """How wrong its clock is."""
    return float(hit.told("time")) - time.time()


@pytest.mark.usefixtures("may_change_clocks")
@pytest.mark.parametrize("offset_s", [3600.0, -90.5])
def test_a_killed_drill_leaves_no_wrong_clock(tmp_path: Path, offset_s: float) -> None:
    async def prepare(fault: InForce) -> dict[str, str]:
        return await clocks.Clock(fault, tmp_path / "env", "hit").prepare()

    async def environment() -> dict[str, str]:
        async with begun(tmp_path, "clock_jump", "a test") as fault:
            return await prepare(fault)

    with obeying(**asyncio.run(environment())) as hit:
        assert abs(off_s(hit)) < 5
        with drilling(tmp_path, "beginning.clock_jump", tmp_path / "env", offset_s) as drill:
            check_within(lambda: abs(off_s(hit) - offset_s) < 5, "its clock is wrong")
            os.kill(drill.pid, signal.SIGKILL)
            check_within(lambda: abs(off_s(hit)) < 5, "its clock is right")


@pytest.mark.usefixtures("may_change_clocks")
def test_a_clock_drifts_and_is_right_again(tmp_path: Path) -> None:
    async def run(hit: Obeying) -> None:
        async with begun(tmp_path, "clock_drift", "a test") as fault:
            clock = clocks.Clock(fault, tmp_path / "env", "hit")
            await clock.prepare()
            clock.drift(20.0)
            while off_s(hit) < 30:  # noqa: ASYNC110 - it comes, by its nature
                await asyncio.sleep(0.1)

    async def environment() -> dict[str, str]:
        async with begun(tmp_path, "clock_drift", "a test") as fault:
            return await clocks.Clock(fault, tmp_path / "env", "hit").prepare()

    with obeying(**asyncio.run(environment())) as hit:
        asyncio.run(asyncio.wait_for(run(hit), 60))
        check_within(lambda: abs(off_s(hit)) < 5, "its clock is right")
        assert not list((tmp_path / "env").glob("*.env"))
    wait_until_watched_no_more(tmp_path)


def test_a_clock_drifts_no_longer_than_its_time(tmp_path: Path) -> None:
    """The drill lives, and thinks that it still holds the fault."""

    async def run() -> None:
        async with begun(tmp_path, "clock_drift", "a test", limit_s=2.0) as fault:
            clock = clocks.Clock(fault, tmp_path / "env", "hit")
            await clock.prepare()
            clock.drift(20.0)
            while not fault.is_over:
                shown.append((tmp_path / "env" / "hit.clock").read_text())
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            for _ in range(20):
                afterwards.add((tmp_path / "env" / "hit.clock").read_text())
                await asyncio.sleep(0.05)

    shown: list[str] = []
    afterwards: set[str] = set()
    with pytest.raises(FaultTimedOutError):
        asyncio.run(run())
    assert float(shown[-1]) > 1
    assert afterwards == {"+0\n"}
    wait_until_watched_no_more(tmp_path)


def test_the_environment_file_is_what_it_was(tmp_path: Path) -> None:
    file = tmp_path / "env" / "hit.env"
    file.parent.mkdir()
    file.write_text("MINE=1\n")

    async def run() -> str:
        async with begun(tmp_path, "clock_jump", "a test") as fault:
            await clocks.Clock(fault, tmp_path / "env", "hit").prepare(file)
            return file.read_text()

    during = asyncio.run(run())
    assert during.startswith("MINE=1\nLD_PRELOAD=")
    assert file.read_text() == "MINE=1\n"
    wait_until_watched_no_more(tmp_path)


def test_a_killed_drill_leaves_no_rotten_file(tmp_path: Path) -> None:
    file, content = tmp_path / "file", random.Random(1).randbytes(10_000)
    file.write_bytes(content)
    with drilling(tmp_path, "beginning.corrupt_file", file) as drill:
        bad = file.read_bytes()
        assert len(bad) == len(content)
        assert sum((a ^ b).bit_count() for a, b in zip(bad, content, strict=True)) == 1
        os.kill(drill.pid, signal.SIGKILL)
        check_within(lambda: file.read_bytes() == content, "the byte is good")


def test_a_file_that_was_mended_is_left_alone(tmp_path: Path) -> None:
    """Whoever found the damage has put a good copy in its place, or another one."""

    async def run() -> None:
        async with begun(tmp_path, "corrupt_file", "a test") as fault:
            await rotting.flip_byte(fault, file, random.Random(1))
            copy = tmp_path / "copy"
            copy.write_bytes(b"another one")
            copy.replace(file)

    file = tmp_path / "file"
    file.write_bytes(b"some content")
    asyncio.run(run())
    assert file.read_bytes() == b"another one"
    wait_until_watched_no_more(tmp_path)


def test_an_empty_file_cannot_rot(tmp_path: Path) -> None:
    async def run() -> None:
        async with begun(tmp_path, "corrupt_file", "a test") as fault:
            await rotting.flip_byte(fault, file, random.Random(1))

    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FaultImpossibleError, match="is empty"):
        asyncio.run(run())
    wait_until_watched_no_more(tmp_path)


@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_a_byte_is_put_back_wherever_it_is(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("rot") / "file"
    offset = data.draw(st.integers(0, len(content) - 1))
    bad = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[offset]))
    file.write_bytes(content)
    undo = PutByteBack(str(file), offset, content[offset], bad, file.stat().st_ino)
    assert not undo.still()
    file.write_bytes(content[:offset] + bytes([bad]) + content[offset + 1 :])
    assert undo.still()
    undo.undo()
    undo.undo()
    assert file.read_bytes() == content
    assert not undo.still()


def test_what_an_ended_drill_left_is_undone_when_somebody_asks(tmp_path: Path) -> None:
    """No watchdog: the machine itself may have been switched off meanwhile."""
    file = tmp_path / "file"
    file.write_bytes(b"bad")
    book = Book(tmp_path)
    entry = book.new("corrupt_file", "a file", 60)
    entry.owner = Process(entry.owner.pid, entry.owner.started + 1)
    entry.undos.append(PutByteBack(str(file), 0, ord("g"), ord("b"), file.stat().st_ino))
    book.write(entry)
    assert undo_left_over(tmp_path) == ["corrupt_file (a file) was undone"]
    assert file.read_bytes() == b"gad"
    assert undo_left_over(tmp_path) == []

"""Start = the newest good snapshot + the rest of the journal: whatever happens to snapshots, the state is the same."""

import asyncio
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from fivenines.journal import FileJournal
from fivenines.ledger import digest
from fivenines.node import NodeSettings, RecoveryError, snapshots
from fivenines.node.node import open_node
from fivenines.node.recovery import recover
from tests.integration.node.nodes import books, opened, posts, replay
from tests.integration.node.served import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data of a node that stopped with two snapshots, wrote on, and then crashed."""
    directory = tmp_path / "data"

    async def fill() -> None:
        async with opened(directory) as node:
            await books(node)
            assert await node.snapshot()
            await posts(node)
        async with opened(directory) as node:
            await posts(node)
            # As a crash would leave it: with frames that no snapshot has.
            shutil.copytree(directory, tmp_path / "crashed")

    asyncio.run(fill())
    assert len(snapshots.paths(tmp_path / "crashed")) == 2
    return tmp_path / "crashed"


def start(directory: Path) -> tuple[bytes, int, list[str]]:
    """Start a node, and return its state's digest, the position of the snapshot it used, and what it warned of."""

    async def run() -> tuple[bytes, int]:
        journal = FileJournal.open(directory)
        try:
            recovered = recover(directory, journal)
            assert recovered.state.position == journal.last
            return digest(recovered.state), recovered.snapshot_position
        finally:
            await journal.close()

    with structlog.testing.capture_logs() as logs:
        state_digest, position = asyncio.run(run())
    return state_digest, position, [entry["file"] for entry in logs if entry["event"] == "snapshot.skipped"]


def test_a_start_from_a_snapshot_gives_the_state_of_a_full_replay(folder: Path) -> None:
    newest, older = snapshots.paths(folder)
    expected = digest(replay(folder))
    assert start(folder) == (expected, snapshots.position_of(newest), [])
    newest.unlink()
    assert start(folder) == (expected, snapshots.position_of(older), [])
    older.unlink()
    assert start(folder) == (expected, 0, [])


def test_a_snapshot_with_any_byte_flipped_is_skipped_for_the_one_before(folder: Path) -> None:
    newest, older = snapshots.paths(folder)
    expected = digest(replay(folder))
    good = newest.read_bytes()
    chance = random.Random(1)
    # Each byte of the header and of the first chunk's head, the whole end, and a good many between.
    places = {*range(100), *range(len(good) - 48, len(good)), *chance.sample(range(len(good)), 150)}
    for place in sorted(places):
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        newest.write_bytes(bad)
        assert start(folder) == (expected, snapshots.position_of(older), [str(newest)]), place


def test_a_snapshot_cut_off_anywhere_is_skipped_for_the_one_before(folder: Path) -> None:
    newest, older = snapshots.paths(folder)
    expected = digest(replay(folder))
    good = newest.read_bytes()
    for length in {0, 1, 79, 80, 81, 87, 88, 89, len(good) // 2, len(good) - 33, len(good) - 32, len(good) - 1}:
        newest.write_bytes(good[:length])
        assert start(folder) == (expected, snapshots.position_of(older), [str(newest)]), length
    newest.write_bytes(good + b"\0")
    assert start(folder)[1:] == (snapshots.position_of(older), [str(newest)])


def test_with_all_snapshots_damaged_the_whole_journal_is_replayed(folder: Path) -> None:
    expected = digest(replay(folder))
    for path in snapshots.paths(folder):
        path.write_bytes(b"not a snapshot")
    state_digest, position, skipped = start(folder)
    assert (state_digest, position, len(skipped)) == (expected, 0, 2)


def test_a_snapshot_under_the_name_of_another_position_is_skipped(folder: Path) -> None:
    newest, older = snapshots.paths(folder)
    expected = digest(replay(folder))
    shutil.copy(older, newest)
    found = start(folder)
    assert found[0] == expected


def test_a_snapshot_of_another_journal_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"

    async def fill() -> None:
        async with opened(other) as node:
            await books(node, frames=30)

    asyncio.run(fill())
    (foreign,) = snapshots.paths(other)
    for path in snapshots.paths(folder):
        path.unlink()
    position = snapshots.position_of(foreign)
    # The other journal is longer; cut to a position that both have.
    for path in snapshots.paths(other):
        path.unlink()
    short = tmp_path / "short"

    async def fill_short() -> None:
        async with opened(short) as node:
            await books(node, frames=2)

    asyncio.run(fill_short())
    (foreign,) = snapshots.paths(short)
    assert snapshots.position_of(foreign) < position
    shutil.copy(foreign, folder)
    with pytest.raises(RecoveryError, match="another journal"):
        start(folder)


def test_a_snapshot_ahead_of_the_journal_is_refused(folder: Path, tmp_path: Path) -> None:
    newest = snapshots.paths(folder)[0]
    lost = tmp_path / "lost"
    lost.mkdir()
    shutil.copy(newest, lost)
    with pytest.raises(RecoveryError, match="ahead of the journal"):
        start(lost)


def test_old_snapshots_are_pruned_and_drafts_are_cleaned_away(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as node:
            await books(node)
            for _ in range(4):
                await posts(node, frames=1)
                assert await node.snapshot()
            assert len(snapshots.paths(tmp_path)) == 2
        newest = snapshots.paths(tmp_path)[0]
        (tmp_path / f"{newest.name}.1.draft").write_bytes(b"what a crash left")
        async with opened(tmp_path) as node:
            assert not list(tmp_path.glob("*.draft"))
            assert node.recovered.snapshot_position == node.replica.position == snapshots.position_of(newest)

    asyncio.run(run())


def test_a_clean_stop_writes_a_snapshot_and_a_second_one_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as node:
            await books(node)
        (path,) = snapshots.paths(tmp_path)
        before = path.stat().st_mtime_ns
        async with opened(tmp_path) as node:
            assert node.recovered.frames_replayed == 0
        assert [p.stat().st_mtime_ns for p in snapshots.paths(tmp_path)] == [before]

    asyncio.run(run())


def test_a_snapshot_that_fails_says_why_leaves_nothing_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> Path:
        (tmp_path / "snapshot-00000000000000000001.snap.1.draft").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def end(*_: object) -> Path:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    async def run() -> None:
        async with opened(tmp_path) as node:
            await books(node)
            for broken, reason in ((no_room, "No space left on device"), (end, "signal 9")):
                monkeypatch.setattr(snapshots, "write", broken)
                with structlog.testing.capture_logs() as logs:
                    assert not await node.snapshot()
                monkeypatch.undo()
                (failed,) = [entry for entry in logs if entry["event"] == "snapshot.failed"]
                assert reason in failed["reason"]
                assert not list(tmp_path.glob("snapshot-*"))
            assert node.statistics.snapshots_failed == 2
            await posts(node)
            assert await node.snapshot()

    asyncio.run(run())


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_without_room_for_another_process_a_snapshot_fails_and_the_node_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_fork() -> int:
        raise OSError(number, os.strerror(number))

    async def run() -> None:
        async with opened(tmp_path, NodeSettings(snapshot_commands=1)) as node:
            monkeypatch.setattr(os, "fork", no_fork)
            with structlog.testing.capture_logs() as logs:
                await books(node)
                await until(lambda: node.statistics.snapshots_failed > 0)
            monkeypatch.undo()
            assert {entry["reason"] for entry in logs if entry["event"] == "snapshot.failed"} == {os.strerror(number)}
            assert await node.snapshot()

    asyncio.run(run())


def test_what_cannot_be_deleted_stays_and_the_node_goes_on(tmp_path: Path) -> None:
    settings = NodeSettings(snapshots_kept=1, journal_frames_kept=1)

    async def run() -> None:
        # A folder of such a name stands for a file that may not be deleted: unlink refuses both.
        stuck = tmp_path / "snapshot-00000000000000000000.snap"
        draft = tmp_path / "snapshot-00000000000000000000.snap.1.draft"
        async with opened(tmp_path, settings, segment_bytes=4_096) as node:
            stuck.mkdir()
            draft.mkdir()
            with structlog.testing.capture_logs() as logs:
                for _ in range(3):
                    await (posts(node, frames=20) if node.replica.position else books(node, frames=20))
                    assert await node.snapshot()
            assert {entry["file"] for entry in logs if entry["event"] == "snapshot.not_deleted"} == {str(stuck)}
            assert len(snapshots.paths(tmp_path)) == 2
            assert node.journal.first > 1
        async with opened(tmp_path, settings, segment_bytes=4_096) as node:
            await posts(node)
            stuck.rmdir()
            draft.rmdir()

    asyncio.run(run())


def test_a_folder_that_is_gone_fails_snapshots_and_not_the_node(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path / "data") as node:
            await books(node)
            (tmp_path / "data").rename(tmp_path / "elsewhere")
            assert not await node.snapshot()
            assert node.statistics.snapshots_failed == 1
            (tmp_path / "elsewhere").rename(tmp_path / "data")
            await posts(node)
            assert await node.snapshot()

    asyncio.run(run())


def stop_itself(*_: object) -> Path:
    """Hang for good: what a child does in the place of something else."""
    os.kill(os.getpid(), signal.SIGSTOP)
    raise AssertionError


def hanging(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Have children hang while they write, or before they let go of what they inherited."""
    if place == "writing":
        monkeypatch.setattr(snapshots, "write", stop_itself)
    else:
        monkeypatch.setattr(os, "closerange", stop_itself)


@pytest.mark.parametrize("place", ["writing", "beginning"])
def test_a_child_that_hangs_keeps_neither_the_stop_nor_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    pids: list[int] = []
    fork = os.fork

    def noted() -> int:
        pid = fork()
        pids.append(pid)
        return pid

    async def run() -> None:
        async with opened(tmp_path, NodeSettings(snapshot_commands=1)) as node:
            monkeypatch.setattr(os, "fork", noted)
            hanging(monkeypatch, place)
            await books(node)
            await until(lambda: bool(pids))
            monkeypatch.undo()
        (pid,) = pids
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        async with opened(tmp_path) as node:
            assert node.recovered.frames_replayed == 0

    asyncio.run(run())


def test_a_snapshot_that_takes_too_long_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with opened(tmp_path, NodeSettings(snapshot_s_max=1)) as node:
            await books(node)
            hanging(monkeypatch, "writing")
            assert not await node.snapshot()
            monkeypatch.undo()
            assert await node.snapshot()
            assert (node.statistics.snapshots_failed, node.statistics.snapshots) == (1, 1)

    asyncio.run(run())


_HANGING_NODE = """
import asyncio, os, pathlib, signal, sys
from tests.integration.node.nodes import books, opened

async def main():
    async with opened(pathlib.Path(sys.argv[1])) as node:
        await books(node)
        os.closerange = lambda *_: os.kill(os.getpid(), signal.SIGSTOP)
        await node.snapshot()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_node_that_is_killed_takes_a_child_that_hangs_along(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HANGING_NODE, str(tmp_path)]) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (pids := children.read_text().split()):
            assert process.poll() is None
        while process_state(pids[0]) != "T":
            assert process.poll() is None
        process.kill()

    async def run() -> None:
        async with opened(tmp_path) as node:  # the lock is free
            await posts(node)

    while process_state(pids[0]) not in {"", "Z", "X"}:
        pass
    asyncio.run(run())


def process_state(pid: str) -> str:
    """Return how a process is, in the letter that /proc has for it; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_frames_behind_the_oldest_snapshot_are_trimmed_and_the_state_stays(tmp_path: Path) -> None:
    settings = NodeSettings(journal_frames_kept=5)

    async def run() -> None:
        async with opened(tmp_path, settings, segment_bytes=4_096) as node:
            await books(node, frames=20)
            for _ in range(3):
                await posts(node, frames=20)
                assert await node.snapshot()
            assert node.journal.first > 1
            assert node.journal.first <= snapshots.position_of(snapshots.paths(tmp_path)[-1]) + 1
            await posts(node, frames=3)
            expected = digest(node.state)
        async with opened(tmp_path, settings, segment_bytes=4_096) as node:
            assert digest(node.state) == expected
            first = node.journal.first
        for path in snapshots.paths(tmp_path):
            path.unlink()
        journal = FileJournal.open(tmp_path)
        with pytest.raises(RecoveryError, match=f"begins at position {first}.*no good snapshot"):
            async with open_node(tmp_path, journal):
                pass
        await journal.close()

    asyncio.run(run())


def test_the_snapshot_is_of_one_position_while_frames_go_on_being_applied(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as node:
            await books(node)
            for _ in range(5):
                taking = asyncio.create_task(node.snapshot())
                while not taking.done():
                    await posts(node, frames=1, commands=50)
                assert taking.result()
                loaded = snapshots.load(snapshots.paths(tmp_path)[0])
                assert digest(loaded.state) == loaded.state_digest
                assert not loaded.state.imbalances()
                frame = next(node.journal.read(loaded.state.position))
                assert frame.digest == loaded.frame_digest

    asyncio.run(run())

"""What a start refuses or gets over, when files of its folder are missing or cannot be read."""

import asyncio
import shutil
from pathlib import Path

import pytest
import structlog

from fivenines.ledger import digest
from fivenines.node import NodeSettings, RecoveryError, snapshots
from fivenines.node.server import ServeSettings, serve
from tests.integration.node.nodes import books, opened, posts, replay


def state_digest(directory: Path) -> bytes:
    """Start and stop a node, and return the digest of the state that it came to."""

    async def run() -> bytes:
        async with opened(directory) as node:
            return digest(node.state)

    return asyncio.run(run())


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_a_snapshot_that_cannot_be_read_is_skipped_for_the_one_before(tmp_path: Path) -> None:
    async def fill() -> None:
        async with opened(tmp_path) as node:
            await books(node)
            assert await node.snapshot()
            await posts(node)

    asyncio.run(fill())
    expected = digest(replay(tmp_path))
    newest, older = snapshots.paths(tmp_path)
    newest.unlink()
    newest.mkdir()
    with structlog.testing.capture_logs() as logs:
        assert state_digest(tmp_path) == expected
    [skipped] = [entry for entry in logs if entry["event"] == "snapshot.skipped"]
    assert (skipped["file"], skipped["reason"]) == (str(newest), "Is a directory")
    [recovered] = [entry for entry in logs if entry["event"] == "node.recovered"]
    assert recovered["snapshot_position"] == snapshots.position_of(older)


def test_snapshots_without_a_journal_are_refused_and_the_journal_can_still_be_brought_back(tmp_path: Path) -> None:
    directory, kept = tmp_path / "data", tmp_path / "kept"

    async def fill() -> None:
        settings = NodeSettings(journal_frames_kept=3, snapshots_kept=1)
        async with opened(directory, settings, segment_bytes=2_000) as node:
            await books(node, frames=40)
            assert await node.snapshot()
            assert node.journal.first > 1

    asyncio.run(fill())
    expected = state_digest(directory)
    kept.mkdir()
    for path in directory.glob("journal-*.log"):
        shutil.move(path, kept)
    (directory / "journal.lock").unlink()
    before = files(directory)
    with pytest.raises(RecoveryError, match="no journal"):
        asyncio.run(serve(ServeSettings(directory=directory, port=0)))
    assert files(directory) == before
    for path in kept.iterdir():
        shutil.copy(path, directory)
    assert state_digest(directory) == expected

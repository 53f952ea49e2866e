"""A file system that is really full."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fivenines.journal import FileJournal, FileJournalSettings, JournalFullError, verify

SIZE_BYTES = 512 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this root may not mount: {mounted.stderr.decode().strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def fill(path: Path, *, leave_bytes: int) -> None:
    """Take all the room there is, but for `leave_bytes`."""
    status = os.statvfs(path.parent)
    path.write_bytes(bytes(status.f_bavail * status.f_frsize - leave_bytes))


@pytest.mark.parametrize("segment_bytes", [20_000, 64 * 1024 * 1024])
def test_a_full_disk_refuses_clearly_serves_reads_and_recovers_by_itself(small_disk: Path, segment_bytes: int) -> None:
    async def main() -> None:
        journal = FileJournal.open(small_disk / "journal", settings=FileJournalSettings(segment_bytes=segment_bytes))
        acknowledged: list[bytes] = []

        async def append_until_refused() -> int:
            before = len(acknowledged)
            with pytest.raises(JournalFullError, match="No space left"):
                await append_for_ever()
            return len(acknowledged) - before

        async def append_for_ever() -> None:
            while True:
                payload = b"%d " % len(acknowledged) + os.urandom(900)
                position = await journal.append(payload)
                acknowledged.append(payload)
                assert position == len(acknowledged)

        for leave_bytes in (0, 40_000, 100_000):
            fill(small_disk / "filler", leave_bytes=leave_bytes)
            await append_until_refused()
            for _ in range(3):
                assert await append_until_refused() == 0
            assert journal.failed is None
            assert [frame.payload for frame in journal.read(1)] == acknowledged
            assert verify(small_disk / "journal").tail is None
            (small_disk / "filler").unlink()
            acknowledged.append(b"room again")
            assert await journal.append(b"room again") == len(acknowledged)
        # At last the journal alone fills the disk, and is opened anew on a full one.
        assert await append_until_refused() > 100
        await journal.close()
        again = FileJournal.open(small_disk / "journal")
        assert [frame.payload for frame in again.read(1)] == acknowledged
        await again.close()
        verdict = verify(small_disk / "journal")
        assert (verdict.frames, verdict.tail, verdict.damage) == (len(acknowledged), None, None)

    asyncio.run(main())


def test_trimming_makes_room_on_a_full_disk(small_disk: Path) -> None:
    async def main() -> None:
        journal = FileJournal.open(small_disk / "journal", settings=FileJournalSettings(segment_bytes=20_000))

        async def append(times: int) -> None:
            for _ in range(times):
                await journal.append(os.urandom(1_000))

        with pytest.raises(JournalFullError):
            await append(1_000)
        assert journal.last > 400
        await journal.trim(journal.last)
        await append(100)
        await journal.close()
        assert verify(small_disk / "journal").is_sound

    asyncio.run(main())


def test_a_journal_cannot_begin_on_a_full_disk_and_begins_when_there_is_room(small_disk: Path) -> None:
    (small_disk / "journal").mkdir()
    fill(small_disk / "filler", leave_bytes=0)
    with pytest.raises(OSError, match="No space left"):
        FileJournal.open(small_disk / "journal")
    (small_disk / "filler").unlink()

    async def main() -> None:
        journal = FileJournal.open(small_disk / "journal")
        assert await journal.append(b"first") == 1
        await journal.close()

    asyncio.run(main())

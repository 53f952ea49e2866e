"""The file journal as its users see it: appends, reads, followers, trimming, closing, and a disk that fails."""

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fivenines.journal import (
    FileJournal,
    FileJournalSettings,
    Frame,
    FrameTooLargeError,
    Journal,
    JournalClosedError,
    JournalDamagedError,
    JournalFailedError,
    JournalFullError,
    JournalLockedError,
    MaybeDoneError,
    TrimmedError,
    verify,
)
from fivenines.journal.disk import Disk
from fivenines.journal.format import DIGEST_NONE, SEGMENT_HEADER_BYTES, segment_name
from tests.unit.journal.journals import FaultyDisk, contents, make_journal

DEFAULT = FileJournalSettings()
ONE_A_SEGMENT = FileJournalSettings(segment_bytes=1)


@asynccontextmanager
async def opened(
    directory: Path, settings: FileJournalSettings = DEFAULT, disk: Disk = os
) -> AsyncIterator[FileJournal]:
    journal = FileJournal.open(directory, settings=settings, disk=disk)
    try:
        yield journal
    finally:
        await journal.close()


class GatedDisk(FaultyDisk):
    """A disk on which an fdatasync waits until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def fdatasync(self, fd: int, /) -> None:
        self.waiting.set()
        self.gate.wait()
        super().fdatasync(fd)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def take(journal: Journal, start: int, count: int) -> list[Frame]:
    frames = []
    async with aclosing(journal.follow(start)) as follower:
        async for frame in follower:
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


def payloads(frames: list[Frame]) -> list[bytes]:
    return [frame.payload for frame in frames]


# ---- append and read ---------------------------------------------------------------------------------------------


def test_a_new_journal_is_empty(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "deep" / "down") as journal:
            assert (journal.first, journal.last, journal.last_digest) == (1, 0, DIGEST_NONE)
            assert list(journal.read(1)) == []
            assert journal.failed is None

    run(main())


def test_appends_are_ordered_by_the_call_and_read_back_also_after_opening_anew(tmp_path: Path) -> None:
    async def main() -> None:
        sent = [b"payload %d" % number for number in range(300)]
        async with opened(tmp_path, FileJournalSettings(segment_bytes=2_000, group_bytes_max=500)) as journal:
            assert await asyncio.gather(*map(journal.append, sent)) == list(range(1, 301))
            frames = list(journal.read(1))
            assert payloads(frames) == sent
            assert [frame.position for frame in frames] == list(range(1, 301))
            assert (journal.first, journal.last, journal.last_digest) == (1, 300, frames[-1].digest)
        assert len(contents(tmp_path)) > 3
        async with opened(tmp_path) as journal:
            assert (journal.first, journal.last, journal.last_digest) == (1, 300, frames[-1].digest)
            for start in (1, 2, 150, 299, 300, 301, 999):
                assert list(journal.read(start)) == frames[start - 1 :]
            assert await journal.append(b"more") == 301

    run(main())


def test_payloads_larger_than_what_is_read_at_a_time_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        sent = [b"small", os.urandom(9_000_000), b"", os.urandom(4_194_304 - 100), b"small again"]
        async with opened(tmp_path) as journal:
            for payload in sent:
                await journal.append(payload)
            assert payloads(list(journal.read(1))) == sent
            assert payloads(await take(journal, 1, 5)) == sent
        async with opened(tmp_path) as journal:
            assert payloads(list(journal.read(1))) == sent
            assert payloads(await take(journal, 1, 5)) == sent

    run(main())


def test_a_payload_over_the_limit_is_refused_and_nothing_happens(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, FileJournalSettings(payload_bytes_max=100)) as journal:
            assert journal.payload_bytes_max == 100
            with pytest.raises(FrameTooLargeError) as refused:
                await journal.append(bytes(101))
            assert (refused.value.payload_bytes, refused.value.payload_bytes_max) == (101, 100)
            assert await journal.append(bytes(100)) == 1

    run(main())


def test_nothing_is_acknowledged_or_seen_before_it_is_synced_and_what_waits_shares_one_sync(tmp_path: Path) -> None:
    async def main() -> None:
        disk = GatedDisk()
        async with opened(tmp_path, disk=disk) as journal:
            follower = asyncio.create_task(take(journal, 1, 11))
            disk.gate.clear()
            disk.waiting.clear()
            disk.calls.clear()
            appends = [asyncio.create_task(journal.append(b"first"))]
            await asyncio.to_thread(disk.waiting.wait)
            appends += [asyncio.create_task(journal.append(b"%d" % number)) for number in range(10)]
            # The loop goes round while the disk does not answer.
            for _ in range(50):
                await asyncio.sleep(0)
            assert not any(append.done() for append in appends)
            assert (journal.last, list(journal.read(1)), follower.done()) == (0, [], False)
            disk.gate.set()
            assert await asyncio.gather(*appends) == list(range(1, 12))
            assert disk.calls == ["pwritev", "fdatasync"] * 2
            assert payloads(await follower) == [b"first", *(b"%d" % number for number in range(10))]

    run(main())


def test_a_group_takes_no_more_than_its_limit(tmp_path: Path) -> None:
    async def main() -> None:
        disk = GatedDisk()
        async with opened(tmp_path, FileJournalSettings(group_bytes_max=100), disk) as journal:
            disk.calls.clear()
            await asyncio.gather(*(journal.append(bytes(50)) for _ in range(10)))
            assert disk.calls.count("fdatasync") >= 5

    run(main())


def test_a_cancelled_append_leaves_no_gap_and_disturbs_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        disk = GatedDisk()
        async with opened(tmp_path, disk=disk) as journal:
            disk.gate.clear()
            appends = [asyncio.create_task(journal.append(b"%d" % number)) for number in range(10)]
            await asyncio.sleep(0)
            for append in appends[::2]:
                append.cancel()
            disk.gate.set()
            results = await asyncio.gather(*appends, return_exceptions=True)
            assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False] * 5
            assert results[1::2] == [2, 4, 6, 8, 10]
            assert payloads(list(journal.read(1))) == [b"%d" % number for number in range(10)]
            assert await journal.append(b"next") == 11

    run(main())


def test_a_read_finds_damage_done_after_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as journal:
            await journal.append(b"some payload")
            path = tmp_path / segment_name(1)
            data = bytearray(path.read_bytes())
            data[-20] ^= 1
            path.write_bytes(data)
            with pytest.raises(JournalDamagedError) as found:
                list(journal.read(1))
            assert (found.value.file, found.value.offset, found.value.position) == (path, SEGMENT_HEADER_BYTES, 1)
            os.truncate(path, SEGMENT_HEADER_BYTES)
            with pytest.raises(JournalDamagedError, match="the file ends"):
                list(journal.read(1))
            path.unlink()
            with pytest.raises(JournalDamagedError, match="the file is gone"):
                list(journal.read(1))

    run(main())


# ---- follow ------------------------------------------------------------------------------------------------------


def test_followers_get_each_frame_once_and_in_order_wherever_they_begin(tmp_path: Path) -> None:
    async def main() -> None:
        make_journal(tmp_path, [b"%d" % number for number in range(50)], segment_bytes=1_000)
        async with opened(tmp_path, FileJournalSettings(segment_bytes=1_000)) as journal:
            starts = (1, 2, 25, 50, 51, 60)
            followers = [asyncio.create_task(take(journal, start, 101 - start)) for start in starts]
            for number in range(50, 100):
                await journal.append(b"%d" % number)
            for start, follower in zip(starts, followers, strict=True):
                frames = await follower
                assert [frame.position for frame in frames] == list(range(start, 101))
                assert payloads(frames) == [b"%d" % number for number in range(start - 1, 100)]
            assert await take(journal, 1, 100) == list(journal.read(1))

    run(main())


def test_a_slow_follower_costs_bounded_memory_and_misses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, FileJournalSettings(recent_bytes_max=50_000)) as journal:
            async with aclosing(journal.follow(1)) as follower:
                slow = [await anext_after(journal, follower)]
                for number in range(500):
                    await journal.append(b"%d " % number + bytes(5_000))
                    if number % 100 == 0:
                        slow.append(await anext(follower))
                    assert sum(len(frame.payload) for frame in journal._recent._frames.values()) <= 50_000
                while len(slow) < 501:
                    slow.append(await anext(follower))
            assert slow == list(journal.read(1))

    run(main())


async def anext_after(journal: FileJournal, follower: AsyncIterator[Frame]) -> Frame:
    """Wait for a frame first, and append it then."""
    waiting = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    await journal.append(b"first")
    return await waiting


def test_a_follower_can_go_away_at_any_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as journal:
            waiting = asyncio.create_task(take(journal, 1, 1))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await journal.append(b"goes on") == 1
            assert payloads(await take(journal, 1, 1)) == [b"goes on"]

    run(main())


# ---- trim --------------------------------------------------------------------------------------------------------


def test_what_was_trimmed_is_refused_now_and_after_opening_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, ONE_A_SEGMENT) as journal:
            for number in range(10):
                await journal.append(b"%d" % number)
            digest = journal.last_digest
            behind = journal.follow(1)
            assert (await anext(behind)).position == 1
            await journal.trim(6)
            assert (journal.first, journal.last) == (6, 10)
        async with opened(tmp_path, ONE_A_SEGMENT) as journal:
            assert (journal.first, journal.last, journal.last_digest) == (6, 10, digest)
            for refuse in (journal.read, journal.follow):
                with pytest.raises(TrimmedError) as refused:
                    refuse(5)
                assert (refused.value.start, refused.value.first) == (5, 6)
            assert payloads(list(journal.read(6))) == [b"5", b"6", b"7", b"8", b"9"]
            await journal.trim(1_000)
            assert (journal.first, journal.last, journal.last_digest) == (10, 10, digest)
            assert await journal.append(b"10") == 11
        assert verify(tmp_path).first == 10

    run(main())


def test_a_reader_or_follower_that_is_overtaken_by_trimming_is_told_so(tmp_path: Path) -> None:
    async def main() -> None:
        make_journal(tmp_path, [b"%d" % number for number in range(10)], segment_bytes=1)
        async with opened(tmp_path, ONE_A_SEGMENT) as journal:
            reader = journal.read(1)
            assert next(reader).payload == b"0"
            async with aclosing(journal.follow(2)) as follower:
                await journal.trim(6)
                with pytest.raises(TrimmedError):
                    await anext(follower)
            with pytest.raises(TrimmedError) as refused:
                list(reader)
            assert (refused.value.start, refused.value.first) == (2, 6)

    run(main())


def test_a_trim_that_fails_is_told_and_may_be_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        make_journal(tmp_path, [b"%d" % number for number in range(5)], segment_bytes=1)
        disk = FaultyDisk()
        async with opened(tmp_path, ONE_A_SEGMENT, disk) as journal:
            disk.faults["fsync_folder"] = OSError(errno.EIO, "broken")
            with pytest.raises(MaybeDoneError, match=r"trimming.*broken"):
                await journal.trim(4)
            disk.faults.clear()
            await journal.trim(4)
            assert payloads(list(journal.read(4))) == [b"3", b"4"]
            assert await journal.append(b"5") == 6

    run(main())


# ---- close -------------------------------------------------------------------------------------------------------


def test_closing_finishes_what_is_queued_and_ends_followers_that_have_seen_it(tmp_path: Path) -> None:
    async def main() -> None:
        disk = GatedDisk()
        journal = FileJournal.open(tmp_path, disk=disk)
        follower = asyncio.create_task(take(journal, 1, 1_000))
        disk.gate.clear()
        appends = [asyncio.create_task(journal.append(b"%d" % number)) for number in range(20)]
        await asyncio.sleep(0)
        closers = [asyncio.create_task(journal.close()) for _ in range(3)]
        await asyncio.sleep(0)
        closers[0].cancel()
        disk.gate.set()
        assert await asyncio.gather(*appends) == list(range(1, 21))
        await asyncio.gather(*closers[1:])
        assert [frame.position for frame in await follower] == list(range(1, 21))
        with pytest.raises(JournalClosedError):
            await journal.append(b"late")
        with pytest.raises(JournalClosedError):
            await journal.trim(1)
        for refuse in (journal.read, journal.follow):
            with pytest.raises(JournalClosedError):
                refuse(1)
        await journal.close()
        async with opened(tmp_path) as again:
            assert again.last == 20

    run(main())


# ---- a disk that fails -------------------------------------------------------------------------------------------


def test_without_room_appends_are_refused_reads_go_on_and_it_recovers_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FaultyDisk()
        async with opened(tmp_path, disk=disk) as journal:
            await journal.append(b"one")
            disk.faults["pwritev"] = OSError(errno.ENOSPC, "no room")
            refused = await asyncio.gather(*(journal.append(b"lost") for _ in range(5)), return_exceptions=True)
            assert [type(error) for error in refused] == [JournalFullError] * 5
            assert (journal.last, journal.failed, payloads(list(journal.read(1)))) == (1, None, [b"one"])
            disk.faults.clear()
            assert await journal.append(b"two") == 2
            assert payloads(await take(journal, 1, 2)) == [b"one", b"two"]

    run(main())


def test_after_a_failed_sync_the_journal_only_reads_until_it_is_opened_anew(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FaultyDisk()
        async with opened(tmp_path, disk=disk) as journal:
            await journal.append(b"one")
            disk.faults["fdatasync"] = OSError(errno.EIO, "broken")
            maybe = await asyncio.gather(*(journal.append(b"maybe") for _ in range(5)), return_exceptions=True)
            assert {type(error) for error in maybe} <= {MaybeDoneError, JournalFailedError}
            assert isinstance(maybe[0], MaybeDoneError)
            disk.faults.clear()
            with pytest.raises(JournalFailedError):
                await journal.append(b"after")
            assert journal.failed is not None
            assert "broken" in journal.failed
            assert (journal.last, payloads(list(journal.read(1)))) == (1, [b"one"])
            assert payloads(await take(journal, 1, 1)) == [b"one"]
        async with opened(tmp_path) as journal:
            assert journal.failed is None
            assert payloads(list(journal.read(1)))[:1] == [b"one"]
            assert await journal.append(b"goes on") == journal.last

    run(main())


def test_a_bug_in_the_writer_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FaultyDisk()
        async with opened(tmp_path, disk=disk) as journal:
            disk.faults["fdatasync"] = ValueError("a bug")
            with pytest.raises(MaybeDoneError, match="a bug"):
                await journal.append(b"maybe")
            with pytest.raises(JournalFailedError, match="a bug"):
                await journal.append(b"after")

    run(main())


def test_the_check_at_opening_tells_how_far_it_has_come(tmp_path: Path) -> None:
    make_journal(tmp_path, [bytes(1_000_000)] * 20, segment_bytes=3_000_000)
    told: list[tuple[int, int]] = []
    journal = FileJournal.open(tmp_path, on_progress=lambda done, total: told.append((done, total)))

    async def main() -> None:
        await journal.close()

    run(main())
    total = sum(len(content) for content in contents(tmp_path).values())
    assert {of for _, of in told} == {total}
    done = [done for done, _ in told]
    assert done == sorted(set(done))
    assert len(done) == 4
    assert done[-1] <= total


# ---- one writer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock_file", ["kept", "removed", "replaced"])
def test_a_folder_has_one_writer_whatever_becomes_of_the_lock_file(tmp_path: Path, lock_file: str) -> None:
    async def main() -> None:
        async with opened(tmp_path) as journal:
            if lock_file != "kept":
                (tmp_path / "journal.lock").unlink()
            if lock_file == "replaced":
                (tmp_path / "journal.lock").write_text("no number")
            before = contents(tmp_path)
            with pytest.raises(JournalLockedError) as refused:
                FileJournal.open(tmp_path)
            assert refused.value.pid == (os.getpid() if lock_file == "kept" else None)
            assert contents(tmp_path) == before
            assert await journal.append(b"one") == 1
        async with opened(tmp_path) as again:
            assert again.last == 1

    run(main())


def test_a_writer_of_an_earlier_release_which_locks_the_file_alone_is_respected(tmp_path: Path) -> None:
    with (tmp_path / "journal.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711\n")
        file.flush()
        with pytest.raises(JournalLockedError, match="process 4711"):
            FileJournal.open(tmp_path)
        assert contents(tmp_path) == {}

    async def main() -> None:
        async with opened(tmp_path) as journal:
            assert await journal.append(b"one") == 1

    run(main())


# ---- looked at from outside --------------------------------------------------------------------------------------


def test_verify_finds_a_journal_sound_while_it_is_written_and_trimmed(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, FileJournalSettings(segment_bytes=20_000)) as journal:

            async def write() -> None:
                for number in range(400):
                    await asyncio.gather(*(journal.append(os.urandom(700)) for _ in range(4)))
                    if number % 20 == 0:
                        await journal.trim(journal.last - 100)

            writing = asyncio.create_task(write())
            looks = 0
            while not writing.done():
                acknowledged = journal.last
                verdict = await asyncio.to_thread(verify, tmp_path)
                assert verdict.damage is None
                assert verdict.last >= acknowledged
                looks += 1
            await writing
            assert looks > 1
            verdict = verify(tmp_path)
            assert (verdict.last, verdict.last_digest) == (journal.last, journal.last_digest)
            assert (verdict.first, verdict.tail) == (journal.first, None)

    run(main())

import errno
import itertools
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fivenines.journal import JournalFailedError, JournalFullError, MaybeDoneError, show, verify
from fivenines.journal.format import segment_name
from tests.unit.journal.journals import (
    FaultyDisk,
    PowerCutDisk,
    PowerCutError,
    contents,
    make_journal,
    open_writer,
)

NO_ROOM = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG]


def payloads_of(directory: Path) -> list[bytes]:
    return [frame.payload for frame in show(directory, 1)]


@pytest.mark.parametrize("number", NO_ROOM)
def test_without_room_a_group_surely_did_not_happen_and_the_next_one_tries_again(tmp_path: Path, number: int) -> None:
    disk = FaultyDisk()
    writer = open_writer(tmp_path, disk=disk)
    writer.store([b"one"])
    before = contents(tmp_path)
    disk.faults["pwritev"] = OSError(number, "no room")
    for _ in range(2):
        with pytest.raises(JournalFullError, match="no room"):
            writer.store([b"lost", b"too"])
        assert contents(tmp_path) == before
    assert writer.failed is None
    del disk.faults["pwritev"]
    assert [frame.position for frame in writer.store([b"two", b"three"])] == [2, 3]
    writer.close()
    assert payloads_of(tmp_path) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("call", ["pwritev", "fsync"])
def test_without_room_for_a_new_segment_the_next_group_tries_again(tmp_path: Path, call: str) -> None:
    disk = FaultyDisk()
    writer = open_writer(tmp_path, segment_bytes=1, disk=disk)
    writer.store([b"one"])
    disk.faults[call] = OSError(errno.ENOSPC, "no room")
    with pytest.raises(JournalFullError):
        writer.store([b"lost"])
    assert verify(tmp_path).last == 1
    disk.faults.clear()
    writer.store([b"two"])
    writer.close()
    assert payloads_of(tmp_path) == [b"one", b"two"]
    assert list(contents(tmp_path)) == [segment_name(1), segment_name(2)]


def test_a_failed_sync_is_never_tried_again_and_ends_appending(tmp_path: Path) -> None:
    disk = FaultyDisk()
    writer = open_writer(tmp_path, disk=disk)
    writer.store([b"one"])
    disk.faults["fdatasync"] = OSError(errno.EIO, "broken")
    disk.calls.clear()
    with pytest.raises(MaybeDoneError, match="broken"):
        writer.store([b"maybe"])
    disk.faults.clear()
    with pytest.raises(JournalFailedError, match=r"fdatasync.*broken"):
        writer.store([b"after"])
    assert disk.calls == ["pwritev", "fdatasync"]
    assert writer.failed is not None
    writer.close()
    again = open_writer(tmp_path)
    assert payloads_of(tmp_path) in ([b"one"], [b"one", b"maybe"])
    again.store([b"goes on"])
    again.close()


@pytest.mark.parametrize("call", ["ftruncate", "fsync"])
def test_a_failed_write_that_cannot_be_cut_back_may_have_happened(tmp_path: Path, call: str) -> None:
    disk = FaultyDisk()
    writer = open_writer(tmp_path, disk=disk)
    writer.store([b"one"])
    disk.faults = {"pwritev": OSError(errno.ENOSPC, "no room"), call: OSError(errno.EIO, "broken")}
    with pytest.raises(MaybeDoneError, match=r"cutting back.*broken"):
        writer.store([b"maybe"])
    disk.faults.clear()
    with pytest.raises(JournalFailedError):
        writer.store([b"after"])
    writer.close()
    open_writer(tmp_path).close()
    assert payloads_of(tmp_path) == [b"one"]


def test_a_write_error_that_is_cut_back_surely_did_not_happen_yet_ends_appending(tmp_path: Path) -> None:
    disk = FaultyDisk()
    writer = open_writer(tmp_path, disk=disk)
    writer.store([b"one"])
    before = contents(tmp_path)
    disk.faults["pwritev"] = OSError(errno.EIO, "broken")
    with pytest.raises(JournalFailedError, match=r"writing.*broken"):
        writer.store([b"lost"])
    assert contents(tmp_path) == before
    assert writer.failed is not None
    writer.close()


@pytest.mark.parametrize(
    ("call", "number"),
    [("pwritev", errno.EIO), ("fsync", errno.EIO), ("fsync_folder", errno.EIO), ("fsync_folder", errno.ENOSPC)],
)
def test_a_new_segment_that_cannot_be_made_ends_appending(tmp_path: Path, call: str, number: int) -> None:
    disk = FaultyDisk()
    writer = open_writer(tmp_path, segment_bytes=1, disk=disk)
    writer.store([b"one"])
    disk.faults[call] = OSError(number, "broken")
    with pytest.raises(JournalFailedError, match=r"beginning a segment.*broken"):
        writer.store([b"lost"])
    assert writer.failed is not None
    writer.close()
    again = open_writer(tmp_path)
    again.store([b"two"])
    again.close()
    assert payloads_of(tmp_path) == [b"one", b"two"]


@contextmanager
def no_file_descriptors() -> Iterator[None]:
    """Let this process open no file, until the end of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A new descriptor gets the lowest free number, and all numbers must be below the limit.
    lowest_free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_a_file_descriptor_for_a_new_segment_the_next_group_tries_again(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=1)
    writer.store([b"one"])
    before = contents(tmp_path)
    with no_file_descriptors():
        for _ in range(2):
            with pytest.raises(JournalFullError, match="Too many open files"):
                writer.store([b"lost"])
    assert contents(tmp_path) == before
    assert writer.failed is None
    assert [frame.position for frame in writer.store([b"two"])] == [2]
    writer.close()
    assert payloads_of(tmp_path) == [b"one", b"two"]


def test_the_last_file_descriptor_is_enough_for_a_new_segment(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=1)
    writer.store([b"one"])
    spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    with no_file_descriptors():
        os.close(spare)
        writer.store([b"two"])
    writer.close()
    assert payloads_of(tmp_path) == [b"one", b"two"]


@pytest.mark.parametrize("segment_bytes", [1, 1 << 20])
@pytest.mark.parametrize("what", ["folder deleted", "folder replaced", "file deleted", "file replaced"])
def test_nothing_is_acknowledged_into_a_file_that_nobody_will_ever_read(
    tmp_path: Path, what: str, segment_bytes: int
) -> None:
    directory = tmp_path / "data"
    writer = open_writer(directory, segment_bytes=segment_bytes)
    writer.store([b"one"])
    if what.startswith("folder"):
        directory.rename(tmp_path / "gone")
    else:
        (directory / segment_name(1)).rename(tmp_path / "gone")
    if what == "folder replaced":
        make_journal(directory, [b"another"])
    elif what == "file replaced":
        shutil.copy(tmp_path / "gone", directory / segment_name(1))
    before = contents(directory)
    for _ in range(2):
        with pytest.raises(JournalFailedError, match="written to"):
            writer.store([b"lost"])
    assert writer.failed is not None
    assert contents(directory) == before
    writer.close()


def test_a_group_larger_than_one_system_call_takes_is_written_whole(tmp_path: Path) -> None:
    payloads = [b"%d" % number for number in range(2_500)]
    writer = open_writer(tmp_path)
    writer.store(payloads)
    writer.close()
    assert payloads_of(tmp_path) == payloads


def test_trimming_removes_only_segments_that_are_not_needed_and_never_the_newest(tmp_path: Path) -> None:
    make_journal(tmp_path, [b"a", b"b", b"c", b"d"], segment_bytes=1)
    writer = open_writer(tmp_path)
    writer.trim(1)
    assert len(contents(tmp_path)) == 4
    writer.trim(3)
    assert list(contents(tmp_path)) == [segment_name(3), segment_name(4)]
    writer.trim(1_000)
    assert list(contents(tmp_path)) == [segment_name(4)]
    writer.store([b"e"])
    writer.close()
    assert [frame.position for frame in show(tmp_path, 4)] == [4, 5]


@pytest.mark.parametrize("unsynced", ["all", "none", "half", "zeros"])
def test_a_power_cut_at_any_step_loses_nothing_acknowledged(tmp_path: Path, unsynced: str) -> None:
    for calls in itertools.count():
        live, after = tmp_path / f"live{calls}", tmp_path / f"after{calls}"
        live.mkdir()
        disk = PowerCutDisk(live, calls)
        acknowledged, tried, trimmed = run_until_cut(live, disk)
        if disk.calls_left > 0:
            break
        disk.cut(after, unsynced=unsynced)
        writer = open_writer(after)
        [new] = writer.store([b"after"])
        writer.close()
        verdict = verify(after)
        assert verdict.tail is None
        assert verdict.first <= max(trimmed, 1), calls
        kept = [frame.payload for frame in show(after, verdict.first)]
        expected = [*tried[: new.position - 1], b"after"]
        assert kept == expected[verdict.first - 1 :], calls
        assert new.position > len(acknowledged), calls
    assert calls > 30


def run_until_cut(directory: Path, disk: PowerCutDisk) -> tuple[list[bytes], list[bytes], int]:
    """Store and trim, a segment to every two groups, and return what was acknowledged, tried, and trimmed up to."""
    acknowledged: list[bytes] = []
    tried: list[bytes] = []
    trimmed = 0
    try:
        writer = open_writer(directory, segment_bytes=600, disk=disk)
    except PowerCutError:
        return acknowledged, tried, trimmed
    try:
        for number in range(8):
            group = [b"%d-%d-" % (number, item) + bytes(item * 9) for item in range(3)]
            tried += group
            writer.store(group)
            acknowledged += group
            if number == 5:
                trimmed = 11
                writer.trim(trimmed)
    except PowerCutError:
        pass
    finally:
        writer.close()
    return acknowledged, tried, trimmed

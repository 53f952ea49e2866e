"""Making small journals without an event loop, for tests of what is on the disk."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from fivenines.journal import Frame
from fivenines.journal.disk import Disk
from fivenines.journal.file import _recover
from fivenines.journal.writer import SegmentWriter

PAYLOADS = (b"alpha" * 9, b"", b"gamma", b"delta-with-8-more")
"""Lengths that need padding and that do not, and one of zero."""


def open_writer(directory: Path, *, segment_bytes: int = 1 << 20, disk: Disk = os) -> SegmentWriter:
    directory.mkdir(exist_ok=True)
    segments, last, digest = _recover(directory, disk)
    return SegmentWriter(disk, directory, segments, last, digest, segment_bytes)


def make_journal(directory: Path, payloads: Iterable[bytes] = PAYLOADS, *, segment_bytes: int = 1 << 20) -> list[Frame]:
    """Make a journal with one group for each payload, and return its frames."""
    writer = open_writer(directory, segment_bytes=segment_bytes)
    try:
        return [frame for payload in payloads for frame in writer.store([payload])]
    finally:
        writer.close()


def contents(directory: Path) -> dict[str, bytes]:
    """The segment files of a journal, and what is in each."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("journal-*"))}


class FaultyDisk:
    """The real disk, but for the calls named in `faults`, which fail with that error instead."""

    def __init__(self) -> None:
        self.faults: dict[str, Exception] = {}
        self.calls: list[str] = []

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int, /) -> int:
        # Half of it gets there, as on a disk that fills up.
        if "pwritev" in self.faults:
            data = b"".join(buffers)
            os.pwrite(fd, data[: len(data) // 2], offset)
        self._enter("pwritev")
        return os.pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int, /) -> None:
        self._enter("fdatasync")
        os.fdatasync(fd)

    def fsync(self, fd: int, /) -> None:
        self._enter("fsync_folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync")
        os.fsync(fd)

    def ftruncate(self, fd: int, length: int, /) -> None:
        self._enter("ftruncate")
        os.ftruncate(fd, length)

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        if call in self.faults:
            raise self.faults[call]


class PowerCutError(Exception):
    """The power is gone: nothing reaches the disk any more."""


class PowerCutDisk:
    """A disk that keeps account of what is safe from a power cut, and cuts the power at a given call."""

    def __init__(self, directory: Path, calls_left: int) -> None:
        self.directory = directory
        self.calls_left = calls_left
        self.safe_names: dict[str, int] = {}
        self.safe_contents: dict[int, bytes] = {}

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int, /) -> int:
        data = b"".join(buffers)
        if self.calls_left == 0:
            os.pwrite(fd, data[: len(data) // 2 + 1], offset)
        self._enter()
        # Short writes are legal, so the rest must be written by another call.
        return os.pwrite(fd, data[: len(data) // 2 + 1], offset)

    def fdatasync(self, fd: int, /) -> None:
        self._enter()
        self.safe_contents[os.fstat(fd).st_ino] = os.pread(fd, 1 << 20, 0)

    def fsync(self, fd: int, /) -> None:
        self._enter()
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self.safe_names = {path.name: path.stat().st_ino for path in self.directory.glob("journal-*")}
        else:
            self.safe_contents[os.fstat(fd).st_ino] = os.pread(fd, 1 << 20, 0)

    def ftruncate(self, fd: int, length: int, /) -> None:
        self._enter()
        os.ftruncate(fd, length)

    def _enter(self) -> None:
        if self.calls_left == 0:
            raise PowerCutError
        self.calls_left -= 1

    def cut(self, into: Path, *, unsynced: str) -> None:
        """Copy what is left after the cut: of what was not synced `all`, `none`, `half`, or `zeros` in its place."""
        into.mkdir()
        current = {path.stat().st_ino: path.read_bytes() for path in self.directory.glob("journal-*")}
        names = self.safe_names
        if unsynced == "all":
            names = {path.name: path.stat().st_ino for path in self.directory.glob("journal-*")}
        for name, inode in names.items():
            safe = self.safe_contents.get(inode, b"")
            rest = current.get(inode, safe)[len(safe) :]
            kept = {"all": rest, "none": b"", "half": rest[: len(rest) // 2], "zeros": bytes(len(rest))}[unsynced]
            (into / name).write_bytes(safe + kept)

"""The disk: the few operations on files that make bytes durable, each sound whatever step a crash comes after."""

import errno
import fcntl
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from fivenines.journal.format import pack_segment_header, segment_name
from fivenines.journal.port import JournalLockedError, Position

__all__ = [
    "NEW_SUFFIX",
    "Disk",
    "create_segment",
    "cut_file",
    "make_directory",
    "release_lock",
    "sync_directory",
    "sync_then_forget",
    "take_lock",
    "write_all",
]

LOCK_NAME = "journal.lock"
NEW_SUFFIX = ".new"
"""What a segment file is called, after its name, until it is durable."""

_WRITEV_BUFFERS_MAX = 1_000
"""Below IOV_MAX, which is 1,024 on Linux."""


class Disk(Protocol):
    """The system calls that make bytes durable: the seam at which tests let a disk fail. `os` is one."""

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int, /) -> int:
        """Write the buffers one after another at `offset`, and return how many bytes were written."""

    def fdatasync(self, fd: int, /) -> None:
        """Return once the contents of the file are on the disk."""

    def fsync(self, fd: int, /) -> None:
        """Return once the file or folder is on the disk, with all that is known about it."""

    def ftruncate(self, fd: int, length: int, /) -> None:
        """Make the file `length` bytes long."""


def write_all(disk: Disk, fd: int, buffers: Sequence[bytes], offset: int) -> None:
    """Write all the buffers, one after another, at `offset`. Raises OSError, having written some of it or nothing."""
    for begin in range(0, len(buffers), _WRITEV_BUFFERS_MAX):
        part = buffers[begin : begin + _WRITEV_BUFFERS_MAX]
        left = sum(map(len, part))
        while left:
            written = disk.pwritev(fd, part, offset)
            if written == 0:
                raise OSError(errno.EIO, "the disk takes no bytes")
            offset += written
            left -= written
            if left:
                # Rare: mostly the disk is full, and the next call says so.
                part = [b"".join(part)[-left:]]


def sync_directory(disk: Disk, directory: Path) -> None:
    """Return once the names in a folder are on the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(fd)
    finally:
        os.close(fd)


def make_directory(disk: Disk, directory: Path) -> None:
    """Make a folder, and those above it that are missing, durably."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_directory(disk, path.parent)


def take_lock(directory: Path) -> tuple[int, ...]:
    """Lock a journal's folder, and return the file descriptors that hold the lock. Raises `JournalLockedError`.

    What is locked is the folder itself, which nobody can take away from under a writer to make room for a second one,
    as a file in it can be. The file names the holder; it is locked as well because earlier releases look at nothing
    else.
    """
    held: list[int] = []
    try:
        held.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        fcntl.flock(held[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
        fcntl.flock(held[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        release_lock(held)
        if isinstance(error, BlockingIOError):
            raise JournalLockedError(directory, _holder(directory)) from error
        raise
    # The process id is for the message only, so it does not matter when a full disk has no room for it: the lock is the
    # kernel's, and ends with the process.
    with suppress(OSError):
        os.ftruncate(held[1], 0)
        os.pwrite(held[1], f"{os.getpid()}\n".encode(), 0)
    return tuple(held)


def release_lock(held: Iterable[int]) -> None:
    """Give up what `take_lock` returned."""
    for fd in held:
        os.close(fd)


def _holder(directory: Path) -> int | None:
    try:
        said = (directory / LOCK_NAME).read_bytes().strip()
    except OSError:
        return None  # it was removed; the folder is in use all the same
    return int(said) if said.isdigit() else None


def create_segment(disk: Disk, directory: Path, first: Position, previous_digest: bytes) -> tuple[int, Path]:
    """Make an empty segment, and return its file descriptor and its path. On an error there is none.

    It gets its name only when its header is on the disk: so no crash leaves a segment without its header. The name is
    durable only after `sync_directory`, which is left to the caller: when that fails, there *is* a segment.
    """
    path = directory / segment_name(first)
    new = path.with_name(path.name + NEW_SUFFIX)
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_all(disk, fd, [pack_segment_header(first, previous_digest)], 0)
        disk.fsync(fd)
        new.rename(path)
    except BaseException:
        os.close(fd)
        with suppress(OSError):
            new.unlink()
        raise
    return fd, path


def cut_file(disk: Disk, path: Path, length: int) -> None:
    """Make a file shorter, durably."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk.ftruncate(fd, length)
        disk.fsync(fd)
    finally:
        os.close(fd)


def sync_then_forget(disk: Disk, path: Path) -> None:
    """Make sure that what is going to be read from a file is what a power cut would leave of it.

    A process that was killed before its fdatasync leaves bytes in the page cache only: so sync. One whose fdatasync
    failed leaves pages there that look clean and are not on the disk: so drop them, to read the disk itself.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)

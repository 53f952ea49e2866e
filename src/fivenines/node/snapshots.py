"""Snapshots: the image of the ledger's state in a file, to start from without replaying the whole journal.

A file is `snapshot-<position>.snap`: a header, the chunks of the image, each with its length and checksum, and an end
with the SHA-256 of the image, which is the state's digest. The header carries the digest of the frame at the position:
a snapshot fits only the journal that it was taken from. A file is written under another name, synced, and only then
renamed, so that a name ending in `.snap` means a whole snapshot.

While a node serves, the snapshot is written by a forked child: fork freezes the state at one position in an instant,
at the price of a copy of the page tables, and the child writes it in its own time and then ends (docs/adr/0003). The
node does not trust it to end: it looks after the child by its pid, ends it when it takes too long or when the node
stops, and where the system can (Linux), a node that is killed takes its child along.
"""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import structlog

from fivenines.journal.disk import sync_directory
from fivenines.ledger import ImageError, State, image, restore
from fivenines.node.settings import OPEN_FILES_MAX

__all__ = [
    "LoadedSnapshot",
    "SnapshotDamagedError",
    "adopt",
    "clean",
    "digest_of",
    "end_child",
    "fork_snapshot",
    "has_room",
    "load",
    "paths",
    "position_of",
    "prune",
    "reason_of",
    "set_aside",
    "tell_left",
    "wait_child",
    "wait_written",
    "write",
]

_log = structlog.get_logger("fivenines.node")

_MAGIC = b"5nsnap01"
_HEADER = struct.Struct(">8sQ32s32s")  # magic, position, digest of the frame, checksum (SHA-256) of what is before it
_CHUNK = struct.Struct(">II")  # length, CRC-32; a length of zero is the end, followed by the digest of the state
_CHUNK_BYTES_MAX = 64 * 1024 * 1024
_FAILED = 255  # the exit status of a child that failed otherwise than with a number of the operating system
_LOOK_S = 0.01  # how often it is looked whether a child ended
_KILLED_S_MAX = 5.0  # a child that was killed is gone at once, unless the disk holds it; then nobody waits for it
_PR_SET_PDEATHSIG = 1
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # looked up here: a child must not load anything
_NAME = re.compile(r"snapshot-(\d{20})\.snap")


class SnapshotDamagedError(Exception):
    """A snapshot file is not what was written. `path` and `offset` say where, `reason` how."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path}: at byte {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LoadedSnapshot:
    """A state that was read from a file, with what ties it to its journal."""

    path: Path
    state: State
    frame_digest: bytes
    state_digest: bytes


def paths(directory: Path) -> list[Path]:
    """Return the snapshots in `directory`, the newest first."""
    return sorted((path for path in directory.glob("snapshot-*.snap") if _NAME.fullmatch(path.name)), reverse=True)


def position_of(path: Path) -> int:
    """Return the position that a snapshot is of, by its name."""
    match = _NAME.fullmatch(path.name)
    assert match, path
    return int(match[1])


def digest_of(path: Path) -> bytes:
    """Return the state's digest that a snapshot ends with, unchecked. Raises `OSError`."""
    with path.open("rb") as file:
        file.seek(-32, os.SEEK_END)
        return file.read()


def write(directory: Path, state: State, frame_digest: bytes) -> Path:
    """Write a snapshot of `state` and return its path once it is durable. Blocks on the disk."""
    path = directory / f"snapshot-{state.position:020}.snap"
    draft = directory / f"{path.name}.{os.getpid()}.draft"
    whole = sha256()
    with draft.open("wb", buffering=1024 * 1024) as file:
        head = _HEADER.pack(_MAGIC, state.position, frame_digest, bytes(32))[:-32]
        file.write(head + sha256(head).digest())
        for chunk in image(state):
            assert 0 < len(chunk) <= _CHUNK_BYTES_MAX, len(chunk)
            whole.update(b"%d:" % len(chunk))
            whole.update(chunk)
            file.write(_CHUNK.pack(len(chunk), zlib.crc32(chunk)))
            file.write(chunk)
        file.write(_CHUNK.pack(0, 0) + whole.digest())
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_directory(os, directory)
    return path


def adopt(draft: Path, directory: Path, position: int) -> Path:
    """Make a snapshot of a file that was checked, durably, and return its path. Blocks on the disk."""
    path = directory / f"snapshot-{position:020}.snap"
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(path)
    sync_directory(os, directory)
    return path


def fork_snapshot(directory: Path, state: State, frame_digest: bytes) -> int:
    """Write a snapshot in a forked child and return its pid; it exits with 0 if the snapshot is durable.

    Raises `OSError` if there is no room for another process. Who forks must reap: `wait_child`, or `end_child`.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    # The child. It must outlive nothing that matters: without our sockets and the journal's lock, which it inherited
    # and would otherwise keep from the node's successor, and never back into the event loop above us.
    status = _FAILED
    try:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a child that hangs shall not outlive the node
        if os.getppid() != parent:
            return 0  # the node died just before that; `finally` ends this process
        signal.set_wakeup_fd(-1)  # it is about to be closed, and its number may come to mean another file
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(3, max(OPEN_FILES_MAX, os.sysconf("SC_OPEN_MAX")))  # whatever the limit is now
        os.nice(10)
        write(directory, state, frame_digest)
        status = 0
    except OSError as error:
        status = error.errno or _FAILED
    finally:
        os._exit(status)


async def wait_child(pid: int) -> int:
    """Wait until the child of `fork_snapshot` ends, reap it, and return its status.

    By looking: a thread that waits could not be told to stop, and a file descriptor may not be had when it is needed.
    """
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not block
        if ended:
            return status
        await asyncio.sleep(_LOOK_S)


async def end_child(pid: int) -> None:
    """Kill the child of `fork_snapshot`, which was not reaped yet, and see it gone, within a bound."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KILLED_S_MAX):
            await wait_child(pid)


async def wait_written(pid: int, s_max: float) -> str | None:
    """Wait for the child of `fork_snapshot`; return None when the snapshot is durable, otherwise why it is not.

    A child that hangs is ended, and so is one that nobody waits for any more.
    """
    is_reaped = False
    try:
        async with asyncio.timeout(s_max):
            status = await wait_child(pid)
            is_reaped = True
    except TimeoutError:
        return f"it was not written within {s_max} s"
    finally:
        if not is_reaped:
            await end_child(pid)
    return reason_of(status) if status else None


def reason_of(status: int) -> str:
    """Say why the child of `fork_snapshot` failed, by the status that it was reaped with."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"the child was ended by signal {-code}"
    return "a bug in the child" if code == _FAILED else os.strerror(code)


def load(path: Path) -> LoadedSnapshot:
    """Read a snapshot and check all of it.

    Raises:
        SnapshotDamagedError: any byte of it is not what was written, or this release cannot read it.
        RulesUnsupportedError: it was taken under rules that this release does not have.
    """
    data = path.read_bytes()
    if len(data) < _HEADER.size:
        raise SnapshotDamagedError(path, len(data), "the header is cut off")
    magic, position, frame_digest, checksum = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise SnapshotDamagedError(path, 0, f"it starts with {magic!r}, not with {_MAGIC!r}")
    if sha256(data[: _HEADER.size - 32]).digest() != checksum:
        raise SnapshotDamagedError(path, 0, "the header's checksum is wrong")
    chunks = _Chunks(path, data)
    try:
        state = restore(chunks)
    except ImageError as error:
        raise SnapshotDamagedError(path, chunks.offset, str(error)) from error
    for _ in chunks:
        raise SnapshotDamagedError(path, chunks.offset, "there is more than one image in it")
    if state.position != position:
        raise SnapshotDamagedError(path, 0, f"it says position {position}, its state is of {state.position}")
    return LoadedSnapshot(path, state, frame_digest, chunks.state_digest)


class _Chunks:
    """The chunks of a snapshot, checked one by one as they are read, and as a whole at the end."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.offset = _HEADER.size
        self.state_digest = b""
        self._path = path
        self._data = data
        self._whole = sha256()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.state_digest:
            raise StopIteration
        data, offset = self._data, self.offset
        body = offset + _CHUNK.size
        if len(data) < body:
            raise SnapshotDamagedError(self._path, offset, "it is cut off before a chunk")
        length, checksum = _CHUNK.unpack_from(data, offset)
        if length == 0:
            return self._end(data[body:], checksum)
        chunk = data[body : body + length]
        if len(chunk) < length:
            raise SnapshotDamagedError(self._path, offset, f"it is cut off in a chunk of {length} bytes")
        if zlib.crc32(chunk) != checksum:
            raise SnapshotDamagedError(self._path, offset, "a chunk's checksum is wrong")
        self._whole.update(b"%d:" % length)
        self._whole.update(chunk)
        self.offset = body + length
        return chunk

    def _end(self, rest: bytes, checksum: int) -> bytes:
        if checksum or rest != self._whole.digest():
            raise SnapshotDamagedError(self._path, self.offset, "the digest at its end is not that of its chunks")
        self.state_digest = rest
        raise StopIteration


def has_room(directory: Path) -> bool:
    """Return whether a snapshot as large as the last one would fit, with as much again left for the journal."""
    disk = os.statvfs(directory)
    last_bytes = max((path.stat().st_size for path in paths(directory)), default=0)
    return disk.f_bavail * disk.f_frsize >= 2 * last_bytes


def prune(directory: Path, *, keep: int) -> list[OSError]:
    """Delete all snapshots but the newest `keep`; return what was in the way of deleting some."""
    return _delete(paths(directory)[keep:])


def clean(directory: Path) -> list[OSError]:
    """Delete what a crash left of snapshots that were being written; return what was in the way of deleting some."""
    return _delete(directory.glob("snapshot-*.draft"))


def set_aside(directory: Path) -> list[OSError]:
    """Start from none of the snapshots any more: keep the newest under another name, for whoever looks into it."""
    errors: list[OSError] = []
    for path in paths(directory)[:1]:
        try:
            path.replace(directory / "suspect.snap")
        except OSError as error:
            errors.append(error)
    return errors + _delete(paths(directory))


def tell_left(errors: list[OSError]) -> None:
    """Tell what was in the way of deleting files: they take room, and no more."""
    for error in errors:
        _log.error("snapshot.not_deleted", file=str(error.filename), reason=error.strerror or str(error))


def _delete(files: Iterable[Path]) -> list[OSError]:
    errors: list[OSError] = []
    try:
        for path in files:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                errors.append(error)
    except OSError as error:  # of looking into the folder
        errors.append(error)
    return errors

"""Rebuilding: from a restored state to a ledger that serves again.

A journal in etcd goes on in a new epoch, so that whatever still runs of the old one is refused there, and nodes begin
with the snapshot that is put in their folder. A journal in a folder begins with it as well. And `verify_backup` goes
the whole way in a folder of its own, up to the state that a node would start with, and compares.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from fivenines.historian.restoring import Restored, RestoreError, Target, restore
from fivenines.journal import FileJournal, Frame, JournalError, Position
from fivenines.journal.archive import Store
from fivenines.journal.disk import create_segment, make_directory, sync_directory
from fivenines.journal.format import pack_frame
from fivenines.journal.segments import list_segments
from fivenines.ledger import State, digest
from fivenines.node import RecoveryError, recover, snapshots

__all__ = ["Backup", "begin_folder", "begin_journal_in", "check_is_empty", "verify_backup"]


def check_is_empty(directory: Path) -> None:
    """Refuse a folder that holds a ledger's data: restoring there would mix two. Raises `RestoreError`."""
    if directory.is_dir() and (snapshots.paths(directory) or list_segments(directory)):
        raise RestoreError(f"{directory} holds a ledger's data already: restore into an empty folder, or move it away")


def begin_folder(directory: Path, restored: Restored) -> None:
    """Put the restored state into the folder of a node, to begin with. Blocks. Raises `RestoreError`, OSError."""
    check_is_empty(directory)
    make_directory(os, directory)
    snapshots.write(directory, restored.state, restored.frame_digest)


def begin_journal_in(directory: Path, restored: Restored) -> None:
    """Begin a journal in a folder, after the restored state, which is put there too. Blocks.

    Raises as `begin_folder` does.
    """
    begin_folder(directory, restored)
    fd, _ = create_segment(os, directory, restored.state.position + 1, restored.frame_digest)
    os.close(fd)
    sync_directory(os, directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a restore into a folder of its own came to."""

    restored: Restored
    restore_s: float
    recover_s: float
    """How long a node took to start from it."""


def verify_backup(
    stores: list[Store],
    target: Target,
    scratch: Path,
    *,
    thorough: bool = True,
    on_progress: Callable[[Position, Position], None] = lambda _done, _total: None,
) -> Backup:
    """Restore into a folder of its own, start from it as a node does, compare, and remove the folder. Blocks.

    Raises:
        RestoreError: it cannot be restored, or what a node would start with is something else.
        MissingFramesError, StoreError: as `restore` does.
        OSError: the disk is in the way.
    """
    folder = scratch / f"verify-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        began = time.perf_counter()
        with _Copy(folder) as copy:
            restored = restore(
                stores,
                target,
                folder,
                thorough=thorough,
                on_begin=copy.begin,
                on_frame=copy.add,
                on_progress=on_progress,
            )
            copy.end(restored)
        restored_at = time.perf_counter()
        state = asyncio.run(_as_a_node_does(folder))
        if digest(state) != restored.state_digest:
            raise RestoreError(f"a node that starts from it is in another state at position {state.position}")
        return Backup(restored=restored, restore_s=restored_at - began, recover_s=time.perf_counter() - restored_at)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _as_a_node_does(folder: Path) -> State:
    try:
        journal = FileJournal.open(folder)
        try:
            return (await asyncio.to_thread(recover, folder, journal)).state
        finally:
            await journal.close()
    except (JournalError, RecoveryError) as error:
        raise RestoreError(f"a node does not start from it: {error}") from error


class _Copy:
    """A journal in a folder, written as its frames come. Not synced: it is there to be read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def begin(self, state: State, frame_digest: bytes) -> None:
        """Take the state that the frames follow from; what came before it is of no use."""
        if self._file is not None:
            self._file.close()
            self._file = None
        for path in self._folder.iterdir():
            path.unlink()
        snapshots.write(self._folder, state, frame_digest)

    def add(self, frame: Frame, before: bytes) -> None:
        """Add a frame, which follows from the digest `before`."""
        if self._file is None:
            self._file = _segment(self._folder, frame.position, before)
        head, tail, _ = pack_frame(frame.position, before, frame.payload)
        self._file.write(head + frame.payload + tail)

    def end(self, restored: Restored) -> None:
        """Have a journal even where no frame came."""
        if self._file is None:
            self._file = _segment(self._folder, restored.state.position + 1, restored.frame_digest)
        self._file.flush()


def _segment(folder: Path, first: Position, before: bytes) -> BinaryIO:
    fd, _ = create_segment(os, folder, first, before)
    os.lseek(fd, 0, os.SEEK_END)
    return os.fdopen(fd, "wb")

"""The book of what is in force: a file for each fault in the platform's folder, written before the fault begins.

    FOLDER/faults/ID.json         one fault: whose it is, until when, and how it is undone
    FOLDER/faults/watchdog.json   the watchdog that reads them
    FOLDER/faults/lock            held by whoever writes, undoes, or looks whether there is anything to do

What stands there is undone by whoever comes first: the drill when it ends the fault, the watchdog when the drill is
gone or the time is over, `undo_left_over` whenever somebody asks. Doing it twice does no harm.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from fivenines.drill.faults.processes import Process, ourselves
from fivenines.drill.faults.undoing import SameWay, Undo

__all__ = ["Book", "Entry", "undo_left_over"]

_FOLDER = "faults"
_GONE_S = 5.0
"""How long what was undone may take to be gone."""
_LOOK_S = 0.05


class Entry(Struct, kw_only=True):
    """One fault that is in force, or about to be."""

    id: str
    fault: str
    target: str
    owner: Process
    """The drill that has begun it."""
    until: float
    """Seconds on the machine's monotonic clock: it is undone then, whoever still wants it."""
    undos: list[Undo] = []
    """What has to be undone, in the order in which it was done."""

    def is_over(self) -> bool:
        """Whether nobody will end it any more, or its time is over."""
        return time.monotonic() >= self.until or not self.owner.is_alive()


class Book:
    """The book of one platform.

    Args:
        folder: the platform's.
    """

    def __init__(self, folder: Path) -> None:
        self.path = (folder / _FOLDER).resolve()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep everybody else from the book meanwhile. Blocks."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def new(self, fault: str, target: str, limit_s: float) -> Entry:
        """Describe a fault that is about to begin; `write` puts it in the book."""
        return Entry(
            id=f"{fault}-{uuid.uuid4().hex[:12]}",
            fault=fault,
            target=target,
            owner=ourselves(),
            until=time.monotonic() + limit_s,
        )

    def write(self, entry: Entry) -> None:
        """Write an entry, whole or not at all."""
        with self.alone():
            self._write(entry)

    def entries(self) -> list[Entry]:
        """Return all entries, the oldest first."""
        found = []
        for path in sorted(self.path.glob("*-*.json"), key=_changed):
            with suppress(FileNotFoundError, msgspec.MsgspecError):
                found.append(msgspec.json.decode(path.read_bytes(), type=Entry))
        return found

    def undo(self, entry: Entry) -> list[str]:
        """Undo all of an entry, the last thing first, and take it out of the book once it is gone. Blocks.

        Returns how it is known to be there still: nothing, if all is well.
        """
        with self.alone():
            others = self.others(entry)
            theirs = [each.about() for each in others]
            last = [each for each in reversed(entry.undos) if each.about() not in theirs]
            own = [each.sparing([*others, *entry.undos]) for each in last]
            still = _undo(own)
            until = time.monotonic() + _GONE_S
            while still and time.monotonic() < until:
                time.sleep(_LOOK_S)
                still = _still(own)
            if not still:
                self._file(entry).unlink(missing_ok=True)
            return still

    def others(self, but: Entry) -> list[Undo]:
        """Return how all is undone that stands in the book besides an entry, of the oldest first."""
        return [each for entry in self.entries() if entry.id != but.id for each in entry.undos]

    def same(self, about: object, but: Entry) -> Undo | None:
        """Return how somebody else in the book would undo the same thing."""
        return next((each for each in self.others(but) if each.about() == about), None)

    def _write(self, entry: Entry) -> None:
        draft = self.path / f"{entry.id}.draft"
        draft.write_bytes(msgspec.json.encode(entry))
        draft.replace(self._file(entry))

    def _file(self, entry: Entry) -> Path:
        return self.path / f"{entry.id}.json"


def undo_left_over(folder: Path, *, everything: bool = False) -> list[str]:
    """Undo what faults have left behind in a platform: those whose drill is gone, and those whose time is over. Blocks.

    Args:
        folder: the platform's.
        everything: also what a living drill has in force.

    Returns:
        What was undone, a sentence each; empty when there was nothing.

    Raises:
        OSError: something is still there; the sentence says what. It stays in the book.
    """
    book, told, stays = Book(folder), [], []
    if not book.path.is_dir():
        return []
    for entry in reversed(book.entries()):
        if everything or entry.is_over():
            still = book.undo(entry)
            stays += [f"{entry.fault} ({entry.target}): {each}" for each in still]
            if not still:
                told.append(f"{entry.fault} ({entry.target}) was undone")
    if stays:
        raise OSError("; ".join(stays))
    return told


def _undo(undos: Sequence[SameWay]) -> list[str]:
    for each in undos:
        with suppress(OSError):  # `still` says so
            each.undo()
    return _still(undos)


def _still(undos: Sequence[SameWay]) -> list[str]:
    found = []
    for each in undos:
        try:
            found.append(each.still())
        except OSError as error:
            found.append(f"it cannot be told: {error}")
    return [each for each in found if each]


def _changed(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0

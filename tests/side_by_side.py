"""Tests run two at a time, but for those that want the machine to themselves.

A test that lets things happen to a whole platform, or that measures, is marked `alone`: while one of its file runs,
none of another file does. Two locks see to it, shared by all workers through files: the room, which a file of tests
shares with others or has alone, and the door in front of it, which whoever wants the room alone keeps closed while
waiting, so that he is not overtaken for ever.

The room is taken before the clock of the test's time limit starts, and kept from the first test of a file to its last:
what a file has set up for all its tests is not disturbed between them.
"""

import fcntl
from pathlib import Path
from typing import IO

__all__ = ["Room"]


class Room:
    """The room as one worker uses it.

    Args:
        folder: where the lock files are, the same for all workers.
    """

    def __init__(self, folder: Path) -> None:
        self._door: IO[bytes] = (folder / "door.lock").open("wb")
        self._room: IO[bytes] = (folder / "room.lock").open("wb")
        self._for: Path | None = None

    def enter(self, file: Path, *, alone: bool) -> None:
        """Wait until there is room for the tests of a file; nothing, when they have it already."""
        if self._for == file:
            return
        self.leave()
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
        self._for = file

    def leave(self) -> None:
        """Make room for others."""
        if self._for is not None:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            self._for = None

    def close(self) -> None:
        """Make room for others, for good."""
        self._door.close()
        self._room.close()

"""The newest frames, kept in memory for followers that keep up, and the waking of those who wait for the next one."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

from fivenines.journal.port import Frame, Position

__all__ = ["FRAME_MEMORY_BYTES", "RecentFrames", "take_some"]

_T = TypeVar("_T")

FRAME_MEMORY_BYTES = 256
"""What a frame takes in memory beside its payload."""
_TAKEN_BYTES_MAX = 1024 * 1024


class RecentFrames:
    """The frames up to the journal's end, without a gap, as many as fit. Other threads may `get`."""

    def __init__(self, bytes_max: int) -> None:
        self.changed = asyncio.Event()
        """Set, and replaced by another, when something has changed: take it before looking, and then wait for it."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._frames: dict[Position, Frame] = {}

    def get(self, position: Position) -> Frame | None:
        """Return a frame, None if it is not here, any more or yet."""
        return self._frames.get(position)

    def add(self, frame: Frame) -> None:
        """Add the next frame, and let go of the oldest ones beyond the bound."""
        self._frames[frame.position] = frame
        self._bytes += len(frame.payload) + FRAME_MEMORY_BYTES
        while self._bytes > self._bytes_max and len(self._frames) > 1:
            oldest = self._frames.pop(frame.position + 1 - len(self._frames))
            self._bytes -= len(oldest.payload) + FRAME_MEMORY_BYTES

    def wake(self) -> None:
        """Tell everybody who waits that something has changed."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


def take_some(reader: Iterator[_T], frame_of: Callable[[_T], Frame]) -> list[_T]:
    """Return the next of what is read, up to what a follower that is behind may hold; none when there are no more."""
    taken: list[_T] = []
    room = _TAKEN_BYTES_MAX
    for item in reader:
        taken.append(item)
        room -= len(frame_of(item).payload) + FRAME_MEMORY_BYTES
        if room <= 0:
            break
    return taken

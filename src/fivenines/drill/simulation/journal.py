"""A journal that several nodes share, in memory, with weather: the port's promises and none more.

`SharedLog` is the truth: an ordered list of frames. Each node reaches it through a `SharedJournal` of its own, over a
link that delays, loses requests before they are carried out and answers after, and is cut. What the port lets a journal
do, this one does: an append may fail and not have happened, or fail and have happened; a follower may lag behind, and
its stream may break and go on.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from fivenines.journal import Frame, Journal, JournalClosedError, MaybeDoneError, NotDoneError, TrimmedError

__all__ = ["Link", "SharedJournal", "SharedLog"]

_PAYLOAD_BYTES_MAX = 16 * 1024 * 1024


@dataclass(slots=True)
class Link:
    """The way from a node to the journal. The simulator changes it while it is in use."""

    delay_s: float
    """The mean of each way's delay."""
    lost: float = 0.0
    """How likely a message is to be lost."""
    whole: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the link is not cut."""

    def __post_init__(self) -> None:
        self.whole.set()


class SharedLog:
    """The frames, in order, and everybody who waits for the next one."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._grown = asyncio.Event()

    def commit(self, payload: bytes) -> int:
        """Add a frame and return its position."""
        before = self.frames[-1].digest if self.frames else bytes(32)
        position = len(self.frames) + 1
        self.frames.append(Frame(position, payload, sha256(before + payload).digest()))
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return position

    async def wait_beyond(self, position: int) -> None:
        """Wait until there is a frame after `position`."""
        while len(self.frames) <= position:
            await self._grown.wait()


class SharedJournal(Journal):
    """One node's way to the shared log."""

    def __init__(self, log: SharedLog, link: Link, random: Random) -> None:
        self._log = log
        self._link = link
        self._random = random
        self._is_closed = False

    @property
    def first(self) -> int:
        """The oldest position."""
        return 1

    @property
    def last(self) -> int:
        """The newest position."""
        return len(self._log.frames)

    @property
    def last_digest(self) -> bytes:
        """The digest of the newest frame."""
        return self._log.frames[-1].digest if self._log.frames else bytes(32)

    @property
    def payload_bytes_max(self) -> int:
        """The longest payload."""
        return _PAYLOAD_BYTES_MAX

    @property
    def failed(self) -> str | None:
        """It never fails for good."""
        return None

    @property
    def cut_off(self) -> str | None:
        """An append is always tried."""
        return None

    @property
    def age_s(self) -> float:
        """It always knows its end."""
        return 0.0

    async def append(self, payload: bytes) -> int:
        """Send a frame to the log, if the weather lets it through."""
        if self._is_closed:
            raise JournalClosedError
        if not self._link.whole.is_set() or self._random.random() < self._link.lost / 2:
            await asyncio.sleep(self._random.expovariate(1 / 0.05))
            raise NotDoneError("no way to the journal")
        await self._pass()
        if not self._link.whole.is_set() or self._random.random() < self._link.lost:
            await asyncio.sleep(0.2)
            raise MaybeDoneError("no answer from the journal")  # the request was lost: it did not happen
        position = self._log.commit(payload)
        await self._pass()
        if not self._link.whole.is_set() or self._random.random() < self._link.lost:
            await asyncio.sleep(0.2)
            raise MaybeDoneError("no answer from the journal")  # the answer was lost: it happened
        return position

    def read(self, start: int) -> Iterator[Frame]:
        """Iterate over the frames from `start` to the newest there is now."""
        if start < 1:
            raise TrimmedError(start, 1)
        return iter(self._log.frames[start - 1 :])

    async def follow(self, start: int) -> AsyncGenerator[Frame, None]:
        """Iterate over the frames from `start`, each after a delay, for as long as the link holds."""
        position = start - 1
        while not self._is_closed:
            await self._log.wait_beyond(position)
            await self._pass()
            await self._link.whole.wait()
            # What has piled up comes at once, as from a watch that was resumed.
            for frame in self._log.frames[position : position + self._random.randint(1, 8)]:
                yield frame
                position = frame.position

    async def trim(self, before: int) -> None:
        """Keep everything."""

    async def close(self) -> None:
        """Take no more appends."""
        self._is_closed = True

    async def _pass(self) -> None:
        await asyncio.sleep(self._random.expovariate(1 / self._link.delay_s))

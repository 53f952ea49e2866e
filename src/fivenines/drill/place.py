"""Where a drill takes place: one ledger in one process, or one in several regions; how it is run, killed and read.

A drill knows only `Place`. What is killed at each kill, and how it comes back, is the place's own affair.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import RenderableType

from fivenines.drill.disk import OnDisk, read_disk
from fivenines.drill.supervise import LedgerProcess, Ready
from fivenines.journal.verify import verify

__all__ = ["Embedded", "Place", "ReadBack", "Way"]


@dataclass(frozen=True, slots=True)
class ReadBack:
    """A journal that was read from outside."""

    disk: OnDisk
    is_sound: bool


@dataclass(frozen=True, slots=True)
class Way:
    """How one client reaches the ledger."""

    urls: tuple[str, ...]
    nameservers: tuple[str, ...] = ()
    """Whom it asks for the names in them, the nearest first; empty for addresses."""


class Place(Protocol):
    """Where a drill takes place."""

    name: str
    """What it is, for people: `one process`, `three regions`."""
    requests_wanted: int
    """How many requests should be under way to what is killed, so that a kill hits many."""
    cuts_requests: bool
    """Whether a kill cuts off requests for all to see; an edge that repeats them hides it."""

    async def start(self) -> Sequence[Ready]:
        """Start everything that does not run, and wait until it serves. Raises `LedgerFailedError`."""

    def ways(self) -> Sequence[Way]:
        """Return how clients reach it, one in each region; once it has started."""

    @property
    def whole_after_s(self) -> Sequence[float]:
        """For each kill that was got over: how long it took until everything was back, in seconds."""

    def picture(self) -> RenderableType | None:
        """What it looks like just now, for a terminal; None where there is nothing to see."""

    def is_hit(self, address: str) -> bool:
        """Whether the next kill hits requests that go to `host:port`."""

    def kill(self) -> str:
        """End without warning what is to be ended next, now; return what it was. Neither fails nor waits for long."""

    async def keep_up(self, told: Callable[[str], None]) -> None:
        """Start again what was killed, for as long as the drill lasts.

        Raises `LedgerFailedError` when something ends that nobody has killed, or does not start again.
        """

    async def wait_whole(self) -> None:
        """Wait until everything that was killed is back, while `keep_up` runs."""

    async def stop(self) -> None:
        """Stop everything that answers requests, cleanly. Raises `LedgerFailedError` when something does not."""

    async def read(self) -> ReadBack:
        """Read the journal while nobody answers requests."""

    async def discard(self) -> None:
        """Leave no process behind."""


class Embedded(Place):
    """One process, with a journal in a folder."""

    name = "one process"
    requests_wanted = 16
    cuts_requests = True

    def __init__(self, process: LedgerProcess) -> None:
        self._process = process
        self._url = ""
        self._killed = 0
        self._killed_at = 0.0
        self._whole_after_s: list[float] = []
        self._is_whole = asyncio.Event()
        self._is_whole.set()

    async def start(self) -> Sequence[Ready]:
        """Start the ledger."""
        ready = await self._process.start()
        self._url = ready.url
        return [ready]

    def ways(self) -> Sequence[Way]:
        """There is one process, and one way to it."""
        return [Way((self._url,))]

    @property
    def whole_after_s(self) -> Sequence[float]:
        """For each kill: how long it took until the ledger served again, in seconds."""
        return self._whole_after_s

    def picture(self) -> None:
        """There is one process, and nothing to see of it."""

    def is_hit(self, address: str) -> bool:  # noqa: ARG002 - there is only one
        """Whatever is under way goes to the one process."""
        return True

    def kill(self) -> str:
        """Kill the ledger."""
        self._killed += 1
        self._killed_at = time.monotonic()
        self._is_whole.clear()
        self._process.kill()
        return "the ledger"

    async def keep_up(self, told: Callable[[str], None]) -> None:
        """Start the ledger again whenever it was killed."""
        seen = 0
        while True:
            status = await self._process.wait()
            if self._killed == seen or status != -signal.SIGKILL:
                raise self._process.died(status)
            seen += 1
            ready = await self._process.start()
            self._whole_after_s.append(time.monotonic() - self._killed_at)
            self._is_whole.set()
            told(f"the ledger serves again, at position {ready.position:,}, process {ready.pid}")

    async def wait_whole(self) -> None:
        """Wait until the ledger serves again."""
        await self._is_whole.wait()

    async def stop(self) -> None:
        """Stop the ledger."""
        await self._process.stop()

    async def read(self) -> ReadBack:
        """Check and read the folder."""
        verdict = await asyncio.to_thread(verify, self._data)
        disk = await asyncio.to_thread(read_disk, self._data)
        return ReadBack(disk, verdict.is_sound and verdict.tail is None)

    async def discard(self) -> None:
        """Kill the ledger, if it runs."""
        await self._process.discard()

    @property
    def _data(self) -> Path:
        return self._process.data

"""One fault in force: begun, known by the book, and in the end undone and looked at whether it is really gone."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from fivenines.drill.faults.book import Book, Entry
from fivenines.drill.faults.errors import FaultImpossibleError, FaultStaysError, FaultTimedOutError
from fivenines.drill.faults.processes import Process, process_of
from fivenines.drill.faults.undoing import EndHelper, Undo
from fivenines.drill.faults.watchdog import ensure_watchdog
from fivenines.platform.local.dying import dying_with_us

__all__ = ["LIMIT_S", "OVER_AFTER", "InForce", "begun"]

T = TypeVar("T")

LIMIT_S = 300.0
"""The longest that a fault lasts unless somebody says otherwise."""
OVER_AFTER: Final = "over_after_s"
"""The fact of a fault that was over before it was ended: after how long, since it began."""


class InForce:
    """A fault that is in force. Faults are begun by `in_force`, or by `begun` and what is in the modules beside.

    Args:
        book: where it is written down.
        entry: its entry there.
    """

    def __init__(self, book: Book, entry: Entry) -> None:
        self._book, self._entry = book, entry
        self.name = entry.fault
        self.target = entry.target
        """What it really hits."""
        self.began = time.monotonic()
        self.facts: dict[str, float] = {}
        """What was measured; seconds where a name ends in _s."""
        self.stack = AsyncExitStack()
        """What runs here for as long as it is in force. Left when all that was promised has been undone."""
        self._first: list[Callable[[], Awaitable[None]]] = []

    @property
    def id(self) -> str:
        """A name that no other fault has."""
        return self._entry.id

    @property
    def is_over(self) -> bool:
        """Whether its time is over: it is undone, or about to be, though nobody has ended it."""
        return time.monotonic() >= self._entry.until

    @property
    def lasts(self) -> bool:
        """Whether there is something to end: a kill is over as soon as it is done."""
        return bool(self._entry.undos or self._first)

    @property
    def folder(self) -> Path:
        """A folder for what it needs while it is in force."""
        return self._book.path

    async def promise(self, *undos: Undo) -> None:
        """Write down how something is undone. Done before it is done. Raises OSError."""

        def write() -> None:
            for undo in undos:
                # Who has changed the same thing before knows how it was in the beginning.
                self._entry.undos.append(self._book.same(undo.about(), self._entry) or undo)
            self._book.write(self._entry)

        await asyncio.to_thread(write)

    async def others(self) -> list[Undo]:
        """Return how all is undone that other faults have done: how something is now may be their doing."""
        return await asyncio.to_thread(self._book.others, self._entry)

    def before_end(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done in the end before anything is undone, such as to stop what does it again and again."""
        self._first.append(work)

    def keep_doing(self, work: Callable[[], Awaitable[None]], *, every_s: float, then: Callable[[], None]) -> None:
        """Do something again and again for as long as it is in force.

        It is done here, where no watchdog reaches, so it ends by itself when the time is over: the drill may hang, or
        hold the fault for longer.

        Args:
            work: what is done; where it waits before it does something, it looks at the time itself (`is_over`).
            every_s: how long it rests.
            then: done when the time is over: what the watchdog has undone may have been done once more at that moment.
        """

        async def go() -> None:
            while not self.is_over:
                await work()
                await asyncio.sleep(every_s)
            then()

        going = asyncio.create_task(go(), name=f"{self.name} ({self.target}), again and again")

        async def stop() -> None:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)

        self.before_end(stop)

    async def helper(self, *command: str) -> Process:
        """Start a process that does something for as long as it runs, and undoes it when told to end.

        It dies with us; the watchdog ends it, too. Raises `FaultImpossibleError`. One that ends at once is returned as
        one that is not alive.
        """
        log = self.folder / f"{self.id}.log"
        try:
            with log.open("ab") as told:
                process = await asyncio.create_subprocess_exec(
                    *_dying_softly(),
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=told,
                    stderr=told,
                    start_new_session=True,
                )
        except OSError as error:
            raise FaultImpossibleError(self.name, f"{command[0]} does not start: {error}") from error
        try:
            found = process_of(process.pid)
        except ProcessLookupError:  # it has ended, perhaps because whom it hit has: who waits for it sees which
            found = Process(process.pid, started=0)
        self.stack.push_async_callback(_reap, process, log)
        await self.promise(EndHelper(found))
        return found

    def told(self) -> str:
        """What its helper has said."""
        with contextlib.suppress(OSError):
            return (self.folder / f"{self.id}.log").read_text(errors="replace").strip()
        return ""

    async def begin(self) -> None:
        """Put it in the book, and see to it that somebody watches. Raises OSError."""
        await asyncio.to_thread(self._book.write, self._entry)
        ensure_watchdog(self._book)

    async def end(self) -> None:
        """Undo all of it. Raises `FaultStaysError`."""
        try:
            for work in reversed(self._first):
                await work()
        finally:
            try:
                still = await asyncio.to_thread(self._book.undo, self._entry)
            finally:
                await self.stack.aclose()
        if still:
            raise FaultStaysError(self.name, self.target, still)


@asynccontextmanager
async def begun(folder: Path, name: str, target: str, *, limit_s: float = LIMIT_S) -> AsyncIterator[InForce]:
    """Have a fault that does nothing yet; whatever is done with it is undone on leaving, come what may.

    Args:
        folder: of the platform.
        name: of the fault.
        target: what it hits, for people.
        limit_s: it is undone after so long, whatever happens.

    Raises:
        FaultStaysError: it was ended and is not gone.
        FaultTimedOutError: its time was over before it was ended; its facts then have `over_after_s`.
    """
    book = Book(folder)
    fault = InForce(book, book.new(name, target, limit_s))
    try:
        await fault.begin()
        yield fault
        is_late, held_s = fault.is_over and fault.lasts, time.monotonic() - fault.began
        if is_late:
            fault.facts[OVER_AFTER] = limit_s
    finally:
        await _to_its_end(fault.end)
    if is_late:
        raise FaultTimedOutError(name, target, limit_s=limit_s, held_s=held_s)


async def _to_its_end(work: Callable[[], Awaitable[T]]) -> T:
    """Carry something out to its end though we are cancelled meanwhile; raises that afterwards."""
    doing = asyncio.ensure_future(work())
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001 - raised below
            break
    result = doing.result()
    if cancelled is not None:
        raise cancelled
    return result


async def _reap(process: asyncio.subprocess.Process, log: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    log.unlink(missing_ok=True)


def _dying_softly() -> tuple[str, ...]:
    """As `dying_with_us`, by a signal that lets the helper undo what it does."""
    return tuple("TERM" if word == "KILL" else word for word in dying_with_us())

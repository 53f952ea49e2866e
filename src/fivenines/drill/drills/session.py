"""Several drills, one after the other, on as few platforms as they need.

Starting a platform takes longer than most drills, so they share one, each after it has become whole again. A drill
that damages it for good has one of its own, and so has whoever comes after one that did not become whole.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from fivenines.drill.drills.found import FoundPlatform
from fivenines.drill.drills.reading import Drill
from fivenines.drill.drills.runner import Telling, Terms, carry_out_drill, not_begun, why_skip
from fivenines.drill.load.mix import MixFailedError
from fivenines.drill.load.running import LoadFailedError
from fivenines.drill.results import DrillResult
from fivenines.drill.running import PlatformFailedError, RunningPlatform
from fivenines.journal import JournalError
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.local.isolation import IsolationError
from fivenines.platform.local.up import UpError, held

__all__ = ["SessionTelling", "Where", "carry_out_all", "in_order"]


_TROUBLES = (
    *(PlatformFailedError, LoadFailedError, MixFailedError, AgentError, JournalError, IsolationError),
    *(httpx.HTTPError, OSError, TimeoutError),
)
"""What may go wrong with a drill, and says nothing of the others."""
_WHOLE_S_MAX = 10.0
_DRILLS_MAX = 10
"""After so many drills a platform is replaced: the checker reads its whole journal after each."""


class SessionTelling(Telling, Protocol):
    """Who is told how several drills go."""

    def begin(self, drill: Drill, number: int, count: int) -> None:
        """A drill begins."""

    def end(self, result: DrillResult) -> None:
        """A drill has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where drills take place."""

    folder: Path
    declared: Path | None = None
    """The `platform.yaml`; None for the one that is built in."""
    network: int = 0
    is_apart: bool = False
    """Whether its regions are in networks of their own."""
    found: bool = False
    """Whether it runs already, from that folder."""

    def platform(self, number: int) -> RunningPlatform:
        """Return the platform number so, not started."""
        if self.found:
            return FoundPlatform(self.folder)
        options = ("--isolation", "netns") if self.is_apart else ()
        folder = self.folder / f"platform-{number}"
        return RunningPlatform(folder, declared=self.declared, network=self.network, options=options)


def in_order(drills: Sequence[Drill]) -> list[Drill]:
    """Put those that share a platform first: so it is started once."""
    return sorted(drills, key=lambda drill: drill.ours.platform == "own")


async def carry_out_all(
    drills: Sequence[Drill],
    where: Where,
    terms: Terms,
    telling: SessionTelling,
    *,
    keep: Callable[[DrillResult], None] = lambda _result: None,
) -> list[DrillResult]:
    """Carry out drills, and return what came of each that was begun or could not be.

    Args:
        drills: in the order in which they are wanted.
        where: on what platform.
        terms: see there.
        telling: is told how it goes.
        keep: is given each result as soon as there is one.

    Raises:
        PlatformFailedError: no platform can be started.
    """
    results: list[DrillResult] = []
    platforms = _Platforms(where, telling)
    async with platforms.gone():
        for number, drill in enumerate(in_order(drills)):
            if terms.ending.is_set():
                break
            telling.begin(drill, number + 1, len(drills))
            is_own = drill.ours.platform == "own"
            isolation = "netns" if where.is_apart else "loopback"
            why = None if where.found else why_skip(drill, isolation=isolation)
            if why is not None:  # no platform is started for that
                result = not_begun(drill, terms, "skipped", why)
            else:
                result = await _carry_out(drill, platforms, terms, telling, fresh=is_own)
                if result.verdict == "refused" and platforms.is_used:
                    # What those before left of it is no reason that this one shows nothing.
                    await platforms.let_go()
                    result = await _carry_out(drill, platforms, terms, telling, fresh=True)
                if is_own or (result.verdict in {"failed", "stopped"} and not await platforms.is_whole()):
                    await platforms.let_go()
            telling.end(result)
            keep(result)
            results.append(result)
    return results


async def _carry_out(
    drill: Drill, platforms: "_Platforms", terms: Terms, telling: Telling, *, fresh: bool
) -> DrillResult:
    platform = await platforms.ready(fresh=fresh)
    try:
        return await carry_out_drill(drill, platform, terms, telling)
    except _TROUBLES as error:
        return not_begun(drill, terms, "failed", str(error) or repr(error))


def _clear(folder: Path) -> None:
    """Take away what an earlier run left in a folder of ours. Raises `PlatformFailedError`."""
    if not folder.exists():
        return
    try:
        with held(folder):
            pass
    except UpError as error:
        raise PlatformFailedError(str(error)) from error
    shutil.rmtree(folder)


class _Platforms:
    """The platform of the moment."""

    def __init__(self, where: Where, telling: Telling) -> None:
        self._where, self._telling = where, telling
        self._running: RunningPlatform | None = None
        self._started = 0
        self._drills = 0

    async def ready(self, *, fresh: bool) -> RunningPlatform:
        if self._running is not None and (fresh or self._drills >= _DRILLS_MAX):
            await self.let_go()
        if self._running is None:
            self._started += 1
            self._telling.step("looking for the platform" if self._where.found else "starting a platform")
            platform = self._where.platform(self._started)
            if not self._where.found:
                await asyncio.to_thread(_clear, platform.folder)
            await platform.start()
            self._running, self._drills = platform, 0
        self._drills += 1
        return self._running

    @property
    def is_used(self) -> bool:
        """Whether the platform is ours, and others had it before whoever has it now."""
        return self._drills > 1 and not self._where.found

    async def is_whole(self) -> bool:
        """Whether others may use the platform yet."""
        try:
            assert self._running is not None
            await self._running.wait_whole(_WHOLE_S_MAX)
        except (PlatformFailedError, AgentError):
            return False
        return True

    async def let_go(self) -> None:
        if self._running is not None and not self._where.found:
            running, self._running = self._running, None
            self._telling.step("stopping the platform")
            if running.is_running:  # one that a drill has lost does not
                with contextlib.suppress(PlatformFailedError):  # what is wrong with it a drill has said already
                    await running.stop()
            await running.discard()

    @asynccontextmanager
    async def gone(self) -> AsyncIterator[None]:
        try:
            yield
            if self._running is not None and (self._where.found or self._running.is_running):
                self._telling.step("stopping the platform" if not self._where.found else "leaving the platform")
                await self._running.stop()
        finally:
            if self._running is not None:
                await self._running.discard()

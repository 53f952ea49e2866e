"""Where events come from: a narrow port, and what stands behind it.

    HttpSource      `/v1/events` of nodes and historians, with long polls; several are tried in turn
    PolledSource    functions that read and that block, such as those of a history in SQL
    SharedSource    one reading for all who are at the same position

A source tells all events after a position, in order, and the position up to which that is all. It never skips: what it
does not have any more is an error, `EventsTrimmedError`.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import httpx
import msgspec

from fivenines.api import Event, Events, Problem

__all__ = [
    "EventSource",
    "EventsTrimmedError",
    "HttpSource",
    "PolledSource",
    "SharedSource",
    "SourceError",
    "SourceUnavailableError",
]

_ANSWER_S_MAX = 10.0
_POLL_S = 20
_PAGES_KEPT = 32

_decode_events = msgspec.json.Decoder(Events).decode
_decode_problem = msgspec.json.Decoder(Problem).decode


class SourceError(Exception):
    """There are no events to be had from here."""


class SourceUnavailableError(SourceError):
    """Not now: ask again."""


class EventsTrimmedError(SourceError):
    """What follows the position is not kept any more: another source may have it."""


class EventSource(Protocol):
    """Tells of events. All methods raise `SourceError`."""

    async def after(self, position: int, limit: int) -> tuple[list[Event], int]:
        """Return events after a position, the oldest first, and the position up to which that is all.

        Frames come whole, so there may be more than `limit`.
        """
        ...

    async def wait(self, position: int, timeout_s: float) -> None:
        """Return when there may be more after a position, at the latest after a time."""
        ...

    async def end(self) -> int:
        """Return the position up to which there is something by now."""
        ...


class HttpSource:
    """Events of nodes and historians, over HTTP. To be closed.

    Args:
        urls: of servers of one ledger, the nearest first. One that fails makes way for the next.
    """

    def __init__(self, *urls: str) -> None:
        if not urls:
            raise ValueError("there is no URL to read events from")
        self._urls = [url.rstrip("/") for url in urls]
        self._at = 0
        self._http = httpx.AsyncClient(timeout=_ANSWER_S_MAX, trust_env=False)
        self._ahead: tuple[int, Events] | None = None

    async def after(self, position: int, limit: int) -> tuple[list[Event], int]:
        """Return events after a position; see `EventSource`."""
        if self._ahead is not None and self._ahead[0] == position:
            (_, page), self._ahead = self._ahead, None
        else:
            page = await self._ask({"after": position, "limit": limit}, _ANSWER_S_MAX)
        return page.events, page.position

    async def wait(self, position: int, timeout_s: float) -> None:
        """Return when there is more after a position: what was told meanwhile is what `after` returns next."""
        wait_s = max(1, min(_POLL_S, int(timeout_s)))
        query = {"after": position, "limit": 100, "wait_s": wait_s}
        page = await self._ask(query, wait_s + _ANSWER_S_MAX)
        if page.position > position:
            self._ahead = (position, page)

    async def end(self) -> int:
        """Return the position up to which the server has applied the journal."""
        return (await self._ask({"limit": 1}, _ANSWER_S_MAX)).position

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def _ask(self, query: dict[str, int], timeout_s: float) -> Events:
        reasons: list[str] = []
        trimmed = 0
        for _ in self._urls:
            url = self._urls[self._at]
            try:
                response = await self._http.get(f"{url}/v1/events", params=query, timeout=timeout_s)
                if response.status_code == 200:
                    return _decode_events(response.content)
                trimmed += response.status_code == 410
                reasons.append(f"{url}: {_reason(response)}")
            except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
                reasons.append(f"{url}: {str(error) or type(error).__name__}")
            self._at = (self._at + 1) % len(self._urls)
        kind = EventsTrimmedError if trimmed == len(self._urls) else SourceUnavailableError
        raise kind("; ".join(reasons))


def _reason(response: httpx.Response) -> str:
    try:
        problem = _decode_problem(response.content)
    except msgspec.DecodeError:
        return f"it answered {response.status_code}"
    return f"{response.status_code}, {problem.detail or problem.title}"


class PolledSource:
    """Events that functions read which block; they run in threads.

    Args:
        read: returns events after a position, as `EventSource.after` does.
        position: returns the position up to which there is something.
        unavailable: what they raise where there is nothing to be had now.
        poll_s: how often to look whether there is more.
    """

    def __init__(
        self,
        read: Callable[[int, int], tuple[list[Event], int]],
        position: Callable[[], int],
        *,
        unavailable: tuple[type[Exception], ...] = (),
        poll_s: float = 0.1,
    ) -> None:
        self._read = read
        self._position = position
        self._unavailable = unavailable
        self._poll_s = poll_s

    async def after(self, position: int, limit: int) -> tuple[list[Event], int]:
        """Return events after a position; see `EventSource`."""
        try:
            return await asyncio.to_thread(self._read, position, limit)
        except self._unavailable as error:
            raise SourceUnavailableError(str(error)) from error

    async def wait(self, position: int, timeout_s: float) -> None:
        """Look at intervals whether there is more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while await self.end() <= position:  # noqa: ASYNC110 a database tells nobody
                    await asyncio.sleep(self._poll_s)

    async def end(self) -> int:
        """Return the position up to which there is something."""
        try:
            return await asyncio.to_thread(self._position)
        except self._unavailable as error:
            raise SourceUnavailableError(str(error)) from error


class SharedSource:
    """One reading, and one waiting, for all who are at the same position.

    Most are at the end, and so want the same page; those who are not read for themselves.
    """

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self._pages: OrderedDict[tuple[int, int], tuple[Sequence[Event], int]] = OrderedDict()
        self._waiting: dict[int, asyncio.Task[None]] = {}
        self._reading = asyncio.Lock()

    async def after(self, position: int, limit: int) -> tuple[list[Event], int]:
        """Return events after a position; see `EventSource`."""
        async with self._reading:
            page = self._pages.get((position, limit))
            if page is None:
                page = await self._source.after(position, limit)
                if page[1] > position:
                    self._pages[position, limit] = page
                    if len(self._pages) > _PAGES_KEPT:
                        self._pages.popitem(last=False)
        return list(page[0]), page[1]

    async def wait(self, position: int, timeout_s: float) -> None:
        """Return when there may be more after a position."""
        if any(position == known for known, _ in self._pages):
            return
        task = self._waiting.get(position)
        if task is None:
            task = asyncio.create_task(self._source.wait(position, timeout_s), name=f"events after {position}")
            self._waiting[position] = task
            task.add_done_callback(partial(self._forget, position))
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    def _forget(self, position: int, task: asyncio.Task[None]) -> None:
        self._waiting.pop(position, None)
        if not task.cancelled():
            task.exception()  # whoever waited was told, or does not wait any more

    async def end(self) -> int:
        """Return the position up to which there is something by now."""
        return await self._source.end()

    async def close(self) -> None:
        """Stop waiting."""
        tasks = list(self._waiting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Streams of events: one page, read and written once, for all who follow.

Most followers are at the end of the journal and so want the same page. It is made by the first who asks, in a thread,
and kept for the others. So that they ask together, all rest until the same tick of the clock once they are at the end:
that bounds what a follower costs, however many frames a second there are, for a delay that nobody notices.

Who follows only some events is told those of the same page, and its position all the same: so it goes on from there,
though nothing was for it.
"""

import asyncio
from dataclasses import dataclass

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from fivenines.api import Event
from fivenines.node import history
from fivenines.node.filters import ALL_EVENTS, EventFilter, accounts_of
from fivenines.node.node import Node

__all__ = ["EventPage", "EventPages", "EventStream", "rest"]

_EVENTS_MAX = 1_000
_KEPT_BYTES_MAX = 8 * 1024 * 1024
_EVENT_BYTES = 512  # what Python takes for a tuple, its set of accounts and their names
_REST_S = 0.1

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events as a stream says them."""

    told: tuple[tuple[str, frozenset[str] | None, bytes], ...]
    """Of each event its type, the accounts that it is about, and its text."""
    position: int
    """Up to which they are all."""

    def text(self, wanted: EventFilter = ALL_EVENTS) -> bytes:
        """Return the text of the events that are wanted, and of the position after them."""
        parts = [text for type, accounts, text in self.told if wanted.takes(type, accounts)]
        return b"".join([*parts, b"id: %d\n\n" % self.position])

    @property
    def size(self) -> int:
        """About how many bytes it takes to keep."""
        return sum(len(text) + _EVENT_BYTES for _, _, text in self.told)


class EventPages:
    """The pages that followers ask for."""

    def __init__(self, node: Node, scans: asyncio.Semaphore, holds: history.KnownHolds) -> None:
        self.open_streams = 0
        self._node = node
        self._scans = scans
        self._holds = holds
        self._making = asyncio.Lock()
        self._kept: dict[int, EventPage] = {}
        self._kept_bytes = 0

    async def after(self, position: int) -> EventPage:
        """Return what was decided after `position`, or the first of it.

        Raises `TrimmedError` and `JournalDamagedError` as the journal does, and OSError.
        """
        async with self._making:
            if (page := self._kept.get(position)) is None:
                async with self._scans:
                    page = await asyncio.to_thread(self._make, position, self._node.replica.position)
                self._keep(position, page)
            return page

    def _make(self, after: int, last: int) -> EventPage:
        node = self._node
        found, position = history.events(
            node.journal,
            node.replica.decision,
            after=after,
            last=last,
            limit=_EVENTS_MAX,
            source="/v1/events",
            known=self._holds,
        )
        return EventPage(tuple((event.type, accounts_of(event), _text(event)) for event in found), position)

    def _keep(self, after: int, page: EventPage) -> None:
        if page.position == after:
            return  # there was nothing yet, which will not stay so
        self._kept[after] = page
        self._kept_bytes += page.size
        while self._kept_bytes > _KEPT_BYTES_MAX:
            oldest = next(iter(self._kept))
            self._kept_bytes -= self._kept.pop(oldest).size


class EventStream(StreamingResponse):
    """An answer that counts as an open stream from when it is made until it ends."""

    def __init__(self, pages: EventPages, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self._pages = pages
        pages.open_streams += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pages.open_streams -= 1


async def rest() -> None:
    """Wait until all who rest go on together."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(_REST_S - now % _REST_S)


def _text(event: Event) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), _encode(event))

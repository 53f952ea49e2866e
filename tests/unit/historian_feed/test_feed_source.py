"""Sources of events, without a network."""

import asyncio
import threading

import pytest

from fivenines.api import Event, Transaction
from fivenines.historian.feed.source import HttpSource, PolledSource, SharedSource, SourceUnavailableError
from fivenines.node.history import event_of


class Away(Exception):  # noqa: N818 what happens, for a test
    pass


class Past:
    """What functions that block tell of events: one a frame."""

    def __init__(self) -> None:
        self.end = 0
        self.is_away = False
        self.reads: list[int] = []
        self.threads: set[int] = set()

    def read(self, position: int, limit: int) -> tuple[list[Event], int]:
        self.threads.add(threading.get_ident())
        self.reads.append(position)
        if self.is_away:
            raise Away("gone fishing")
        last = min(self.end, position + limit)
        return [_event(each) for each in range(position + 1, last + 1)], last

    def position(self) -> int:
        if self.is_away:
            raise Away("gone fishing")
        return self.end


def _event(position: int) -> Event:
    return event_of(Transaction("x", "post", "posted", position, ""), 0, "/v1/events")


def polled(past: Past) -> PolledSource:
    return PolledSource(past.read, past.position, unavailable=(Away,), poll_s=0.001)


def test_a_polled_source_reads_in_a_thread_and_waits_for_more() -> None:
    async def main() -> None:
        past = Past()
        past.end = 5
        source = polled(past)
        events, position = await source.after(1, 3)
        assert ([event.data.position for event in events], position) == ([2, 3, 4], 4)
        assert threading.get_ident() not in past.threads
        await source.wait(4, 60)
        waiting = asyncio.create_task(source.wait(5, 60))
        await source.wait(5, 0.001)
        assert not waiting.done()
        past.end = 6
        await waiting
        assert await source.end() == 6

    asyncio.run(main())


def test_what_is_away_is_told_as_such() -> None:
    async def main() -> None:
        past = Past()
        past.is_away = True
        for asked in (polled(past).after(0, 1), polled(past).wait(0, 1), polled(past).end()):
            with pytest.raises(SourceUnavailableError, match="gone fishing"):
                await asked
        source = SharedSource(polled(past))
        for _ in range(2):
            with pytest.raises(SourceUnavailableError):
                await source.after(0, 1)
            with pytest.raises(SourceUnavailableError):
                await source.wait(0, 1)
        past.is_away = False
        assert await source.after(0, 1) == ([], 0)
        await source.close()

    asyncio.run(main())


def test_many_who_are_at_one_position_cost_one_reading() -> None:
    async def main() -> None:
        past = Past()
        past.end = 9
        source = SharedSource(polled(past))
        pages = await asyncio.gather(*(source.after(4, 100) for _ in range(10)))
        assert past.reads == [4]
        assert all(page == pages[0] for page in pages)
        # A page with nothing in it does not stay so.
        assert await source.after(9, 100) == ([], 9)
        waiting = [asyncio.create_task(source.wait(9, 60)) for _ in range(10)]
        past.end = 10
        await asyncio.gather(*waiting)
        events, position = await source.after(9, 100)
        assert (len(events), position) == (1, 10)
        await source.close()

    asyncio.run(main())


def test_one_who_stops_waiting_stops_no_other() -> None:
    async def main() -> None:
        past = Past()
        source = SharedSource(polled(past))
        first, second = (asyncio.create_task(source.wait(0, 60)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        past.end = 1
        await second
        with pytest.raises(asyncio.CancelledError):
            await first
        await source.close()

    asyncio.run(main())


def test_a_source_without_a_url_is_refused() -> None:
    with pytest.raises(ValueError, match="no URL"):
        HttpSource()

"""Writers that remember what they were told, and the judge of what became of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from fivenines.journal import Frame, Journal, JournalError, MaybeDoneError, NotDoneError
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings


class Writers:
    """Tasks that append to several journals at once, each payload once, until they are stopped."""

    def __init__(self, journals: list[EtcdJournal], *, tasks_each: int = 4, payload_bytes: int = 100) -> None:
        self.acknowledged: dict[bytes, int] = {}
        self.maybe: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.errors: list[JournalError] = []
        self._padding = bytes(payload_bytes)
        self._running = True
        self._tasks = [
            asyncio.create_task(self._write(journal, f"{number}.{task}"))
            for number, journal in enumerate(journals)
            for task in range(tasks_each)
        ]

    async def stop(self) -> None:
        self._running = False
        await asyncio.gather(*self._tasks)

    async def wait_acknowledged(self, more: int) -> None:
        """Wait until so many more appends are answered."""
        wanted = len(self.acknowledged) + more
        while len(self.acknowledged) < wanted:
            await asyncio.sleep(0.005)

    async def _write(self, journal: Journal, name: str) -> None:
        number = 0
        while self._running:
            number += 1
            payload = f"{name}.{number} ".encode() + self._padding
            try:
                self.acknowledged[payload] = await journal.append(payload)
            except NotDoneError as error:
                self.refused.add(payload)
                self.errors.append(error)
                await asyncio.sleep(0.01)
            except MaybeDoneError as error:
                self.maybe.add(payload)
                self.errors.append(error)


def assert_sound(frames: list[Frame], writers: Writers) -> None:
    """Assert that all that was acknowledged is there, once, where its writer was told, and nothing that was refused."""
    assert [frame.position for frame in frames] == list(range(frames[0].position, frames[0].position + len(frames)))
    times = Counter(frame.payload for frame in frames)
    assert [payload for payload, count in times.items() if count > 1] == []
    assert {frame.payload: frame.position for frame in frames if frame.payload in writers.acknowledged} == (
        writers.acknowledged
    )
    assert times.keys() & writers.refused == set()
    assert times.keys() <= writers.acknowledged.keys() | writers.maybe


async def catch_up(journals: list[EtcdJournal]) -> None:
    """Wait until all have seen what any of them has seen."""
    while len({journal.last for journal in journals}) > 1:
        await asyncio.sleep(0.01)


async def assert_all_agree(journals: list[EtcdJournal], writers: Writers) -> None:
    """Assert that all journals, and a new one, have the same sound frames."""
    await catch_up(journals)
    frames = await asyncio.to_thread(list, journals[0].read(journals[0].first))
    assert_sound(frames, writers)
    for journal in journals:
        assert (journal.last, journal.last_digest) == (frames[-1].position, frames[-1].digest)
        assert await asyncio.to_thread(list, journal.read(journal.first)) == frames
        assert journal.failed is None


@asynccontextmanager
async def opened(*all_settings: EtcdJournalSettings) -> AsyncIterator[list[EtcdJournal]]:
    """Journals of these settings, closed at the end."""
    journals: list[EtcdJournal] = []
    try:
        for settings in all_settings:
            journals.append(await EtcdJournal.open(settings))  # noqa: PERF401 - those that are open must be closed
        yield journals
    finally:
        for journal in journals:
            await journal.close()


def nearest_first(settings: EtcdJournalSettings, number: int) -> EtcdJournalSettings:
    """The same settings, for somebody to whom another member is the nearest."""
    endpoints = settings.endpoints[number:] + settings.endpoints[:number]
    return replace(settings, endpoints=endpoints)

"""Load on a journal in etcd: frames appended by one process, so many at a time, and trimmed behind themselves.

A process of its own: `python -m bench.load_journal` takes one JSON object as its argument (JournalLoad) and prints one
for each part of the time (JournalPart), as soon as it is over. What it appends are random bytes, which no layer can
make smaller.
"""

import asyncio
import itertools
import logging
import os
import resource
import sys
import time
from dataclasses import dataclass, field

import msgspec
import structlog
import uvloop

from bench.load_arrays import quantile
from fivenines.journal import JournalError
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings, found
from fivenines.node import FleetSettings

__all__ = ["JournalLoad", "JournalPart"]

PAYLOADS = 64
"""How many different payloads there are."""
TICK_S = 0.02
FLEET = FleetSettings()


class JournalLoad(msgspec.Struct, frozen=True):
    """What to append."""

    endpoints: tuple[str, ...]
    payload_bytes: int
    in_flight: int
    seconds: float
    """Of measuring, in all."""
    parts: int = 1
    """In how many parts the time is reported."""
    warm_up_s: float = 1.0
    """What goes before, in which the load becomes steady."""
    tail_bytes: int = FLEET.tail_bytes_max
    """What may be kept. Trimming begins and ends as with a node whose snapshots are always there in time."""


class JournalPart(msgspec.Struct, frozen=True):
    """What came of it in a part of the time."""

    seconds: float
    frames: int
    """Acknowledged."""
    failed: int
    """Appends that raised."""
    failure: str
    """What the last of them said."""
    p50_ms: float
    """From the call of an append to its return."""
    p99_ms: float
    max_ms: float
    cpu_s: float
    """What this process took of the machine: the journal's client, and next to nothing else."""
    lag_ms: float
    """The longest time that the event loop was kept from what was due."""

    @property
    def per_s(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds


@dataclass(slots=True)
class Tally:
    """What is counted within one part."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    failure: str = ""
    lag_s: float = 0.0


class Load:
    """One run."""

    def __init__(self, load: JournalLoad, journal: EtcdJournal) -> None:
        self._load = load
        self._journal = journal
        self._payloads = itertools.cycle([os.urandom(load.payload_bytes) for _ in range(PAYLOADS)])
        self._tally = Tally()
        self._ended = False

    async def run(self) -> None:
        """Append until the time is over, and report each part."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._load.in_flight):
                tasks.create_task(self._append())
            tasks.create_task(self._trim())
            tasks.create_task(self._watch_lag())
            await asyncio.sleep(self._load.warm_up_s)
            for _ in range(self._load.parts):
                print(msgspec.json.encode(await self._measure()).decode(), flush=True)
            self._ended = True

    async def _measure(self) -> JournalPart:
        self._tally = tally = Tally()
        began, cpu_before = time.perf_counter(), cpu_s()
        await asyncio.sleep(self._load.seconds / self._load.parts)
        seconds, cpu = time.perf_counter() - began, cpu_s() - cpu_before
        self._tally = Tally()
        latencies_s = sorted(tally.latencies_s)
        return JournalPart(
            seconds=seconds,
            frames=len(latencies_s),
            failed=tally.failed,
            failure=tally.failure,
            p50_ms=quantile(latencies_s, 0.50) * 1_000,
            p99_ms=quantile(latencies_s, 0.99) * 1_000,
            max_ms=quantile(latencies_s, 1) * 1_000,
            cpu_s=cpu,
            lag_ms=tally.lag_s * 1_000,
        )

    async def _append(self) -> None:
        while not self._ended:
            began = time.perf_counter()
            try:
                await self._journal.append(next(self._payloads))
            except JournalError as error:
                self._tally.failed += 1
                self._tally.failure = repr(error)
                await asyncio.sleep(0.01)
            else:
                self._tally.latencies_s.append(time.perf_counter() - began)

    async def _trim(self) -> None:
        begin = int(self._load.tail_bytes * FLEET.tail_share)
        while not self._ended:
            await asyncio.sleep(FLEET.interval_s)
            if self._journal.tail_bytes > begin:
                try:
                    await self._journal.trim(self._journal.position_leaving(begin // 2) + 1)
                except JournalError as error:
                    # The next one does what this one did not.
                    print(repr(error), file=sys.stderr, flush=True)

    async def _watch_lag(self) -> None:
        while not self._ended:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self._tally.lag_s = max(self._tally.lag_s, time.perf_counter() - due)


def cpu_s() -> float:
    """Return what this process has taken so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main(load: JournalLoad) -> None:
    """Found the journal if there is none, and load it."""
    # Parts go to the standard output, so the journal's log does not; what goes as it should is not told.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    settings = EtcdJournalSettings(endpoints=load.endpoints)
    await found(settings)
    journal = await EtcdJournal.open(settings)
    try:
        await Load(load, journal).run()
    finally:
        await journal.close()


if __name__ == "__main__":
    uvloop.run(main(msgspec.json.decode(sys.argv[1], type=JournalLoad)))

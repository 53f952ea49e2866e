"""Killing the journal's leader, and measuring for how long nothing was acknowledged."""

import asyncio
import itertools
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
import uvloop

from fivenines.drill.members import Cluster
from fivenines.journal import JournalError
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings, found

__all__ = ["Kills", "kill_leaders", "longest_gap"]

IN_FLIGHT = 4
STEADY_S = 1.0
"""How long the load goes on before a kill, once all members are well."""
AFTER_S = 2.0
"""How long the load is looked at after a kill: twice the longest gap that is allowed."""
PAYLOAD = bytes(100)


@dataclass(frozen=True, slots=True)
class Kills:
    """What came of it."""

    gaps_s: list[float]
    """One for each kill."""
    failed: list[str]
    """What appends raised."""

    @property
    def median_s(self) -> float:
        """The median gap."""
        return statistics.median(self.gaps_s)

    @property
    def worst_s(self) -> float:
        """The longest gap."""
        return max(self.gaps_s)


def longest_gap(times: Sequence[float], *, begin: float, end: float) -> float:
    """Return the longest time within a span in which nothing happened; `times` are in order."""
    within = [begin, *(time for time in times if begin < time < end), end]
    return max(after - before for before, after in itertools.pairwise(within))


def kill_leaders(cluster: Cluster, *, kills: int) -> Kills:
    """Append all the time; kill the leader with SIGKILL, look on, and start it again, so many times."""
    # That watches break is what is planned here, and no news.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return uvloop.run(_kill_leaders(cluster, kills))


async def _kill_leaders(cluster: Cluster, kills: int) -> Kills:
    settings = EtcdJournalSettings(endpoints=cluster.endpoints)
    await found(settings)
    journal = await EtcdJournal.open(settings)
    acknowledged: list[float] = []
    gaps_s: list[float] = []
    failed: list[str] = []
    ended = False

    async def append() -> None:
        while not ended:
            try:
                await journal.append(PAYLOAD)
            except JournalError as error:
                failed.append(repr(error))
                await asyncio.sleep(0.01)
            else:
                acknowledged.append(time.perf_counter())

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.create_task(append())
            for _ in range(kills):
                leader = await asyncio.to_thread(cluster.leader)
                await asyncio.sleep(STEADY_S)
                acknowledged.clear()
                begin = time.perf_counter()
                await asyncio.to_thread(leader.kill)
                await asyncio.sleep(AFTER_S)
                gaps_s.append(longest_gap(acknowledged, begin=begin, end=time.perf_counter()))
                await asyncio.to_thread(leader.start)
                await asyncio.to_thread(cluster.wait_ready)
            ended = True
    finally:
        await journal.close()
    return Kills(gaps_s, failed)

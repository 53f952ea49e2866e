"""How the trials go, the same for both: let it run, hit it, wait until clients are served and all is whole, count.

A fault that somebody has to end (a cut) lasts until clients have been served again for a while, so that nobody gains by
its end. Then everything must be whole again before the next one. All that was acknowledged so far must be in the books
each time.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, Protocol

from bench.failover.figures import Asked, Fault, Summary, Trial, judge_trial, summarize
from bench.failover.load import Plan, RunningLoad

__all__ = ["Candidate", "Outcome", "carry_out"]

_WARM_S: Final = 3.0
"""Connections are made, and caches filled."""
_BEFORE_S: Final = 0.5
"""Requests that were due so shortly before a fault belong to it: they may be under way."""
_HOLD_S: Final = 2.0
"""How long a fault is left alone at least."""
_CUT_S: Final = 5.0
"""... and a cut."""
_SERVED_S_MAX: Final = 120.0
_WHOLE_S_MAX: Final = 240.0
_AFTER_S: Final = 1.0


class Candidate(Protocol):
    """What is measured."""

    @property
    def name(self) -> str:
        """What it is called in the figures."""
        ...

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What can happen to it."""
        ...

    @property
    def versions(self) -> dict[str, str]:
        """Of all that takes part."""
        ...

    @property
    def settings(self) -> dict[str, str]:
        """How it is set up, once it runs."""
        ...

    def plan(self, *, rate_per_s: float) -> Plan:
        """Describe the load."""
        ...

    async def start(self) -> None:
        """Start all of it, and return when it is whole."""
        ...

    async def prepare(self, fault: Fault) -> None:
        """Get ready for a fault; nobody notices."""
        ...

    async def hit(self, fault: Fault) -> str:
        """Begin a fault, and return what was hit."""
        ...

    async def mend(self) -> None:
        """End what somebody from outside has to end."""
        ...

    async def wait_whole(self, seconds: float) -> None:
        """Wait until everything is in step again."""
        ...

    async def ids(self) -> set[bytes]:
        """Return the ids of all transactions in the books."""
        ...

    async def discard(self) -> None:
        """Leave nothing behind."""
        ...


class Outcome:
    """What came of one candidate.

    Args:
        summaries: of its faults.
        calm_p50_ms: the median latency of requests that no fault concerned.
        versions: of all that took part.
        settings: how it was set up.
    """

    def __init__(
        self,
        summaries: Mapping[Fault, Summary],
        calm_p50_ms: float,
        versions: Mapping[str, str],
        settings: Mapping[str, str],
    ) -> None:
        self.summaries, self.calm_p50_ms = summaries, calm_p50_ms
        self.versions, self.settings = versions, settings


async def carry_out(
    candidate: Candidate,
    faults: Sequence[Fault],
    *,
    trials: int,
    rate_per_s: float,
    seed: int,
    log: Path,
    told: Callable[[str], None],
) -> Outcome:
    """Start a candidate, let each fault happen so many times, and stop it, whatever happens. Raises `BenchError`."""
    chance = random.Random(seed)
    began = time.monotonic()
    load: RunningLoad | None = None
    try:
        await candidate.start()
        told(f"{candidate.name} is whole after {time.monotonic() - began:.1f} s")
        load = RunningLoad(candidate.plan(rate_per_s=rate_per_s), log)
        await load.start()
        await asyncio.sleep(_WARM_S)
        found: dict[Fault, list[Trial]] = {fault: [] for fault in faults if fault in candidate.faults}
        missed: set[bytes] = set()
        stretches = []
        for fault, of_this in found.items():
            await candidate.prepare(fault)
            for _ in range(trials):
                await asyncio.sleep(chance.random())  # so that it finds timers anywhere
                trial, stretch = await _trial(candidate, load, fault, missed)
                of_this.append(trial)
                stretches.append(stretch)
                told(_line(candidate.name, fault, trial))
        await load.stop()
        return Outcome(
            {fault: summarize(of_this) for fault, of_this in found.items()},
            _calm_p50_ms(load.asked, load.began + _WARM_S, stretches),
            candidate.versions,
            candidate.settings,
        )
    finally:
        if load is not None:
            await load.discard()
        await candidate.discard()


async def _trial(
    candidate: Candidate, load: RunningLoad, fault: Fault, missed: set[bytes]
) -> tuple[Trial, tuple[float, float]]:
    """Let a fault happen once; returns also from when to when it was felt. Adds to `missed` what is lost."""
    began = time.monotonic()
    target = await candidate.hit(fault)
    try:
        await asyncio.sleep(_CUT_S if fault == "host_cut_off" else _HOLD_S)
        await load.wait_served(_SERVED_S_MAX)
    finally:
        await candidate.mend()
    await candidate.wait_whole(_WHOLE_S_MAX)
    whole_after_s = time.monotonic() - began
    ended = time.monotonic() + _AFTER_S
    await load.wait_ended(ended)
    acknowledged = {each.id for each in load.asked if not each.error}
    lost = acknowledged - await candidate.ids() - missed
    missed |= lost
    return (
        judge_trial(
            load.asked,
            target=target,
            began=began - _BEFORE_S,
            ended=ended,
            whole_after_s=whole_after_s,
            lost=lost,
            load_average=os.getloadavg()[0],
        ),
        (began - _BEFORE_S, ended),
    )


def _calm_p50_ms(asked: Sequence[Asked], began: float, stretches: Sequence[tuple[float, float]]) -> float:
    calm = [
        each.latency_s
        for each in asked
        if each.due >= began and not any(begin <= each.due < end for begin, end in stretches)
    ]
    return round(1_000 * median(calm), 1) if calm else 0.0


def _line(name: str, fault: Fault, trial: Trial) -> str:
    return (
        f"{name}, {fault} ({trial.target}): longest pause {trial.longest_pause_s:.2f} s, {trial.failed_requests} of "
        f"{trial.requests} failed ({trial.first_tries_failed} at the first try), {trial.lost} lost, whole after "
        f"{trial.whole_after_s:.1f} s, load average {trial.load_average:.1f}"
    )

"""What came of each trial, and what all of them come to: `build/failover.json`. Pure.

A request *fails* when its client, which tries again for 30 s, gives up or is refused. A *first try* fails when a client
that does not try again would have had an error; of our client, which may ask a second server where the first is slow,
also when the first server was overtaken. *Lost* is what was acknowledged and is not in the books afterwards.

A *pause* is the longest time that any request took, from when it should have gone out: clients do not wait for each
other, so it is what an unlucky user saw.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from bench.machine import Machine

__all__ = [
    "FAULTS",
    "GOAL_RATIO",
    "Asked",
    "Fault",
    "Report",
    "Spread",
    "Summary",
    "Trial",
    "judge_trial",
    "ratio",
    "summarize",
    "troubles_of",
]

Fault = Literal["process_killed", "host_cut_off", "process_killed_failover", "node_killed"]
"""process_killed           the process that matters most is killed: the postmaster of the primary with all its
                         children, which Patroni starts again on the spot; ours is the member of etcd that leads the
                         journal
host_cut_off             all that is sent to and from one host is lost: that of the primary; ours is the region whose
                         member leads the journal
process_killed_failover  the peer only: the same, but another host takes over (`primary_start_timeout` is 0). It takes
                         longer than to start a database again that has nothing to recover; with much to recover, or
                         a process that does not start again, it is the shorter one
node_killed              ours only: what a team would call the server, the process that clients talk to
"""
FAULTS: Final[tuple[Fault, ...]] = ("process_killed", "host_cut_off")
"""Those that both have."""
GOAL_RATIO: Final = 10.0
"""How many times shorter than the peer's our pause is to be."""


class Asked(Struct, array_like=True, eq=False):
    """One transfer that a client asked for."""

    due: float
    """When it should have gone out, on the machine's monotonic clock."""
    id: bytes = b""
    """Of the transaction, 16 bytes."""
    ended: float = math.inf
    """When it was acknowledged, or given up."""
    is_first_failed: bool = False
    """Whether its first try was not the one that was answered."""
    error: str = ""
    """Why the client gave up; empty when it was acknowledged."""

    @property
    def latency_s(self) -> float:
        """From when it should have gone out."""
        return self.ended - self.due


class Trial(Struct, frozen=True, kw_only=True):
    """One fault, from shortly before it until everything was whole again."""

    target: str
    """What was hit."""
    requests: int
    longest_pause_s: float
    failed_requests: int
    first_tries_failed: int
    lost: int
    whole_after_s: float
    """From the fault until everything ran, and every copy was in step again."""
    load_average: float
    """Of the machine when it ended: with much more than two on two cores, both wait for the processor."""
    errors: tuple[str, ...] = ()
    """Of those that failed, up to five."""


class Spread(Struct, frozen=True):
    """How a figure spread over trials."""

    min: float
    median: float
    max: float


class Summary(Struct, frozen=True, kw_only=True):
    """All trials of one fault."""

    trials: int
    longest_pause_s: Spread
    failed_requests: int
    lost: int
    first_tries_failed: int
    requests: int
    whole_after_s: Spread
    each: tuple[Trial, ...]


class Report(Struct, frozen=True, kw_only=True):
    """What is written."""

    fivenines: Mapping[Fault, Summary] = {}
    patroni: Mapping[Fault, Summary] = {}
    ratios: Mapping[Fault, float] = {}
    """How many times shorter our median pause is."""
    goal_ratio: float = GOAL_RATIO
    troubles: tuple[str, ...] = ()
    """What falls short of the goal."""
    rate_per_s: float = 0.0
    """Transfers that clients began in a second, all the time."""
    calm_p50_ms: Mapping[str, float] = {}
    """The median latency between the faults, of each."""
    versions: Mapping[str, str] = {}
    settings: Mapping[str, Mapping[str, str]] = {}
    machine: Machine | None = None


def judge_trial(
    asked: Sequence[Asked],
    *,
    target: str,
    began: float,
    ended: float,
    whole_after_s: float,
    lost: Collection[bytes],
    load_average: float,
) -> Trial:
    """Sum up the requests that were due between two moments.

    Args:
        asked: all requests that have ended.
        target: what was hit.
        began: a moment shortly before the fault.
        ended: when all was whole again.
        whole_after_s: how long that took.
        lost: ids that were acknowledged, and are gone.
        load_average: the machine's.
    """
    here = [each for each in asked if began <= each.due < ended]
    failed = [each for each in here if each.error]
    return Trial(
        target=target,
        requests=len(here),
        longest_pause_s=round(max((each.latency_s for each in here), default=0.0), 3),
        failed_requests=len(failed),
        first_tries_failed=sum(each.is_first_failed or bool(each.error) for each in here),
        lost=len(lost),
        whole_after_s=round(whole_after_s, 2),
        load_average=round(load_average, 2),
        errors=tuple(dict.fromkeys(each.error for each in failed))[:5],
    )


def summarize(trials: Sequence[Trial]) -> Summary:
    """Sum up the trials of one fault; there is one at least."""
    return Summary(
        trials=len(trials),
        longest_pause_s=_spread([each.longest_pause_s for each in trials]),
        failed_requests=sum(each.failed_requests for each in trials),
        lost=sum(each.lost for each in trials),
        first_tries_failed=sum(each.first_tries_failed for each in trials),
        requests=sum(each.requests for each in trials),
        whole_after_s=_spread([each.whole_after_s for each in trials]),
        each=tuple(trials),
    )


def ratio(ours: Summary, peers: Summary) -> float:
    """Return how many times shorter our median pause is."""
    return round(peers.longest_pause_s.median / max(ours.longest_pause_s.median, 0.001), 1)


def troubles_of(ours: Mapping[Fault, Summary], ratios: Mapping[Fault, float]) -> tuple[str, ...]:
    """Say what falls short of the goal: nothing failed, nothing lost, at least ten times shorter."""
    found = []
    for fault, summary in ours.items():
        if summary.failed_requests:
            found.append(f"{fault}: {summary.failed_requests} of our requests failed")
        if summary.lost:
            found.append(f"{fault}: {summary.lost} of our acknowledged transactions are lost")
    found += [
        f"{fault}: {times:g} times shorter, not {GOAL_RATIO:g}" for fault, times in ratios.items() if times < GOAL_RATIO
    ]
    return tuple(found)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), round(statistics.median(values), 3), max(values))

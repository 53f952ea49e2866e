"""What clients noticed in a stretch of time: pure, from their requests alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fivenines.drill.load.asked import SLOW_S

__all__ = ["Noted", "Stretch", "stretch"]


class Noted(Protocol):
    """A request, as any load notes it."""

    @property
    def due(self) -> float:
        """When it should have gone out, on the monotonic clock."""

    @property
    def error(self) -> str:
        """Why its client gave up; empty when it was answered."""

    @property
    def latency_s(self) -> float:
        """From when it was due to its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What clients noticed between two moments."""

    requests: int
    failed: int
    longest_pause_s: float
    """The longest that any request waited."""
    p99_ms: float
    budget_s: float
    """Seconds of the error budget: of the requests of each second the part that failed, or waited for longer than
    `SLOW_S`, summed up."""
    errors: tuple[str, ...]


def stretch(asked: Sequence[Noted], began: float, ended: float, *, rate_per_s: float) -> Stretch:
    """Sum up the requests that were due between two moments of the monotonic clock."""
    here = [each for each in asked if began <= each.due < ended]
    failed = [each for each in here if each.error]
    latencies = sorted(each.latency_s for each in here)
    bad = len(failed) + sum(not each.error and each.latency_s > SLOW_S for each in here)
    return Stretch(
        requests=len(here),
        failed=len(failed),
        longest_pause_s=latencies[-1] if latencies else 0.0,
        p99_ms=1_000 * latencies[int(0.99 * (len(latencies) - 1))] if latencies else 0.0,
        budget_s=bad / rate_per_s,
        errors=tuple(dict.fromkeys(each.error for each in failed))[:5],
    )

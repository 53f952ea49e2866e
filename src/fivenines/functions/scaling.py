"""How many processes there should be. Pure: it is told what is, and says what to do."""

from dataclasses import dataclass

__all__ = ["Observed", "Scaling", "to_start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The bounds."""

    processes_max: int = 4
    calls_per_process: int = 8
    """So many waiting calls are worth another process."""
    patience_s: float = 0.2
    """A call that has waited so long is, too: those before it take their time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is."""

    waiting: int
    """Calls that wait for a process."""
    oldest_s: float
    """How long the first of them has."""
    processes: int
    """Those that start included."""
    starting: int


def to_start(scaling: Scaling, observed: Observed) -> int:
    """Return how many processes to start now."""
    room = scaling.processes_max - observed.processes
    if observed.waiting == 0 or room <= 0:
        return 0
    if observed.processes == 0:
        return min(room, 1 + (observed.waiting - 1) // scaling.calls_per_process)
    if observed.starting:
        return 0  # what it takes off is not seen yet
    if observed.waiting > scaling.calls_per_process or observed.oldest_s >= scaling.patience_s:
        return min(room, max(1, observed.waiting // scaling.calls_per_process))
    return 0

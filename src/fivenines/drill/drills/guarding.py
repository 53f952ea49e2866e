"""When a drill may not begin, and when it must stop. Pure.

A drill is there to show that nothing happens. If something does, somebody is being harmed: the drill ends at once, and
what it did is undone.
"""

from dataclasses import dataclass

from fivenines.drill.drills.experiment import Guard

__all__ = ["Harm", "harm", "why_not_begin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What clients suffered so far."""

    budget_s: float = 0.0
    failed: int = 0
    silent_s: float = 0.0
    """For how long nobody has been answered anything."""
    lost: int = 0
    """Transactions that were acknowledged and then not found."""


def harm(guard: Guard, seen: Harm) -> str | None:
    """Say why a drill must stop, or return None."""
    if seen.lost:
        return f"{seen.lost} acknowledged transactions are not to be found"
    if seen.failed > guard.failed:
        return f"{seen.failed} requests failed, {guard.failed} may"
    if seen.budget_s > guard.budget_s:
        return f"{seen.budget_s:.1f} s of the error budget are used, {guard.budget_s:g} s may be"
    if seen.silent_s > guard.pause_s:
        return f"nobody has been answered for {seen.silent_s:.1f} s, {guard.pause_s:g} s may be"
    return None


def why_not_begin(*, trouble: str, budget_left_s: float, needed_s: float) -> str | None:
    """Say why a drill may not begin, or return None.

    Args:
        trouble: what is not well with the platform; empty if it is whole.
        budget_left_s: of the year's error budget.
        needed_s: what the drill may use up before it is stopped.
    """
    if trouble:
        return f"the platform is not whole: {trouble}"
    if budget_left_s <= 0:
        return f"the year's error budget is spent ({-budget_left_s:.1f} s more than there was)"
    if budget_left_s < needed_s:
        return f"{budget_left_s:.1f} s are left of the year's error budget, and the drill may use {needed_s:g} s"
    return None

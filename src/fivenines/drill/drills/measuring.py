"""What came of a drill, worked out from what clients saw and from what the controllers wrote down. Pure.

Times that are given are those of the monotonic clock unless they say otherwise; what is returned counts from the
beginning of the drill.
"""

from collections.abc import Sequence
from typing import Final

from fivenines.control.timeline import Event
from fivenines.drill.drills.scene import SERVED_AFTER, FaultGone
from fivenines.drill.load.asked import Asked
from fivenines.drill.load.latencies import slices
from fivenines.drill.results import Moment, MomentKind, Recovery, Slice

__all__ = ["SUFFERS_S", "longest_pause_s", "moments_of", "recovery_of", "slices_of"]

SUFFERS_S: Final = 0.25
"""Who waits for longer than this has suffered from a fault, if only a little: undisturbed, nearly nobody does."""
QUIET_S: Final = 2.0
"""When nobody suffers for so long, clients are served as before."""
WIDTH_S: Final = 0.25

_KINDS: Final[dict[str, MomentKind]] = {
    "seen": "detected",
    "incident": "detected",
    "decided": "decided",
    "done": "done",
    "resolved": "recovered",
}


def longest_pause_s(asked: Sequence[Asked]) -> float:
    """The longest that any request waited, from when it was due; also for an answer that said when to come back."""
    return max((each.latency_s for each in asked), default=0.0)


def slices_of(asked: Sequence[Asked], began: float, ended: float, *, width_s: float = WIDTH_S) -> tuple[Slice, ...]:
    """Sum up what clients saw in each whole slice of time: one that the end cuts short would look like a dip."""
    return slices(asked, began, began + int((ended - began) / width_s) * width_s, width_s=width_s)


def moments_of(events: Sequence[Event], *, began_at: float, ended_at: float) -> list[Moment]:
    """Turn the controllers' timeline into moments of a drill.

    Args:
        events: of the timeline, with unix times.
        began_at: when the drill began, unix time.
        ended_at: when it ended.
    """
    found = []
    for event in events:
        kind = _KINDS.get(event.kind)
        if kind is None and event.kind in {"refused", "failed"}:
            kind = "decided"
        if kind is not None and began_at <= event.at <= ended_at:
            found.append(
                Moment(
                    at=round(event.at - began_at, 3),
                    kind=kind,
                    what=f"{event.kind}: {event.what}" if event.kind in {"refused", "failed"} else event.what,
                    target=event.target,
                    region=event.region,
                    why=event.why,
                    took_s=event.took_s,
                )
            )
    return sorted(found, key=lambda moment: moment.at)


def recovery_of(
    fault: FaultGone,
    *,
    moments: Sequence[Moment],
    asked: Sequence[Asked],
    began: float,
    until: float,
    rate_per_s: float,
    whole_after_s: float | None,
) -> Recovery:
    """Work out how the platform came back from a fault: detect, decide, act, drain.

    The controllers say when they saw, decided and did something; the clients say when the last of them was answered
    that had to wait. A part that nobody had to do is None: an edge that asks another node decides nothing.

    Args:
        fault: when it began, and what it hit.
        moments: of the controllers, in their order.
        asked: what clients asked.
        began: when the drill began.
        until: when the next fault began, or all was over.
        rate_per_s: requests a second.
        whole_after_s: from the fault's beginning until all was found to run again; None if it was not.
    """
    at, end = fault.began - began, until - began
    here = [each for each in moments if at <= each.at < end]
    acts = [each for each in here if each.kind in {"decided", "done"}]
    seen = next((each.at for each in here if each.kind in {"detected", "decided", "done"}), None)
    decided = next((each.at - (each.took_s or 0.0 if each.kind == "done" else 0.0) for each in acts), None)
    done = next((each.at for each in acts if each.kind == "done"), None)
    if seen is not None and decided is not None:
        # Clocks of several processes: an action may seem to begin just before what it is about was seen.
        seen = min(seen, max(decided, at))
        decided = max(decided, seen)
    if whole_after_s is not None and (last := max((each.at for each in here if each.kind == "done"), default=None)):
        # A drill leaves a fault alone for a while, whatever happens. The last that was done made it whole.
        whole_after_s = min(whole_after_s, last - at)
    due = [each for each in asked if fault.began <= each.due < until]
    served = _served_again(asked, fault.began, until) - began
    return Recovery(
        fault=fault.fault,
        target=fault.target,
        at=round(at, 3),
        detect_s=_span(at, seen),
        decide_s=_span(seen, decided),
        act_s=_span(decided, done),
        drain_s=None if done is None else round(max(0.0, served - done), 3),
        recovery_s=fault.facts.get(SERVED_AFTER, round(served - at, 3)),
        whole_after_s=None if whole_after_s is None else round(whole_after_s, 3),
        longest_pause_s=round(longest_pause_s(due), 3),
        failed=sum(1 for each in due if each.error),
        budget_s=round(sum(each.is_bad for each in due) / rate_per_s, 3),
        facts=fault.facts,
    )


def _served_again(asked: Sequence[Asked], began: float, until: float) -> float:
    """Return when clients were served as before: after that, for a while, nobody suffered.

    Who was under way when the fault began suffers from it as well. What happens after a while of quiet is another
    story, such as a region that comes back and takes the processor of the others.
    """
    # Not one that ended before, nor one that was due later.
    near = [each for each in asked if each.ended > began and each.due < until]
    suffered = sorted((each.due, each.ended) for each in near if each.error or each.latency_s > SUFFERS_S)
    served = began
    for due, ended in suffered:
        if due > served + QUIET_S:
            break
        served = max(served, ended)
    return served


def _span(first: float | None, then: float | None) -> float | None:
    return None if first is None or then is None else round(max(0.0, then - first), 3)

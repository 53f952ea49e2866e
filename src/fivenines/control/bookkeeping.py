"""Bookkeeping: when losses are booked and incidents begin and end; what the leading controller adds to each round.

Every controller measures; the one that leads books. When the leader dies, whoever follows has measured since its last
sign of life, and books that first: what is lost between two leaders is often the very thing that matters.
"""

from collections.abc import Mapping

from fivenines.control.actions import RaiseIncident
from fivenines.control.budget import Books, book, lost_part, resolve
from fivenines.control.desired import Desired
from fivenines.control.judging import voices
from fivenines.control.observed import Observed
from fivenines.control.store import Shared
from fivenines.control.timeline import Event, event_of
from fivenines.ids import new_id

__all__ = ["Bookkeeper"]

_STEP_S_MAX = 5.0
"""A longer time between two rounds was not watched, and is not booked."""
_QUIET_S = 5.0
"""An availability incident is over after so long without a loss."""
_CAUSE_S = 3.0
"""A loss waits for so long for an incident that it belongs to: a region is judged to be down a while after it fails."""


class Bookkeeper:
    """What is measured and not booked yet."""

    def __init__(self, here: str) -> None:
        self._here = here
        self._at: float | None = None
        self._unbooked_s = 0.0
        self._lost_at: float | None = None
        self._lost_from = 0.0
        self._leader_sequence: object = None

    def keep(
        self,
        desired: Desired,
        observed: Observed,
        shared: Shared,
        raised: Mapping[str, RaiseIncident],
        *,
        now: float,
        unix: float,
    ) -> tuple[Books, list[Event]] | None:
        """Measure; and if this controller leads, return the books as they should be and what to tell, or None."""
        step_s = 0.0 if self._at is None else min(_STEP_S_MAX, max(0.0, now - self._at))
        self._at = now
        part = lost_part(desired, observed)
        if part > 0:
            if self._lost_at is None or now - self._lost_at >= _QUIET_S:
                self._lost_from = now
            self._unbooked_s += part * step_s
            self._lost_at = now
        if not observed.is_leader:
            self._follow(observed, shared)
            return None
        reasons = self._disturbances(desired, observed, raised, now)
        if not reasons and self._lost_at is not None and now - self._lost_at < _CAUSE_S and not shared.books.open:
            return None
        books, new = book(
            shared.books,
            reasons,
            lost_s=self._unbooked_s,
            cost_per_s=desired.downtime_cost_per_s,
            now=unix,
            make_id=new_id(),
        )
        books, closed = resolve(books, reasons)
        if not new and not closed and self._unbooked_s == 0.0:
            return None
        events = [
            event_of(
                at=unix,
                region=self._here,
                kind="incident",
                what=key.replace(":", ": "),
                why=reasons[key],
                target=key.partition(":")[2],
                incident=books.open[key].id,
            )
            for key in new
            if key in books.open
        ]
        events += [
            event_of(
                at=unix,
                region=self._here,
                kind="resolved",
                what=key.replace(":", ": "),
                target=key.partition(":")[2],
                took_s=round(max(0.0, unix - incident.opened_at), 3),
                budget_s=round(incident.lost_s, 4),
                cost=round(incident.cost, 2),
                incident=incident.id,
            )
            for key, incident in closed.items()
        ]
        return books, events

    def was_kept(self) -> None:
        """Take note that the store has what was returned last."""
        self._unbooked_s = 0.0

    def incident_of(self, target: str, shared: Shared) -> str:
        """Return the id of the incident that is open about a target; empty if there is none."""
        return next((i.id for key, i in shared.books.open.items() if key.partition(":")[2] == target), "")

    def _follow(self, observed: Observed, shared: Shared) -> None:
        """Forget what the leader has booked: it lives, so it has measured the same."""
        leader = observed.reports.get(shared.leader)
        if leader is not None and leader.sequence != self._leader_sequence:
            self._leader_sequence = leader.sequence
            self._unbooked_s = 0.0

    def _disturbances(
        self, desired: Desired, observed: Observed, raised: Mapping[str, RaiseIncident], now: float
    ) -> dict[str, str]:
        """Return what goes on, as `kind:target`, with the reason."""
        found = {key: action.reason for key, action in raised.items()}
        for report in voices(desired, observed):
            if report.region != observed.here:
                found.update(dict.fromkeys(report.incidents, f"{report.region} says so"))
        for name, state in observed.states.items():
            if state.phase == "down":
                found[f"region:{name}"] = state.reason
        is_lasting = self._lost_at is not None and self._lost_at - self._lost_from >= _CAUSE_S
        if self._lost_at is not None and is_lasting and now - self._lost_at < _QUIET_S and not found:
            found[f"availability:{desired.platform}"] = "requests fail, or are not answered"
        return found

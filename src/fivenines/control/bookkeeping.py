"""Bookkeeping: when losses are booked, and incidents begin and end; what the leading controller adds to each round.

Every controller measures; the one that leads books, and says in its reports what it has measured and not booked yet.
The others go by that, and count on from its last sign of life. When it dies, whoever leads next books that first: what
is lost between two leaders is often the very thing that matters. One that leads and has only just begun, as it was the
leader and was started anew, takes over the most that any other says is not booked. So it is with a journal without a
majority, when nobody can write anything down: it is booked when it is over.
"""

from collections.abc import Mapping

from fivenines.control.actions import RaiseIncident
from fivenines.control.budget import Books, book, lost_part, resolve
from fivenines.control.desired import Desired
from fivenines.control.judging import SERVES, voices
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
        self._was_lost = False
        self._alone: tuple[float, float] | None = None
        """From when on, in unix time, and for how long the store did not answer, the last time that it did not."""
        self._leader_sequence: object = None
        self._books_revision = 0
        self._has_led = False

    @property
    def unbooked_s(self) -> float:
        """Seconds of the budget that were lost and, as far as is known here, are in no books yet."""
        return self._unbooked_s

    def measure(self, desired: Desired, observed: Observed, *, now: float, unix: float) -> None:
        """Take note of what is lost since the last time; in every round, whoever leads."""
        step_s = 0.0 if self._at is None else min(_STEP_S_MAX, max(0.0, now - self._at))
        self._at = now
        if not observed.has_majority:
            self._alone = (unix - observed.alone_s, observed.alone_s)
        part = lost_part(desired, observed)
        if part > 0:
            if self._lost_at is None or now - self._lost_at >= _QUIET_S:
                self._lost_from = now
            if not self._was_lost:
                # What is not answered is known to be so only when a probe's time is over; it was lost from its start.
                step_s = max(step_s, min(_STEP_S_MAX, _failing_s(observed)))
            self._unbooked_s += part * step_s
            self._lost_at = now
        self._was_lost = part > 0

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
        """If this controller leads, return the books as they should be and what to tell; None for no change."""
        if not observed.is_leader:
            self._follow(observed, shared)
            return None
        if not self._has_led:
            self._has_led = True
            self._unbooked_s = max([self._unbooked_s, *(each.unbooked_s for each in observed.reports.values())])
        reasons = self._disturbances(desired, observed, raised, shared.books.open, now)
        if not reasons and self._lost_at is not None and now - self._lost_at < _CAUSE_S and not shared.books.open:
            return None
        books, new = book(
            shared.books,
            reasons,
            lost_s=self._unbooked_s,
            cost_per_s=desired.downtime_cost_per_s,
            now=unix,
            make_id=new_id(),
            opened_at=self._opened_at(desired),
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
        self._alone = None

    def incident_of(self, target: str, shared: Shared) -> str:
        """Return the id of the incident that is open about a target; empty if there is none."""
        return next((i.id for key, i in shared.books.open.items() if key.partition(":")[2] == target), "")

    def _follow(self, observed: Observed, shared: Shared) -> None:
        """Go by what the leader says is not booked: it lives, so it has measured the same.

        One that does not know yet that it leads says nothing of the kind: it may have begun a moment ago, and will take
        over what the others have measured. What was booked after a report is not in it.
        """
        self._has_led = False
        leader = observed.reports.get(shared.leader)
        is_alive = leader is not None and leader.is_leader and leader.sequence != self._leader_sequence
        is_booked = shared.books_revision != self._books_revision
        self._books_revision = shared.books_revision
        if leader is not None and is_alive:
            self._leader_sequence = leader.sequence
            self._unbooked_s = leader.unbooked_s
            self._alone = None
        if is_booked:
            self._unbooked_s = 0.0

    def _opened_at(self, desired: Desired) -> dict[str, float]:
        """Return when disturbances began that could not be written down then."""
        return {} if self._alone is None else {_majority(desired): self._alone[0]}

    def _disturbances(
        self,
        desired: Desired,
        observed: Observed,
        raised: Mapping[str, RaiseIncident],
        is_open: Mapping[str, object],
        now: float,
    ) -> dict[str, str]:
        """Return what goes on, as `kind:target`, with the reason."""
        found = {key: action.reason for key, action in raised.items()}
        for report in voices(desired, observed):
            if report.region != observed.here:
                # A region that was cut off says that the majority was gone, as far as it could know. It was not.
                told = [key for key in report.incidents if not key.startswith("journal_majority:")]
                found.update(dict.fromkeys(told, f"{report.region} says so"))
        if self._alone is not None and self._alone[1] >= desired.timings.alone_s_max:
            found[_majority(desired)] = f"the journal had no majority for {self._alone[1]:.1f} s"
        for name, state in observed.states.items():
            if state.phase == "down":
                found[f"region:{name}"] = state.reason
        key = f"availability:{desired.platform}"
        if not found and self._lost_at is not None and now - self._lost_at < _QUIET_S:
            is_lasting = self._unbooked_s > 0 and self._lost_at - self._lost_from >= _CAUSE_S
            if is_lasting or key in is_open:
                found[key] = "requests fail, or are not answered"
        return found


def _majority(desired: Desired) -> str:
    return f"journal_majority:{desired.platform}"


def _failing_s(observed: Observed) -> float:
    """Return for how long this region's own probes of a region that serves have failed, of the longest."""
    own = observed.reports.get(observed.here)
    probes = own.probes if own else {}
    serving = [name for name, state in observed.states.items() if state.phase in SERVES]
    return max((probes[name].failing_s for name in serving if name in probes), default=0.0)

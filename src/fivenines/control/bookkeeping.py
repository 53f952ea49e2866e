"""Bookkeeping: when losses are booked, and incidents begin and end; what the leading controller adds to each round.

Every controller measures; the one that leads books. Reports say what is measured and in no books yet, so that nothing
is forgotten or booked twice whoever dies:

- Who follows goes by what the leader says, and counts on from its last sign of life. Whoever leads next, be it a
  controller that has only just begun, takes over the most that anybody says, of those who know the books as they are.
- While a majority of the journal is gone, nobody can write anything down. What a controller measures then is an
  `Outage`, which is kept apart: if others were in touch with the store meanwhile, it was that region that was cut off,
  and what it saw was not so. Else the longest of them is booked when it is over, once: the books say until when.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from fivenines.control.actions import RaiseIncident
from fivenines.control.budget import Books, book, lost_part, resolve
from fivenines.control.desired import Desired
from fivenines.control.judging import SERVES, voices
from fivenines.control.observed import Observed, Outage, Report
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
        self._leader_sequence: object = None
        self._books_revision = 0
        """Of the books that `_unbooked_s` is not in."""
        self._has_led = False
        self._offered_s = 0.0
        self._in_touch_since = 0.0
        self._alone: Outage | None = None
        """Goes on."""
        self._outage: Outage | None = None
        """Is over, and may not be booked yet."""
        self._gap_s: float | None = None
        """What was lost, of `_unbooked_s`, while the store did not answer: if it answers again in this round."""

    def said(self, report: Report) -> Report:
        """Return a report with what others need to know to keep the books after us."""
        return replace(
            report,
            unbooked_s=self._unbooked_s,
            books_revision=self._books_revision,
            in_touch_since=self._in_touch_since,
            outage=self._outage,
        )

    def measure(self, desired: Desired, observed: Observed, *, now: float, unix: float) -> None:
        """Take note of what is lost since the last time; in every round, whoever leads."""
        step_s = 0.0 if self._at is None else min(_STEP_S_MAX, max(0.0, now - self._at))
        self._at = now
        part = lost_part(desired, observed)
        if part > 0:
            if self._lost_at is None or now - self._lost_at >= _QUIET_S:
                self._lost_from = now
            if not self._was_lost:
                # What is not answered is known to be so only when a probe's time is over; it was lost from its start.
                step_s = max(step_s, min(_STEP_S_MAX, _failing_s(observed)))
            self._lost_at = now
        self._was_lost = part > 0
        if observed.has_majority:
            self._come_back(desired, unix)
            self._unbooked_s += part * step_s
        else:
            before_s = self._alone.lost_s if self._alone else 0.0
            self._alone = Outage(
                since=unix - observed.alone_s, length_s=observed.alone_s, lost_s=before_s + part * step_s
            )

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
        gap_s, self._gap_s = self._gap_s, None
        outages = self._outages(desired, observed, shared, unix)
        if self._outage is not None and self._outage not in outages:
            self._outage = None
        if not observed.is_leader:
            self._follow(observed, shared, gap_s)
            return None
        if not self._has_led:
            self._take_over(desired, observed, shared, now)
        self._books_revision = shared.books_revision
        outage = max(outages, key=lambda each: each.lost_s, default=None)
        reasons = self._disturbances(desired, observed, raised, shared.books.open, now, outage)
        if not reasons and self._lost_at is not None and now - self._lost_at < _CAUSE_S and not shared.books.open:
            return None
        lost_s = self._unbooked_s + (outage.lost_s if outage else 0.0)
        books, new = book(
            shared.books,
            reasons,
            lost_s=lost_s,
            cost_per_s=desired.downtime_cost_per_s,
            now=unix,
            make_id=new_id(),
            opened_at={_majority(desired): outage.since} if outage else None,
        )
        books, closed = resolve(books, reasons)
        if not new and not closed and lost_s == 0.0 and outage is None:
            return None
        books = replace(books, at=unix, outages_until=unix if outage else books.outages_until)
        self._offered_s = self._unbooked_s
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
        self._unbooked_s = max(0.0, self._unbooked_s - self._offered_s)
        self._offered_s = 0.0

    def incident_of(self, target: str, shared: Shared) -> str:
        """Return the id of the incident that is open about a target; empty if there is none."""
        return next((i.id for key, i in shared.books.open.items() if key.partition(":")[2] == target), "")

    def _come_back(self, desired: Desired, unix: float) -> None:
        """The store answers. An election is a gap like any other; a longer one is an outage, and judged apart."""
        alone, self._alone = self._alone, None
        if alone is not None and alone.length_s >= desired.timings.alone_s_max:
            self._outage, self._in_touch_since, self._gap_s = alone, unix, 0.0
        elif alone is not None:
            self._unbooked_s, self._gap_s = self._unbooked_s + alone.lost_s, alone.lost_s
        self._in_touch_since = self._in_touch_since or unix

    def _outages(self, desired: Desired, observed: Observed, shared: Shared, unix: float) -> list[Outage]:
        """Return the outages that are over and not booked, and that were not only this or that region cut off."""
        reports = [report for report in voices(desired, observed) if report.region != self._here]
        in_touch = [(each.in_touch_since, each.at) for each in reports if each.in_touch_since]
        in_touch.append((self._in_touch_since, unix))

        def is_real(outage: Outage) -> bool:
            # The report of one that died as the outage began may still be there.
            end = outage.since + desired.timings.alone_s_max
            return not any(since <= outage.since and end <= at for since, at in in_touch)

        told = (self._outage, *(each.outage for each in reports))
        until = shared.books.outages_until
        return [each for each in told if each is not None and each.since > until and is_real(each)]

    def _take_over(self, desired: Desired, observed: Observed, shared: Shared, now: float) -> None:
        """Begin to lead: with the most that anybody has measured and that is not in the books as they are."""
        self._has_led = True
        told = [(each.books_revision, each.unbooked_s) for each in voices(desired, observed)]
        told.append((self._books_revision, self._unbooked_s))
        self._unbooked_s = max((lost_s for revision, lost_s in told if revision == shared.books_revision), default=0.0)
        if self._unbooked_s > 0 and self._lost_at is None:
            self._lost_at = self._lost_from = now

    def _follow(self, observed: Observed, shared: Shared, gap_s: float | None) -> None:
        """Go by what the leader says is not booked: it lives, so it has measured the same.

        One that does not know yet that it leads says nothing of the kind: it may have begun a moment ago, and will take
        over what the others have measured. What was booked after a report is not in it. And what is read first after a
        gap, in which the store did not answer, may have been written before it, by one that died with it.
        """
        self._has_led = False
        leader = observed.reports.get(shared.leader)
        is_booked = shared.books_revision != self._books_revision
        self._books_revision = shared.books_revision
        if is_booked:
            self._unbooked_s = gap_s or 0.0
        if leader is not None and leader.is_leader and leader.sequence != self._leader_sequence:
            self._leader_sequence = leader.sequence
            if gap_s is None:
                self._unbooked_s = leader.unbooked_s if leader.books_revision == shared.books_revision else 0.0

    def _disturbances(
        self,
        desired: Desired,
        observed: Observed,
        raised: Mapping[str, RaiseIncident],
        is_open: Mapping[str, object],
        now: float,
        outage: Outage | None,
    ) -> dict[str, str]:
        """Return what goes on, as `kind:target`, with the reason."""
        found = {key: action.reason for key, action in raised.items()}
        for report in voices(desired, observed):
            if report.region != observed.here:
                # A region that was cut off says that the majority was gone, as far as it could know. It was not.
                told = [key for key in report.incidents if not key.startswith("journal_majority:")]
                found.update(dict.fromkeys(told, f"{report.region} says so"))
        if outage is not None:
            found[_majority(desired)] = f"the journal had no majority for {outage.length_s:.1f} s"
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

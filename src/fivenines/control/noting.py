"""Notes: what a controller remembers between rounds, so that decisions need no memory of their own.

For how long something has been as it is, is counted on this process's own monotonic clock, from when it first saw it
so. Clocks of regions differ and clocks can step; this one does neither. After a restart all counts begin anew, which
makes a controller more patient and never less. Nothing here decides anything.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from fivenines.control.desired import Desired, Timings
from fivenines.control.observed import MemberSeen, Observed, Report, ServerSeen, WorkloadSeen
from fivenines.control.store import Shared

__all__ = ["Notes"]

_SKEW_OF = 32
"""Reports of a region that its clock is judged by: the one that came the quickest tells the most."""
_MEAN_OF = 1_024
"""Requests that an edge's mean is of."""
_MEAN_REQUESTS_MIN = 32
_STEADY_S = 60.0


class _Since(NamedTuple):
    what: Hashable
    at: float


class _Counted(NamedTuple):
    at: float
    requests: int
    errors: int
    latency_ms: float


class Notes:
    """What the controller of a region remembers. All times that it is told are of a monotonic clock, but for `unix`."""

    def __init__(self, here: str) -> None:
        self._here = here
        self._since: dict[tuple[str, str], _Since] = {}
        self._restarts_then: dict[str, int] = {}
        self._replaced_at: dict[str, float] = {}
        self._counted: dict[str, deque[_Counted]] = {}
        self._ejections: dict[str, int] = {}
        self._weights: dict[str, int] = {}
        self._delays: dict[str, deque[float]] = {}
        self._sequences: dict[str, int] = {}
        self._shared = Shared()
        self._answered_at: float | None = None
        self._began_at: float | None = None

    @property
    def shared(self) -> Shared:
        """What all shared when the store last answered."""
        return self._shared

    def note_replaced(self, workload: str, now: float) -> None:
        """Remember that a workload was begun anew, or that it was tried: it may be as empty then."""
        self._replaced_at[workload] = now

    def local(self, report: Report, desired: Desired, now: float) -> Report:
        """Return this region's own report with what only its controller can know."""
        return replace(
            report,
            workloads=tuple(self._workload(seen, now) for seen in report.workloads),
            servers=tuple(self._server(seen, desired.timings.window_s, now) for seen in report.servers),
            skew_ms=self.skew_ms(),
        )

    def note_shared(self, shared: Shared, now: float, unix: float) -> None:
        """Take what the store answered."""
        self._shared, self._answered_at = shared, now
        for name, report in shared.reports.items():
            if name != self._here and self._sequences.get(name) != report.sequence:
                self._sequences[name] = report.sequence
                self._delays.setdefault(name, deque(maxlen=_SKEW_OF)).append(unix - report.at)

    def skew_ms(self) -> dict[str, float]:
        """Return how far other regions' clocks are ahead; behind by as much as their quickest report was on its way."""
        return {name: round(-1000 * min(found), 1) for name, found in self._delays.items() if name in self._sequences}

    def observed(
        self,
        own: Report,
        members: Sequence[MemberSeen],
        under_way: frozenset[str],
        *,
        has_majority: bool,
        now: float,
        silent_s: float = Timings().silent_s,
    ) -> Observed:
        """Return everything that is known now; a region whose report is older than `silent_s` is not heard."""
        shared = self._shared
        states = {
            name: replace(state, age_s=self._age(("state", name), state.revision, now))
            for name, state in shared.states.items()
        }
        if self._began_at is None:
            self._began_at = now
        last = self._began_at if self._answered_at is None else self._answered_at
        alone_s = 0.0 if has_majority else now - last
        ages = {name: self._age(("report", name), report.sequence, now) for name, report in shared.reports.items()}
        # Of itself it hears in any case: what counts is whether others can hear it.
        ages[self._here] = alone_s
        reports = {
            name: replace(report, age_s=ages[name], heard_s=self._heard_s(name, ages[name] <= silent_s, now))
            for name, report in {**shared.reports, self._here: own}.items()
        }
        for gone in [key for key in self._since if key[0] == "heard" and key[1] not in reports]:
            del self._since[gone]
        return Observed(
            here=self._here,
            reports={**reports, self._here: replace(reports[self._here], age_s=0.0)},
            states=states,
            members=tuple(
                replace(member, away_s=self._age(("member", str(member.id)), member.is_reachable, now))
                if not member.is_reachable
                else self._reached(member)
                for member in members
            ),
            is_leader=shared.is_leader and has_majority,
            has_majority=has_majority,
            alone_s=alone_s,
            under_way=under_way,
        )

    def _reached(self, member: MemberSeen) -> MemberSeen:
        self._since.pop(("member", str(member.id)), None)
        return member

    def _heard_s(self, region: str, is_heard: bool, now: float) -> float:
        if is_heard:
            return self._age(("heard", region), "heard", now)
        self._since.pop(("heard", region), None)
        return 0.0

    def _age(self, key: tuple[str, str], what: Hashable, now: float) -> float:
        since = self._since.get(key)
        if since is None or since.what != what:
            self._since[key] = since = _Since(what, now)
        return now - since.at

    def _workload(self, seen: WorkloadSeen, now: float) -> WorkloadSeen:
        replaced_at = self._replaced_at.get(seen.name)
        replaced_s = None if replaced_at is None else now - replaced_at
        if seen.position is not None:
            self._age(("position", seen.name), seen.position, now)
        # One that is busy does not answer each look in time: what it told last counts on.
        told = self._since.get(("position", seen.name))
        seen = replace(seen, stalled_s=None if told is None else now - told.at)
        if seen.state in {"ready", "stopped", "stopping", "draining", "waiting"}:
            self._since.pop(("workload", seen.name), None)
            self._restarts_then[seen.name] = seen.restarts
            return replace(seen, unready_s=0.0, failed_starts=0, replaced_s=replaced_s)
        then = self._restarts_then.setdefault(seen.name, seen.restarts)
        return replace(
            seen,
            unready_s=self._age(("workload", seen.name), "unready", now),
            failed_starts=max(0, seen.restarts - then),
            replaced_s=replaced_s,
        )

    def _server(self, seen: ServerSeen, window_s: float, now: float) -> ServerSeen:
        counted = self._counted.setdefault(seen.name, deque())
        if counted and seen.requests < counted[-1].requests:
            counted.clear()  # its edge was started anew
        counted.append(_Counted(now, seen.requests, seen.errors, seen.latency_ms))
        while len(counted) > 1 and counted[1].at <= now - window_s:
            counted.popleft()
        first = counted[0]
        requests = seen.requests - first.requests
        before = self._weights.get(seen.name, seen.weight)
        self._weights[seen.name] = seen.weight
        weight_s = self._age(("weight", seen.name), seen.weight, now)
        up_s = self._age(("up", seen.name), seen.is_up, now)
        if seen.weight == 0 < before:
            self._ejections[seen.name] = self._ejections.get(seen.name, 0) + 1
        elif seen.weight >= 100 and weight_s >= _STEADY_S:
            self._ejections.pop(seen.name, None)
        return replace(
            seen,
            requests_recent=requests,
            errors_recent=max(0, seen.errors - first.errors),
            latency_recent_ms=_recent_mean(first.latency_ms, seen.latency_ms, requests),
            up_s=up_s if seen.is_up else 0.0,
            weight_s=weight_s,
            ejections=self._ejections.get(seen.name, 0),
        )


def _recent_mean(before_ms: float, after_ms: float, requests: int) -> float | None:
    """Return the mean of the last requests, from an edge's sliding mean before and after them.

    HAProxy moves its mean by a part of 1/1024 towards each new value (`swrate_add` in its freq_ctr.h), so after n
    values of mean m it is `before * d + m * (1 - d)` with d = (1 - 1/1024)^n.
    """
    if requests < _MEAN_REQUESTS_MIN:
        return None
    kept = (1 - 1 / _MEAN_OF) ** requests
    return max(0.0, (after_ms - before_ms * kept) / (1 - kept))

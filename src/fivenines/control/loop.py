"""The loop: look, share, decide, hold back, act, write down; each `look_s`, and at once if there is something to see.

A controller has no state that matters. What it decides from it reads anew in each round, what it remembers (`noting`)
only makes it more patient, and every action is made from a state that the store compares. So it may crash at any point,
and another one, or itself, goes on from what is. A round that fails is told of, and the next one comes all the same.

What takes long, beginning a workload anew for instance, runs beside the rounds, and is not decided again meanwhile.
While a region that serves is not answered, rounds come four times as often: two observers have to agree before names
change, and a look that comes early costs little.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from fivenines.control.actions import Action, AddMember, RaiseIncident, RemoveMember, ReplaceWorkload, SetPhase
from fivenines.control.bookkeeping import Bookkeeper
from fivenines.control.deciding import Decision, decide
from fivenines.control.desired import Desired
from fivenines.control.judging import SERVES
from fivenines.control.noting import Notes
from fivenines.control.observed import MemberSeen, Observed, Probes, RegionState, Report
from fivenines.control.safety import Refused, hold_back
from fivenines.control.steer import steer
from fivenines.control.store import Shared, Store, StoreError
from fivenines.control.timeline import Event, EventKind, action_target, describe, event_of
from fivenines.traffic.table import SteeringTable, read_table, write_table

if TYPE_CHECKING:
    from fivenines.control.budget import Books

__all__ = ["ActionFailedError", "Clock", "Controller", "Driver", "Looking", "Sensors", "Steering"]

log = structlog.get_logger(__name__)

_FAST = 4
"""How many times as often rounds come while a region that serves is not answered."""
_JITTER = 0.1
_GAP_S_MIN = 0.02
_EVENTS_PENDING_MAX = 1_000
_FAILED_AGAIN_S = 5.0
"""What failed is not tried again before."""
_SEEN_S = 2.0
"""What was done is to be seen by then; until then it is not decided again."""
_MEMBERS_S = 1.0


class ActionFailedError(Exception):
    """A driver could not carry out an action; it is decided anew in a while, if it is still wanted."""


class Sensors(Protocol):
    """What looks at this region."""

    async def look(self) -> Report:
        """Return workloads, servers, position and rates of this region; the loop adds the rest. May raise anything."""


class Driver(Protocol):
    """What carries out actions in this region."""

    async def act(self, action: Action) -> None:
        """Carry out ReplaceWorkload, SetNodeWeight, DrainNode or UndrainNode; harmless when it is repeated.

        Raises:
            ActionFailedError: it could not.
        """


class Looking(Protocol):
    """What probes all regions, such as `probing.Prober`; who owns it runs it."""

    changed: asyncio.Event

    def seen(self) -> Mapping[str, Probes]:
        """Return what was seen by now, by region."""


class Clock(Struct, frozen=True):
    """The two clocks."""

    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time


class Steering(Struct, frozen=True, kw_only=True):
    """The table that this region's nameserver answers by."""

    path: Path
    declared: SteeringTable
    """See `steer`: zone, policy, names and regions as they are declared."""


class Controller:
    """The controller of one region.

    Args:
        here: the region.
        desired: what should be; asked in each round. Its orders are those of the store, whatever it says.
        sensors: what looks at this region.
        driver: what carries out actions here.
        store: what all controllers share.
        prober: what probes all regions.
        steering: where the table for the nameserver goes; None for no table.
        clock: for tests.
    """

    def __init__(
        self,
        here: str,
        desired: Callable[[], Desired],
        *,
        sensors: Sensors,
        driver: Driver,
        store: Store,
        prober: Looking,
        steering: Steering | None = None,
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        self.here = here
        self.observed: Observed | None = None
        """As of the last round."""
        self.decision: Decision | None = None
        """Of the last round."""
        self.rounds = 0
        self._desired, self._sensors, self._driver, self._store = desired, sensors, driver, store
        self._prober, self._steering, self._clock = prober, steering, clock
        self._notes = Notes(here)
        self._books = Bookkeeper(here)
        self._offered: tuple[Books, Sequence[Event]] | None = None
        self._table: SteeringTable | None = None
        if steering is not None:
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                self._table = read_table(steering.path)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._rests_until: dict[str, float] = {}
        self._pending: deque[Event] = deque(maxlen=_EVENTS_PENDING_MAX)
        self._refused: set[str] = set()
        self._unanswered: set[str] = set()
        self._incidents: tuple[str, ...] = ()
        self._members: tuple[MemberSeen, ...] = ()
        self._sequence = int(clock.unix() * 1000)
        self._was_alone = False

    @property
    def shared(self) -> Shared:
        """What all controllers shared when the store last answered."""
        return self._notes.shared

    @property
    def table(self) -> SteeringTable | None:
        """What this region's nameserver answers by; None before there is anything."""
        return self._table

    async def run(self) -> None:
        """Go round until it is cancelled; then lead no more, and let go of what is under way."""
        watching = asyncio.create_task(self._watch_members(), name="watching the journal's members")
        try:
            while True:
                began = self._clock.monotonic()
                self._prober.changed.clear()
                try:
                    is_changed = await self.round()
                except Exception:
                    log.exception("control.round_failed", region=self.here)
                    is_changed = False
                await self._wait(began, is_changed=is_changed)
        finally:
            tasks = [watching, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._store.resign()

    async def round(self) -> bool:
        """Go round once; whether something that all share was changed, so that another look is due at once."""
        self.rounds += 1
        desired, own = self._desired(), await self._look()
        has_majority = await self._share(own)
        shared, now = self._notes.shared, self._clock.monotonic()
        desired = replace(desired, orders=shared.orders)
        observed = self._notes.observed(
            own,
            self._members,
            self._under_way(now),
            has_majority=has_majority,
            now=now,
            silent_s=desired.timings.silent_s,
        )
        self.observed = observed
        self._note_seen(desired, observed)
        decision = self.decision = decide(desired, observed, self._clock.unix())
        for name, error in decision.failed:
            log.error("control.decide_failed", controller=name, exc_info=error)
        self._note_refused(decision.refused)
        raised = {f"{a.kind}:{a.target}": a for a in decision.actions if isinstance(a, RaiseIncident)}
        self._incidents = tuple(sorted(raised))
        is_changed = False
        for action in decision.actions:
            if not isinstance(action, RaiseIncident):
                is_changed = await self._act(action, observed, now) or is_changed
        self._steer(desired, observed)
        self._books.measure(desired, observed, now=now, unix=self._clock.unix())
        if has_majority:
            try:
                if not shared.leader:
                    await self._store.campaign()
                await self._keep_books(desired, observed, raised)
                await self._write_down()
            except StoreError as error:
                # What is not written down yet is so in the next round.
                log.warning("control.not_written_down", region=self.here, reason=str(error))
        return is_changed

    # ---- looking and sharing

    async def _look(self) -> Report:
        desired, now = self._desired(), self._clock.monotonic()
        try:
            async with asyncio.timeout(desired.timings.probe_timeout_s):
                report = await self._sensors.look()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other regions want to know what we see of them
            log.warning("control.sensors_failed", region=self.here, reason=repr(error))
            report = Report(region=self.here, at=self._clock.unix())
        self._sequence += 1
        return replace(
            self._books.said(self._notes.local(report, desired, now)),
            region=self.here,
            at=self._clock.unix(),
            probes=dict(self._prober.seen()),
            incidents=self._incidents,
            sequence=self._sequence,
            is_leader=self._notes.shared.is_leader,
        )

    async def _share(self, own: Report) -> bool:
        try:
            shared = await self._store.exchange(own)
        except StoreError as error:
            if not self._was_alone:
                log.warning("control.store_unreachable", region=self.here, reason=str(error))
            self._was_alone = True
            return False
        if self._was_alone:
            log.info("control.store_answers_again", region=self.here)
        self._was_alone = False
        self._notes.note_shared(shared, self._clock.monotonic(), self._clock.unix())
        return True

    async def _watch_members(self) -> None:
        while True:
            try:
                self._members = await self._store.members()
            except StoreError as error:
                log.info("control.members_unknown", reason=str(error))
            except Exception:
                log.exception("control.members_failed", region=self.here)
            await asyncio.sleep(_MEMBERS_S)

    # ---- acting

    def _under_way(self, now: float) -> frozenset[str]:
        self._rests_until = {target: until for target, until in self._rests_until.items() if now < until}
        return frozenset({*self._tasks, *self._rests_until})

    async def _act(self, action: Action, observed: Observed, began: float) -> bool:
        match action:
            case SetPhase():
                return await self._set_phase(action, observed, began)
            case RemoveMember() | AddMember():
                await self._change_members(action, observed, began)
                return True
            case _:
                target = action_target(action)
                if target not in self._tasks:
                    task = asyncio.create_task(self._drive(action, target, began), name=describe(action))
                    self._tasks[target] = task
                return False

    async def _set_phase(self, action: SetPhase, observed: Observed, began: float) -> bool:
        state = RegionState(
            name=action.region,
            phase=action.phase,
            since=self._clock.unix(),
            share=action.share,
            reason=action.reason,
            downs=action.downs,
            promoted=action.promoted,
        )
        try:
            is_done = await self._store.put_state(state, observed.states)
        except StoreError as error:
            self._tell("failed", action, why=str(error), took_s=self._clock.monotonic() - began)
            return False
        if is_done:
            own = observed.reports[self.here].probes.get(action.region)
            seen_s = own.failing_s if own is not None and action.phase == "down" else 0.0
            self._tell("done", action, why=action.reason, took_s=seen_s + self._clock.monotonic() - began)
        # Done or not, what all share is another now than what was decided from.
        return True

    async def _change_members(self, action: RemoveMember | AddMember, observed: Observed, began: float) -> None:
        try:
            # What was decided from may be a second old: a member may be back, or another one gone since.
            self._members = await self._store.members()
            now_seen = replace(observed, members=self._members)
            _, refused = hold_back([action], self._desired(), now_seen, self._clock.unix())
            if refused:
                self._tell("refused", action, why=refused[0].reason)
                return
            if isinstance(action, RemoveMember):
                await self._store.remove_member(action.id)
            else:
                await self._store.add_member(action.region)
            self._members = await self._store.members()
        except StoreError as error:
            self._tell("failed", action, why=str(error), took_s=self._clock.monotonic() - began)
        else:
            self._tell("done", action, why=action.reason, took_s=self._clock.monotonic() - began)

    async def _drive(self, action: Action, target: str, began: float) -> None:
        self._note_replaced(action, target)
        try:
            self._tell("decided", action, why=action.reason)
            await self._driver.act(action)
        except ActionFailedError as error:
            self._rests_until[target] = self._clock.monotonic() + _FAILED_AGAIN_S
            self._tell("failed", action, why=str(error), took_s=self._clock.monotonic() - began)
        except Exception as error:
            log.exception("control.driver_failed", action=describe(action))
            self._rests_until[target] = self._clock.monotonic() + _FAILED_AGAIN_S
            self._tell("failed", action, why=repr(error), took_s=self._clock.monotonic() - began)
        else:
            self._rests_until[target] = self._clock.monotonic() + _SEEN_S
            self._tell("done", action, why=action.reason, took_s=self._clock.monotonic() - began)
        finally:
            self._note_replaced(action, target)
            self._tasks.pop(target, None)

    def _note_replaced(self, action: Action, target: str) -> None:
        """Remember that it was begun anew, whatever came of it: who gave up waiting for it has emptied it all the same.

        Noted when it begins and when it ends, so that it has its whole time from then on.
        """
        if isinstance(action, ReplaceWorkload):
            self._notes.note_replaced(target, self._clock.monotonic())

    def _steer(self, desired: Desired, observed: Observed) -> None:
        if self._steering is None:
            return
        table = steer(self._steering.declared, desired, observed, self._table)
        if table is None or table is self._table:
            return
        try:
            write_table(self._steering.path, table)
        except OSError as error:
            log.warning("control.table_not_written", path=str(self._steering.path), reason=str(error))
            return
        log.info(
            "control.steered", region=self.here, serial=table.serial, shares={r.name: r.share for r in table.regions}
        )
        self._table = table

    # ---- writing down

    def _tell(self, kind: EventKind, action: Action, *, why: str, took_s: float | None = None) -> None:
        target = action_target(action)
        self._note(kind, describe(action), why=why, target=target, took_s=took_s)

    def _note(
        self, kind: EventKind, what: str, *, why: str = "", target: str = "", took_s: float | None = None
    ) -> None:
        incident = self._books.incident_of(target, self._notes.shared)
        event = event_of(
            at=self._clock.unix(),
            region=self.here,
            kind=kind,
            what=what,
            why=why,
            target=target,
            took_s=None if took_s is None else round(took_s, 3),
            incident=incident,
        )
        log.info("control.event", kind=kind, what=what, why=why, took_s=event.took_s, region=self.here)
        self._pending.append(event)

    def _note_seen(self, desired: Desired, observed: Observed) -> None:
        """Write down where what this region sees of another changed, beyond single losses."""
        losses = desired.timings.losses_to_down
        for region, probes in observed.reports[self.here].probes.items():
            tail = probes.recent[-losses:]
            if len(tail) == losses and not any(tail) and region not in self._unanswered:
                self._unanswered.add(region)
                what = f"{region} does not answer {self.here}"
                self._note("seen", what, why=probes.reason, target=region, took_s=probes.failing_s)
            elif tail and all(tail) and region in self._unanswered:
                self._unanswered.discard(region)
                self._note("seen", f"{region} answers {self.here} again", target=region)

    def _note_refused(self, refused: tuple[Refused, ...]) -> None:
        """Write down each refusal once, as long as it stands."""
        standing = {f"{describe(r.action)}": r for r in refused if not r.is_deferred}
        for what in standing.keys() - self._refused:
            found = standing[what]
            self._tell("refused", found.action, why=f"{found.reason} (wanted: {found.action.reason})")
        self._refused = set(standing)

    async def _keep_books(self, desired: Desired, observed: Observed, raised: Mapping[str, RaiseIncident]) -> None:
        now, unix = self._clock.monotonic(), self._clock.unix()
        if self._offered is not None and self._notes.shared.books == self._offered[0]:
            self._books_are_kept(self._offered[1])
        self._offered = None
        kept = self._books.keep(desired, observed, self._notes.shared, raised, now=now, unix=unix)
        if kept is None:
            return
        books, events = kept
        # Until the store has answered, they may be written or not.
        self._offered = (books, events)
        is_written = await self._store.put_books(books, self._notes.shared.books_revision)
        self._offered = None
        if is_written:
            self._books_are_kept(events)

    def _books_are_kept(self, events: Sequence[Event]) -> None:
        self._books.was_kept()
        for event in events:
            log.info("control.event", kind=event.kind, what=event.what, why=event.why, region=self.here)
        self._pending.extend(events)

    async def _write_down(self) -> None:
        events = list(self._pending)
        if events:
            await self._store.append(events)
            for _ in events:
                self._pending.popleft()

    # ---- pace

    def _is_uneasy(self) -> bool:
        """Whether a region that serves is not answered just now."""
        observed = self.observed
        if observed is None or not observed.has_majority:
            return False
        probes = self._prober.seen()
        return any(
            state.phase in SERVES and (seen := probes.get(name)) is not None and seen.recent and not seen.recent[-1]
            for name, state in observed.states.items()
        )

    async def _wait(self, began: float, *, is_changed: bool) -> None:
        pace_s = self._desired().timings.look_s * random.uniform(1 - _JITTER, 1 + _JITTER)
        if is_changed:
            pace_s = 0.0
        elif self._is_uneasy():
            pace_s /= _FAST
        left_s = max(_GAP_S_MIN, began + pace_s - self._clock.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._prober.changed.wait()
                await asyncio.sleep(_GAP_S_MIN)

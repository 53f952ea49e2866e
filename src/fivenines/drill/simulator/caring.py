"""The caretakers: the real controllers on virtual time; they see what the model makes, and what they do is done.

Nothing is decided here. `fivenines.control.deciding.decide`, safety rules included, is asked at the moments at which a
real loop would ask it: 20 ms after a probe failed or was answered again, and in each round; with an `Observed` that is
made from the troubles of the world. What it decides changes the state, and that changes the next `Observed`. So another
patience, another rule, or a controller that does nothing, makes other pauses.

Time is skipped. Once the probes' windows say nothing new, only ages change, and a decision can only follow from an age
that passes a bound. So the controllers are asked what they would do later, at times that double; where that is nothing,
nothing happens until the world changes; where it is something, its moment is found by halving.

Of all controllers one is asked for what is global: all see the same, and the store lets the first one through. Reports
are as new as the moment: a real one is up to a round older.
"""

import heapq
import math
import random
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from fivenines.control.actions import Action, AddMember, RaiseIncident, RemoveMember, ReplaceWorkload, SetPhase
from fivenines.control.deciding import Decision
from fivenines.control.deciding import decide as decide_all
from fivenines.control.desired import Desired, Order
from fivenines.control.observed import MemberSeen, Observed, Phase, Probes, RegionState, Report, WorkloadSeen
from fivenines.drill.simulator.world import Trouble, View, view

__all__ = ["OLD_S", "Caretakers", "Decide", "Piece", "State"]

Decide = Callable[[Desired, Observed, float], Decision]

OLD_S = 1e7
"""An age that is beyond every bound."""
_WINDOW = 16
_GAP_S = 0.02
"""A loop wakes so long after a probe that tells something."""
_REFUSED_S = 0.005
_ANSWERED_S = 0.02
_SOON = 0.25
_JITTER = 0.1
_LEASE_S = 2.0
"""The report of a controller that is gone goes with its lease."""
_ROUNDS_MAX = 4
"""More controllers than this make a round no more likely to come soon."""
_WATCHED_S = 120.0
"""What fails in part is watched for so long; then it is taken to go on as it stands."""
_ACTIONS_MAX = 400
_FOUND_S = 0.01

_WELL = Probes(recent=(True,) * _WINDOW, latency_ms=20.0)
_ILL = Probes(recent=(False,) * _WINDOW, reason="no answer", failing_s=OLD_S)
_NOTHING = Probes()


class Piece(NamedTuple):
    """How traffic is led from a moment on."""

    at: float
    """Seconds since the world changed."""
    shares: dict[str, float]
    """By region, of its usual traffic."""
    voters: frozenset[str]
    """Regions with a member that counts for the majority."""
    mended: frozenset[str]
    """Regions whose member was let in anew after its disk was lost."""


class Member(Struct):
    """A member of the journal, as the cluster lists it."""

    region: str
    id: int
    name: str
    away_since: float = -1.0
    """Below 0: it is reached."""


class State(Struct):
    """What the caretakers have agreed on and seen; times are absolute."""

    phases: dict[str, RegionState]
    changed: dict[str, float]
    """When a region's phase last changed."""
    members: list[Member]
    windows: dict[tuple[str, str], tuple[bool, ...]]
    """By observer and observed, the last probes; pairs that are left out were all answered."""
    quiet: dict[str, float]
    """By region that has no voice, since when."""
    mended: frozenset[str] = frozenset()
    revision: int = 1
    members_made: int = 0

    def copy(self) -> "State":
        """Return one that may be changed."""
        return replace(
            self,
            phases=dict(self.phases),
            changed=dict(self.changed),
            members=[replace(member) for member in self.members],
            windows=dict(self.windows),
            quiet=dict(self.quiet),
        )

    def key(self) -> tuple[object, ...]:
        """Return what matters of it when all ages are beyond every bound."""
        return (
            tuple(
                (n, s.phase, s.promoted, 0 if s.phase == "serving" else len(s.downs)) for n, s in self.phases.items()
            ),
            tuple(sorted((m.region, m.name != "", m.away_since >= 0) for m in self.members)),
            tuple(sorted(self.windows.items())),
            tuple(sorted(self.quiet)),
            tuple(sorted(self.mended)),
        )

    def renamed(self, names: Mapping[str, str]) -> "State":
        """Return it with other names for regions; they are as many, and in the order of declaration as before."""
        back = {new: old for old, new in names.items()}
        phases = {r: replace(self.phases[back[r]], name=r) for r in self.phases}
        return replace(
            self,
            phases=phases,
            changed={r: self.changed[back[r]] for r in self.changed},
            members=[replace(m, region=names[m.region], name=m.name and names[m.region]) for m in self.members],
            windows={(names[a], names[b]): window for (a, b), window in self.windows.items()},
            quiet={names[region]: since for region, since in self.quiet.items()},
            mended=frozenset(names[region] for region in self.mended),
        )

    def aged(self, now: float) -> "State":
        """Return it as it is when everything in it has been so for ever, counted from a moment."""
        then = now - OLD_S
        steady = {
            name: replace(state, since=then, downs=()) if state.phase == "serving" else replace(state, since=then)
            for name, state in self.phases.items()
        }
        return replace(
            self,
            phases=steady,
            changed=dict.fromkeys(self.changed, then),
            members=[replace(m, away_since=then if m.away_since >= 0 else -1.0) for m in self.members],
            quiet=dict.fromkeys(self.quiet, then),
        )


class Caretakers:
    """All controllers of one platform.

    Args:
        desired: what should be; its workloads need only be the journal's members.
        members: regions that hold one.
        decide: who decides; for tests of what a worse one costs.
        join_s: how long an empty member takes until it has caught up.
    """

    def __init__(
        self, desired: Desired, members: Collection[str], *, decide: Decide = decide_all, join_s: float = 8.0
    ) -> None:
        self.desired = desired
        self.regions = tuple(region.name for region in desired.regions)
        self.members = tuple(members)
        self.asked = 0
        """How often the controllers were asked."""
        self._decide, self._join_s = decide, join_s
        timings = desired.timings
        bounds = [timings.down_s_max, timings.flap_s, timings.demote_s, timings.lost_member_s, timings.replace_again_s]
        self.horizon_s = max(bounds) + 10.0
        """After so long without a change no age passes a bound any more."""

    def begin(self) -> State:
        """Return how it all is when nothing has ever been wrong."""
        state = State(phases={}, changed={}, members=[], windows={}, quiet={})
        for number, region in enumerate(self.members):
            state.members.append(Member(region=region, id=number + 1, name=region))
        for declared in self.desired.regions:
            phase: Phase = "serving" if declared.mode == "active" else "standby"
            share = 1.0 if phase == "serving" else 0.0
            state.phases[declared.name] = RegionState(
                name=declared.name, phase=phase, since=-OLD_S, share=share, revision=1
            )
            state.changed[declared.name] = -OLD_S
        state.members_made = len(self.members)
        return state

    def follow(
        self, state: State, troubles: Collection[Trouble], began: float, length_s: float, chance: random.Random
    ) -> tuple[list[Piece], State, float]:
        """Go on from a state while the troubles of the world stay as they are.

        Returns:
            The pieces, the first at 0; the state at the end; and for how long something still changed.
        """
        return _Following(self, state.copy(), troubles, began, length_s, chance).run()

    def ask(self, observed: Observed, desired: Desired, now: float) -> Decision:
        """Ask the controllers."""
        self.asked += 1
        return self._decide(desired, observed, now)

    @property
    def join_s(self) -> float:
        """How long an empty member takes until it has caught up."""
        return self._join_s


class _Following:
    """One stretch of time in which the world does not change."""

    def __init__(
        self,
        care: Caretakers,
        state: State,
        troubles: Collection[Trouble],
        began: float,
        length_s: float,
        chance: random.Random,
    ) -> None:
        self._care, self._state, self._chance = care, state, chance
        self._now = self._began = began
        self._ends = began + length_s
        self._view: View = view(troubles, care.regions, care.members)
        self._desired = replace(
            care.desired,
            orders=tuple(
                Order(kind="evacuate", target=region, at=began, by="operator", why="planned, or what nobody else sees")
                for region in sorted(self._view.ordered_out)
            ),
        )
        self._timings = care.desired.timings
        self._pieces: list[Piece] = []
        self._queue: list[tuple[float, int, str, tuple[str, str], bool]] = []
        self._number = 0
        self._joins: set[str] = set()
        self._changed_at = began
        self._actions = 0
        self._all_well = dict.fromkeys(care.regions, _WELL)
        self._told_last: tuple[object, ...] = ()
        self._asked_at = -math.inf
        self._pace_s = self._timings.look_s / max(1, min(_ROUNDS_MAX, len(self._view.voices)))

    def run(self) -> tuple[list[Piece], State, float]:
        self._take_note()
        self._note_piece()
        self._watch_pairs()
        next_round = self._now + self._chance.random() * self._pace_s
        while True:
            at = self._queue[0][0] if self._queue else math.inf
            if not self._queue:
                moment = self._next_decision()
                if moment is None:
                    break
                self._now = moment
                self._ask()
                continue
            if self._now - self._began > _WATCHED_S and not self._joins and self._is_only_grey():
                self._queue.clear()
                continue
            if min(at, next_round) >= self._ends:
                break
            if next_round < at:
                self._now = next_round
                next_round += self._pace_s
                self._round()
                continue
            self._now = at
            self._happen()
        self._now = self._ends
        return self._pieces, self._state, self._changed_at - self._began

    # ---- the world, seen

    def _take_note(self) -> None:
        """Take note of what the new troubles mean for voices, members and windows."""
        state, seen = self._state, self._view
        for region in self._care.regions:
            if region in seen.voices:
                if region in state.quiet:
                    del state.quiet[region]
                    for pair in [(region, other) for other in self._care.regions]:
                        state.windows[pair] = ()  # it knows nothing yet, or what was long ago
            elif region not in state.quiet:
                state.quiet[region] = self._now
                for pair in [pair for pair in state.windows if pair[0] == region]:
                    del state.windows[pair]
        state.mended &= seen.disks_lost
        self._see_members()

    def _see_members(self) -> None:
        """See which members are reached."""
        state, seen = self._state, self._view
        for member in state.members:
            is_up = member.region in seen.members or (member.region in state.mended and member.region in seen.voices)
            if is_up and member.name:
                member.away_since = -1.0
            elif is_up and member.region not in seen.disks_lost:
                member.name, member.away_since = member.region, -1.0  # it was let in anew, and has come back
            elif member.away_since < 0:
                member.away_since = self._now

    def _has_majority(self) -> bool:
        voters = self._state.members
        return 2 * sum(member.away_since < 0 for member in voters) > len(voters)

    def _fails(self, region: str) -> float:
        return 1.0 if not self._has_majority() else self._view.probes_fail[region]

    def _watch_pairs(self) -> None:
        """Let probes begin between all pairs whose windows may change."""
        self._queue = [each for each in self._queue if each[2] == "join"]
        heapq.heapify(self._queue)
        # In the order of regions: chance is drawn for each pair, and a set has another order in each process.
        for observer in (region for region in self._care.regions if region in self._view.voices):
            for region in self._care.regions:
                if not self._is_settled(observer, region):
                    pause_s = self._timings.probe_s * self._chance.random()
                    self._push(self._now + pause_s, "probe", (observer, region), was=False)

    def _is_settled(self, observer: str, region: str) -> bool:
        """Whether the window of a pair says nothing new any more."""
        fails = self._fails(region)
        window = self._state.windows.get((observer, region))
        if fails == 0.0:
            return window is None
        return fails == 1.0 and window is not None and len(window) == _WINDOW and not any(window)

    def _is_only_grey(self) -> bool:
        """Whether all that is still probed fails in part."""
        return all(0.0 < self._fails(pair[1]) < 1.0 for _, _, what, pair, _ in self._queue if what == "probe")

    def _push(self, at: float, what: str, pair: tuple[str, str], *, was: bool) -> None:
        self._number += 1
        heapq.heappush(self._queue, (at, self._number, what, pair, was))

    def _happen(self) -> None:
        _, _, what, pair, was = heapq.heappop(self._queue)
        if what == "probe":
            self._probe(pair)
        elif what == "told":
            self._told(pair, was)
        elif what == "join":
            self._joined(pair[0])
        else:
            self._round()

    def _probe(self, pair: tuple[str, str]) -> None:
        observer, region = pair
        if self._is_settled(observer, region):
            return
        timings, fails = self._timings, self._fails(region)
        is_answered = self._chance.random() >= fails
        pause_s = timings.probe_s * self._chance.uniform(1 - _JITTER, 1 + _JITTER)
        if is_answered:
            took_s = _ANSWERED_S
        elif region in self._view.silent or not self._has_majority():
            took_s = timings.probe_timeout_s
        else:
            took_s = _REFUSED_S
        self._push(self._now + took_s, "told", pair, was=is_answered)
        self._push(self._now + (pause_s if is_answered else pause_s * _SOON), "probe", pair, was=False)

    def _told(self, pair: tuple[str, str], was: bool) -> None:
        windows = self._state.windows
        before = windows.get(pair, _WELL.recent)
        after = (*before, was)[-_WINDOW:]
        if was and len(after) == _WINDOW and all(after):
            windows.pop(pair, None)
        elif was and not any(before) and self._fails(pair[1]) == 0.0:
            windows[pair] = (True,)  # what was long ago says nothing about a region that is well again
        else:
            windows[pair] = after
        if was and len(windows.get(pair, ())) > self._timings.wins_to_up and self._fails(pair[1]) == 0.0:
            windows.pop(pair, None)
        if not was or before[-1:] != (True,):
            self._push(self._now + _GAP_S, "look", pair, was=False)

    # ---- the controllers, asked

    def _observed(self, at: float, here: str = "") -> Observed | None:
        """Return what the controller of a region knows at a moment, of the first that has a voice if none is named."""
        state, seen = self._state, self._view
        here = here or next((region for region in self._care.regions if region in seen.voices), "")
        if not here:
            return None
        has_majority = self._has_majority()
        reports: dict[str, Report] = {}
        for region in self._care.regions:
            quiet_s = at - state.quiet[region] if region in state.quiet else 0.0
            if region in seen.voices or quiet_s < _LEASE_S:
                reports[region] = Report(
                    region=region,
                    at=at,
                    age_s=quiet_s,
                    probes=self._probes(region),
                    workloads=self._workloads(region),
                )
        return Observed(
            here=here,
            reports=reports,
            states={n: replace(s, age_s=at - state.changed[n]) for n, s in state.phases.items()},
            members=tuple(
                MemberSeen(
                    id=m.id,
                    name=m.name,
                    region=m.region,
                    is_reachable=m.away_since < 0,
                    away_s=at - m.away_since if m.away_since >= 0 else 0.0,
                )
                for m in state.members
            ),
            is_leader=has_majority,
            has_majority=has_majority,
            alone_s=0.0 if has_majority else at - self._began,
        )

    def _probes(self, observer: str) -> Mapping[str, Probes]:
        found = self._all_well
        for (who, region), window in self._state.windows.items():
            if who != observer:
                continue
            if found is self._all_well:
                found = dict(found)
            if len(window) == _WINDOW and not any(window):
                found[region] = _ILL
            else:
                found[region] = Probes(recent=window, reason="no answer") if window else _NOTHING
        return found

    def _workloads(self, region: str) -> tuple[WorkloadSeen, ...]:
        member = next((member for member in self._state.members if member.region == region), None)
        if region not in self._care.members or (member is not None and member.away_since < 0):
            return ()
        since = 0.0 if member is None else member.away_since
        return (WorkloadSeen(name=f"{region}-journal", role="journal", state="backoff", since=since),)

    def _wanted(self, at: float) -> list[Action]:
        """Return what the controllers would do at a moment."""
        observed = self._observed(at)
        if observed is None:
            return []
        actions = list(self._care.ask(observed, self._desired, at).actions)
        waiting = [m.region for m in self._state.members if not m.name and m.region not in self._joins]
        for region in waiting:
            if region in self._view.voices and region != observed.here and (own := self._observed(at, region)):
                decided = self._care.ask(replace(own, is_leader=False), self._desired, at).actions
                actions += [action for action in decided if isinstance(action, ReplaceWorkload)]
        return [action for action in actions if not self._is_void(action)]

    def _is_void(self, action: Action) -> bool:
        if isinstance(action, ReplaceWorkload):
            region = action.workload.removesuffix("-journal")
            return region in self._joins or not any(m.region == region and not m.name for m in self._state.members)
        return isinstance(action, RaiseIncident) or not isinstance(action, SetPhase | RemoveMember | AddMember)

    def _round(self) -> None:
        """Ask the controllers, if a majority sees something else than the last time, or a whole round has passed."""
        told = self._told_now()
        if told != self._told_last or self._now - self._asked_at >= self._timings.look_s:
            self._ask(told)

    def _told_now(self) -> tuple[object, ...]:
        """Return what the windows tell: of which regions more than half of all see losses, or wins, enough to count."""
        losses, wins, half = self._timings.losses_to_down, self._timings.wins_to_up, len(self._care.regions) / 2
        counts: dict[str, list[int]] = {}
        for (_, region), window in self._state.windows.items():
            found = counts.setdefault(region, [0, 0, 0])
            found[0] += len(window) >= losses and not any(window[-losses:])
            found[1] += len(window) < wins or not all(window[-wins:])
            found[2] += not window or not window[-1]
        return tuple((region, *(count > half for count in found)) for region, found in sorted(counts.items()))

    def _ask(self, told: tuple[object, ...] | None = None) -> None:
        if self._actions >= _ACTIONS_MAX:
            return
        self._told_last, self._asked_at = self._told_now() if told is None else told, self._now
        actions = self._wanted(self._now)
        for action in actions:
            self._act(action)
        if actions:
            self._actions += len(actions)
            self._changed_at = self._now
            self._note_piece()
            self._push(self._now + _GAP_S, "look", ("", ""), was=False)

    def _act(self, action: Action) -> None:
        state = self._state
        match action:
            case SetPhase():
                state.revision += 1
                state.phases[action.region] = RegionState(
                    name=action.region,
                    phase=action.phase,
                    since=self._now,
                    share=action.share,
                    downs=action.downs,
                    promoted=action.promoted,
                    revision=state.revision,
                )
                state.changed[action.region] = self._now
            case RemoveMember():
                state.members = [member for member in state.members if member.id != action.id]
            case AddMember():
                state.members_made += 1
                state.members.append(Member(region=action.region, id=state.members_made, name="", away_since=self._now))
            case ReplaceWorkload():
                region = action.workload.removesuffix("-journal")
                self._joins.add(region)
                self._push(self._now + self._care.join_s, "join", (region, region), was=False)

    def _joined(self, region: str) -> None:
        self._joins.discard(region)
        if region not in self._view.voices:
            return
        for member in self._state.members:
            if member.region == region and not member.name:
                member.name, member.away_since = region, -1.0
                self._state.mended |= {region}
        self._changed_at = self._now
        self._watch_pairs()
        self._note_piece()
        self._ask()

    def _next_decision(self) -> float | None:
        """Return when the controllers would next do something, if nobody changed anything; None for never."""
        if self._actions >= _ACTIONS_MAX:
            return None
        before, step_s = self._now, 0.5
        while True:
            at = min(self._ends, self._now + step_s)
            if self._wanted(at):
                break
            if at >= self._ends or step_s > self._care.horizon_s:
                return None
            before, step_s = at, step_s * 2
        while at - before > _FOUND_S:
            middle = (before + at) / 2
            before, at = (before, middle) if self._wanted(middle) else (middle, at)
        return min(self._ends, at + self._chance.random() * self._pace_s)

    def _note_piece(self) -> None:
        state = self._state
        piece = Piece(
            self._now - self._began,
            {name: found.share for name, found in state.phases.items()},
            frozenset(member.region for member in state.members),
            frozenset(state.mended),
        )
        if self._pieces and self._pieces[-1][1:] == piece[1:]:
            return
        if self._pieces and self._pieces[-1].at == piece.at:
            self._pieces[-1] = piece
        else:
            self._pieces.append(piece)

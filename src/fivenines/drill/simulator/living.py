"""Years of operation: from fault to fault, what clients of the platform do without, and whose fault that is.

The walk goes from one change of the world to the next. Between two the caretakers (`caring`) say how traffic is led;
each piece of that is priced, in seconds in which all requests would fail: ten seconds in which a third of them does
cost three and a third. Two kinds of clients are priced side by side. **Ours** use the client library and go on to the
next region by themselves; **others** go where DNS sent them, for one TTL more.

The same situation comes again and again in a thousand years. So what the caretakers make of it is kept: by what was
agreed on, what is wrong, and one of a few dozen seeds. It may only be used where everything before has been as it was
for longer than any bound of the controllers; where faults follow each other closely, they are followed one by one.
"""

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from fivenines.control.deciding import decide as decide_all
from fivenines.control.desired import Desired
from fivenines.drill.simulator.caring import OLD_S, Caretakers, Decide, Piece, State
from fivenines.drill.simulator.faults import YEAR_S, Fault, draw
from fivenines.drill.simulator.setting import Setting
from fivenines.drill.simulator.small import Small
from fivenines.drill.simulator.world import Trouble, View, view

__all__ = ["OVERLAP", "Known", "Lived", "Outage", "Year", "live"]

_OUTAGES_KEPT = 20
_DAY_S = 86_400.0
_HOURS = 24
_SEEN_BY_NOBODY = 0.02
"""What fails less than this does not move a probe's window: two losses in a row are too rare to follow."""
_PHASES, _PHASES_MANY, _PHASES_GREY = 8, 4, 3
"""How many ways the same situation is followed: of few regions, of many, and where something fails in part."""
_ALIKE_MAX = 5
"""With more regions concerned than this nothing is looked for that was alike."""
_QUIET_S = 60.0
"""Two losses closer than this are one outage."""
OVERLAP = "several at once"
"""The cause of what was lost while more than one thing was wrong."""


class Outage(Struct, frozen=True, kw_only=True):
    """A stretch of time in which requests failed."""

    at_s: float
    """Since the beginning of the first year."""
    lasted_s: float
    lost_s: float
    """In seconds in which all requests would fail."""
    causes: tuple[str, ...]


class Year(Struct, kw_only=True):
    """What one year cost."""

    ours_s: dict[str, float]
    """By cause, in seconds in which all requests would fail."""
    others_s: dict[str, float]

    @property
    def ours(self) -> float:
        """All of it, for clients with our library."""
        return sum(self.ours_s.values())

    @property
    def others(self) -> float:
        """All of it, for any other client."""
        return sum(self.others_s.values())


class Lived(Struct, kw_only=True):
    """Some years of operation."""

    years: list[Year]
    outages: list[Outage]
    """The longest, the worst first."""
    faults: dict[str, int]
    """How many there were, by kind, without those of single nodes."""
    failed_others: float
    """Requests that failed, as shares of a year's requests, summed up over the years; so are those below."""
    failed_ours: float
    majority_lost: int
    """How often the journal had no majority."""
    majority_lost_s: float
    disks_lost: int
    """How often the disks of a majority were lost at once: what was not archived yet is gone."""
    everything_lost: int
    """How often clients reached no region with nodes."""
    decisions: int
    """How often the controllers were asked."""


class _Cost(NamedTuple):
    others: float
    ours: float
    has_majority: bool
    is_reached: bool
    """Whether clients reach any region with nodes: without a majority they do, and are told no."""
    bad: dict[str, float]
    weights: dict[str, float]


def live(
    setting: Setting,
    seed: int,
    years: int,
    *,
    decide: Decide = decide_all,
    progress: Callable[[int], None] = lambda _: None,
    known: "Known | None" = None,
) -> Lived:
    """Live so many years.

    Args:
        setting: what is simulated.
        seed: of all chance.
        years: how many.
        decide: who decides; for tests.
        progress: told of each year that is over.
        known: what the caretakers made of situations before; of the same seed and the same `decide`.
    """
    return _Life(setting, seed, years, decide, progress, {} if known is None else known).run()


class _Kept(NamedTuple):
    pieces: list[Piece]
    state: State
    settled_s: float


Known = dict[tuple[Desired, tuple[str, ...], float], dict[tuple[object, ...], _Kept]]
"""What the caretakers made of situations: by what they were told to want, and by the situation."""


class _Life:
    def __init__(
        self,
        setting: Setting,
        seed: int,
        years: int,
        decide: Decide,
        progress: Callable[[int], None],
        known: "Known",
    ) -> None:
        self._setting, self._seed, self._count, self._progress = setting, seed, years, progress
        self._care = Caretakers(setting.desired(), setting.members, decide=decide, join_s=setting.rates.assumed.join_s)
        self._small = Small(setting, decide=decide)
        self._regions = tuple(region.name for region in setting.platform.regions)
        self._weights = {r.name: r.weight if r.nodes else 0.0 for r in setting.platform.regions}
        self._rooms = {r.name: setting.capacity_per_s(r) for r in setting.serving}
        self._ttl_s = float(setting.platform.traffic.ttl_s)
        self._election_times = setting.election_times()
        self._phases = _PHASES if len(self._regions) <= 5 else _PHASES_MANY
        calm = self._care.begin()
        self._calm, self._brief_s = calm.key(), setting.platform.timings.lost_member_s / 2
        shares = {name: found.share for name, found in calm.phases.items()}
        self._calm_piece = Piece(0.0, shares, frozenset(setting.members), frozenset())
        self._usual = {name: found.phase for name, found in calm.phases.items()}
        self._kinds = _alike(self._care)
        self._kept = known.setdefault((self._care.desired, self._care.members, self._care.join_s), {})
        self._views: dict[frozenset[Trouble], View] = {}
        self.lived = Lived(
            years=[Year(ours_s=defaultdict(float), others_s=defaultdict(float)) for _ in range(years)],
            outages=[],
            faults=defaultdict(int),
            failed_others=0.0,
            failed_ours=0.0,
            majority_lost=0,
            majority_lost_s=0.0,
            disks_lost=0,
            everything_lost=0,
            decisions=0,
        )
        self._outage: list[float] | None = None
        self._outage_causes: dict[str, float] = {}
        self._failing_ours: tuple[float, float, float] = (-1.0, 0.0, 0.0)
        self._was_majority = self._was_reached = True
        self._is_restoring = False

    def run(self) -> Lived:
        """Live them all."""
        faults = draw(self._setting, self._seed, self._count, away_s=self._small.away_s)
        for year in range(self._count):
            for spent in self._small.year(self._seed, year):
                self._book(year * YEAR_S, spent.kind, spent.ours_s, spent.others_s)
                self.lived.failed_others += spent.failed_others_s / YEAR_S
        self._walk(faults)
        self._end_outage()
        self.lived.outages = sorted(self.lived.outages, key=lambda each: -each.lost_s)[:_OUTAGES_KEPT]
        self.lived.decisions = self._care.asked
        self._progress(self._count)
        return self.lived

    # ---- from change to change

    def _walk(self, faults: list[Fault]) -> None:
        state, aged = self._care.begin(), True
        changes: list[tuple[float, int, int, Fault, Trouble]] = []
        number, first = 0, 0
        active: dict[int, tuple[Fault, Trouble]] = {}
        now, years = 0.0, 0
        horizon = self._count * YEAR_S
        began: list[Fault] = []
        while first < len(faults) or changes:
            at = min(faults[first].begins if first < len(faults) else math.inf, changes[0][0] if changes else math.inf)
            if at >= horizon:
                break
            if at > now:
                state, aged = self._stretch(state, active, now, at, began, aged=aged)
                began, now = [], at
            while first < len(faults) and faults[first].begins <= at:
                fault = faults[first]
                first += 1
                self.lived.faults[fault.kind] += 1
                for begins, ends, trouble in fault.troubles:
                    number += 1
                    heapq.heappush(changes, (begins, 1, number, fault, trouble))
                    heapq.heappush(changes, (ends, 0, number, fault, trouble))
            while changes and changes[0][0] <= at:
                _, is_begin, which, fault, trouble = heapq.heappop(changes)
                if is_begin:
                    active[which] = (fault, trouble)
                    began.append(fault)
                else:
                    active.pop(which, None)
            if self._are_disks_lost(state, active):
                restored = at + self._restore_s(began)
                changes = [
                    (
                        min(when, restored) if not kind and trouble.effect == "disk" else when,
                        kind,
                        which,
                        fault,
                        trouble,
                    )
                    for when, kind, which, fault, trouble in changes
                ]
                heapq.heapify(changes)
            if int(now // YEAR_S) > years:
                years = int(now // YEAR_S)
                self._progress(years)
        self._stretch(state, active, now, horizon, began, aged=aged)

    def _are_disks_lost(self, state: State, active: dict[int, tuple[Fault, Trouble]]) -> bool:
        gone = {trouble.region for _, trouble in active.values() if trouble.effect == "disk"} - state.mended
        voters = [member.region for member in state.members if member.name]
        is_lost = bool(gone) and 2 * sum(region not in gone for region in voters) <= len(voters)
        if is_lost and not self._is_restoring:
            self.lived.disks_lost += 1
        fresh, self._is_restoring = is_lost and not self._is_restoring, is_lost
        return fresh

    def _restore_s(self, began: list[Fault]) -> float:
        chance = random.Random(f"{self._seed}/restore/{began[0].begins if began else 0.0}")
        return self._setting.rates.people.restore.at(chance.random(), chance.gauss(0.0, 1.0))

    def _stretch(
        self,
        state: State,
        active: dict[int, tuple[Fault, Trouble]],
        now: float,
        until: float,
        began: list[Fault],
        *,
        aged: bool,
    ) -> tuple[State, bool]:
        """Live through a time in which the world does not change; returns the state, and whether it is an old one."""
        troubles = frozenset(trouble for _, trouble in active.values())
        seen = frozenset(
            t
            for t in troubles
            if t.effect not in {"clients_cut", "crowd", "shared", "fewer"}
            and not (t.effect == "failing" and t.part < _SEEN_BY_NOBODY)
        )
        if all(_is_brief(fault, trouble, self._brief_s) for fault, trouble in active.values()):
            seen = frozenset()  # over before any controller would do something about it
        phase = began[-1].chances[1] if began else 0.5
        length_s = until - now
        if not seen and aged and state.key() == self._calm:
            pieces = [self._calm_piece]
            self._price(pieces, troubles, active, now, until, began)
            return state, True
        phases = self._phases if all(t.part == 1.0 for t in seen) else _PHASES_GREY
        if self._phases == _PHASES_MANY and any(not t.region for t in seen):
            phases = 1  # what all regions fail alike costs the same wherever it is led, and takes long to follow
        pieces, after, settled_s = self._follow(state, seen, now, length_s, int(phase * phases), aged=aged)
        self._price(pieces, troubles, active, now, until, began)
        is_old = length_s >= settled_s + self._care.horizon_s
        return (after.aged(until) if is_old else after), is_old

    def _follow(
        self, state: State, seen: frozenset[Trouble], now: float, length_s: float, phase: int, *, aged: bool
    ) -> tuple[list[Piece], State, float]:
        if not aged:
            chance = random.Random(f"{self._seed}/{now}")
            return self._care.follow(state, seen, now, length_s, chance)
        names = self._likes(state, seen)
        if names is not None:
            state, seen = state.renamed(names), frozenset(_renamed(trouble, names) for trouble in seen)
        told = state.key()
        key = (told, seen, phase)
        kept = self._kept.get(key)
        if kept is None:
            chance = random.Random(f"{self._seed}/{told}/{sorted(seen)}/{phase}")
            kept = self._kept[key] = _Kept(*self._care.follow(state.aged(0.0), seen, 0.0, OLD_S / 10, chance))
        if length_s < kept.settled_s + self._care.horizon_s:
            chance = random.Random(f"{self._seed}/{now}")
            kept = _Kept(*self._care.follow(state.aged(now), seen, now, length_s, chance))
        if names is None:
            return kept
        back = {new: old for old, new in names.items()}
        return [_renamed_piece(piece, back) for piece in kept.pieces], kept.state.renamed(back), kept.settled_s

    def _likes(self, state: State, seen: frozenset[Trouble]) -> dict[str, str] | None:
        """Return other names for the regions, by which what is the same but for names is so by name; None for none.

        Regions that are declared alike change places: those that something is about with the first of their kind. Only
        the order of declaration is another then, and all that are alike may stand in any.
        """
        about = {trouble.region for trouble in seen if trouble.region} | set(state.quiet) | set(state.mended)
        about.update(name for name, found in state.phases.items() if found.phase != self._usual[name])
        about.update(observed for _, observed in state.windows)
        if not about or len(about) > _ALIKE_MAX or len(state.members) != len(self._care.members):
            return None
        names: dict[str, str] = {}
        for kind in self._kinds:
            first = [region for region in kind if region in about]
            order = (*first, *(region for region in kind if region not in about))
            names.update(zip(order, kind, strict=True))
        return None if all(old == new for old, new in names.items()) else names

    # ---- what it costs

    def _view(self, troubles: frozenset[Trouble]) -> View:
        found = self._views.get(troubles)
        if found is None:
            found = self._views[troubles] = view(troubles, self._regions, self._setting.members)
        return found

    def _price(
        self,
        pieces: list[Piece],
        troubles: frozenset[Trouble],
        active: dict[int, tuple[Fault, Trouble]],
        now: float,
        until: float,
        began: list[Fault],
    ) -> None:
        if not active and not began:
            self._was_majority = self._was_reached = True  # what is lost after a calm time is lost anew
            return
        seen = self._view(troubles)
        causes = self._causes(active)
        before: _Cost | None = None
        for number, piece in enumerate(pieces):
            begins = now + piece.at
            ends = min(until, now + pieces[number + 1].at if number + 1 < len(pieces) else until)
            if ends < begins:
                break
            cost = self._cost(piece, seen, begins, ends)
            if number == 0 and began:
                self._price_begin(began, cost, seen, piece, now, until)
            others_s, ours_s = cost.others * (ends - begins), cost.ours * (ends - begins)
            failing_until = ends if others_s else begins
            if before is not None:
                left_s = min(self._ttl_s, until - begins)
                ramp_s = left_s - left_s * left_s / (2 * self._ttl_s)
                late = sum(max(0.0, before.weights[r] - cost.weights[r]) * cost.bad[r] for r in self._regions)
                others_s += ramp_s * late
                failing_until = max(failing_until, begins + left_s) if late else failing_until
            self._note(begins, ends, cost, others_s, ours_s, causes, failing_until)
            before = cost

    def _causes(self, active: dict[int, tuple[Fault, Trouble]]) -> tuple[str, ...]:
        found = {fault.begins: fault.kind for fault, trouble in active.values() if trouble.effect != "evacuate"}
        kinds = tuple(found[begins] for begins in sorted(found))
        return kinds or tuple(dict.fromkeys(fault.kind for fault, _ in active.values()))

    def _cost(self, piece: Piece, seen: View, begins: float, ends: float) -> _Cost:
        up = sum(v in seen.members or (v in piece.mended and v in seen.voices) for v in piece.voters)
        has_majority = 2 * up > len(piece.voters)
        weights = self._led(piece)
        is_reached = not seen.reached.isdisjoint(self._rooms)
        bad = seen.clients_fail
        if not has_majority or seen.is_shared_lost:
            return _Cost(1.0, 1.0, has_majority, is_reached, dict.fromkeys(self._regions, 1.0), weights)
        shed = self._shed(weights, seen, begins, ends)
        if shed is not None:
            bad = {r: 1.0 - (1.0 - bad[r]) * (1.0 - shed[r]) for r in self._regions}
        led = [region for region, weight in weights.items() if weight > 0]
        everywhere = seen.everywhere
        others = 1.0 - (1.0 - everywhere) * (1.0 - sum(weights[r] * bad[r] for r in led))
        best = min((seen.clients_fail[r] for r in led), default=1.0)
        if shed is not None:
            best = 1.0 - (1.0 - best) * (1.0 - self._shed_ours(led, seen, begins, ends))
        ours = 1.0 - (1.0 - everywhere) * (1.0 - best)
        return _Cost(others, ours, True, is_reached, bad, weights)

    def _led(self, piece: Piece) -> dict[str, float]:
        """Return where clients are led: the part of all that goes to each region."""
        platform = self._setting.platform
        led = {r: self._weights[r] * piece.shares[r] for r in self._regions}
        if platform.traffic.policy == "failover":
            first = next((r for r in self._regions if led[r] > 0), None)
            led = {r: led[r] if r == first else 0.0 for r in self._regions}
        total = sum(led.values())
        if total <= 0:  # names fail open
            led = {r.name: (r.weight if r.mode == "active" and r.nodes else 0.0) for r in platform.regions}
            total = sum(led.values()) or 1.0
        return {region: weight / total for region, weight in led.items()}

    def _rate(self, seen: View, begins: float, ends: float) -> list[float]:
        """Return how many requests a second come: at the middle of a short time, at each hour of a long one."""
        peak, night = self._setting.platform.peak_per_s, self._setting.rates.assumed.night
        if ends - begins > _DAY_S / 4:
            moments = [hour * _DAY_S / _HOURS for hour in range(_HOURS)]
        else:
            moments = [(begins + ends) / 2]
        usual = [peak * _of_peak(at, night) for at in moments]
        return [max(each, peak * seen.crowd) for each in usual]

    def _shed(self, weights: dict[str, float], seen: View, begins: float, ends: float) -> dict[str, float] | None:
        """Return the part of requests that each region turns away because it has no room; None: none does."""
        peak = self._setting.platform.peak_per_s * max(1.0, seen.crowd)
        tight = False
        for region, room in self._rooms.items():
            if room is None or not peak:
                return None
            tight = tight or weights[region] * peak > room * seen.room.get(region, 1.0)
        if not tight:
            return None
        rates = self._rate(seen, begins, ends)
        found = dict.fromkeys(self._regions, 0.0)
        for region, room in self._rooms.items():
            left = (room or 0.0) * seen.room.get(region, 1.0)
            loads = [rate * weights[region] for rate in rates]
            found[region] = sum(max(0.0, load - left) for load in loads) / max(1e-9, sum(loads))
        return found

    def _shed_ours(self, led: list[str], seen: View, begins: float, ends: float) -> float:
        """Return the part of requests that nobody has room for, whoever is asked."""
        room = sum(
            (self._rooms.get(region) or 0.0) * seen.room.get(region, 1.0) * (1.0 - seen.clients_fail[region])
            for region in led
        )
        rates = self._rate(seen, begins, ends)
        return sum(max(0.0, rate - room) for rate in rates) / max(1e-9, sum(rates))

    def _price_begin(self, began: list[Fault], cost: _Cost, seen: View, piece: Piece, now: float, until: float) -> None:
        """Price what a fault costs by beginning: an election for all; one pause for those of ours whom it touches."""
        if not self._setting.is_pausing or not cost.has_majority:
            return
        for fault in began:
            effects = {trouble.effect: trouble.region for _, _, trouble in fault.troubles if trouble.region}
            chance, _, more = fault.chances
            hit = [t.region for _, _, t in fault.troubles if t.region in piece.voters and t.region not in seen.members]
            if hit and chance < len(hit) / len(piece.voters):
                pause_s = self._setting.calibration.of("journal leader killed").pause_at(more) * self._election_times
                self._note(now, now, cost, pause_s, pause_s, (fault.kind,), now + pause_s)
            if cost.ours > seen.everywhere:
                continue  # nobody is left to go on to: it is priced as it lasts
            for effect, cause in _PAUSES:
                if effect in effects:
                    touched = sum(cost.weights[t.region] for _, _, t in fault.troubles if t.effect == effect)
                    pause_s = min(self._setting.calibration.of(cause).pause_at(more), until - now)
                    self._note(now, now, cost, 0.0, pause_s * touched, (fault.kind,), now)
                    break

    # ---- the books

    def _book(self, at: float, cause: str, ours_s: float, others_s: float) -> None:
        year = self.lived.years[min(self._count - 1, int(at // YEAR_S))]
        if ours_s:
            year.ours_s[cause] += ours_s
        if others_s:
            year.others_s[cause] += others_s

    def _note(
        self,
        begins: float,
        ends: float,
        cost: _Cost,
        others_s: float,
        ours_s: float,
        causes: tuple[str, ...],
        failing_until: float,
    ) -> None:
        lived = self.lived
        cause = causes[0] if len(causes) == 1 else OVERLAP
        if others_s or ours_s:
            self._book(begins, cause, ours_s, others_s)
        if not cost.has_majority:
            lived.majority_lost += self._was_majority
            lived.majority_lost_s += ends - begins
        self._was_majority = cost.has_majority
        lived.everything_lost += self._was_reached and not cost.is_reached
        self._was_reached = cost.is_reached
        night = self._setting.rates.assumed.night
        times = 1.0 if ends - begins > _DAY_S / 4 else _of_peak((begins + ends) / 2, night) / ((1 + night) / 2)
        lived.failed_others += others_s * times / YEAR_S
        self._note_ours(begins, ends, cost.ours, times)
        if others_s <= 0:
            return
        if self._outage is not None and begins - self._outage[1] > _QUIET_S:
            self._end_outage()
        if self._outage is None:
            self._outage, self._outage_causes = [begins, failing_until, 0.0], {}
        self._outage[1] = max(failing_until, self._outage[1])
        self._outage[2] += others_s
        for each in causes:
            self._outage_causes[each] = self._outage_causes.get(each, 0.0) + others_s

    def _note_ours(self, begins: float, ends: float, lost: float, times: float) -> None:
        """Count requests of ours that fail: those whose client gave up before it was over."""
        if lost <= 0 or ends <= begins:
            return
        last, waited_s, _ = self._failing_ours
        waited_s = waited_s if abs(begins - last) < 1e-6 else 0.0
        patient_s = max(0.0, self._setting.rates.assumed.deadline_s - waited_s)
        self.lived.failed_ours += lost * times * max(0.0, ends - begins - patient_s) / YEAR_S
        self._failing_ours = (ends, waited_s + ends - begins, lost)

    def _end_outage(self) -> None:
        if self._outage is None:
            return
        begins, ends, lost_s = self._outage
        causes = tuple(sorted(self._outage_causes, key=lambda each: -self._outage_causes[each]))
        self.lived.outages.append(Outage(at_s=begins, lasted_s=ends - begins, lost_s=lost_s, causes=causes))
        self._outage = None
        if len(self.lived.outages) > 50 * _OUTAGES_KEPT:
            self.lived.outages = sorted(self.lived.outages, key=lambda each: -each.lost_s)[:_OUTAGES_KEPT]


_PAUSES = (
    ("killed", "region killed"),
    ("gone", "region cut off from everybody"),
    ("cut", "region cut off from everybody"),
    ("isolated", "region cut off from the others"),
    ("clients_cut", "region cut off from clients"),
    ("empty", "node killed"),
)
"""What ours wait when it begins, by the effect: what drills measured."""


def _of_peak(at: float, night: float) -> float:
    """Return what part of the peak comes at a time of day: a cosine between the quietest hour and the peak."""
    return night + (1 - night) * (1 - math.cos(2 * math.pi * (at % _DAY_S) / _DAY_S)) / 2


def _alike(care: Caretakers) -> list[tuple[str, ...]]:
    """Return the regions that are declared alike, but for name, provider and place in the order."""
    kinds: dict[tuple[object, ...], list[str]] = {}
    for region in care.desired.regions:
        # Standbys are promoted in the order of declaration: none is like another.
        alone = region.name if region.mode == "standby" else ""
        kind = (region.mode, region.weight, region.capacity_per_s, region.name in care.members, alone)
        kinds.setdefault(kind, []).append(region.name)
    return [tuple(names) for names in kinds.values()]


def _renamed(trouble: Trouble, names: dict[str, str]) -> Trouble:
    return trouble._replace(region=names[trouble.region]) if trouble.region else trouble


def _renamed_piece(piece: Piece, names: dict[str, str]) -> Piece:
    return Piece(
        piece.at,
        {names[region]: share for region, share in piece.shares.items()},
        frozenset(names[region] for region in piece.voters),
        frozenset(names[region] for region in piece.mended),
    )


def _is_brief(fault: Fault, trouble: Trouble, brief_s: float) -> bool:
    return trouble.effect == "member" and fault.ends - fault.begins < brief_s

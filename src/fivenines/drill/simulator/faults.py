"""Faults, drawn for years ahead: what begins when, whom it hits, and when people or repairs end it.

Each source of faults, a kind and what it happens to, has chance of its own, seeded by its name. So another platform
with the same regions meets the very same faults, and what a change is worth shows in the difference, not in luck
(common random numbers; A. M. Law, "Simulation Modeling and Analysis", chapter 11). For the same reason every fault
draws the same number of times, whatever the table says.

Nodes have no sources of their own: there may be a hundred thousand. Their faults are superposed Poisson processes.
Those that nobody but their own clients notices are only counted (`small`); what matters of the others is how many nodes
of a region are away at once. That number is Poisson, whatever the repair times (M/G/infinity), so the moments at which
a region runs short, or out, of nodes are drawn directly: at the rate with which the number passes the bound, for a time
that has the exact mean.
"""

import math
import random
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

from fivenines.drill.simulator.rates import FaultRate, Kind
from fivenines.drill.simulator.setting import Setting
from fivenines.drill.simulator.world import Trouble
from fivenines.platform.spec import Region

__all__ = ["YEAR_S", "Fault", "draw"]

YEAR_S = 365.25 * 86_400
_NORMAL = NormalDist()
_DRAWS = 10
_RARE = 1e-9
"""Faults a year below which nobody needs to look."""
_FAINT = 0.01
"""Something that fails a share q of requests is noticed 1 + this/q times as late as something that fails all."""
PARTS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""What the shares of requests that fail are rounded to."""


class Fault(NamedTuple):
    """Something that goes wrong, once."""

    begins: float
    ends: float
    kind: Kind
    target: str
    """Which region or provider; empty: the platform."""
    troubles: tuple[tuple[float, float, Trouble], ...]
    """What it comes to: from, until, in seconds since the beginning of the first year."""
    chances: tuple[float, ...]
    """Uniform draws for whoever follows it."""


class _Drawn(NamedTuple):
    at: float
    lasts_s: float
    fails: float
    notice_s: float
    act_s: float
    chance: float
    phase: float
    more: float


def draw(setting: Setting, seed: int, years: int, *, away_s: dict[Kind, float]) -> list[Fault]:
    """Return all faults of so many years, but for those of single nodes, in the order in which they begin.

    Args:
        setting: what is simulated.
        seed: another one, other faults.
        years: how many.
        away_s: by kind of fault, for how long it takes a node away.
    """
    drawing = _Drawing(setting, seed, years * YEAR_S, away_s)
    faults = sorted(drawing.faults())
    return _without_clashes(faults)


class _Drawing:
    def __init__(self, setting: Setting, seed: int, horizon_s: float, away_s: dict[Kind, float]) -> None:
        self._setting, self._seed, self._horizon_s, self._away_s = setting, seed, horizon_s, away_s
        self._rates = setting.rates

    def faults(self) -> Iterator[Fault]:
        platform, rates = self._setting.platform, self._rates.faults
        for kind, row in rates.items():
            if row.per_year <= 0 or kind in {"node_crash", "node_hang", "node_slow", "node_away", "node_damaged"}:
                continue
            if kind == "edge_crash":
                continue  # counted by `small`
            targets = {
                "region": tuple(region.name for region in platform.regions),
                "member": self._setting.members,
                "provider": self._setting.providers,
            }.get(row.per, ("",))
            if kind == "maintenance":
                targets = tuple(region.name for region in self._setting.serving)
            for target in targets:
                for drawn in self._stream(kind, target, row):
                    yield self._fault(kind, target, drawn)
        for region in self._setting.serving:
            yield from self._pool(region)

    def _stream(self, kind: str, target: str, row: FaultRate) -> Iterator[_Drawn]:
        """Draw one source: the next one comes an exponential time after the one before is over."""
        chance = random.Random(f"{self._seed}/{kind}/{target}")  # a text is hashed the same everywhere
        people, at = self._rates.people, 0.0
        while True:
            u = [chance.random() for _ in range(_DRAWS)]
            at -= math.log(1.0 - u[0]) * YEAR_S / row.per_year
            if at >= self._horizon_s:
                return
            lasts_s = row.lasts.at(u[1], _normal(u[2])) if row.lasts else 0.0
            low, high = row.fails or (1.0, 1.0)
            fails = low * (high / low) ** u[3]
            notice_s = people.notice.at(u[4], _normal(u[4])) * self._setting.notice_times * (1 + _FAINT / fails)
            yield (drawn := _Drawn(at, lasts_s, fails, notice_s, people.act.at(u[5], _normal(u[5])), *u[6:9]))
            at += max(lasts_s, 1.0) if row.lasts else drawn.notice_s + drawn.act_s

    def _fault(self, kind: Kind, target: str, drawn: _Drawn) -> Fault:
        at, fails = drawn.at, drawn.fails
        end = at + drawn.lasts_s
        seen = at + drawn.notice_s
        troubles: tuple[tuple[float, float, Trouble], ...]
        match kind:
            case "region_lost":
                troubles = ((at, end, Trouble("gone", target)),)
            case "region_destroyed":
                troubles = ((at, end, Trouble("gone", target)), (at, end, Trouble("disk", target)))
            case "region_cut":
                troubles = ((at, end, Trouble("cut", target)),)
            case "region_isolated":
                troubles = ((at, end, Trouble("isolated", target)),)
            case "clients_cut":
                troubles = ((at, end, Trouble("clients_cut", target)), *self._evacuated(target, drawn))
            case "region_grey":
                troubles = ((at, end, Trouble("failing", target, part(fails))), *self._evacuated(target, drawn))
            case "provider_lost":
                regions = [region.name for region in self._setting.platform.regions if region.provider == target]
                troubles = tuple((at, end, Trouble("gone", region)) for region in regions)
            case "member_crash":
                troubles = ((at, end, Trouble("member", target)),)
            case "member_lost":
                troubles = ((at, end, Trouble("disk", target)),)
            case "bad_deploy":
                troubles = self._deploy(drawn)
            case "bad_config":
                troubles = ((at, seen + drawn.lasts_s, Trouble("failing", "", part(fails))),)
            case "operator_error":
                serving = self._setting.serving
                target = serving[int(drawn.chance * len(serving))].name
                troubles = ((at, seen + drawn.lasts_s, Trouble("killed", target)),)
            case "shared_lost":
                troubles = ((at, end, Trouble("shared")),)
            case "software_bug":
                troubles = ((at, seen + drawn.lasts_s, Trouble("failing", "", 1.0)),)
            case "maintenance":
                troubles = ((at, end, Trouble("evacuate", target)),)
            case "flash_crowd":
                low, high = self._rates.assumed.crowd
                times = round(low + (high - low) * drawn.chance, 2)
                troubles = ((at, end, Trouble("crowd", "", times)),)
            case _:
                raise AssertionError(kind)
        ends = max(until for _, until, _ in troubles)
        return Fault(at, ends, kind, target, troubles, (drawn.chance, drawn.phase, drawn.more))

    def _evacuated(self, target: str, drawn: _Drawn) -> tuple[tuple[float, float, Trouble], ...]:
        """What no controller is sure to see people see, and order the region out; later they take the order back."""
        cured_s = drawn.notice_s + drawn.act_s
        if cured_s >= drawn.lasts_s:
            return ()
        return ((drawn.at + cured_s, drawn.at + drawn.lasts_s + drawn.act_s, Trouble("evacuate", target)),)

    def _deploy(self, drawn: _Drawn) -> tuple[tuple[float, float, Trouble], ...]:
        at, assumed = drawn.at, self._rates.assumed
        cured_s = drawn.notice_s + drawn.act_s
        everywhere = Trouble("failing", "", part(drawn.fails))
        if not self._setting.has_canary:
            return ((at, at + cured_s, everywhere),)
        first = self._setting.serving[0]
        one = Trouble("failing", first.name, drawn.fails / self._setting.nodes(first))
        if drawn.chance < assumed.canary_finds:
            return ((at, at + assumed.canary_s * drawn.more, one),)
        on = at + assumed.canary_s
        return ((at, on, one), (on, on + cured_s, everywhere))

    def _pool(self, region: Region) -> Iterator[Fault]:
        """Draw the times at which a region has too few nodes, or none."""
        count = self._setting.nodes(region)
        per_s = {k: self._rates.faults[k].per_year * count / YEAR_S for k in self._away_s}
        rate = sum(per_s.values())
        busy = sum(per_s[kind] * seconds for kind, seconds in self._away_s.items())
        levels: list[tuple[int, Trouble]] = [(count, Trouble("empty", region.name))]
        room, peak = self._setting.capacity_per_s(region), self._setting.platform.peak_per_s
        if room and peak:
            total = sum(other.weight for other in self._setting.serving if other.mode == "active")
            own = peak * region.weight / total if total else peak
            short = count - math.ceil(own / (room / count)) + 1
            if 0 < short < count:
                levels.append((short, Trouble("fewer", region.name, (count - short) / count)))
        for level, trouble in levels:
            often, long_s = _passes(level, rate, busy)
            if often * YEAR_S < _RARE:
                continue
            chance = random.Random(f"{self._seed}/pool {trouble.effect}/{region.name}")
            gap_s, at = max(1e-3, 1 / often - long_s), 0.0
            while True:
                u = [chance.random() for _ in range(_DRAWS)]
                at -= math.log(1.0 - u[0]) * gap_s
                if at >= self._horizon_s:
                    break
                end = at - math.log(1.0 - u[1]) * long_s
                yield Fault(at, end, "node_away", region.name, ((at, end, trouble),), (u[6], u[7], u[8]))
                at = end


def _passes(level: int, rate: float, busy: float) -> tuple[float, float]:
    """Return how often a second a Poisson number of nodes away comes to a level, and how long it stays in the mean."""
    if rate <= 0 or busy <= 0:
        return 0.0, 0.0
    log_before = (level - 1) * math.log(busy) - busy - math.lgamma(level)
    if log_before < -700:
        return 0.0, 0.0
    before = math.exp(log_before)
    term, tail = before, 0.0
    for number in range(level, level + 10_000):
        term *= busy / number
        tail += term
        if term < tail * 1e-12:
            break
    often = rate * before
    return often, tail / often


def part(fails: float) -> float:
    """Return the share of requests that fail as it is reckoned with."""
    return min(PARTS, key=lambda each: abs(math.log(each / fails))) if fails > PARTS[0] else fails


def _normal(uniform: float) -> float:
    return _NORMAL.inv_cdf(min(max(uniform, 1e-12), 1 - 1e-12))


def _without_clashes(faults: list[Fault]) -> list[Fault]:
    """Nobody begins planned work while something is wrong, and it is given up when something goes wrong."""
    large = [f for f in faults if f.kind not in {"maintenance", "member_crash", "flash_crowd"}]
    kept, number, until = [], 0, -math.inf
    for fault in faults:
        while number < len(large) and large[number].begins <= fault.begins:
            until = max(until, large[number].ends)
            number += 1
        if fault.kind != "maintenance":
            kept.append(fault)
            continue
        if fault.begins < until:
            continue
        begins, ends, trouble = fault.troubles[0]
        if number < len(large) and large[number].begins < ends:
            ends = min(ends, large[number].begins + 900.0)
        kept.append(fault._replace(ends=ends, troubles=((begins, ends, trouble),)))
    return kept

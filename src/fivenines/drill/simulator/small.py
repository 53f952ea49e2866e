"""What only a node's or an edge's own clients notice: counted by the year, never one by one.

A crash of one of a hundred thousand nodes costs its clients one more try, and happens a million times a year. So for
each kind and region the number of a year is drawn (Poisson), and the sum of what they cost: one by one while they are
few, and as a normal with the same mean and variance when they are many (central limit theorem).

How long a node that limps is left in its edge, and how long one takes that restarts do not help, is found by asking
the real controllers (`fivenines.control`): a pool of servers is modelled, one of them ill, and the loop's notes and
decisions run on virtual time until it is dealt with.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from fivenines.control.actions import ReplaceWorkload, SetNodeWeight
from fivenines.control.deciding import decide as decide_all
from fivenines.control.desired import Desired
from fivenines.control.noting import Notes
from fivenines.control.observed import Observed, Report, ServerSeen, WorkloadSeen
from fivenines.drill.simulator.caring import Decide
from fivenines.drill.simulator.rates import Kind
from fivenines.drill.simulator.setting import Setting

__all__ = ["Small", "Spent", "ejection", "poisson", "replacement_s"]

_FEW = 32
_POOL_MAX = 8
"""A pool of more servers is compared with its median all the same; a model of so many is enough."""
_REQUESTS_PER_S = 20.0
"""To each server of the modelled pool; more than what it takes to judge one."""
_LIMPS_S_MAX = 1_200.0
_RESTART_S = 4.0
"""A node that ended is back in its edge: measured, `whole after` of a killed node in docs/platform.md."""
_HANG_S = 26.0
"""Until a node that hangs is back: measured likewise."""
_REFUSED: frozenset[Kind] = frozenset({"edge_crash"})
"""What makes requests of other clients fail, for nobody is there to ask. The rest is late: the edge asks another node,
and of a node that limps answers come, if slowly."""


class Spent(NamedTuple):
    """What a year of one kind cost, in seconds of all requests."""

    kind: Kind
    ours_s: float
    others_s: float
    failed_others_s: float
    """What of `others_s` was requests that failed, not late answers."""


class _Row(NamedTuple):
    kind: Kind
    name: str
    per_year: float
    touches: float
    ours: tuple[float, ...]
    """Samples of what one costs those whom it touches, in seconds; so are those below."""
    others: tuple[float, ...]


class Small:
    """The small faults of one setting.

    Args:
        setting: what is simulated.
        decide: who decides.
    """

    def __init__(self, setting: Setting, *, decide: Decide = decide_all) -> None:
        self._setting = setting
        self._rows: list[_Row] = []
        rates, calibration = setting.rates, setting.calibration
        desired = setting.desired()
        total = sum(region.weight for region in setting.serving if region.mode == "active")
        damaged = rates.faults["node_damaged"]
        replaced_s = replacement_s(desired, decide)
        if replaced_s is None:
            replaced_s = damaged.lasts.mean if damaged.lasts else 3_600.0
        away = rates.faults["node_away"].lasts
        self.away_s: dict[Kind, float] = {
            "node_crash": _RESTART_S,
            "node_hang": _HANG_S,
            "node_away": away.mean if away else _RESTART_S,
            "node_damaged": replaced_s + _RESTART_S,
        }
        """By kind, for how long it takes a node away."""
        limps = _limping(setting, desired, decide)
        for region in setting.serving:
            if region.mode != "active" or not setting.is_pausing:
                continue
            share = region.weight / total if total else 1 / len(setting.serving)
            count = setting.nodes(region)
            for kind, cause in (
                ("node_crash", "node killed"),
                ("node_away", "node killed"),
                ("node_hang", "node hangs"),
            ):
                pauses = calibration.of(cause).pause_s
                self._add(kind, region.name, count, share / count, pauses, pauses)  # type: ignore[arg-type]
            self._add("node_slow", region.name, count, share / count, limps, limps)
            edge = calibration.of("edge killed").pause_s
            again = rates.faults["edge_crash"].lasts
            others = tuple(again.at(u, n) for u, n in _EVEN) if again else edge
            self._add("edge_crash", region.name, 1, share, edge, others)

    def year(self, seed: int, year: int) -> list[Spent]:
        """Return what a year cost."""
        found = []
        for row in self._rows:
            chance = random.Random(f"{seed}/{row.kind}/{row.name}/{year}")
            number = poisson(row.per_year, chance)
            place = chance.getstate()
            ours = _sum(row.ours, number, chance)
            chance.setstate(place)
            others_s = _sum(row.others, number, chance) * row.touches
            found.append(Spent(row.kind, ours * row.touches, others_s, others_s if row.kind in _REFUSED else 0.0))
        return found

    def _add(
        self, kind: Kind, name: str, count: int, touches: float, ours: Sequence[float], others: Sequence[float]
    ) -> None:
        per_year = self._setting.rates.faults[kind].per_year * count
        if per_year > 0:
            self._rows.append(_Row(kind, name, per_year, touches, tuple(ours), tuple(others)))


_EVEN = tuple((u, z) for u, z in ((0.05, -1.64), (0.25, -0.67), (0.5, 0.0), (0.75, 0.67), (0.95, 1.64)))


def poisson(mean: float, chance: random.Random) -> int:
    """Draw a Poisson number: by its definition while it is small, else rounded from a normal one."""
    if mean > 200:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    number, product, floor = 0, chance.random(), math.exp(-mean)
    while product > floor:
        number += 1
        product *= chance.random()
    return number


def _sum(samples: Sequence[float], number: int, chance: random.Random) -> float:
    """Draw the sum of so many samples."""
    if number <= _FEW:
        return sum(samples[int(chance.random() * len(samples))] for _ in range(number))
    mean = sum(samples) / len(samples)
    variance = sum((each - mean) ** 2 for each in samples) / len(samples)
    return max(0.0, chance.gauss(number * mean, math.sqrt(number * variance)))


# --- what controllers do about one node -------------------------------------------------------------------------------


def _limping(setting: Setting, desired: Desired, decide: Decide) -> tuple[float, ...]:
    """Return what a limping node costs those whom it would serve, in seconds, for lengths of time of equal chance."""
    assumed, lasts = setting.rates.assumed, setting.rates.faults["node_slow"].lasts
    servers = min(_POOL_MAX, max(setting.nodes(region) for region in setting.serving))
    exposure = ejection(desired, servers=servers, slow_ms=assumed.slow_ms, decide=decide)
    if lasts is None:
        return (0.0,)
    return tuple(assumed.slow_counts * _exposed(exposure, lasts.at(u, z)) for u, z in _EVEN)


def _exposed(exposure: Sequence[tuple[float, float]], lasts_s: float) -> float:
    """Return for how many seconds of its full share it was asked, until it was well again."""
    total = 0.0
    for number, (at, weight) in enumerate(exposure):
        if at >= lasts_s:
            break
        until = exposure[number + 1][0] if number + 1 < len(exposure) else lasts_s
        total += weight * (min(until, lasts_s) - at)
    if len(exposure) > 1 and lasts_s > _LIMPS_S_MAX:
        # Beyond what was watched the second half of that goes on: rests have their longest there.
        half = _exposed(exposure, _LIMPS_S_MAX) - _exposed(exposure, _LIMPS_S_MAX / 2)
        last_at, last_weight = exposure[-1]
        total -= last_weight * max(0.0, lasts_s - max(last_at, _LIMPS_S_MAX))
        total += half / (_LIMPS_S_MAX / 2) * (lasts_s - _LIMPS_S_MAX)
    return total


def ejection(
    desired: Desired, *, servers: int, slow_ms: float, decide: Decide = decide_all
) -> list[tuple[float, float]]:
    """Return the share that a limping node of a pool has, from which second on, as the controllers decide.

    One server of the pool answers late from second 0 on, and nothing cures it. Each round the edge's counters are what
    they would be by its weight, noted by the real `Notes`.
    """
    here = desired.regions[0].name
    names = [f"{here}-{number + 1}" for number in range(servers)]
    notes, timings = Notes(here), desired.timings
    asked = dict.fromkeys(names, 0.0)
    weights = dict.fromkeys(names, 100)
    slow, shares = names[0], [(0.0, 1.0)]
    now = -3 * timings.window_s
    late_ms = 5.0
    while now < _LIMPS_S_MAX:
        usual = _REQUESTS_PER_S * timings.look_s
        if now >= 0:
            kept = (1 - 1 / 1_024) ** (usual * weights[slow] / 100)
            late_ms = late_ms * kept + (slow_ms + 5.0) * (1 - kept)
        for name in names:
            asked[name] += usual * weights[name] / 100
        seen = tuple(
            ServerSeen(
                name=name,
                is_up=True,
                weight=weights[name],
                requests=int(asked[name]),
                errors=0,
                latency_ms=late_ms if name == slow else 5.0,
                in_flight=0,
                pool="node",
            )
            for name in names
        )
        own = notes.local(Report(region=here, at=now, servers=seen), desired, now)
        decided = decide(desired, Observed(here=here, reports={here: own}), now)
        for action in decided.actions:
            if isinstance(action, SetNodeWeight):
                weights[action.workload] = action.percent
                if action.workload == slow:
                    shares.append((max(0.0, now), action.percent / 100))
        now += timings.look_s
    return shares


def replacement_s(desired: Desired, decide: Decide = decide_all) -> float | None:
    """Return after how long a node that restarts do not help is begun anew, or None if the controllers never do."""
    here, timings = desired.regions[0].name, desired.timings
    now, until = 0.0, 10 * timings.dead_workload_s
    while now < until:
        ill = WorkloadSeen(name=f"{here}-1", role="node", state="unready", since=0.0, unready_s=now)
        well = WorkloadSeen(name=f"{here}-2", role="node", state="ready", since=0.0)
        report = Report(region=here, at=now, workloads=(ill, well))
        names_all = replace(desired, workloads=())
        if any(
            isinstance(a, ReplaceWorkload)
            for a in decide(names_all, Observed(here=here, reports={here: report}), now).actions
        ):
            return now
        now += timings.look_s
    return None

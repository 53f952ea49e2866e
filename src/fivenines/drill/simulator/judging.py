"""What years of operation say: distributions, with bounds on what chance could have made of them. Pure.

Bounds are at 95 %. For a mean or a quantile over years they are of the bootstrap (B. Efron, R. J. Tibshirani, "An
Introduction to the Bootstrap", 1993, percentile method): the years are drawn anew, with repeats, and the figure is
reckoned again, a few hundred times. For a share of years they are exact (C. J. Clopper, E. S. Pearson, Biometrika 26,
1934). For the difference between two settings years are compared in pairs: they met the same faults.

Bounds tell how far the simulator may be from its own truth, after so many years. They do not tell how far the table of
faults is from yours.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from fivenines.drill.simulator.faults import YEAR_S
from fivenines.drill.simulator.living import Lived, Outage
from fivenines.drill.simulator.setting import Setting

__all__ = ["Bounded", "Cause", "Clients", "Judged", "bootstrap", "clopper_pearson", "judge"]

_RESAMPLES = 400
_TAIL = 0.025
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)


class Bounded(Struct, frozen=True, kw_only=True):
    """A figure, and the 95 % bounds of it."""

    value: float
    low: float
    high: float


class Cause(Struct, frozen=True, kw_only=True):
    """What one cause cost."""

    cause: str
    what: str
    """For people."""
    seconds_a_year: Bounded
    share: float
    """Of all that was lost."""


class Clients(Struct, frozen=True, kw_only=True):
    """What one kind of clients saw."""

    availability: Bounded
    """Of all years."""
    availability_quantiles: dict[str, Bounded]
    """Of single years, by quantile: at p05 one year in twenty is worse."""
    lost_s_a_year: Bounded
    years_that_meet_it: Bounded
    """The share of years that meet the declared objective."""
    failed_per_million: float
    """Requests."""
    failed_a_year: float | None
    """Requests, at the declared peak and the assumed day; None where no peak is declared."""
    causes: tuple[Cause, ...]
    """The most costly first."""


class Judged(Struct, frozen=True, kw_only=True):
    """What so many years say."""

    platform: str
    years: int
    seed: int
    regions: int
    nodes: int
    slo: float
    budget_s: float
    """Seconds a year that the objective leaves."""
    others: Clients
    """Any client: it goes where DNS sends it."""
    ours: Clients
    """Clients with our library: they go on to the next region."""
    longest: tuple[Outage, ...]
    faults_a_year: dict[str, float]
    majority_lost_a_year: float
    majority_lost_s_a_year: float
    rpo_events: int
    """In all years: a majority's disks lost at once, so what was not archived is gone."""
    rpo_s_max: float
    """What is gone then, in seconds of acknowledged writes, at the most."""
    everything_lost: int
    """In all years: how often clients reached no region with nodes."""


def judge(setting: Setting, lived: Lived, *, seed: int) -> Judged:
    """Return what some years say about a setting."""
    platform = setting.platform
    count = len(lived.years)
    budget_s = (1 - platform.slo) * YEAR_S
    night = setting.rates.assumed.night
    requests = platform.peak_per_s * (1 + night) / 2 * YEAR_S if platform.peak_per_s else None
    found = {
        who: _clients(
            [getattr(year, who) for year in lived.years],
            [getattr(year, f"{who}_s") for year in lived.years],
            budget_s,
            failed / count,
            requests,
            {kind: row.what for kind, row in setting.rates.faults.items()},
        )
        for who, failed in (("others", lived.failed_others), ("ours", lived.failed_ours))
    }
    return Judged(
        platform=platform.platform,
        years=count,
        seed=seed,
        regions=len(platform.regions),
        nodes=setting.node_count,
        slo=platform.slo,
        budget_s=budget_s,
        others=found["others"],
        ours=found["ours"],
        longest=tuple(lived.outages),
        faults_a_year={kind: number / count for kind, number in sorted(lived.faults.items())},
        majority_lost_a_year=lived.majority_lost / count,
        majority_lost_s_a_year=lived.majority_lost_s / count,
        rpo_events=lived.disks_lost,
        rpo_s_max=platform.archive.seal_s,
        everything_lost=lived.everything_lost,
    )


def _clients(
    lost: Sequence[float],
    by_cause: Sequence[Mapping[str, float]],
    budget_s: float,
    failed: float,
    requests: float | None,
    names: Mapping[str, str],
) -> Clients:
    mean = bootstrap(lost, _mean)
    quantiles = {
        f"p{round(q * 100):02}": _availability(bootstrap(lost, lambda years, q=q: _quantile(years, 1 - q)))  # type: ignore[misc]
        for q in QUANTILES
    }
    met = sum(each <= budget_s for each in lost)
    causes: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * len(lost))
    for number, year in enumerate(by_cause):
        for cause, seconds in year.items():
            causes[cause][number] = seconds
    total = sum(lost)
    told = sorted(
        (
            Cause(
                cause=cause,
                what=names.get(cause, cause),
                seconds_a_year=bootstrap(seconds, _mean),
                share=sum(seconds) / total if total else 0.0,
            )
            for cause, seconds in causes.items()
        ),
        key=lambda each: -each.seconds_a_year.value,
    )
    return Clients(
        availability=_availability(mean),
        availability_quantiles=quantiles,
        lost_s_a_year=mean,
        years_that_meet_it=clopper_pearson(met, len(lost)),
        failed_per_million=failed * 1e6,
        failed_a_year=None if requests is None else failed * requests,
        causes=tuple(told),
    )


def _availability(lost: Bounded) -> Bounded:
    return Bounded(value=1 - lost.value / YEAR_S, low=1 - lost.high / YEAR_S, high=1 - lost.low / YEAR_S)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))]


def bootstrap(values: Sequence[float], figure: Callable[[Sequence[float]], float]) -> Bounded:
    """Return a figure of some values, with its bounds. Always the same for the same values."""
    value = figure(values)
    if not any(values):
        return Bounded(value=value, low=value, high=value)
    chance = random.Random(len(values))
    found = sorted(figure(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    low, high = found[int(_TAIL * _RESAMPLES)], found[min(_RESAMPLES - 1, int((1 - _TAIL) * _RESAMPLES))]
    return Bounded(value=value, low=min(low, value), high=max(high, value))


def clopper_pearson(hits: int, trials: int) -> Bounded:
    """Return the share of hits, with its exact bounds."""

    def at_most(share: float, count: int) -> float:
        """The chance of so many hits or fewer."""
        if share <= 0:
            return 1.0
        if share >= 1:
            return 1.0 if count >= trials else 0.0
        logs = math.log(share), math.log1p(-share)
        whole = math.lgamma(trials + 1)
        return math.fsum(
            math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * logs[0] + (trials - k) * logs[1])
            for k in range(count + 1)
        )

    def solve(count: int, chance: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if at_most(middle, count) > chance else (low, middle)
        return (low + high) / 2

    return Bounded(
        value=hits / trials,
        low=solve(hits - 1, 1 - _TAIL) if hits else 0.0,
        high=solve(hits, _TAIL) if hits < trials else 1.0,
    )

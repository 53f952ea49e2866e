"""Situations for tests of the controllers: three regions that are well, and ways in which they are not."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from fivenines.control.actions import Action, SetPhase
from fivenines.control.desired import Desired, DesiredRegion, DesiredWorkload, Order, Timings
from fivenines.control.observed import Observed, Phase, Probes, RegionState, Report

A, B, C = "eu-west", "eu-north", "us-east"
NAMES = (A, B, C)
NOW = 1_800_000_000.0
TIMINGS = Timings()
LONG = 1_000.0


def desired(*orders: Order, standby: Sequence[str] = (), **options: Any) -> Desired:
    """Three regions, active but for `standby`, each of a capacity of 300 for a peak of 500."""
    regions = tuple(
        DesiredRegion(name=name, mode="standby" if name in standby else "active", capacity_per_s=300.0, rank=rank)
        for rank, name in enumerate(NAMES)
    )
    workloads = tuple(
        DesiredWorkload(name=f"{name}-{part}", region=name, role=role)  # type: ignore[arg-type]
        for name in NAMES
        for part, role in (("1", "node"), ("2", "node"), ("journal", "journal"), ("edge", "edge"))
    )
    given: dict[str, Any] = {
        "platform": "bank",
        "regions": regions,
        "workloads": workloads,
        "peak_per_s": 500.0,
    } | options
    return Desired(**given, orders=orders)


def order(kind: Any, target: str, **options: Any) -> Order:
    return Order(kind=kind, target=target, at=NOW, by="ann", **options)


def probes(*recent: bool) -> Probes:
    return Probes(recent=recent, latency_ms=5.0, reason="" if recent and recent[-1] else "no answer")


UP = probes(*[True] * 8)
DOWN = probes(*[True] * 6, False, False)
LOST_ONE = probes(*[True] * 7, False)


def state(name: str, phase: Phase = "serving", *, age_s: float = LONG, **options: Any) -> RegionState:
    shares = {"serving": 1.0, "reads": 0.05, "few": 0.25}
    given: dict[str, Any] = {"since": NOW - age_s, "share": shares.get(phase, 0.0), "revision": 7} | options
    return RegionState(name=name, phase=phase, age_s=age_s, **given)


def report(name: str, sees: Mapping[str, Probes] | None = None, **options: Any) -> Report:
    return Report(region=name, at=NOW, probes=dict.fromkeys(NAMES, UP) | dict(sees or {}), **options)


def observed(
    *,
    here: str = A,
    sees: Mapping[str, Mapping[str, Probes]] | None = None,
    silent: Sequence[str] = (),
    states: Sequence[RegionState] = (),
    reports: Mapping[str, Report] | None = None,
    **options: Any,
) -> Observed:
    """What the controller of `here` knows: all well, but for what is said. `sees`: by observer, then by region."""
    found = {name: report(name, (sees or {}).get(name)) for name in NAMES}
    for name in silent:
        found[name] = replace(found[name], age_s=60.0)
    known = {name: state(name) for name in NAMES} | {s.name: s for s in states}
    return Observed(here=here, reports=found | dict(reports or {}), states=known, **options)


def all_see(region: str, seen: Probes, *observers: str) -> dict[str, dict[str, Probes]]:
    return {name: {region: seen} for name in observers or NAMES}


def phases(actions: Sequence[Action]) -> dict[str, str]:
    """Return the phases that actions set, by region."""
    return {action.region: action.phase for action in actions if isinstance(action, SetPhase)}

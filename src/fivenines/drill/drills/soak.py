"""A soak: random faults from a seed, for as long as asked, up to so many at once. Planning is pure.

Every fault here is harmless alone, and those that are in force together never take more than one failure domain: a
soak goes in rounds, each in one region. In a round several parts of that region may fail at once, and one caretaker of
any region, which no request passes through. Then all is undone, and the next round waits until the platform is whole.

The same seed, regions and length give the same plan.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fivenines.drill.drills.experiment import FAULTS, Activity, Experiment, Guard, Hypothesis, Ours, Pauses, Provider
from fivenines.drill.drills.reading import Drill

__all__ = ["CHOICES", "Choice", "RegionParts", "Round", "Step", "plan_soak", "soak_drill"]

Reach = Literal["part", "caretaker", "region"]
"""part       one part of a region that serves requests
caretaker  one that does not
region     all of a region
"""
_ACTIONS: Final = "fivenines.drill.drills.actions"
_PROBES: Final = "fivenines.drill.drills.probes"
_ROUND_S_MIN: Final = 4.0
"""No round is shorter, so a plan of so many is long enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionParts:
    """What there is in a region to be hit."""

    name: str
    nodes: tuple[str, ...]
    has_journal: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A fault that a soak may choose."""

    fault: str
    on: Literal["node", "edge", "names", "controller", "history", "journal", "region"]
    seconds: tuple[float, float]
    """How long it is in force, at least and at most."""
    weight: float = 1.0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    takes_netns: bool = False

    @property
    def reach(self) -> Reach:
        """How much it takes."""
        if self.on == "region":
            return "region"
        return "caretaker" if self.on in {"controller", "history", "names"} else "part"


CHOICES: Final = (
    Choice(fault="kill", on="node", seconds=(2, 5), weight=3),
    Choice(fault="stop", on="node", seconds=(2, 8), weight=2),
    Choice(fault="slow", on="node", seconds=(4, 8), arguments={"share": 0.1}),
    Choice(fault="slow_wire", on="node", seconds=(4, 8)),
    Choice(fault="kill", on="edge", seconds=(2, 4), weight=2),
    Choice(fault="edge_loss", on="edge", seconds=(4, 8)),
    Choice(fault="kill", on="journal", seconds=(3, 5), weight=2),
    Choice(fault="stop", on="journal", seconds=(2, 4)),
    Choice(fault="slow_fsync", on="journal", seconds=(3, 6), arguments={"delay_s": 0.05}),
    Choice(fault="kill", on="names", seconds=(2, 4)),
    Choice(fault="dns_loss", on="names", seconds=(4, 8)),
    Choice(fault="kill", on="controller", seconds=(2, 4)),
    Choice(fault="stop", on="controller", seconds=(3, 6)),
    Choice(fault="kill", on="history", seconds=(2, 4)),
    Choice(fault="stop", on="history", seconds=(3, 6)),
    Choice(fault="kill", on="region", seconds=(4, 6)),
    Choice(fault="partition", on="region", seconds=(5, 8), arguments={"way": "whole"}, takes_netns=True),
    Choice(fault="partition", on="region", seconds=(5, 8), arguments={"way": "clients"}, takes_netns=True),
    Choice(fault="partition", on="region", seconds=(5, 8), arguments={"way": "one_way"}, takes_netns=True),
    Choice(fault="partition", on="region", seconds=(5, 8), arguments={"way": "journal"}, takes_netns=True),
)
"""What a soak chooses from: each passes alone, as a drill of the catalogue shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One fault of a round."""

    fault: str
    target: str
    region: str
    reach: Reach
    begins_s: float
    """After the beginning of the round."""
    ends_s: float
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What is in force together, and the pause after it."""

    steps: tuple[Step, ...]
    rest_s: float


def plan_soak(
    regions: Sequence[RegionParts], *, seconds: float, seed: int, at_once: int = 2, is_apart: bool = False
) -> list[Round]:
    """Plan a soak.

    Args:
        regions: what there is to hit.
        seconds: how long it is to last; the plan is at least so long.
        seed: everything is drawn from it.
        at_once: how many faults at most are in force at one time.
        is_apart: whether regions have networks of their own, that can be cut.

    Raises:
        ValueError: there is nothing to hit, or nothing may be.
    """
    if at_once < 1 or not regions:
        raise ValueError("a soak takes at least one region, and one fault at a time")
    chance = random.Random(seed)
    choices = [each for each in CHOICES if is_apart or not each.takes_netns]
    rounds: list[Round] = []
    planned_s = 0.0
    while planned_s < seconds:
        planned = _plan_round(regions, choices, chance, at_once)
        rounds.append(planned)
        planned_s += max(_ROUND_S_MIN, *(step.ends_s for step in planned.steps)) + planned.rest_s
    return rounds


def _plan_round(
    regions: Sequence[RegionParts], choices: Sequence[Choice], chance: random.Random, at_once: int
) -> Round:
    home = chance.choice(regions)
    count = 1 if at_once == 1 else chance.choice([1, *range(2, at_once + 1)])
    steps: list[Step] = []
    while len(steps) < count:
        step = _plan_step(home, regions, choices, chance, steps)
        if step is None:
            break
        steps.append(step)
    assert steps  # the first one is free
    return Round(steps=tuple(steps), rest_s=round(chance.uniform(1.0, 3.0), 2))


def _plan_step(
    home: RegionParts,
    regions: Sequence[RegionParts],
    choices: Sequence[Choice],
    chance: random.Random,
    steps: Sequence[Step],
) -> Step | None:
    """Choose one more fault beside those of a round; None if nothing is left that would be harmless."""
    reaches = {step.reach for step in steps}
    cared = {step.region for step in steps if step.reach == "caretaker"}
    taken = {step.target for step in steps}
    possible: list[tuple[Choice, RegionParts, str]] = []
    for choice in choices:
        match choice.reach:
            case "region":
                # All of a region, and a part of it that is gone then, cannot both be hit.
                places = [] if reaches & {"region", "part"} or home.name in cared else [home]
            case "part":
                places = [] if "region" in reaches else [home]
            case _:
                places = [] if cared else [each for each in regions if "region" not in reaches or each is not home]
        for place in places:
            possible += [(choice, place, target) for target in _targets(choice, place) if target not in taken]
    if not possible:
        return None
    # A choice weighs the same, however many parts there are of its kind.
    parts = [sum(1 for each in possible if each[0] is choice) for choice, _, _ in possible]
    weights = [choice.weight / count for (choice, _, _), count in zip(possible, parts, strict=True)]
    choice, place, target = chance.choices(possible, weights)[0]
    begins_s = round(chance.uniform(0.0, 2.0), 2) if steps else 0.0
    return Step(
        fault=choice.fault,
        target=target,
        region=place.name,
        reach=choice.reach,
        begins_s=begins_s,
        ends_s=round(begins_s + chance.uniform(*choice.seconds), 2),
        arguments=choice.arguments,
    )


def _targets(choice: Choice, place: RegionParts) -> Sequence[str]:
    match choice.on:
        case "node":
            return place.nodes
        case "region":
            return (place.name,)
        case "journal":
            return (f"{place.name}-journal",) if place.has_journal else ()
        case "history":
            return (f"{place.name}-history",) if place.nodes else ()
        case part:
            return (f"{place.name}-{part}",)


def soak_drill(rounds: Sequence[Round], *, seconds: float, seed: int) -> Drill:
    """Write a plan as a drill."""
    method: list[Activity] = []
    for number, each in enumerate(rounds, start=1):
        events = sorted(
            [(step.begins_s, 0, step) for step in each.steps] + [(step.ends_s, 1, step) for step in each.steps],
            key=lambda event: event[:2],
        )
        at = 0.0
        for moment, is_end, step in events:
            name = f"round {number}: {step.fault.replace('_', ' ')} {step.target}"
            pauses = Pauses(before=round(moment - at, 2))
            at = moment
            if is_end:
                provider = Provider(type="python", module=_ACTIONS, func="end_fault", arguments={"name": name})
                method.append(Activity(type="action", name=f"{name}, over", provider=provider, pauses=pauses))
            else:
                arguments = {"target": step.target, **step.arguments}
                provider = Provider(type="python", module=FAULTS, func=step.fault, arguments=arguments)
                method.append(Activity(type="action", name=name, provider=provider, pauses=pauses))
        provider = Provider(type="python", module=_ACTIONS, func="wait_whole")
        name = f"round {number}: whole again"
        method.append(Activity(type="action", name=name, provider=provider, pauses=Pauses(after=each.rest_s)))
    probes = (
        _probe("failed requests", "failed_requests", 0),
        _probe("longest pause, in seconds", "longest_pause", [0, 10.0]),
        _probe("regions named by DNS", "regions_named", [1, 99]),
        _probe("platform whole", "platform_whole", tolerance=True),
        _probe("all nodes come to the same position", "positions_agree", tolerance=True),
        _probe("acknowledged and not readable everywhere", "acknowledged_readable", 0),
    )
    said = Experiment(
        title=f"A soak of {seconds / 60:g} minutes, seed {seed}",
        description="Random faults, one or several at once, which together never take more than one failure domain.",
        tags=("soak", "guarantee: node lost", "guarantee: edge or region lost", "guarantee: journal leader lost"),
        method=tuple(method),
        steady_state_hypothesis=Hypothesis(title="No request fails", probes=probes),
    )
    ours = Ours(
        name="fivenines",
        bound="0 failed",
        platform="own",
        guard=Guard(budget_s=30.0, failed=20, pause_s=20.0),
        limit_s=seconds,
    )
    return Drill(name=f"soak-{seed}", said=said, ours=ours)


def _probe(name: str, func: str, tolerance: Any) -> Activity:
    provider = Provider(type="python", module=_PROBES, func=func)
    return Activity(type="probe", name=name, provider=provider, tolerance=tolerance)

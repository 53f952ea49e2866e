"""A soak never plans more than one failure domain at a time, and the same seed plans the same."""

from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.drills.reading import Drill
from fivenines.drill.drills.soak import CHOICES, RegionParts, Round, Step, plan_soak, soak_drill
from fivenines.drill.faults import FAULTS

REGIONS = tuple(RegionParts(name=name, nodes=(f"{name}-1", f"{name}-2")) for name in ("a", "b", "c"))

plans = st.builds(
    lambda seed, at_once, is_apart, minutes: plan_soak(
        REGIONS, seconds=minutes * 60, seed=seed, at_once=at_once, is_apart=is_apart
    ),
    seed=st.integers(0, 10_000),
    at_once=st.integers(1, 4),
    is_apart=st.booleans(),
    minutes=st.floats(0.1, 4),
)


@given(st.integers(), st.integers(1, 4), st.booleans(), st.floats(1, 200))
def test_the_same_seed_gives_the_same_plan_and_it_is_long_enough(
    seed: int, at_once: int, is_apart: bool, seconds: float
) -> None:
    def plan() -> list[Round]:
        return plan_soak(REGIONS, seconds=seconds, seed=seed, at_once=at_once, is_apart=is_apart)

    rounds = plan()
    assert rounds == plan()
    assert sum(max(4.0, *(step.ends_s for step in each.steps)) + each.rest_s for each in rounds) >= seconds
    assert all(1 <= len(each.steps) <= at_once for each in rounds)
    assert is_apart or all(step.fault != "partition" for each in rounds for step in each.steps)


@given(plans)
def test_what_is_in_force_together_never_takes_more_than_one_region(rounds: list[Round]) -> None:
    for each in rounds:
        harmful = [step for step in each.steps if step.reach != "caretaker"]
        assert len({step.region for step in harmful}) <= 1, each
        assert sum(step.reach == "caretaker" for step in each.steps) <= 1, each
        whole = [step for step in harmful if step.reach == "region"]
        # Nothing else of a region can be hit that is gone as a whole.
        assert not whole or [step.region for step in each.steps].count(whole[0].region) == 1, each


@given(plans)
def test_no_part_is_hit_twice_at_once_and_every_fault_ends_after_it_began(rounds: list[Round]) -> None:
    for each in rounds:
        assert len({step.target for step in each.steps}) == len(each.steps)
        assert all(0 <= step.begins_s < step.ends_s for step in each.steps)


def test_every_kind_of_part_is_hit_sooner_or_later() -> None:
    rounds = plan_soak(REGIONS, seconds=3_600, seed=1, is_apart=True)
    steps = [step for each in rounds for step in each.steps]
    assert {step.fault for step in steps} == {choice.fault for choice in CHOICES}
    assert {choice.fault for choice in CHOICES} <= set(FAULTS)
    assert {step.region for step in steps} == {"a", "b", "c"}
    assert {step.reach for step in steps} == {"part", "caretaker", "region"}


@given(plans)
def test_a_plan_becomes_a_drill_that_ends_what_it_begins(rounds: list[Round]) -> None:
    method = soak_drill(rounds, seconds=60, seed=1).said.method
    begun: list[str] = []
    for activity in method:
        if activity.is_fault:
            begun.append(activity.name)
        elif activity.provider.func == "end_fault":
            assert isinstance(activity.provider.arguments, dict)
            begun.remove(activity.provider.arguments["name"])
        else:
            assert activity.provider.func == "wait_whole"
            assert begun == [], "the platform cannot become whole while a fault goes on"
    assert begun == []
    assert all(activity.pauses.before >= 0 for activity in method)


def test_a_drill_of_a_soak_keeps_to_its_time() -> None:
    step = Step(fault="kill", target="a-1", region="a", reach="part", begins_s=0.0, ends_s=2.0, arguments={})
    drill = soak_drill([Round(steps=(step,), rest_s=1.0)], seconds=600, seed=7)
    assert isinstance(drill, Drill)
    assert drill.ours.limit_s == 600
    assert drill.name == "soak-7"

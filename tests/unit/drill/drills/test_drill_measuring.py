"""What came of a drill: slices, and how long detecting, deciding, acting and draining took."""

from hypothesis import given
from hypothesis import strategies as st

from fivenines.control.observed import WorkloadSeen
from fivenines.control.timeline import Event
from fivenines.drill.drills.measuring import longest_pause_s, moments_of, recovery_of, slices_of
from fivenines.drill.drills.scene import FaultGone
from fivenines.drill.drills.watching import changes
from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Moment, MomentKind, Recovery

BEGAN = 1_000.0


def asked(due: float, took_s: float = 0.01, *, error: str = "") -> Asked:
    at = BEGAN + due
    return Asked(due=at, client=0, kind="read", sent=at, ended=at + took_s, error=error)


def moment(at: float, kind: MomentKind, took_s: float | None = None) -> Moment:
    return Moment(at=at, kind=kind, what="something", took_s=took_s)


def fault(began: float = 2.0, ended: float = 6.0) -> FaultGone:
    return FaultGone(name="it", fault="kill", target="a", began=BEGAN + began, ended=BEGAN + ended, facts={"pid": 1.0})


def recovery_from(moments: list[Moment], answers: list[Asked], whole_after_s: float | None = 8.0) -> Recovery:
    return recovery_of(
        fault(),
        moments=moments,
        asked=answers,
        began=BEGAN,
        until=BEGAN + 20.0,
        rate_per_s=10.0,
        whole_after_s=whole_after_s,
    )


def test_a_recovery_is_split_into_detect_decide_act_and_drain() -> None:
    moments = [moment(1.0, "done"), moment(2.5, "detected"), moment(2.75, "decided"), moment(3.5, "done")]
    answers = [asked(1.0), asked(2.2, 2.8), asked(3.0, 0.5), asked(6.0)]
    found = recovery_from(moments, answers)
    assert (found.detect_s, found.decide_s, found.act_s, found.drain_s) == (0.5, 0.25, 0.75, 1.5)
    assert found.recovery_s == 3.0
    assert found.whole_after_s == 1.5
    assert found.longest_pause_s == 2.8
    assert found.budget_s == 0.1
    assert found.facts == {"pid": 1.0}


def test_where_nobody_had_to_decide_the_parts_are_unknown_and_clients_tell_the_recovery() -> None:
    found = recovery_from([], [asked(1.9, 0.6), asked(5.0)])
    assert (found.detect_s, found.decide_s, found.act_s, found.drain_s) == (None, None, None, None)
    assert found.recovery_s == 0.5, "it was under way when the fault began"
    assert found.whole_after_s == 8.0


def test_what_is_slow_after_a_while_of_quiet_is_another_story() -> None:
    assert recovery_from([], [asked(2.1, 0.5), asked(4.0, 0.5), asked(9.0, 1.0)]).recovery_s == 2.5
    assert recovery_from([], [asked(9.0, 1.0)]).recovery_s == 0.0


def test_an_action_that_says_how_long_it_took_tells_when_it_was_decided() -> None:
    found = recovery_from([moment(2.5, "detected"), moment(4.0, "done", took_s=1.0)], [])
    assert (found.detect_s, found.decide_s, found.act_s) == (0.5, 0.5, 1.0)


def test_what_failed_counts_against_the_budget_and_what_was_only_late_does_so_beyond_two_seconds() -> None:
    found = recovery_from([], [asked(3.0, error="gone"), asked(3.5, 1.9), asked(4.0, 2.1)])
    assert (found.failed, found.budget_s) == (1, 0.2)


@given(
    st.lists(st.tuples(st.floats(2.0, 19.0), st.sampled_from(["detected", "decided", "done", "recovered"]))),
    st.lists(st.tuples(st.floats(0.0, 19.0), st.floats(0.0, 9.0))),
)
def test_no_part_of_a_recovery_is_ever_negative(
    seen: list[tuple[float, MomentKind]], answers: list[tuple[float, float]]
) -> None:
    moments = sorted((moment(at, kind) for at, kind in seen), key=lambda each: each.at)
    found = recovery_from(moments, [asked(due, took_s) for due, took_s in answers])
    parts = (found.detect_s, found.decide_s, found.act_s, found.drain_s, found.recovery_s, found.whole_after_s)
    assert all(part is None or part >= 0 for part in parts), found


@given(st.lists(st.tuples(st.floats(-5, 15), st.floats(0, 5), st.booleans())))
def test_every_request_that_was_due_meanwhile_is_in_one_slice(requests: list[tuple[float, float, bool]]) -> None:
    answers = [asked(due, took_s, error="x" if failed else "") for due, took_s, failed in requests]
    slices = slices_of(answers, BEGAN, BEGAN + 10.0)
    inside = [each for each in answers if 0 <= each.due - BEGAN < 10.0]
    assert len(slices) == 40
    assert sum(each.asked for each in slices) == len(inside)
    assert sum(each.failed for each in slices) == sum(1 for each in inside if each.error)
    assert max(each.longest_ms for each in slices) <= 5_001


def test_a_pause_is_all_that_somebody_waits_from_when_a_request_was_due() -> None:
    late = Asked(due=BEGAN, client=0, kind="read", sent=BEGAN + 2.0, ended=BEGAN + 3.0)
    assert longest_pause_s([late, asked(1.0, 0.5)]) == 3.0
    assert longest_pause_s([]) == 0.0


def test_the_timeline_of_controllers_becomes_moments_of_the_drill() -> None:
    events = [
        Event(id="1", at=99.0, region="a", kind="seen", what="before"),
        Event(id="2", at=101.0, region="a", kind="seen", what="b is down", target="b", why="2 of 3"),
        Event(id="3", at=102.0, region="a", kind="refused", what="restart b"),
        Event(id="4", at=103.0, region="a", kind="order", what="somebody wants"),
    ]
    found = moments_of(events, began_at=100.0, ended_at=110.0)
    assert [(each.at, each.kind, each.what) for each in found] == [
        (1.0, "detected", "b is down"),
        (2.0, "decided", "refused: restart b"),
    ]
    assert (found[0].target, found[0].region, found[0].why) == ("b", "a", "2 of 3")


def part(state: str, since: float, pid: int | None = 1) -> WorkloadSeen:
    return WorkloadSeen(name="a-1", role="node", state=state, since=since, pid=pid)  # type: ignore[arg-type]


def test_what_an_agent_does_about_its_part_is_seen_even_between_two_looks() -> None:
    before = {"a-1": part("ready", 50.0)}
    assert changes(before, [part("ready", 50.0)], region="a", began_at=100.0) == []
    down = changes(before, [part("backoff", 101.0, None)], region="a", began_at=100.0)
    assert [(each.at, each.kind) for each in down] == [(1.0, "detected")]
    both = changes(before, [part("ready", 103.0, 2)], region="a", began_at=100.0)
    assert [(each.at, each.kind) for each in both] == [(3.0, "decided"), (3.0, "done")]
    assert both[0].target == "a-1"

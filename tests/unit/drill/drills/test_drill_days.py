"""Game days: due, overdue, held, and how well the cadence was kept."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.drills.days import (
    Day,
    Held,
    HistoryUnreadableError,
    Schedule,
    add_held,
    held,
    history_file,
    parse_schedule,
    read_history,
    span_s,
    standing,
    why_not_held,
)
from fivenines.drill.drills.reading import DrillFileError
from fivenines.drill.results import BY_SOMEBODY, DrillResult, Verdict

DAY_S = 86_400.0
WEEKLY = Schedule(days=(Day(name="weekly", every="7d", grace="2d", short=True),))


def was_held(*at_days: float) -> list[Held]:
    return [Held(day="weekly", at=at * DAY_S, drills={"node-killed": "passed"}) for at in at_days]


@pytest.mark.parametrize(
    ("history", "now_days", "state", "late_days", "kept"),
    [
        ((), 100, "never held", 0, None),
        ((100,), 100, "held", 0, None),
        ((100,), 106.9, "held", 0, None),
        ((100,), 107, "due", 0, None),
        ((100,), 108.5, "due", 1.5, None),
        ((100,), 109, "overdue", 2, None),
        ((100, 107, 114), 115, "held", 0, 1.0),
        ((114, 100, 107), 115, "held", 0, 1.0),
        ((100, 109, 130), 131, "held", 0, 0.5),
    ],
)
def test_a_day_is_held_due_or_overdue(
    history: tuple[float, ...], now_days: float, state: str, late_days: float, kept: float | None
) -> None:
    (found,) = standing(WEEKLY, was_held(*history), now_days * DAY_S)
    assert (found.state, found.late_s, found.kept) == (state, late_days * DAY_S, kept)


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 2e9))
def test_a_day_that_was_just_held_is_never_due_and_time_only_makes_it_later(history: list[float], now: float) -> None:
    days = [Held(day="weekly", at=at, drills={}) for at in history]
    (just,) = standing(WEEKLY, days, max(history))
    assert just.state == "held"
    order = ["held", "due", "overdue"]
    (then,), (later,) = standing(WEEKLY, days, now), standing(WEEKLY, days, now + DAY_S)
    assert order.index(then.state) <= order.index(later.state)


def test_days_of_another_name_count_for_nothing() -> None:
    (found,) = standing(WEEKLY, [Held(day="monthly", at=0.0, drills={})], 1.0)
    assert found.state == "never held"


@pytest.mark.parametrize(
    ("span", "seconds"), [("30s", 30), ("5m", 300), ("12h", 43_200), ("7d", 604_800), ("1w", 604_800)]
)
def test_a_span_is_a_number_and_a_unit(span: str, seconds: float) -> None:
    assert span_s(span) == seconds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("days: []", "days.yaml:1:1: days: must not be empty"),
        (
            "days:\n  - name: a\n    every: weekly\n    short: true",
            "days.yaml:3:5: days[0].every: 'weekly' is not a span",
        ),
        ("days:\n  - name: a\n    every: 7d", "days.yaml:2:5: days[0]: has no drills"),
        ("days:\n  - {name: a, every: 7d, short: true, evry: 1}", "did you mean 'every'?"),
        (
            "days:\n  - {name: a, every: 7d, short: true}\n  - {name: a, every: 1d, short: true}",
            "is that of day 1, too",
        ),
    ],
)
def test_a_schedule_that_is_wrong_says_where_and_why(text: str, told: str) -> None:
    with pytest.raises(DrillFileError) as caught:
        parse_schedule(text, file="days.yaml")
    assert told in str(caught.value)


def test_what_was_held_is_kept_beside_the_schedule_for_ever(tmp_path: Path) -> None:
    schedule = tmp_path / "game-days.yaml"
    path = history_file(schedule)
    assert path == tmp_path / "game-days.history.jsonl"
    assert read_history(path) == []
    results = [
        DrillResult(name="a", title="A", verdict="passed", budget_s=0.5),
        DrillResult(name="b", title="B", verdict="failed", lost=1),
    ]
    first = held(WEEKLY.days[0], results, at=1.0, seed=7)
    assert (first.drills, first.lost, first.budget_s) == ({"a": "passed", "b": "failed"}, 1, 0.5)
    add_held(path, first)
    add_held(path, held(WEEKLY.days[0], [], at=2.0, seed=8))
    assert [each.at for each in read_history(path)] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("drills", "why"),
    [
        ([("passed", ()), ("failed", ("one request failed",))], None),
        ([("passed", ()), ("skipped", ("it takes root",))], None),
        ([("stopped", ("5 s of the budget are gone",))], None),
        ([("passed", ()), ("stopped", (BY_SOMEBODY,))], "d1 was stopped: somebody stopped it"),
        ([("refused", ("the platform is not whole",))], "d0 was refused: the platform is not whole"),
        ([("skipped", ("it takes root",))] * 2, "this machine can do none of its drills"),
    ],
)
def test_a_day_on_which_nothing_was_carried_out_was_not_held(
    drills: list[tuple[Verdict, tuple[str, ...]]], why: str | None
) -> None:
    results = [
        DrillResult(name=f"d{number}", title="D", verdict=verdict, reasons=reasons)
        for number, (verdict, reasons) in enumerate(drills)
    ]
    assert why_not_held(results) == why


def test_a_history_that_is_damaged_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    add_held(path, held(WEEKLY.days[0], [], at=1.0, seed=1))
    with path.open("ab") as file:
        file.write(b"{oops\n")
    with pytest.raises(HistoryUnreadableError, match=r"history\.jsonl:2: "):
        read_history(path)

"""Charts: what is drawn is what happened."""

import re

import pytest
from defusedxml import ElementTree

from fivenines.drill.chart import Course, Mark, bars, kill_columns, nice_ceiling, svg

COURSE = Course(10.0, [(0.5, 100), (1.5, 300), (9.99, 50), (10.0, 50)], [Mark(4.0, 5.0)])


def test_rates_add_up_to_what_was_acknowledged() -> None:
    rates = COURSE.rates(20)
    assert sum(rate * 0.5 for rate in rates) == pytest.approx(500)
    assert rates[1] == pytest.approx(200)


def test_bars_fill_from_the_bottom_and_name_the_top() -> None:
    lines = bars(COURSE, columns=10, rows=2)
    assert [label for label, _ in lines] == ["300", "150"]
    assert lines[0][1] == " █        "
    assert lines[1][1] == "▅█       ▅"


def test_a_kill_stands_in_its_column() -> None:
    assert kill_columns(COURSE, columns=10) == [4]
    assert kill_columns(Course(10.0, [], [Mark(10.0, 10.0)]), columns=10) == [9]


@pytest.mark.parametrize(("value", "end"), [(0, 1), (1, 1), (1.2, 1.5), (2_143, 3_000), (4_001, 5_000), (0.07, 0.08)])
def test_an_axis_ends_at_a_round_number(value: float, end: float) -> None:
    assert nice_ceiling(value) == pytest.approx(end)


@pytest.mark.parametrize(
    ("first_s", "second_s", "labels"),
    [
        (3.0, 7.5, ["kill -9: node eu-west-1, 0.25 s", "kill -9: region us-east, 0.50 s"]),
        (3.0, 5.9, ["node eu-west-1: 0.25 s", "kill -9: region us-east, 0.50 s"]),
        (7.0, 9.0, ["0.25 s", "region us-east: 0.50 s"]),
        (3.0, 3.4, ["0.25 s"]),
    ],
)
def test_no_label_of_a_kill_takes_the_room_of_the_next(first_s: float, second_s: float, labels: list[str]) -> None:
    kills = [
        Mark(first_s, first_s + 0.25, "node eu-west-1"),
        Mark(second_s, second_s + 0.5, "region us-east"),
    ]
    course = Course(10.0, [(1.0, 9)], kills)
    drawn = ElementTree.fromstring(svg(course, title="", subtitle="", verdict="", good=True, figures=[]))
    assert [text for text in drawn.itertext() if re.search(r"\d\.\d\d s$", text)] == labels

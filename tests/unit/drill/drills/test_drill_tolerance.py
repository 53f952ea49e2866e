"""What a probe may find: scalars, lists, ranges, patterns, paths."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.drills.tolerance import holds, mistakes, select, told

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers()


@pytest.mark.parametrize(
    ("tolerance", "value", "is_held"),
    [
        (0, 0, True),
        (0, 1, False),
        (1, True, False),
        (True, True, True),
        (True, 1, False),
        (False, 0, False),
        ("serving", "serving", True),
        ("serving", "down", False),
        ([0, 2.5], 2.5, True),
        ([0, 2.5], 2.6, False),
        ([0, 1], True, False),
        ([0, 2.5], "1", False),
        ([0, 2.5], None, False),
        (["serving", "few"], "few", True),
        ([1, 2, 3], 2, True),
        ([1, 2, 3], 4, False),
        (503, {"status": 503, "body": ""}, True),
        (503, {"status": 200}, False),
        ([200, 299], {"status": 204}, True),
        ([200, 204, 404], {"status": 201}, False),
        ({"type": "range", "range": [0, 1.5]}, 1.5, True),
        ({"type": "range", "range": [0, 1.5]}, "1.25", True),
        ({"type": "range", "range": [0, 1.5]}, "many", False),
        ({"type": "range", "range": [1, 2], "target": "stdout"}, {"status": 0, "stdout": "2"}, True),
        ({"type": "regex", "pattern": "^ok"}, "ok then", True),
        ({"type": "regex", "pattern": "^ok$"}, "not ok", False),
        ({"type": "regex", "pattern": "no majority", "target": "body"}, {"status": 503, "body": "no majority"}, True),
        ({"type": "regex", "pattern": "detail"}, {"detail": 1}, True),
        ({"type": "jsonpath", "path": "$.a[0].b"}, {"a": [{"b": None}]}, True),
        ({"type": "jsonpath", "path": "$.a[1].b"}, {"a": [{"b": 1}]}, False),
        ({"type": "jsonpath", "path": "$.a.*", "count": 2}, {"a": {"x": 1, "y": 2}}, True),
        ({"type": "jsonpath", "path": "$.a.*", "count": 0}, {"a": {}}, True),
        ({"type": "jsonpath", "path": "$.a.*", "count": 0}, {"a": {"x": 1}}, False),
        ({"type": "jsonpath", "path": "$.a", "expect": 3}, {"a": 3}, True),
        ({"type": "jsonpath", "path": "$.a[*]", "expect": [1, 2]}, {"a": [1, 2]}, True),
        ({"type": "jsonpath", "path": "$.a", "expect": 3, "target": "body"}, {"status": 200, "body": '{"a": 3}'}, True),
        ({"type": "jsonpath", "path": "$.a"}, "no JSON", False),
    ],
)
def test_what_is_found_is_held_against_what_is_wanted(tolerance: Any, value: Any, is_held: bool) -> None:
    assert list(mistakes(tolerance)) == []
    assert holds(tolerance, value) is is_held


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_range_holds_exactly_between_its_ends(one: float, other: float, value: float) -> None:
    ends = sorted([one, other])
    assert holds(ends, value) == (ends[0] <= value <= ends[1])
    assert holds({"type": "range", "range": ends}, value) == holds(ends, value)


@given(st.recursive(st.none() | st.booleans() | NUMBERS | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_whatever_is_found_is_judged_without_an_error(value: Any) -> None:
    every = ([0, 1], 5, True, "x", [1, 2, 3], {"type": "regex", "pattern": "a"}, {"type": "range", "range": [0, 1]})
    assert all(isinstance(holds(each, value), bool) for each in every)
    assert holds({"type": "jsonpath", "path": "$.a[0]"}, value) is False


@pytest.mark.parametrize(
    ("tolerance", "at", "reason"),
    [
        (None, (), "says nothing"),
        ([], (), "allows nothing"),
        ([2, 1], (), "ends before it begins"),
        ({}, (), "has no 'type'"),
        ({"type": "probe"}, ("type",), "is no type of tolerance"),
        ({"type": "regex", "pattern": "("}, ("pattern",), "is no regular expression"),
        ({"type": "regex"}, ("pattern",), "is no regular expression"),
        ({"type": "range", "range": [1]}, ("range",), "must be two numbers"),
        ({"type": "range", "range": [2, 1]}, ("range",), "must be two numbers"),
        ({"type": "jsonpath", "path": "a.b"}, ("path",), "is no path"),
        ({"type": "jsonpath", "path": "$..a"}, ("path",), "is no path"),
        ({"type": "range", "range": [0, 1], "least": 1}, ("least",), "is not known here"),
    ],
)
def test_a_tolerance_that_is_written_wrongly_says_where_and_why(tolerance: Any, at: Any, reason: str) -> None:
    ((found_at, found_reason, _),) = mistakes(tolerance)
    assert found_at == at
    assert reason in found_reason


def test_a_path_goes_through_names_indices_and_wildcards() -> None:
    value = {"regions": [{"name": "a", "x-y": {"z": 1}}, {"name": "b", "x-y": {"z": 2}}]}
    assert select("$.regions[*].name", value) == ["a", "b"]
    assert select("$.regions[1]['x-y'].z", value) == [2]
    assert select("$", value) == [value]


@pytest.mark.parametrize(
    ("tolerance", "said"),
    [
        (0, "0"),
        (True, "true"),
        ([0, 2.0], "at most 2"),
        ([1, 3], "1 to 3"),
        (["a", "b", "c"], "one of a, b, c"),
        ({"type": "regex", "pattern": "ok", "target": "stdout"}, "matches ok (stdout)"),
        ({"type": "jsonpath", "path": "$.a", "expect": 3}, "$.a = 3"),
    ],
)
def test_what_is_wanted_is_told_in_words(tolerance: Any, said: str) -> None:
    assert told(tolerance) == said

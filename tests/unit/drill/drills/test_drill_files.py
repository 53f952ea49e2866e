"""Drills as files: what is right is read, and what is wrong is told with its line, its field and the reason."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.drills.choosing import UnknownDrillError, catalogue, choose, find
from fivenines.drill.drills.experiment import When
from fivenines.drill.drills.reading import DrillFileError, parse_drill
from fivenines.drill.drills.substituting import configure, substitute
from fivenines.drill.faults import FAULTS
from fivenines.drill.results import Guarantee

GOOD = """\
title: A node is killed
description: Nobody notices.
tags: ["guarantee: node lost", mine]
configuration:
  pause: 2.0
  where: {type: env, key: TARGET, default: any node}
steady-state-hypothesis:
  title: Nothing fails
  probes:
    - type: probe
      name: failed
      tolerance: 0
      provider: {type: python, module: fivenines.drill.drills.probes, func: failed_requests}
    - type: probe
      name: answers
      tolerance: [200, 299]
      provider: {type: http, url: "http://127.0.0.1/", timeout: 2}
method:
  - type: action
    name: kill it
    provider:
      type: python
      module: fivenines.drill.faults
      func: kill
      arguments: {target: "${where}"}
    pauses: {after: 4}
  - type: probe
    name: look
    background: true
    provider: {type: process, path: "true", arguments: [a, b]}
rollbacks:
  - type: action
    name: wait
    provider: {type: python, module: fivenines.drill.drills.actions, func: wait, arguments: {seconds: 1}}
extensions:
  - name: somebody else
    anything: 1
  - name: fivenines
    platform: own
    guard: {failed: 3}
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(DrillFileError) as caught:
        parse_drill(text, name="mine", file="mine.yaml")
    return [str(each) for each in caught.value.problems]


def test_a_drill_in_the_format_of_chaos_toolkit_is_read() -> None:
    drill = parse_drill(GOOD, name="mine")
    assert drill.said.title == "A node is killed"
    assert drill.guarantees == ("node lost",)
    assert drill.faults == ("kill",)
    assert drill.said.when == frozenset(When)
    assert drill.ours.platform == "own"
    assert drill.ours.guard.failed == 3
    assert drill.said.method[0].pauses.after == 4.0
    assert drill.said.method[1].background
    assert drill.said.steady_state_hypothesis is not None
    assert [each.tolerance for each in drill.said.steady_state_hypothesis.probes] == [0, [200, 299]]


def test_a_drill_in_json_is_read_too() -> None:
    drill = parse_drill('{"title": "t", "description": "d", "method": []}', name="mine")
    assert drill.said.title == "t"


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "reason"),
    [
        ("title: A node is killed\n", "", 1, "", "has no 'title'"),
        ("func: kill\n", "func: kil\n", 24, "method[0].provider.func", "did you mean 'kill'?"),
        ("target: ", "taget: ", 25, "method[0].provider.arguments.taget", "did you mean 'target'?"),
        ("func: failed_requests", "func: failed_request", 13, "provider.func", "has no function 'failed_request'"),
        ("drills.probes", "drills.probs", 13, "provider.module", "cannot be imported"),
        ("      tolerance: 0\n", "", 10, "probes[0]", "has no 'tolerance'"),
        ("tolerance: [200, 299]", "tolerance: [299, 200]", 16, "probes[1].tolerance", "ends before it begins"),
        ("guarantee: node lost", "guarantee: node gone", 3, "tags[0]", "did you mean 'node lost'?"),
        ("${where}", "${were}", 21, "method[0].provider", "did you mean 'where'?"),
        ("pauses: {after: 4}", "pauses: {after: -4}", 26, "method[0].pauses.after", "at least 0"),
        ("platform: own", "platform: mine", 39, "extensions[1].platform", "'mine' is none of shared, own"),
        ("failed: 3", "faild: 3", 40, "extensions[1].guard.faild", "did you mean 'failed'?"),
        ('url: "http://127.0.0.1/", ', "", 17, "probes[1].provider", "has no 'url'"),
        ("rollbacks:", "rollback:", 31, "rollback", "did you mean 'rollbacks'?"),
        ("{seconds: 1}", "{second: 1}", 34, "rollbacks[0].provider", "is given no 'seconds'"),
        ("name: look", "name: kill it", 28, "method[1].name", "is that of activity 1, too"),
        ("type: env", "type: vault", 6, "configuration.where.type", "there is 'env'"),
        (
            "type: probe\n      name: failed",
            "type: action\n      name: failed",
            10,
            "probes[0].type",
            "must be a probe",
        ),
    ],
)
def test_what_is_wrong_is_told_with_line_field_and_reason(
    old: str, new: str, line: int, path: str, reason: str
) -> None:
    assert old in GOOD
    told = problems_of(GOOD.replace(old, new, 1))
    assert any(each.startswith(f"mine.yaml:{line}:") and path in each and reason in each for each in told), told


def test_everything_that_is_wrong_is_told_at_once() -> None:
    wrong = GOOD.replace("func: kill\n", "func: kil\n").replace("{after: 4}", "{after: many}")
    assert len(problems_of(wrong.replace("node lost", "node gone"))) == 1, "a type comes before what types cannot say"
    assert len(problems_of(GOOD.replace("func: kill\n", "func: kil\n").replace("node lost", "node gone"))) == 2


def test_a_parameter_that_a_fault_cannot_take_is_refused() -> None:
    told = problems_of(GOOD.replace("func: kill\n", "func: slow\n").replace('"${where}"', "any node, share: 7"))
    assert "arguments.share" in told[0]


def test_a_fault_is_ended_by_the_name_of_the_action_that_began_it() -> None:
    ending = GOOD.replace(
        '{type: process, path: "true", arguments: [a, b]}',
        "{type: python, module: fivenines.drill.drills.actions, func: end_fault, arguments: {name: kill it}}",
    )
    assert parse_drill(ending, name="mine").said.method[1].provider.func == "end_fault"
    assert "no fault was begun by 'kil it'" in problems_of(ending.replace("{name: kill it}", "{name: kil it}"))[0]


@given(st.text(max_size=60))
def test_any_text_is_a_drill_or_is_refused_with_a_place(text: str) -> None:
    with pytest.raises(DrillFileError) as caught:  # no text so short is a drill
        parse_drill(text, name="any")
    assert all(each.reason for each in caught.value.problems)


def test_every_drill_of_the_catalogue_is_right_and_they_name_every_guarantee() -> None:
    drills = catalogue()
    assert len(drills) >= 25
    named = {guarantee for drill in drills for guarantee in drill.guarantees}
    assert named == set(get_args(Guarantee))
    assert {guarantee for drill in choose(drills, short=True) for guarantee in drill.guarantees} == named


def test_every_fault_has_a_drill_that_begins_it() -> None:
    assert set(FAULTS) <= {fault for drill in catalogue() for fault in drill.faults}


def test_a_drill_is_found_by_its_name_or_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert find(str(path)).name == "mine"
    assert find("node-killed").name == "node-killed"
    with pytest.raises(UnknownDrillError, match="did you mean 'node-killed'"):
        find("node-kiled")
    with pytest.raises(UnknownDrillError, match="No such file"):
        find(str(tmp_path / "none.yaml"))


def test_a_name_in_a_value_is_replaced_and_keeps_its_type_where_it_is_all_there_is() -> None:
    values = {"pause": 2.5, "where": "edge"}
    assert substitute({"a": ["${pause}", "at ${where}: ${pause}"], "b": "${unknown}"}, values) == {
        "a": [2.5, "at edge: 2.5"],
        "b": "${unknown}",
    }


def test_a_configured_value_comes_from_whoever_runs_it_then_the_environment_then_the_file() -> None:
    declared = {"x": 1, "y": {"type": "env", "key": "Y"}, "z": {"type": "env", "key": "Z", "default": "d"}}
    assert configure(declared, {"Y": "e"}, {"x": 2}) == ({"x": 2, "y": "e", "z": "d"}, [])
    values, missing = configure(declared, {}, {})
    assert values == {"x": 1, "z": "d"}
    assert missing == [("y", "there is no Y in the environment, and it has no default")]

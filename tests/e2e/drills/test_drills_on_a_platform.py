"""Drills on a real platform: one that passes, one whose guard ends it, one that is stopped, one that may not begin.

All of them take place on one platform that runs already, as a user's would, and leave it as it was.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.platforms import Played, played

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

DRILL = """\
title: A node stands still
description: For tests.
method:
  - type: action
    name: stop a node
    provider: {type: python, module: fivenines.drill.faults, func: stop, arguments: {target: eu-west-1}}
    pauses: {after: 60}
rollbacks:
  - type: action
    name: say that it is over
    provider: {type: process, path: touch, arguments: ["MARK"]}
extensions:
  - name: fivenines
    guard: GUARD
"""
GENTLE = """\
title: A node is killed
description: For tests. Nobody's patience is judged.
tags: ["guarantee: node lost"]
steady-state-hypothesis:
  title: No request fails
  probes:
    - type: probe
      name: failed requests
      tolerance: 0
      provider: {type: python, module: fivenines.drill.drills.probes, func: failed_requests}
    - type: probe
      name: failed plain requests
      tolerance: {type: jsonpath, path: $.failed, expect: [0]}
      provider: {type: python, module: fivenines.drill.drills.probes, func: failed_plain_requests}
method:
  - type: action
    name: kill a node
    provider: {type: python, module: fivenines.drill.faults, func: kill, arguments: {target: eu-west-1}}
    pauses: {after: 4}
extensions:
  - name: fivenines
    plain_clients: 4
"""
STOPPING = """\
  - type: action
    name: stop the NUMBER leader
    provider: {type: python, module: fivenines.drill.faults, func: stop, arguments: {target: journal leader}}
    pauses: {after: 1.5}
"""


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The platform."""
    with played(tmp_path_factory.mktemp("drills") / "platform") as on:
        yield on


def command(on: Played, out: Path, *words: str) -> list[str]:
    options = ("--on", str(on.platform.folder), "--out", str(out), "--rate", "30", "--json")
    return [sys.executable, "-m", "fivenines", "drill", "run", *words, *options]


def drilled(on: Played, out: Path, *words: str) -> tuple[int, Any]:
    """Carry out a drill to its end; returns the status, and what was said of it."""
    done = subprocess.run(command(on, out, *words), capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["drills"][0]


def check_as_before(on: Played) -> None:
    """The platform runs, no node stands still, and nothing is in force."""
    assert on.platform.is_running
    on.do(on.platform.wait_whole())
    for place in on.platform.topology.regions:
        for node in place.nodes:
            pid = on.do(on.platform.workload(node)).pid
            assert "State:\tT" not in Path(f"/proc/{pid}/status").read_text()


def test_a_drill_passes_says_so_and_leaves_the_platform_as_it_was(on: Played, tmp_path: Path) -> None:
    drill = tmp_path / "gentle.yaml"
    drill.write_text(GENTLE)
    status, result = drilled(on, tmp_path / "out", str(drill))
    assert status == 0, result["reasons"]
    assert result["verdict"] == "passed"
    assert result["requests"] > 0
    assert result["failed_requests"] == result["lost"] == result["doubled"] == result["reordered"] == 0
    assert {each["when"] for each in result["checked"]} == {"before", "during", "after"}
    assert all(each["holds"] for each in result["checked"])
    assert "node lost" in {each["guarantee"] for each in result["guarantees"]}
    assert all(each["is_kept"] for each in result["guarantees"])
    told = on.command("timeline", "-n", "200").stdout
    assert "drill gentle begins" in told
    assert "drill gentle is over" in told
    check_as_before(on)


def test_a_drill_that_does_harm_is_ended_and_undone(on: Played, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    drill = tmp_path / "harmful.yaml"
    # Without a majority of the journal no write is answered: that uses up the budget, though reads go on.
    faults = "".join(STOPPING.replace("NUMBER", number) for number in ("first", "second"))
    harmful = DRILL.replace("MARK", str(mark)).replace("GUARD", "{budget_s: 1.5}")
    drill.write_text(harmful.replace("method:\n", f"method:\n{faults}"))
    status, result = drilled(on, tmp_path / "out", str(drill))
    assert status == 1
    assert result["verdict"] == "stopped"
    assert "s of the error budget are used, 1.5 s may be" in result["reasons"][0]
    assert mark.exists(), "the rollbacks were done"
    kinds = [each["kind"] for each in result["moments"] if each["kind"] in {"fault", "stopped", "fault over"}]
    assert kinds[:2] == ["fault", "fault"]
    assert kinds[-1] == "fault over"
    assert kinds.count("fault") == kinds.count("fault over")
    assert result["lost"] == result["doubled"] == 0
    check_as_before(on)


def test_a_drill_that_somebody_stops_is_undone(on: Played, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    drill = tmp_path / "long.yaml"
    drill.write_text(
        DRILL.replace("MARK", str(mark)).replace("GUARD", "{pause_s: 100}").replace("after: 60", "after: 250")
    )
    process = subprocess.Popen(
        command(on, tmp_path / "out", str(drill)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        pid = on.do(on.platform.workload("eu-west-1")).pid
        until = time.monotonic() + 120
        while "State:\tT" not in Path(f"/proc/{pid}/status").read_text() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    (result,) = json.loads(said)["drills"]
    assert process.returncode == 1
    assert result["verdict"] == "stopped"
    assert result["reasons"][0] == "somebody stopped it"
    assert mark.exists()
    check_as_before(on)


def test_a_drill_refuses_to_begin_when_its_hypothesis_does_not_hold_unless_somebody_says_why(
    on: Played, tmp_path: Path
) -> None:
    drill = tmp_path / "odd.yaml"
    drill.write_text(
        """\
title: Nothing happens
description: For tests.
configuration: {wanted: 99}
steady-state-hypothesis:
  title: There are many regions
  probes:
    - type: probe
      name: regions
      tolerance: "${wanted}"
      provider: {type: python, module: fivenines.drill.drills.probes, func: regions_named}
method: []
"""
    )
    status, result = drilled(on, tmp_path / "out", str(drill))
    assert (status, result["verdict"]) == (1, "refused")
    assert "wanted 99" in result["reasons"][0]
    status, result = drilled(on, tmp_path / "out", str(drill), "--override", "to see")
    assert (status, result["verdict"]) == (1, "failed")
    assert any("to see" in each.get("why", "") for each in result["moments"])
    timeline = on.command("timeline", "-n", "50").stdout
    assert all(each in timeline for each in ("to see", "drill odd begins", "drill odd is over"))
    check_as_before(on)

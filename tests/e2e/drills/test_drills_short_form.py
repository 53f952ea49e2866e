"""The short form of the catalogue passes on a real platform: whatever is lost, nobody notices, and nothing is lost.

Every row of the guarantees has a drill here, and so has every part of a platform that can be killed. Drills that this
machine cannot do, such as cutting cables without root, are told as skipped.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fivenines.drill.drills.choosing import catalogue, choose
from fivenines.platform.builtin import BUILT_IN
from fivenines.platform.local.isolation import why_not
from tests.e2e.platforms import free_network, need_servers

pytestmark = [pytest.mark.alone, pytest.mark.timeout(1_800)]

RATE_PER_S = os.environ.get("FIVENINES_DRILL_RATE", "100")
"""Two cores carry it beside all the servers of a platform, with much to spare."""
TIMED = ("longest pause, in seconds", "seconds of the error budget")
"""How long anybody waited is judged by `make drills`, not by tests: they may run on a machine that is busy."""
NAMES = [each.name for each in choose(catalogue(), short=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reports are."""
    return tmp_path_factory.mktemp("short")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    """What came of each drill, by its name: all of them are carried out, by the command that users have."""
    need_servers()
    apart = why_not() is None
    declared = folder / "platform.yaml"
    # What is archived at once is judged at once: every drill waits for that.
    declared.write_text(f"{BUILT_IN}\narchive:\n  seal_s: 1\n")
    options = [
        "--platform",
        str(declared),
        "--network",
        str(free_network(apart=apart)),
        "--netns" if apart else "--no-netns",
    ]
    options += ["--rate", RATE_PER_S, "--out", str(folder), "--folder", str(folder / "data"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fivenines", "drill", "run", "--all", "--short", *options],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return {each["name"]: each for each in json.loads(done.stdout)["drills"]}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_fails_and_nothing_is_lost(results: dict[str, Any], name: str) -> None:
    result = results[name]
    if result["verdict"] == "skipped":
        pytest.skip("; ".join(result["reasons"]))
    assert result["verdict"] in {"passed", "failed"}, result["reasons"]  # it was carried out to its end
    assert result["requests"] > 0
    assert result["failed_requests"] == result["lost"] == result["doubled"] == result["reordered"] == 0
    assert not result["findings"]
    assert [each for each in result["reasons"] if not any(f": {probe}: " in each for probe in TIMED)] == []


def test_a_result_says_all_that_a_report_needs(results: dict[str, Any], folder: Path) -> None:
    result = results["node-killed"]
    assert {each["when"] for each in result["checked"]} == {"before", "during", "after"}
    assert "node lost" in {each["guarantee"] for each in result["guarantees"]}
    (recovery,) = result["recoveries"]
    assert recovery["fault"] == "kill"
    # An edge that asks another node decides nothing; a region that is lost is seen, decided on, and taken out.
    recovery = results["region-killed"]["recoveries"][0]
    assert recovery["detect_s"] is not None
    assert recovery["act_s"] is not None
    assert {"fivenines", "etcd", "haproxy"} <= result["versions"].keys()
    written = {path.name for path in folder.iterdir()}
    assert {"drills.html", "drills.json", "drills-full.json", "junit.xml"} <= written

"""The alarm rings: with a bug planted into the platform, the drill that is there for it fails, and says why."""

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from fivenines.platform.local.isolation import why_not
from tests.e2e.drills.planted_bugs import DEAD_REGIONS_ARE_NAMED, EARLY_ACKNOWLEDGEMENT, NO_RETRY_AT_THE_EDGE
from tests.e2e.platforms import free_network, need_servers

pytestmark = [pytest.mark.alone, pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]
PLANTING = """\
method:
  - type: action
    name: let the bug begin
    provider: {type: process, path: touch, arguments: ["MARK"]}
    pauses: {after: 3}
"""


def drilled(folder: Path, name: str, bug: str, *, apart: bool = False) -> Any:
    """Carry out a drill of the catalogue on a platform of its own that has a bug; returns its result."""
    need_servers()
    mark = str(folder / "mark")
    (folder / "sitecustomize.py").write_text(bug.replace("MARK", mark))
    text = files("fivenines.drill.drills").joinpath("catalogue", f"{name}.yaml").read_text(encoding="utf-8")
    drill = folder / f"{name}.yaml"
    drill.write_text(text.replace("method:\n", PLANTING.replace("MARK", mark)))
    path = os.pathsep.join(filter(None, (str(folder), str(ROOT), os.environ.get("PYTHONPATH", ""))))
    options = ["--network", str(free_network(apart=apart)), "--netns" if apart else "--no-netns"]
    options += ["--rate", "60", "--out", str(folder / "out"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fivenines", "drill", "run", str(drill), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.stdout, done.stderr
    assert done.returncode == 1, done.stdout[-2_000:]
    return json.loads(done.stdout)["drills"][0]


def test_an_edge_that_does_not_try_again_is_found(tmp_path: Path) -> None:
    result = drilled(tmp_path, "node-killed", NO_RETRY_AT_THE_EDGE)
    assert result["verdict"] == "failed"
    assert [each["probe"] for each in result["checked"] if not each["holds"]]
    assert any("without our library" in each for each in result["reasons"]), result["reasons"]
    assert result["lost"] == result["doubled"] == 0


def test_a_node_that_acknowledges_before_it_writes_is_found(tmp_path: Path) -> None:
    result = drilled(tmp_path, "node-killed", EARLY_ACKNOWLEDGEMENT)
    assert result["verdict"] in {"failed", "stopped"}
    assert result["lost"] > 0, result["reasons"]
    broken = [each["guarantee"] for each in result["guarantees"] if not each["is_kept"]]
    assert "acknowledged is durable" in broken


def test_a_nameserver_that_names_dead_regions_is_found(tmp_path: Path) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    result = drilled(tmp_path, "region-cut-off-whole", DEAD_REGIONS_ARE_NAMED, apart=True)
    assert result["verdict"] == "failed"
    assert any("not named any more" in each for each in result["reasons"]), result["reasons"]

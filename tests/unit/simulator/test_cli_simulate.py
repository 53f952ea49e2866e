import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fivenines.cli import app
from fivenines.drill.simulator import WhatIf
from fivenines.drill.simulator.judging import Bounded

_CALM = "faults:\n" + "".join(
    f"  {kind}: {{per_year: 0}}\n"
    for kind in ("region_grey", "bad_deploy", "bad_config", "software_bug", "region_isolated", "clients_cut")
)


def _files(folder: Path) -> tuple[str, str]:
    platform, rates = folder / "platform.yaml", folder / "rates.yaml"
    platform.write_text(
        "platform: bank\nregions:\n" + "".join(f"  - {{name: r{n}, provider: p{n}}}\n" for n in range(3))
    )
    rates.write_text(_CALM)
    return str(platform), str(rates)


def test_years_of_operation_are_told_as_tables(tmp_path: Path) -> None:
    platform, rates = _files(tmp_path)
    found = CliRunner().invoke(app, ["simulate", platform, "--rates", rates, "--years", "3", "--what-if"])
    assert found.exit_code == 0, found.output
    for text in ("How available it is", "What spends the budget", "the one change that helps most"):
        assert text in found.output


def _worth(name: str, value: float, low: float, high: float) -> WhatIf:
    saves = Bounded(value=value, low=low, high=high)
    return WhatIf(name=name, what=name, saves_s=saves, saves_ours_s=saves, meets_it=0.5, sentence=f"Do {name}.")


@pytest.mark.parametrize(
    ("sure", "told"),
    [
        ((_worth("this", 20, 10, 30), _worth("that", 15, 12, 18)), "Do this."),
        ((), "None of these changes is sure to save anything."),
    ],
)
def test_the_change_that_helps_most_is_the_best_of_those_that_are_sure_to_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sure: tuple[WhatIf, ...], told: str
) -> None:
    found = (_worth("a gamble", 60, -5, 150), *sure)
    monkeypatch.setattr("fivenines.drill.simulator.what_if", lambda *_args, **_named: found)
    platform, rates = _files(tmp_path)
    asked = CliRunner().invoke(app, ["simulate", platform, "--rates", rates, "--years", "1", "--what-if"])
    assert asked.exit_code == 0, asked.output
    assert told in asked.output


def test_the_same_as_json_and_in_a_folder(tmp_path: Path) -> None:
    platform, rates = _files(tmp_path)
    out = tmp_path / "build"
    asked = ["simulate", platform, "--rates", rates, "--years", "2", "--seed", "4", "--json", "--out", str(out)]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told == json.loads((out / "simulate.json").read_text())
    assert (told["years"], told["seed"], told["nodes"]) == (2, 4, 6)
    assert 0.99 < told["others"]["availability"]["value"] <= 1


def test_wrong_rates_are_told_in_one_line(tmp_path: Path) -> None:
    platform, rates = _files(tmp_path)
    Path(rates).write_text("faults: {node_crash: {per_year: -3}}")
    found = CliRunner().invoke(app, ["simulate", platform, "--rates", rates, "--years", "2"])
    assert found.exit_code == 1
    assert "faults.node_crash.per_year" in found.output


def test_the_same_seed_gives_the_same_years_in_every_process() -> None:
    """Chance must not be drawn in the order of a set, which each process has for itself."""
    words = [sys.executable, "-m", "fivenines", "simulate", "examples/platform.yaml", "--years", "60", "--json"]
    said = {
        subprocess.run(
            words,
            cwd=Path(__file__).resolve().parents[3],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(said) == 1

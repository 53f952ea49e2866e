import json
from pathlib import Path

from typer.testing import CliRunner

from fivenines.cli import app

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

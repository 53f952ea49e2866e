from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fivenines.drill.reporting import write
from fivenines.drill.reporting.__main__ import main
from tests.unit.drill.reporting.samples import samples


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(main)
    return made


def test_the_report_is_written_anew_from_its_json(app: typer.Typer, tmp_path: Path) -> None:
    written = write(samples(5, slices=24), tmp_path / "first")

    done = CliRunner().invoke(app, [str(tmp_path / "first" / "drills-full.json"), "--out", str(tmp_path / "again")])

    assert done.exit_code == 0
    assert "region-cut-off" in done.stdout
    assert [(tmp_path / "again" / path.name).read_bytes() for path in written] == [
        path.read_bytes() for path in written
    ]


def test_a_file_that_is_no_report_is_refused_in_one_sentence(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"schema": 9}')

    done = CliRunner().invoke(app, [str(tmp_path / "x.json"), "--out", str(tmp_path)])

    assert done.exit_code == 1
    assert "schema is 9; this version of fivenines reads 1" in " ".join(done.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]

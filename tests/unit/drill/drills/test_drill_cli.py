"""The commands that need no platform: what is in the catalogue, what is wrong with a file, what is due."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fivenines.cli.drill import register
from fivenines.drill.drills.days import Held, add_held, history_file

SCHEDULE = "days:\n  - {name: weekly, every: 7d, short: true}\n  - {name: daily, every: 1d, drills: [node-killed]}\n"


def run(*arguments: str) -> tuple[int, str]:
    """Run a command as a user does, and return its status and output."""
    app = typer.Typer()
    register(app)
    result = CliRunner(env={"COLUMNS": "100", "TERM": "dumb"}).invoke(app, ["drill", *arguments])
    return result.exit_code, result.output


def run_json(*arguments: str) -> Any:
    status, output = run(*arguments, "--json")
    assert status in {0, 1}, output
    return json.loads(output)


def test_the_catalogue_fits_a_terminal_and_says_what_each_drill_shows() -> None:
    status, output = run("list")
    assert status == 0
    assert max(map(len, output.splitlines())) <= 100
    every = {each["name"]: each for each in run_json("list")["drills"]}
    assert all(name in output for name in every)
    assert "reads go on" in output  # of a bound; what is longer goes on in the next line
    assert "journal majority lost" in every["journal-majority-lost"]["guarantees"]
    short = {each["name"] for each in run_json("list", "--short")["drills"]}
    assert short < set(every)


def test_a_tag_chooses_drills() -> None:
    assert {"dns-lost", "nameserver-killed"} == {each["name"] for each in run_json("list", "--tag", "dns")["drills"]}


def test_a_file_that_is_no_drill_is_told_with_its_lines_and_status_2(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("title: x\ndescription: y\nmethod:\n  - {type: action, name: a, provider: {type: python}}\n")
    status, output = run("check", str(path), "node-killed")
    assert status == 2
    assert f"{path}:4:" in output.replace("\n", "")
    assert "has no 'func'" in output
    assert run("run", str(path))[0] == 2
    assert run("check", "node-killed")[0] == 0


def test_what_makes_no_sense_is_status_2() -> None:
    assert run("run")[0] == 2
    assert run("run", "no-such-drill")[0] == 2
    assert run("run", "--all", "--tag", "no such tag")[0] == 2
    assert run("run", "node-killed", "--on", "here", "--platform", "there")[0] == 2


def test_a_soak_shows_its_plan_and_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    options = ("soak", "--dry-run", "--minutes", "2", "--no-netns", "--folder", str(tmp_path))
    first = run(*options, "--seed", "7")
    assert first[0] == 0
    assert "round   1" in first[1]
    assert first == run(*options, "--seed", "7")
    assert first != run(*options, "--seed", "8")
    assert "partition" not in first[1]
    assert not list(tmp_path.iterdir())


def test_game_days_that_were_never_held_are_told_and_what_was_held_is_not_due(tmp_path: Path) -> None:
    schedule = tmp_path / "game-days.yaml"
    schedule.write_text(SCHEDULE)
    status, output = run("days", "--schedule", str(schedule))
    assert status == 1
    assert output.count("never held") == 2
    for day in ("weekly", "daily"):
        add_held(history_file(schedule), Held(day=day, at=time.time(), drills={"node-killed": "failed"}))
    status, output = run("days", "--schedule", str(schedule))
    assert status == 0
    assert "1 failed" in output
    status, output = run("days", "run", "--schedule", str(schedule))
    assert (status, output.strip()) == (0, "nothing is due")


@pytest.mark.parametrize(
    ("text", "told"),
    [("days: 1", "days: must be a list"), (None, "No such file")],
)
def test_a_schedule_that_cannot_be_read_is_told(tmp_path: Path, text: str | None, told: str) -> None:
    schedule = tmp_path / "days.yaml"
    if text is not None:
        schedule.write_text(text)
    status, output = run("days", "--schedule", str(schedule))
    assert status in {1, 2}
    assert told in output


def test_a_day_that_does_not_exist_cannot_be_run(tmp_path: Path) -> None:
    schedule = tmp_path / "game-days.yaml"
    schedule.write_text(SCHEDULE)
    status, output = run("days", "run", "monthly", "--schedule", str(schedule))
    assert status == 2
    assert "'monthly' is no day of" in " ".join(output.split())

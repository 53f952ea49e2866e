"""docs/drills.md says what there is."""

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from fivenines.drill.drills import actions, probes
from fivenines.drill.drills.choosing import SHORT, catalogue
from fivenines.drill.drills.days import parse_schedule
from fivenines.drill.drills.reading import parse_drill
from fivenines.drill.results import Guarantee

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "drills.md").read_text()
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()


def test_the_catalogue_in_the_docs_is_the_catalogue() -> None:
    rows = re.findall(r"^\| `([\w-]+)`(?: \((short)\))? \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    told = {name: (bool(short), title, guarantees, bound) for name, short, title, guarantees, bound in rows}
    assert told == {
        each.name: (SHORT in each.said.tags, each.said.title, ", ".join(each.guarantees), each.ours.bound)
        for each in catalogue()
    }


def test_every_guarantee_leads_to_the_drills_that_show_it() -> None:
    table = GUARANTEES.partition("## Shown by drills")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (\*?\*?\[.*?) \| .+? \|$", table, re.MULTILINE))
    links = {name: re.findall(r"(\*\*)?\[([\w-]+)\]\((\S+?)\)", cell) for name, cell in rows.items()}
    assert set(links) == set(get_args(Guarantee))
    for guarantee, found in links.items():
        assert {name: bool(bold) for bold, name, _ in found} == {
            each.name: SHORT in each.said.tags for each in catalogue() if guarantee in each.guarantees
        }
        assert all((ROOT / "docs" / path).resolve().stem == name for _, name, path in found)
        assert all((ROOT / "docs" / path).is_file() for _, _, path in found)


def test_every_probe_and_action_is_in_the_docs() -> None:
    for module in (probes, actions):
        for name in module.__all__:
            function = getattr(module, name)
            if "scene" in inspect.signature(function).parameters and name not in {
                "lost_just_now",
                "late_now",
            }:  # the guard looks there
                assert f"`{name}`" in PAGE


def test_the_drill_of_the_docs_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(version.*?)```", PAGE, re.DOTALL)
    drill = parse_drill(text, name="docs")
    assert drill.guarantees == ("node lost",)


@pytest.mark.parametrize(
    "text",
    [
        re.findall(r"```yaml\n(days:.*?)```", PAGE, re.DOTALL)[0],
        (ROOT / "examples" / "game-days.yaml").read_text(),
    ],
)
def test_the_schedules_that_are_shown_are_right(text: str) -> None:
    assert parse_schedule(text).days

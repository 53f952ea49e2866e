"""What the report must say of a good demo and of a bad one, and the exit status that goes with it."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from defusedxml import ElementTree
from rich.console import Console

from fivenines.drill.demo import conclude
from fivenines.drill.report import Result, picture, print_report, to_json
from tests.unit.drill.books import World, out_folder, result_of, sound_world
from tests.unit.drill.test_drill_checker import (
    decide_twice,
    lose_it_everywhere,
    misplace_a_balance,
    refuse_and_carry_out,
    state_another_balance_for_a_day,
)

ALWAYS = {
    "transactions",
    "acknowledged",
    "lost",
    "doubled",
    "mismatches",
    "failed_requests",
    "kills",
    "longest_pause_s",
    "recovery_s",
    "throughput_per_s",
    "account_days_exact",
    "account_days_rounded",
    "account_days_contradictory",
}


def concluded(result: Result, folder: Path) -> tuple[int, dict[str, object], str]:
    """Conclude a demo; return its exit status, its object and what it printed."""
    printed = io.StringIO()
    status = conclude(result, out_folder(folder), Console(file=printed, width=100), keep=False)
    return status, json.loads((folder / "demo.json").read_text()), printed.getvalue()


def test_a_good_demo_ends_with_status_0_and_leaves_only_its_results(tmp_path: Path) -> None:
    status, told, printed = concluded(result_of(sound_world()), tmp_path)
    assert status == 0
    assert told["failures"] == []
    assert told.keys() >= ALWAYS
    assert "nothing lost, nothing doubled, every balance right" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.json", "demo.svg"]


@pytest.mark.parametrize(
    ("plant", "counted"),
    [
        (lose_it_everywhere, {"lost": 1, "mismatches": 2}),
        (decide_twice, {"doubled": 1, "mismatches": 3}),
        (misplace_a_balance, {"mismatches": 2}),
        (state_another_balance_for_a_day, {"mismatches": 1}),
        (refuse_and_carry_out, {"lost": 0, "doubled": 0}),
    ],
)
def test_a_fault_ends_with_status_1_and_keeps_the_data(
    plant: Callable[[World], None], counted: dict[str, int], tmp_path: Path
) -> None:
    world = sound_world()
    plant(world)
    status, told, printed = concluded(result_of(world), tmp_path)
    assert status == 1
    assert {name: told[name] for name in counted} == counted
    assert told["failures"]
    assert "checks failed" in printed
    assert (tmp_path / "demo" / "ledger").is_dir()


def test_the_report_prints_names_as_they_are() -> None:
    printed = io.StringIO()
    result = replace(result_of(sound_world()), books="[bold]:bank:")
    print_report(result, Console(file=printed, width=100))
    assert "[bold]:bank:" in printed.getvalue()


def test_a_request_that_failed_for_good_is_a_failure() -> None:
    assert result_of(sound_world(), failed_requests=1).failures == ["1 requests failed for good"]


def test_a_replay_that_stopped_is_a_failure() -> None:
    assert result_of(sound_world(), error="no answer").failures == ["the replay stopped: no answer"]


def test_a_kill_that_did_not_happen_is_a_failure() -> None:
    assert result_of(sound_world(), kills_planned=2).failures == ["1 of 2 kills happened"]


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"cut_off": 0}, "the kill of node west-1 after 6 transactions cut off no request"),
        ({"recovery_s": None}, "the kill of node west-1 after 6 transactions was never recovered from"),
    ],
)
def test_a_kill_that_hit_nothing_is_a_failure(change: dict[str, object], failure: str) -> None:
    result = result_of(sound_world())
    for name, value in change.items():
        setattr(result.replay.kills[0], name, value)
    assert result.failures == [failure]


def test_a_transaction_that_was_never_acknowledged_is_a_failure() -> None:
    world = sound_world()
    result = result_of(world)
    world.answers.popitem()
    assert "11 of 12 transactions were acknowledged" in result.failures


def test_pauses_and_recoveries_are_those_that_the_client_saw() -> None:
    told = to_json(result_of(sound_world()))
    assert (told["longest_pause_s"], told["recovery_s"], told["recoveries_s"]) == (1.0, 0.75, [0.75])
    assert told["throughput_per_s"] == 6.0


@pytest.mark.parametrize("kills", [0, 1, 2, 40])
def test_the_picture_is_well_formed_and_tells_what_it_shows(kills: int) -> None:
    result = result_of(sound_world())
    result = replace(result, replay=replace(result.replay, kills=[*result.replay.kills] * kills))
    root = ElementTree.fromstring(picture(result))
    texts = "".join(root.itertext())
    assert root.attrib["viewBox"].startswith("0 0 760 ")
    assert "12 transactions" in texts
    # There is room for one label at the same moment.
    assert len([text for text in root.itertext() if text.endswith("0.75 s")]) == min(kills, 1)
    assert len([each for each in root.iter() if "stroke-dasharray" in each.attrib]) == kills

import random

import pytest

from fivenines.control.deciding import decide
from fivenines.drill.simulator.caring import Caretakers, Decide, Piece
from fivenines.drill.simulator.setting import Setting
from fivenines.drill.simulator.small import ejection, replacement_s
from fivenines.drill.simulator.world import Effect, Trouble
from tests.unit.simulator.simulated import does_nothing, never_evacuates, regions, simulated

_STANDBY = """\
platform: x
regions:
  - {name: a, provider: p}
  - {name: b, provider: q}
  - {name: c, provider: r, mode: standby}
"""


def _care(setting: Setting, how: Decide = decide) -> Caretakers:
    return Caretakers(setting.desired(), setting.members, decide=how)


def _there_and_back(care: Caretakers, *troubles: Trouble, lasts_s: float = 3_600.0) -> tuple[list[Piece], list[Piece]]:
    chance = random.Random(7)
    there, state, _ = care.follow(care.begin(), troubles, 0.0, lasts_s, chance)
    back, _, _ = care.follow(state, (), lasts_s, 3_600.0, chance)
    return there, back


@pytest.mark.parametrize("effect", ["gone", "killed", "cut", "isolated", "empty"])
def test_a_region_that_does_not_answer_is_taken_out_and_comes_back_by_steps(effect: Effect) -> None:
    there, back = _there_and_back(_care(simulated()), Trouble(effect, "eu-west"))
    assert [piece.shares["eu-west"] for piece in there] == [1.0, 0.0]
    assert there[1].at < 3.5
    assert [piece.shares["eu-west"] for piece in back] == [0.0, 0.05, 0.25, 1.0]


def test_what_only_clients_see_no_controller_sees() -> None:
    there, _ = _there_and_back(_care(simulated()), Trouble("clients_cut", "eu-west"))
    assert [piece.shares["eu-west"] for piece in there] == [1.0]


def test_when_all_regions_are_lost_nothing_is_moved() -> None:
    lost = [Trouble("gone", region) for region in ("eu-west", "eu-north", "us-east")]
    there, back = _there_and_back(_care(simulated()), *lost)
    assert {tuple(piece.shares.values()) for piece in (*there, *back)} == {(1.0, 1.0, 1.0)}


def test_a_member_that_lost_its_disk_is_taken_out_and_another_one_let_in() -> None:
    there, _ = _there_and_back(_care(simulated()), Trouble("disk", "us-east"))
    assert [len(piece.voters) for piece in there] == [3, 2, 3, 3]
    assert 60 <= there[1].at < 62
    assert there[-1].mended == {"us-east"}


def test_a_standby_is_promoted_and_steps_back() -> None:
    there, back = _there_and_back(_care(simulated(text=_STANDBY)), Trouble("gone", "a"))
    assert there[0].shares == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert there[-1].shares == {"a": 0.0, "b": 1.0, "c": 1.0}
    assert back[-1].shares == {"a": 1.0, "b": 1.0, "c": 0.0}


def test_an_order_takes_a_region_out_at_once() -> None:
    there, back = _there_and_back(_care(simulated()), Trouble("evacuate", "eu-west"))
    assert there[-1].shares["eu-west"] == 0.0
    assert there[-1].at <= 0.5
    assert back[-1].shares["eu-west"] == 1.0


def test_a_controller_that_never_evacuates_leaves_the_region_in_the_names() -> None:
    there, _ = _there_and_back(_care(simulated(), never_evacuates), Trouble("gone", "eu-west"))
    assert [piece.shares["eu-west"] for piece in there] == [1.0]


def test_the_same_chance_gives_the_same_pieces() -> None:
    setting = simulated(text=regions(5))
    first = _there_and_back(_care(setting), Trouble("failing", "r1", 0.5), lasts_s=90.0)
    assert first == _there_and_back(_care(setting), Trouble("failing", "r1", 0.5), lasts_s=90.0)


def test_a_limping_node_is_put_out_of_its_edge_by_the_controllers_and_by_nobody_else() -> None:
    desired = simulated().desired()
    shares = ejection(desired, servers=3, slow_ms=500.0)
    assert shares[1][1] == 0.0
    assert shares[1][0] <= 2 * desired.timings.window_s
    assert {share for _, share in shares} == {1.0, 0.0, 0.1}
    assert ejection(desired, servers=3, slow_ms=500.0, decide=does_nothing) == [(0.0, 1.0)]


def test_a_node_that_restarts_do_not_help_is_begun_anew_by_the_controllers_and_by_nobody_else() -> None:
    desired = simulated().desired()
    found = replacement_s(desired)
    assert found is not None
    assert desired.timings.dead_workload_s <= found <= desired.timings.dead_workload_s + 1
    assert replacement_s(desired, does_nothing) is None


def test_a_state_with_other_names_is_the_same_but_for_names() -> None:
    care = _care(simulated(text=regions(5)))
    names = {"r0": "r2", "r1": "r1", "r2": "r0", "r3": "r3", "r4": "r4"}
    _, state, _ = care.follow(care.begin(), [Trouble("gone", "r2"), Trouble("disk", "r1")], 0.0, 90.0, random.Random(1))
    other = state.renamed(names)
    assert other.phases["r0"].phase == "down"
    assert other.phases["r2"].phase == "serving"
    assert list(other.phases) == list(state.phases)
    assert other.renamed(names).key() == state.key() != other.key()

"""What a fault counted can be held against a tolerance."""

from pathlib import Path
from typing import Any, cast

import pytest

from fivenines.drill.drills.probes import fault_fact
from fivenines.drill.drills.reading import DrillFileError, parse_drill
from fivenines.drill.drills.scene import FaultGone, Scene

GONE = FaultGone(
    name="send poison", fault="poisoned_request", target="edge", began=0.0, ended=1.0, facts={"nodes_lost": 2.0}
)


def scene() -> Scene:
    nothing = cast("Any", None)
    return Scene(platform=nothing, load=nothing, rate_per_s=1.0, chance=nothing, began=0.0, plain=nothing, gone=[GONE])


def test_what_a_fault_counted_is_found_by_the_name_of_its_action() -> None:
    assert fault_fact(scene(), "send poison", "nodes_lost") == 2.0


def test_what_no_fault_has_counted_is_told_and_is_not_zero() -> None:
    with pytest.raises(ValueError, match=r"'send poison' has no fact 'nodes_lots': it has nodes_lost"):
        fault_fact(scene(), "send poison", "nodes_lots")
    with pytest.raises(ValueError, match="no fault was begun by 'send'"):
        fault_fact(scene(), "send", "nodes_lost")


def test_a_fact_of_a_fault_that_no_action_begins_is_a_mistake_in_the_file() -> None:
    file = Path(__file__).parents[4] / "src/fivenines/drill/drills/catalogue/poisoned-requests.yaml"
    text = file.read_text().replace("name: send poisoned requests to an edge, fact", "name: send poison, fact")
    with pytest.raises(DrillFileError, match="no fault was begun by 'send poison'"):
        parse_drill(text, name="mine")

"""Faults on one real platform under load: each begins, shows, ends, and is gone; nobody notices.

Each fault has tests of its own in `integration/faults`, and many are in drills of the short form, which CI carries out:
see `drills/test_drills_short_form.py`.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fivenines.drill.faults import FAULTS, BadFaultError, in_force, undo_left_over
from fivenines.drill.faults.book import Book
from fivenines.platform.local.isolation import why_not
from tests.e2e.platforms import Load, Played, played

pytestmark = [pytest.mark.alone, pytest.mark.long, pytest.mark.timeout(600)]
_RATE_PER_S = 50.0
_HOLD_S = 1.5


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Played, Load]]:
    """A platform under load; its regions have networks of their own where that can be."""
    folder = tmp_path_factory.mktemp("faults") / "platform"
    with played(folder, apart=why_not() is None) as on, on.load(_RATE_PER_S) as load:
        yield on, load
        assert undo_left_over(folder) == []  # here, since tests come in any order
        assert load.judged().is_good


@pytest.mark.parametrize(
    ("name", "target", "parameters"),
    [
        ("slow", "any node of the busiest region", {"share": 0.1}),
        ("slow_wire", "any node", {"delay_s": 0.1, "jitter_s": 0.1, "cut": 0.05}),
        ("slow_fsync", "journal leader", {"delay_s": 0.05}),
        ("disk_full", "any node", {}),
        ("fd_exhaustion", "any node", {}),
        ("memory_pressure", "any node", {}),
        ("partition", "region", {"way": "clients"}),
        ("partition", "region", {"way": "journal"}),
        ("overload", "edge", {"rate_per_s": 300.0}),
        ("poisoned_request", "edge", {}),
        ("poisoned_request", "any node", {}),
        ("expired_certificate", "region", {}),
        ("clock_jump", "any node", {"offset_s": 5.0}),
    ],
    ids=lambda each: "-".join(map(str, each.values())) if isinstance(each, dict) else each.replace(" ", "-"),
)
def test_nobody_notices(stage: tuple[Played, Load], name: str, target: str, parameters: dict[str, Any]) -> None:
    on, load = stage
    if (reason := FAULTS[name].why_not(on.platform)) is not None:
        pytest.skip(reason)

    async def run() -> dict[str, float]:
        async with in_force(name, on.platform, target=target, chance=random.Random(4), **parameters) as fault:
            assert fault.target
            assert [each.fault for each in Book(on.platform.folder).entries()] == [name]
            await asyncio.sleep(_HOLD_S)
        return fault.facts

    began = time.monotonic()
    facts = on.do(run())
    on.do(on.platform.wait_whole())
    noticed = load.since(began, time.monotonic())
    assert noticed.requests > 0
    assert noticed.failed == 0, (facts, noticed.errors)
    assert facts.get("nodes_lost", 0) == 0
    assert Book(on.platform.folder).entries() == []


def test_two_at_once(stage: tuple[Played, Load]) -> None:
    """A node that is slow dies while another one stands still."""
    on, _load = stage

    async def run() -> list[str]:
        chance = random.Random(6)
        regions = on.platform.regions
        async with (
            in_force("slow", on.platform, target=f"{regions[0]}-1", chance=chance) as slow,
            in_force("stop", on.platform, target=f"{regions[1]}-1", chance=chance) as stopped,
            in_force("kill", on.platform, target=slow.target, chance=chance),
        ):
            assert len(Book(on.platform.folder).entries()) == 3
            return [slow.target, stopped.target]

    assert on.do(run()) == [f"{on.platform.regions[0]}-1", f"{on.platform.regions[1]}-1"]
    on.do(on.platform.wait_whole())
    assert Book(on.platform.folder).entries() == []


def test_who_is_nobody_is_not_hit(stage: tuple[Played, Load]) -> None:
    on, _load = stage

    async def run() -> None:
        async with in_force("kill", on.platform, target="atlantis", chance=random.Random(1)):
            pass

    with pytest.raises(BadFaultError, match="target: 'atlantis' is neither a workload nor a region"):
        on.do(run())
    assert Book(on.platform.folder).entries() == []

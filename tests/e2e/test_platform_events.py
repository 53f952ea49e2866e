"""Everything that can happen to a platform happens to one, under load: nobody notices, and it mends itself.

Two platforms: one on loopback addresses, and, for what takes cables that can be cut, one in network namespaces. All
events of a platform happen under one load, whose every answer is held against the journal in the end.
"""

import os
import random
from collections.abc import Iterator

import pytest

from fivenines.drill.disturb import CATALOGUE, Disturbance
from fivenines.drill.events import check_nodes, disturb
from fivenines.platform.local.isolation import why_not
from tests.e2e.platforms import Load, Played, played

RATE_PER_S = float(os.environ.get("FIVENINES_EVENTS_RATE", "100"))
"""What two cores carry beside all the servers of a platform, with much to spare."""

pytestmark = pytest.mark.timeout(600)

ON_LOOPBACK = [each for each in CATALOGUE if not each.takes_netns]
APART = [each for each in CATALOGUE if each.takes_netns]


class Stage:
    """A platform under load."""

    def __init__(self, played: Played, load: Load) -> None:
        self.played, self._load = played, load
        self._chance = random.Random(5)

    def check(self, disturbance: Disturbance) -> None:
        """Let it happen: no request fails, and all becomes whole again."""
        met = self.played.do(disturb(self.played.platform, self._load.running, disturbance, self._chance))
        assert met.noticed.requests > 0
        assert met.noticed.failed == 0, (met.happening, met.noticed.errors)

    def check_in_the_end(self) -> None:
        """Nothing was lost, doubled or reordered, and every node has what the journal says."""
        verdict = self._load.judged()
        assert verdict.is_good, verdict
        assert verdict.failed == 0
        disk = self.played.do(self.played.platform.read_journal())
        assert self.played.do(check_nodes(self.played.platform, disk)) == []


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A platform on loopback addresses."""
    with played(tmp_path_factory.mktemp("events") / "platform") as on, on.load(RATE_PER_S) as load:
        yield Stage(on, load)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A platform whose regions have networks of their own."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with played(tmp_path_factory.mktemp("apart") / "platform", apart=True) as on, on.load(RATE_PER_S) as load:
        yield Stage(on, load)


@pytest.mark.parametrize("disturbance", ON_LOOPBACK, ids=lambda each: each.name.replace(" ", "-"))
def test_nobody_notices_an_event(together: Stage, disturbance: Disturbance) -> None:
    together.check(disturbance)
    assert together.played.platform.is_running


def test_the_books_are_right_after_all_events(together: Stage) -> None:
    together.check_in_the_end()
    assert together.played.platform.is_running


@pytest.mark.parametrize("disturbance", APART, ids=lambda each: each.name.replace(" ", "-"))
def test_nobody_notices_that_a_region_is_cut_off(apart: Stage, disturbance: Disturbance) -> None:
    apart.check(disturbance)
    assert apart.played.platform.is_running


def test_the_books_are_right_after_all_cuts(apart: Stage) -> None:
    apart.check_in_the_end()
    assert apart.played.platform.is_running

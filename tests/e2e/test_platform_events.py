"""Everything that can happen to a platform on loopback addresses happens to one, under load: nobody notices.

All of it happens to one platform under one load, whose every answer is held against the journal in the end. What takes
cables that can be cut is in `test_platform_cuts.py`.
"""

from collections.abc import Iterator

import pytest

from fivenines.drill.disturb import CATALOGUE, Disturbance
from tests.e2e.platforms import Stage, staged

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The platform, under load."""
    with staged(tmp_path_factory.mktemp("events") / "platform") as stage:
        yield stage
        stage.check_in_the_end()  # here, since tests come in any order


@pytest.mark.parametrize(
    "disturbance",
    [each for each in CATALOGUE if not each.takes_netns],
    ids=lambda each: each.name.replace(" ", "-"),
)
def test_nobody_notices(stage: Stage, disturbance: Disturbance) -> None:
    stage.check(disturbance)
    assert stage.played.platform.is_running

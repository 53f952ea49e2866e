"""A region of a platform is cut off in every way, under load: nobody notices. Needs root, for network namespaces."""

from collections.abc import Iterator

import pytest

from fivenines.drill.disturb import CATALOGUE, Disturbance
from fivenines.platform.local.isolation import why_not
from tests.e2e.platforms import Stage, staged

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A platform whose regions have networks of their own, under load."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with staged(tmp_path_factory.mktemp("cuts") / "platform", apart=True) as stage:
        yield stage
        stage.check_in_the_end()  # here, since tests come in any order


@pytest.mark.parametrize(
    "disturbance",
    [each for each in CATALOGUE if each.takes_netns],
    ids=lambda each: each.name.replace(" ", "-"),
)
def test_nobody_notices(stage: Stage, disturbance: Disturbance) -> None:
    stage.check(disturbance)
    assert stage.played.platform.is_running

"""What a platform mends slowly, with timings that let a test see it: a standby that stands in, a member that is lost.

Two active regions and one on standby; under a steady load that notices nothing.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from fivenines.control.observed import RegionState
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.local.view import View
from tests.e2e.platforms import Played, played

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600), pytest.mark.long]

RATE_PER_S = 30.0
DECLARED = {
    "platform": "bank",
    "regions": [
        {"name": "eu-west", "provider": "local-a"},
        {"name": "eu-north", "provider": "local-b"},
        {"name": "us-east", "provider": "local-c", "mode": "standby"},
    ],
    "timings": {"demote_s": 4.0, "lost_member_s": 3.0},
}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The platform; a region that is lost stays away until the standby serves fully."""
    folder = tmp_path_factory.mktemp("heals")
    (folder / "platform.yaml").write_text(yaml.safe_dump(DECLARED))
    with played(folder / "data", declared=folder / "platform.yaml", options=("--away-s", "12")) as bank:
        yield bank


def view(bank: Played) -> View:
    """What a controller knows; of the first region that answers."""
    for region in bank.platform.regions:
        try:
            return bank.do(bank.platform.agents.view(region))
        except AgentError:
            continue
    raise AssertionError("no controller answers")


def wait_until(bank: Played, holds: Callable[[View], bool], what: str, seconds: float = 120.0) -> View:
    until = time.monotonic() + seconds
    while True:
        found = view(bank)
        if found.has_majority and holds(found):
            return found
        assert time.monotonic() < until, f"not within {seconds:g} s: {what}: {found.states} {found.members}"
        time.sleep(0.1)


def state(found: View, region: str) -> RegionState:
    return found.states[region]


def phases(found: View) -> dict[str, str]:
    return {name: each.phase for name, each in found.states.items()}


AS_DECLARED = {"eu-west": "serving", "eu-north": "serving", "us-east": "standby"}


def test_a_standby_stands_in_for_a_region_that_is_lost_and_steps_back(bank: Played) -> None:
    wait_until(bank, lambda found: phases(found) == AS_DECLARED, "all is as declared")
    with bank.load(RATE_PER_S) as load:
        began = time.monotonic()
        bank.do(bank.platform.kill_region("eu-north"))
        stands_in = wait_until(bank, lambda found: state(found, "us-east").phase == "serving", "the standby serves")
        assert state(stands_in, "us-east").promoted
        assert state(stands_in, "eu-north").phase == "down"
        assert stands_in.table is not None
        shares = {region.name: region.share for region in stands_in.table.regions}
        assert shares["us-east"] > 0 == shares["eu-north"]
        back = wait_until(bank, lambda found: phases(found) == AS_DECLARED, "all is as declared again")
        assert not state(back, "us-east").promoted
        noticed = load.since(began, time.monotonic())
        assert noticed.failed == 0, noticed.errors
        judgement = load.judged()
        assert judgement.is_good, str(judgement)


def test_a_member_that_lost_its_data_is_replaced_by_an_empty_one(bank: Played) -> None:
    whole = wait_until(bank, lambda found: all(each.is_reachable for each in found.members), "all members are well")
    before = {member.region: member.id for member in whole.members}
    victim = next(member.region for member in whole.members if not member.is_leader)
    folder = bank.platform.folder / victim / "journal"
    with bank.load(RATE_PER_S) as load:
        began = time.monotonic()
        folder.rename(folder.with_name("journal-lost"))
        pid = bank.do(bank.platform.workload(f"{victim}-journal")).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        mended = wait_until(
            bank,
            lambda found: (
                len(found.members) == len(before)
                and all(each.is_reachable and not each.is_learner for each in found.members)
                and {each.region: each.id for each in found.members} != before
            ),
            "an empty member has taken the place of the lost one",
        )
        after = {member.region: member.id for member in mended.members}
        assert after.keys() == before.keys()
        assert [region for region in before if after[region] != before[region]] == [victim]
        noticed = load.since(began, time.monotonic())
        assert noticed.failed == 0, noticed.errors
        judgement = load.judged()
        assert judgement.is_good, str(judgement)

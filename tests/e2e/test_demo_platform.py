"""The platform of a demo: what is killed in it comes back by itself, nothing is left of it, and its end is told."""

import asyncio
import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from fivenines.drill.on_platform import OnPlatform
from fivenines.drill.supervise import LedgerFailedError
from tests.e2e.platforms import free_network, need_servers, wait_until_nothing_is_left

pytestmark = pytest.mark.alone


async def pids(place: OnPlatform) -> dict[str, int]:
    """The process ids of everything that a region runs, and of the agents."""
    found = {}
    for region in place.platform.regions:
        seen = await place.platform.agents.seen(region)
        found[region] = seen.pid
        found.update({each.name: each.pid for each in seen.workloads if each.pid is not None})
    return found


async def drill(place: OnPlatform, told: list[str]) -> tuple[list[str], list[dict[str, int]], str]:
    """Kill thrice, and in the end the platform; return what was killed, who ran before and after, and what was told."""
    killed = []
    try:
        await place.start()
        seen = [await pids(place)]
        keeper = asyncio.create_task(place.keep_up(told.append))
        await asyncio.sleep(0)  # it begins
        for _ in range(3):
            killed.append(place.kill())
            await wait_whole(place, keeper)
            seen.append(await pids(place))
        os.kill(place.platform.pid, signal.SIGKILL)
        with pytest.raises(LedgerFailedError) as caught:
            async with asyncio.timeout(120):
                await keeper
        return killed, seen, str(caught.value)
    finally:
        await place.discard()


async def wait_whole(place: OnPlatform, keeper: "asyncio.Task[None]") -> None:
    """Wait until everything is back; not for ever where nobody keeps it up."""
    waiting = asyncio.create_task(place.wait_whole())
    async with asyncio.timeout(200):
        await asyncio.wait({waiting, keeper}, return_when=asyncio.FIRST_COMPLETED)
    if keeper.done():
        waiting.cancel()
        await keeper
    await waiting


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_node_the_journals_leader_and_a_region_come_back_and_nothing_is_left(tmp_path: Path) -> None:
    need_servers()
    place, told = OnPlatform(tmp_path, network=free_network()), list[str]()
    killed, seen, error = asyncio.run(drill(place, told))
    assert [each.split()[0] for each in killed] == ["node", "the", "region"]
    assert len(told) == 3
    assert all(line.startswith("everything runs and all regions serve again") for line in told)
    assert len(place.whole_after_s) == 3
    assert [len(each) for each in seen] == [24, 24, 24, 24]
    new = [{name for name, pid in later.items() if earlier[name] != pid} for earlier, later in pairwise(seen)]
    node, region = killed[0].removeprefix("node "), killed[2].removeprefix("region ")
    assert new[0] >= {node}
    assert any(name.endswith("-journal") for name in new[1])
    assert new[2] >= {name for name in seen[0] if name == region or name.startswith(f"{region}-")}
    assert "ended by itself" in error
    assert wait_until_nothing_is_left(tmp_path) == ""

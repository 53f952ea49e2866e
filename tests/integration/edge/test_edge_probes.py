"""What a controller's probes find through an edge: whether its own nodes write, and not whether another region's do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fivenines.control import probing as module
from fivenines.control.desired import Timings
from fivenines.control.probing import Prober
from tests.integration.edge.edges import Edge, edges, wait_until
from tests.integration.edge.test_edge_ways import NORTH, WEST, answered_by, two_regions

_IN_A_ROW = 3


@asynccontextmanager
async def probed(edge: Edge) -> AsyncIterator[Prober]:
    prober = Prober("eu-north", {"eu-west": edge.url}, Timings(probe_s=0.1, probe_timeout_s=2.0))
    probing = asyncio.create_task(prober.run())
    try:
        yield prober
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)


async def wait_found(prober: Prober, *, up: bool) -> None:
    async def is_so() -> bool:
        tail = prober.seen()["eu-west"].recent[-_IN_A_ROW:]
        return len(tail) == _IN_A_ROW and all(was is up for was in tail)

    await wait_until(is_so, f"the region is found {'up' if up else 'down'}")


def test_a_region_without_nodes_is_found_down_in_the_end_although_its_edge_serves_clients_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LENT_S", 2.0)

    async def run() -> None:
        async with edges() as platform:
            ours, theirs = platform.node("west-1", WEST), platform.node("north-1", NORTH)
            west, _north = await two_regions(platform, [ours], [theirs])
            await west.sees("eu-north", is_up=True)
            async with probed(west) as prober:
                await wait_found(prober, up=True)
                ours.kill()
                began = asyncio.get_running_loop().time()
                await wait_found(prober, up=False)
                assert asyncio.get_running_loop().time() - began > 1.5, "what lasts no longer moves nothing"
                assert prober.seen()["eu-west"].reason == "no node of it writes, eu-north does in its place"
                assert await answered_by(platform, west, "PATCH") == (200, "eu-north", "north-1")
                ours.start()
                await wait_found(prober, up=True)

    asyncio.run(run())


def test_a_region_that_sends_its_writes_on_is_found_by_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LENT_S", 0.5)

    async def run() -> None:
        async with edges() as platform:
            ours, theirs = platform.node("west-1", WEST), platform.node("north-1", NORTH)
            west, _north = await two_regions(platform, [ours], [theirs])
            await west.sees("eu-north", is_up=True)
            await west.runtime.set_writes_remote(True)
            async with probed(west) as prober:
                await asyncio.sleep(1.0)
                await wait_found(prober, up=True)
                await ours.control(status=500)
                await wait_found(prober, up=False)
                await ours.control(status=200)
                await wait_found(prober, up=True)
            assert await theirs.seen() != [], "writes were sent on all the time"

    asyncio.run(run())

"""Three controllers over a real etcd: a region is cut off, leaves the names, and comes back by itself."""

import asyncio
import logging
import signal
import time
from pathlib import Path

import httpx

from fivenines.control.actions import Action
from fivenines.control.desired import Desired, DesiredRegion
from fivenines.control.etcd_store import EtcdStore
from fivenines.control.loop import Controller, Steering
from fivenines.control.observed import Report
from fivenines.control.probing import Prober
from fivenines.drill.members import Cluster, make_cluster, running
from fivenines.journal.etcd import EtcdJournalSettings
from fivenines.traffic.table import SteeredRegion, SteeringTable, read_table
from tests.integration.control.waiting import wait_until
from tests.integration.etcd.clusters import need_etcd

log = logging.getLogger(__name__)

NAMES = ("m0", "m1", "m2")
DESIRED = Desired(
    platform="bank", regions=tuple(DesiredRegion(name=name, rank=rank) for rank, name in enumerate(NAMES))
)


class Network(httpx.AsyncBaseTransport):
    """The way from a region to all edges; what is cut off neither asks nor answers."""

    def __init__(self, here: str, cut: set[str]) -> None:
        self._here, self._cut = here, cut

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._here != request.url.host and {self._here, request.url.host} & self._cut:
            await asyncio.Event().wait()
        await asyncio.sleep(0.005)
        return httpx.Response(200, json={"outcome": "done"})


class Body:
    """A region in which nothing happens."""

    def __init__(self, here: str) -> None:
        self._here = here

    async def look(self) -> Report:
        return Report(region=self._here, at=0.0)

    async def act(self, action: Action) -> None:
        raise AssertionError(f"nothing is to be done: {action}")


class Fleet:
    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cut: set[str] = set()
        self._folder = folder
        self._settings = EtcdJournalSettings(endpoints=cluster.endpoints)
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._stores: list[EtcdStore] = []

    def start(self, here: str) -> None:
        store = EtcdStore(self._settings, here=here)
        self._stores.append(store)
        urls = {name: f"http://{name}" for name in NAMES}
        prober = Prober(here, urls, DESIRED.timings, transport=lambda: Network(here, self.cut))
        regions = tuple(SteeredRegion(name=n, addresses=("127.0.0.1",), nameserver="127.0.0.1") for n in NAMES)
        table = SteeringTable(zone="bank.test", serial=0, here=here, regions=regions)
        steering = Steering(path=self._folder / f"{here}.json", declared=table)
        controller = Controller(
            here,
            lambda: DESIRED,
            sensors=Body(here),
            driver=Body(here),
            store=store,
            prober=prober,
            steering=steering,
        )
        self._tasks[here] = [asyncio.create_task(prober.run()), asyncio.create_task(controller.run())]

    async def kill(self, here: str) -> None:
        tasks = self._tasks.pop(here)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        for name in list(self._tasks):
            await self.kill(name)
        for store in self._stores:
            await store.close()

    def shares(self, here: str) -> dict[str, float]:
        path = self._folder / f"{here}.json"
        return {r.name: r.share for r in read_table(path).regions} if path.exists() else {}


def test_a_region_that_is_cut_off_leaves_the_names_and_comes_back(tmp_path: Path) -> None:
    need_etcd()
    with running(make_cluster(tmp_path)) as cluster:
        asyncio.run(_cut_and_heal(cluster, tmp_path))
        tables = [read_table(tmp_path / f"{name}.json") for name in NAMES]
        assert all(region.share == 1.0 for table in tables for region in table.regions)


async def _cut_and_heal(cluster: Cluster, folder: Path) -> None:
    fleet = Fleet(cluster, folder)
    looking = EtcdStore(EtcdJournalSettings(endpoints=cluster.endpoints))
    lost = cluster.leader()
    gone = lost.name
    rest = [name for name in NAMES if name != gone]
    try:
        for name in NAMES:
            fleet.start(name)
        everywhere = dict.fromkeys(NAMES, 1.0)

        async def is_whole() -> bool:
            return all(fleet.shares(name) == everywhere for name in NAMES)

        await wait_until(is_whole, "all regions are in all tables")
        await asyncio.sleep(2 * DESIRED.timings.look_s)

        # All of a region at once, the journal's leader with it.
        began = time.monotonic()
        fleet.cut.add(gone)
        lost.signal(signal.SIGSTOP)
        await fleet.kill(gone)

        async def is_out() -> bool:
            return all(fleet.shares(name).get(gone) == 0.0 for name in rest)

        await wait_until(is_out, "the lost region is in no table", every_s=0.01)
        log.info("out of the tables after %.2f s", time.monotonic() - began)
        assert {fleet.shares(name)[other] for name in rest for other in rest} == {1.0}

        lost.signal(signal.SIGCONT)
        fleet.cut.clear()
        fleet.start(gone)
        took_s = await wait_until(is_whole, "all regions are in all tables again")
        log.info("back after %.2f s", took_s)

        async def is_resolved() -> bool:
            return any(e.kind == "resolved" and e.target == gone for e in await looking.timeline(1_000))

        await wait_until(is_resolved, "the incident is resolved")
        events = await looking.timeline(1_000)
        done = [e.what.split(",")[0] for e in events if e.kind == "done" and e.target == gone]
        assert done == [
            f"{gone} -> serving",
            f"{gone} -> down",
            f"{gone} -> reads",
            f"{gone} -> few",
            f"{gone} -> serving",
        ]
        resolved = [e for e in events if e.kind == "resolved"]
        assert [e.target for e in resolved].count(gone) == 1
        # Of the region, or of the journal's majority where the election took so long that it is an outage of its own.
        budget_s = sum(e.budget_s or 0.0 for e in resolved)
        assert budget_s > 0
        (down,) = (e for e in events if e.kind == "done" and e.what.startswith(f"{gone} -> down"))
        assert down.took_s is not None
        log.info("down %.2f s after the first failed probe; budget %.2f s", down.took_s, budget_s)
    finally:
        await fleet.stop()
        await looking.close()

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fivenines.control.budget import Books
from fivenines.control.desired import Order
from fivenines.control.etcd_store import EtcdStore
from fivenines.control.observed import RegionState, Report
from fivenines.control.store import StoreUnreachableError
from fivenines.control.timeline import event_of
from fivenines.drill.members import Cluster, make_cluster, running
from fivenines.journal.etcd import EtcdJournalSettings
from tests.integration.control.waiting import wait_until
from tests.integration.etcd.clusters import need_etcd

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_etcd()
    with ExitStack() as stack:
        yield stack.enter_context(running(make_cluster(tmp_path_factory.mktemp("control"))))


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"/{request.node.name}/"


def store_of(cluster: Cluster, prefix: str, here: str = "", **options: Any) -> EtcdStore:
    return EtcdStore(EtcdJournalSettings(endpoints=cluster.endpoints), here=here, prefix=prefix, **options)


async def is_without_reports(store: EtcdStore) -> bool:
    return not (await store.read_all()).reports


def report(here: str, sequence: int = 1) -> Report:
    return Report(region=here, at=5.0, sequence=sequence)


def state(name: str, phase: Any = "serving", **options: Any) -> RegionState:
    return RegionState(name=name, phase=phase, since=1.0, **options)


def test_everybody_reads_what_each_has_published(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a, b = store_of(cluster, prefix, "a"), store_of(cluster, prefix, "b")
        await a.exchange(report("a"))
        shared = await b.exchange(report("b"))
        assert set(shared.reports) == {"a", "b"}
        shared = await a.exchange(report("a", 2))
        assert shared.reports["a"].sequence == 2
        await a.resign()
        assert set((await b.read_all()).reports) == {"b"}
        await a.close()
        await b.close()

    asyncio.run(scenario())


def test_a_report_goes_away_with_its_controller(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a, b = store_of(cluster, prefix, "a", lease_s=1), store_of(cluster, prefix)
        await a.exchange(report("a"))
        await a.close()
        await wait_until(lambda: is_without_reports(b), "the report goes away")
        assert (await b.read_all()).reports == {}
        await b.close()

    asyncio.run(scenario())


def test_a_controller_whose_lease_ran_out_gets_a_new_one(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a, b = store_of(cluster, prefix, "a", lease_s=1), store_of(cluster, prefix)
        await a.exchange(report("a"))
        await wait_until(lambda: is_without_reports(b), "the report goes away")
        shared = await a.exchange(report("a", 2))
        assert shared.reports == {} or shared.reports["a"].sequence == 2
        assert (await b.read_all()).reports["a"].sequence == 2
        await a.close()
        await b.close()

    asyncio.run(scenario())


def test_a_new_controller_of_a_region_takes_the_place_of_the_old_ones_report(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        old, new = store_of(cluster, prefix, "a"), store_of(cluster, prefix, "a")
        await old.exchange(report("a", 1))
        shared = await new.exchange(report("a", 2))
        assert shared.reports["a"].sequence == 2
        await old.close()
        await new.close()

    asyncio.run(scenario())


def test_of_two_that_write_a_state_at_once_one_does(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a, b = store_of(cluster, prefix, "a"), store_of(cluster, prefix, "b")
        for number in range(20):
            seen = (await a.read_all()).states
            done = await asyncio.gather(
                a.put_state(state("x", reason=f"a{number}"), seen), b.put_state(state("x", reason=f"b{number}"), seen)
            )
            assert sorted(done) == [False, True]
            winner = "ab"[done.index(True)]
            assert (await b.read_all()).states["x"].reason == f"{winner}{number}"
        await a.close()
        await b.close()

    asyncio.run(scenario())


def test_two_cannot_take_out_two_regions_from_the_same_view(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a, b = store_of(cluster, prefix, "a"), store_of(cluster, prefix, "b")
        for name in ("x", "y"):
            assert await a.put_state(state(name), (await a.read_all()).states)
        seen = (await a.read_all()).states
        done = await asyncio.gather(a.put_state(state("x", "down"), seen), b.put_state(state("y", "down"), seen))
        assert sorted(done) == [False, True]
        found = (await a.read_all()).states
        assert sorted(s.phase for s in found.values()) == ["down", "serving"]
        await a.close()
        await b.close()

    asyncio.run(scenario())


def test_orders_are_given_and_taken_back(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a = store_of(cluster, prefix)
        order = Order(kind="evacuate", target="x", at=1.0, by="ann")
        await a.put_order(order)
        assert (await a.read_all()).orders == (order,)
        assert await a.delete_order("evacuate", "x")
        assert not await a.delete_order("evacuate", "x")
        assert (await a.read_all()).orders == ()
        await a.close()

    asyncio.run(scenario())


def test_one_leads_and_another_follows_when_it_resigns(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a, b = store_of(cluster, prefix, "a"), store_of(cluster, prefix, "b")
        assert sum(await asyncio.gather(a.campaign(), b.campaign())) == 1
        first, second = (a, b) if await a.campaign() else (b, a)
        assert not await second.campaign()
        await first.resign()
        assert await second.campaign()
        assert (await second.read_all()).is_leader
        assert not (await first.read_all()).is_leader
        await a.close()
        await b.close()

    asyncio.run(scenario())


def test_who_leads_and_dies_is_followed(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a, b = store_of(cluster, prefix, "a"), store_of(cluster, prefix, "b")
        assert await a.campaign()
        await a.close()
        log.info("followed after %.2f s", await wait_until(b.campaign, "b leads", every_s=0.02))
        shared = await b.read_all()
        assert shared.leader == "b"
        assert shared.is_leader
        await b.close()

    asyncio.run(scenario())


def test_the_timeline_is_in_order_and_bounded(cluster: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fivenines.control.etcd_store.EVENTS_KEPT", 50)

    async def scenario() -> None:
        a = store_of(cluster, prefix)
        events = [event_of(at=float(n), region="a", kind="done", what=str(n)) for n in range(250)]
        for begin in range(0, 250, 25):
            await a.append(events[begin : begin + 25])
        found = await a.timeline(1_000)
        assert found == events[-len(found) :]
        assert 50 <= len(found) <= 150
        assert await a.timeline(3) == events[-3:]
        await a.close()

    asyncio.run(scenario())


def test_books_are_written_by_who_has_seen_the_last(cluster: Cluster, prefix: str) -> None:
    async def scenario() -> None:
        a = store_of(cluster, prefix)
        assert await a.put_books(Books(year=1, lost_s=2.0), 0)
        assert await a.put_books(Books(year=1, lost_s=2.0), 0), "an attempt that comes a second time"
        assert not await a.put_books(Books(year=1, lost_s=9.0), 0)
        shared = await a.read_all()
        assert shared.books.lost_s == 2.0
        assert await a.put_books(Books(year=1, lost_s=3.0), shared.books_revision)
        await a.close()

    asyncio.run(scenario())


def test_without_a_majority_nothing_is_answered_and_with_it_all_is_again(tmp_path: Path) -> None:
    need_etcd()
    with running(make_cluster(tmp_path)) as own:

        async def scenario() -> None:
            a = store_of(own, "/x/", "a", timeout_s=1.0)
            await a.exchange(report("a"))
            for member in own.members[:2]:
                member.signal(signal.SIGSTOP)
            with pytest.raises(StoreUnreachableError):
                await a.exchange(report("a", 2))
            for member in own.members[:2]:
                member.signal(signal.SIGCONT)

            async def is_answered() -> bool:
                return (await a.exchange(report("a", 3))).reports["a"].sequence == 3

            await wait_until(is_answered, "the store answers again")
            assert (await a.read_all()).reports["a"].sequence == 3
            await a.close()

        asyncio.run(scenario())

"""Real members are killed, stopped and started again while several journals append: nothing may be lost or doubled."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from fivenines.drill.members import Cluster
from fivenines.journal import JournalFullError, MaybeDoneError, NotDoneError
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings, JournalUnreachableError, found
from fivenines.journal.etcd.members import member_status
from tests.integration.etcd.clusters import fresh_settings
from tests.integration.etcd.conftest import StartCluster
from tests.integration.etcd.proxies import wires
from tests.integration.etcd.writing import Writers, assert_all_agree, assert_sound, nearest_first, opened

MIB = 1024 * 1024


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def three_ways(settings: EtcdJournalSettings) -> list[EtcdJournalSettings]:
    return [nearest_first(settings, number) for number in range(3)]


async def leader_of(cluster: Cluster) -> int:
    return cluster.members.index(await asyncio.to_thread(cluster.leader))


def test_leaders_are_killed_one_after_another_and_no_append_fails(
    start_cluster: StartCluster, crash_factor: int
) -> None:
    async def main() -> None:
        cluster = start_cluster()
        settings = fresh_settings(cluster, append_s_max=30.0)
        await found(settings)
        async with opened(*three_ways(settings)) as journals:
            writers = Writers(journals)
            for _ in range(3 * crash_factor):
                await writers.wait_acknowledged(100)
                killed = cluster.members[await leader_of(cluster)]
                killed.kill()
                await writers.wait_acknowledged(100)
                killed.start()
                await asyncio.to_thread(cluster.wait_ready)
            await writers.stop()
            assert writers.errors == []
            await assert_all_agree(journals, writers)

    run(main())


def test_a_follower_member_is_killed_and_no_append_fails(start_cluster: StartCluster) -> None:
    async def main() -> None:
        cluster = start_cluster()
        settings = fresh_settings(cluster, append_s_max=30.0)
        await found(settings)
        leader = await leader_of(cluster)
        killed = cluster.members[(leader + 1) % 3]
        async with opened(nearest_first(settings, (leader + 1) % 3)) as journals:
            writers = Writers(journals)
            await writers.wait_acknowledged(50)
            killed.kill()
            await writers.wait_acknowledged(200)
            killed.start()
            await writers.wait_acknowledged(200)
            await writers.stop()
            assert writers.errors == []
            await assert_all_agree(journals, writers)

    run(main())


@pytest.mark.parametrize("away_from_leader", [0, 1], ids=["leader", "follower"])
def test_a_member_that_hangs_is_left_behind_and_may_come_back(
    start_cluster: StartCluster, away_from_leader: int
) -> None:
    async def main() -> None:
        cluster = start_cluster()
        settings = fresh_settings(cluster, append_s_max=30.0)
        await found(settings)
        number = (await leader_of(cluster) + away_from_leader) % 3
        stopped = cluster.members[number]
        async with opened(nearest_first(settings, number), nearest_first(settings, number + 1)) as journals:
            writers = Writers(journals)
            await writers.wait_acknowledged(100)
            stopped.signal(signal.SIGSTOP)
            await writers.wait_acknowledged(300)
            stopped.signal(signal.SIGCONT)
            await writers.wait_acknowledged(300)
            await writers.stop()
            assert writers.errors == []
            await assert_all_agree(journals, writers)

    run(main())


def test_all_members_are_killed_at_once_and_started_again(start_cluster: StartCluster) -> None:
    async def main() -> None:
        cluster = start_cluster()
        settings = fresh_settings(cluster, append_s_max=60.0)
        await found(settings)
        async with opened(*three_ways(settings)) as journals:
            writers = Writers(journals)
            await writers.wait_acknowledged(200)
            cluster.kill()
            await asyncio.sleep(0.2)
            cluster.start()
            await writers.wait_acknowledged(200)
            await writers.stop()
            assert writers.errors == []
            await assert_all_agree(journals, writers)

    run(main())


def test_without_a_majority_appends_fail_clearly_reading_goes_on_and_all_recovers_by_itself(
    start_cluster: StartCluster,
) -> None:
    async def main() -> None:
        cluster = start_cluster()
        settings = fresh_settings(cluster, append_s_max=1.0)
        await found(settings)
        async with opened(*three_ways(settings)) as journals:
            writers = Writers(journals, tasks_each=2)
            await writers.wait_acknowledged(50)
            for member in cluster.members[:2]:
                member.signal(signal.SIGSTOP)
            while len(writers.errors) < 6:
                await asyncio.sleep(0.05)
            journal = journals[0]
            with pytest.raises((NotDoneError, MaybeDoneError)):
                await journal.append(b"cut off")
            writers.maybe.add(b"cut off")
            follower = journal.follow(1)
            assert [(await anext(follower)).position for _ in range(50)] == list(range(1, 51))
            await follower.aclose()
            for member in cluster.members[:2]:
                member.signal(signal.SIGCONT)
            await writers.wait_acknowledged(200)
            await writers.stop()
            await assert_all_agree(journals, writers)
            assert {type(error) for error in writers.errors} <= {MaybeDoneError, JournalUnreachableError}

    run(main())


def test_answers_are_lost_and_nothing_is_lost_or_doubled(start_cluster: StartCluster) -> None:
    async def main() -> None:
        cluster = start_cluster()
        async with wires([member.client_port for member in cluster.members]) as between:
            settings = replace(
                fresh_settings(cluster, append_s_max=30.0),
                endpoints=tuple(f"127.0.0.1:{wire.port}" for wire in between),
            )
            await found(settings)
            async with opened(*three_ways(settings)) as journals:
                writers = Writers(journals)
                for _ in range(10):
                    await writers.wait_acknowledged(20)
                    for wire in between:
                        wire.answers_to_swallow = 1
                    await writers.wait_acknowledged(20)
                await writers.stop()
                assert sum(wire.swallowed for wire in between) > 10
                assert writers.errors == []
                await assert_all_agree(journals, writers)

    run(main())


def test_one_that_was_cut_off_goes_on_without_a_gap_after_compaction_and_knows_when_it_cannot(
    start_cluster: StartCluster,
) -> None:
    async def main() -> None:
        cluster = start_cluster()
        async with wires([member.client_port for member in cluster.members]) as between:
            settings = fresh_settings(cluster, mark_frames=10, recent_bytes_max=1_000)
            behind = replace(settings, endpoints=tuple(f"127.0.0.1:{wire.port}" for wire in between))
            await found(settings)
            async with opened(settings, behind) as (journal, slow):
                for number in range(30):
                    await journal.append(b"%d" % number)
                while slow.last < 30:
                    await asyncio.sleep(0.01)
                follower = slow.follow(1)
                assert (await anext(follower)).position == 1

                # Compacted beyond what it has seen, but trimmed only before.
                for wire in between:
                    wire.block()
                for number in range(30, 60):
                    await journal.append(b"%d" % number)
                while journal.first < 20:
                    await journal.trim(25)
                    await asyncio.sleep(0.01)
                for wire in between:
                    wire.break_connections()
                    wire.unblock()
                while slow.last < 60:
                    await asyncio.sleep(0.01)
                assert (slow.first, slow.last_digest) == (journal.first, journal.last_digest)
                # Not on the event loop, which the wires need.
                assert await asyncio.to_thread(list, slow.read(slow.first)) == list(journal.read(journal.first))
                assert slow.failed is None

                # Trimmed beyond what it has seen.
                for wire in between:
                    wire.block()
                for number in range(60, 100):
                    await journal.append(b"%d" % number)
                while journal.first < 80:
                    await journal.trim(95)
                    await asyncio.sleep(0.01)
                for wire in between:
                    wire.break_connections()
                    wire.unblock()
                assert "trimmed" in await wait_failed(slow)
                with pytest.raises(NotDoneError):
                    await slow.append(b"late")
                await follower.aclose()

    run(main())


async def wait_failed(journal: EtcdJournal) -> str:
    while journal.failed is None:
        await asyncio.sleep(0.01)
    return journal.failed


async def append_for_ever(journal: EtcdJournal, payload: bytes) -> None:
    while True:
        await journal.append(payload)


def test_before_the_quota_is_reached_appends_are_refused_and_trimming_makes_room(
    start_cluster: StartCluster,
) -> None:
    async def main() -> None:
        cluster = start_cluster(quota_bytes=48 * MIB)
        settings = fresh_settings(
            cluster, quota_bytes=48 * MIB, quota_share_max=0.5, status_s=0.1, mark_bytes=MIB, recent_bytes_max=MIB
        )
        await found(settings)
        async with opened(settings) as [journal]:
            for _ in range(2):
                with pytest.raises(JournalFullError) as full:
                    await append_for_ever(journal, bytes(64 * 1024))
                assert "trim the journal" in full.value.reason
                assert journal.failed is None
                assert [frame.position for frame in journal.read(journal.last)] == [journal.last]
                await journal.trim(journal.last)
                while journal.full is not None:
                    await asyncio.sleep(0.05)
            await journal.append(b"there is room again")
        for member in cluster.members:
            status = await asyncio.to_thread(member_status, member.endpoint)
            assert status is not None
            assert list(status.errors) == []

    run(main())


def test_over_the_quota_what_is_refused_did_not_happen_and_what_is_acknowledged_did(
    start_cluster: StartCluster,
) -> None:
    async def main() -> None:
        cluster = start_cluster(quota_bytes=4 * MIB)
        settings = fresh_settings(cluster, status_s=60.0)
        await found(settings)
        async with opened(settings) as journals:
            writers = Writers(journals, payload_bytes=60_000)
            while not writers.errors:
                await asyncio.sleep(0.01)
            await writers.stop()
            assert {type(error) for error in writers.errors} == {JournalFullError}
            assert_sound(list(journals[0].read(1)), writers)

    run(main())

"""The journal is filled, trimmed under a slow node, and out of reach of one: money moves on, or it is said why not."""

import asyncio
import signal
from pathlib import Path

import httpx

from fivenines.drill.account_model import Read
from fivenines.drill.histories import Clients
from fivenines.ids import new_id
from fivenines.journal.etcd.members import member_status
from tests.integration.etcd.proxies import wires
from tests.integration.regions.fleet import HOSTS, NodeProcess, Regions, regions, wait_until
from tests.integration.regions.loads import MIB, TRIMMING, Bulk, check_all_is_well

FRAMES_MORE_THAN_BUFFERS = 30


async def post(fleet: Regions, node: NodeProcess) -> httpx.Response:
    """Try to move something that nobody else looks at."""
    body = {"id": new_id(), "postings": [{"source": "bulk:a", "destination": "bulk:c", "amount": 1}]}
    return await fleet.http.post(f"{node.url}/v1/transactions", json=body)


def test_writes_are_shed_before_the_quota_is_reached_and_taken_again_after_a_trim(tmp_path: Path) -> None:
    quota_mib = 48

    async def main() -> None:
        async with regions(tmp_path, quota_bytes=quota_mib * MIB) as fleet:
            for node in fleet.nodes:
                node.add_options("--journal-quota", str(quota_mib), "--keep-tail", str(quota_mib // 2))
            await fleet.start()
            bulk = Bulk(fleet)
            await bulk.open()
            for node in fleet.nodes:
                refusal = await bulk.write_until_refused(node.url)
                assert refusal.status_code == 503, refusal.text
                assert refusal.json()["type"] == "/problems/journal_full"
                assert refusal.headers["Retry-After"].isdigit()
            await fleet.agreed()
            await bulk.check_nothing_is_lost()
            for member in fleet.cluster.members:
                status = member_status(member.endpoint)
                assert status is not None
                assert list(status.errors) == []
                assert status.db_size < quota_mib * MIB

            # Trimming needs snapshots, which a node writes when it stops, and to be told that the tail is too long.
            for node in fleet.nodes:
                await node.stop()
                node.add_options(*TRIMMING)
                await node.start()
            await bulk.write_until_trimmed()
            await fleet.agreed()
            await bulk.check_nothing_is_lost()
            fleet.check_logs()

    asyncio.run(main())


def test_a_node_that_slept_while_its_journal_was_trimmed_and_compacted_comes_back_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with regions(tmp_path, options=TRIMMING) as fleet:
            await fleet.start()
            bulk, clients = Bulk(fleet), Clients(fleet.urls, deadline_s=60.0)
            await bulk.open()
            await clients.open()
            slow, its_member = fleet.nodes[2], fleet.cluster.members[2]
            position = (await fleet.platform(slow))["position"]
            slow.signal(signal.SIGSTOP)
            async with clients.working():
                # More than all that was on its way to it, and is held in buffers, can bring it.
                await bulk.write(FRAMES_MORE_THAN_BUFFERS)
                await bulk.write_until_trimmed(position + FRAMES_MORE_THAN_BUFFERS)
                its_member.kill()
                its_member.start()
                await asyncio.to_thread(fleet.cluster.wait_ready)
                slow.signal(signal.SIGCONT)
                await wait_until(lambda: has_begun_anew(slow), "it begins anew")
                await clients.wait_answered(100)
            await check_all_is_well(fleet, clients)
            await bulk.check_nothing_is_lost()
            assert "trimmed" in slow.events("node.out_of_service")[0]["reason"]
            assert slow.events("snapshot.fetched")

    asyncio.run(main())


async def has_begun_anew(node: NodeProcess) -> bool:
    return len(node.events("node.serving")) > 1


def test_a_new_node_begins_with_the_snapshot_of_another_when_the_journal_was_trimmed(tmp_path: Path) -> None:
    async def main() -> None:
        async with regions(tmp_path, options=TRIMMING) as fleet:
            await fleet.start()
            bulk = Bulk(fleet)
            await bulk.open()
            await bulk.write_until_trimmed()
            newcomer = fleet.add_node(0, "newcomer")
            ready = await newcomer.start()
            (fetched,) = newcomer.events("snapshot.fetched")
            (recovered,) = newcomer.events("node.recovered")
            assert recovered["snapshot_position"] == fetched["position"] > 0
            assert recovered["frames_replayed"] <= ready.position - fetched["position"]
            await fleet.agreed()
            await bulk.check_nothing_is_lost()
            fleet.check_logs()

    asyncio.run(main())


def test_a_node_that_is_cut_off_from_the_journal_goes_on_reading_and_recovers_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with regions(tmp_path) as fleet:
            members = fleet.cluster.members
            async with wires([member.client_port for member in members], HOSTS) as between:
                fleet.nodes.pop()
                cut_off = fleet.add_node(2, "cut-off", endpoints=[f"127.0.0.1:{wire.port}" for wire in between])
                await fleet.start()
                bulk, clients = Bulk(fleet), Clients(fleet.urls, deadline_s=60.0)
                await bulk.open()
                await clients.open()
                async with clients.working():
                    for is_silent in (True, False):
                        await clients.wait_answered(100)
                        for wire in between:
                            wire.block()
                            if not is_silent:
                                wire.break_connections()
                        await wait_until(lambda: is_cut_off(fleet, cut_off), "it knows that it is cut off")
                        await check_only_reads_go_on(fleet, cut_off)
                        await clients.wait_answered(100)
                        for wire in between:
                            wire.unblock()
                        await wait_until(lambda: takes_writes(fleet, cut_off), "it takes writes again")
                    await clients.wait_answered(100)
                await check_all_is_well(fleet, clients)
                assert len(cut_off.events("node.recovered")) == 1

    asyncio.run(main())


def test_the_judge_finds_the_old_reads_of_a_node_that_is_cut_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with regions(tmp_path) as fleet:
            members = fleet.cluster.members
            async with wires([member.client_port for member in members], HOSTS) as between:
                fleet.nodes.pop()
                fleet.add_node(2, "cut-off", endpoints=[f"127.0.0.1:{wire.port}" for wire in between])
                await fleet.start()
                clients = Clients(fleet.urls, deadline_s=60.0, linearizable=False)
                await clients.open()
                await fleet.agreed()
                async with clients.working():
                    for wire in between:
                        wire.block()
                    await clients.wait_answered(500)
                    for wire in between:
                        wire.unblock()
                assert clients.failed == []
                violation = clients.violation()
                assert violation is not None
                assert any(isinstance(each.input, Read) for each in violation.operations)
                assert len(violation.operations) < 30, str(violation)

    asyncio.run(main())


async def is_cut_off(fleet: Regions, node: NodeProcess) -> bool:
    ready = await fleet.http.get(f"{node.url}/ready")
    return ready.status_code == 503 and "out of reach" in ready.json()["detail"]


async def takes_writes(fleet: Regions, node: NodeProcess) -> bool:
    return (await post(fleet, node)).status_code in {200, 409}


async def check_only_reads_go_on(fleet: Regions, node: NodeProcess) -> None:
    """Assert that a node tells what it knows, and how old that is, and refuses whatever the journal is needed for."""
    path = f"{node.url}/v1/accounts/mint"
    reads = [await fleet.http.get(path) for _ in range(2)]
    assert [read.status_code for read in reads] == [200, 200]
    assert reads[0].headers["Ledger-Position"] == reads[1].headers["Ledger-Position"]
    assert 0 < float(reads[0].headers["Ledger-Age"]) <= float(reads[1].headers["Ledger-Age"])
    written = await post(fleet, node)
    assert (written.status_code, written.json()["type"]) == (503, "/problems/journal_unavailable")
    newest = await fleet.http.get(path, params={"consistency": "linearizable"})
    assert (newest.status_code, newest.json()["type"]) == (503, "/problems/not_there_yet")

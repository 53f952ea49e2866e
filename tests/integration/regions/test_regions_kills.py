"""Members and nodes are killed and stopped while clients work through all of them, and nothing fails."""

import asyncio
import random
import signal
from pathlib import Path

import pytest

from fivenines.drill.histories import Clients
from tests.integration.regions.fleet import regions
from tests.integration.regions.loads import check_all_is_well

pytestmark = pytest.mark.crash


def test_nodes_and_members_are_killed_and_stopped_under_load_and_nothing_fails(
    tmp_path: Path, crash_factor: int
) -> None:
    async def main() -> None:
        chance = random.Random(3)
        async with regions(tmp_path) as fleet:
            await fleet.start()
            clients = Clients(fleet.urls, deadline_s=60.0)
            await clients.open()
            async with clients.working():
                for region in (region for _ in range(crash_factor) for region in chance.sample(range(3), 3)):
                    node, member = fleet.nodes[region], fleet.cluster.members[chance.randrange(3)]
                    await clients.wait_answered(100)
                    await node.discard()
                    await clients.wait_answered(100)
                    await node.start()
                    leader = await asyncio.to_thread(fleet.cluster.leader)
                    leader.kill()
                    await clients.wait_answered(100)
                    leader.start()
                    await asyncio.to_thread(fleet.cluster.wait_ready)
                    node.signal(signal.SIGSTOP)
                    await clients.wait_answered(100)
                    node.signal(signal.SIGCONT)
                    member.signal(signal.SIGSTOP)
                    await clients.wait_answered(100)
                    member.signal(signal.SIGCONT)
                await clients.wait_answered(100)
            await check_all_is_well(fleet, clients)

    asyncio.run(main())


def test_a_region_dies_with_its_node_and_its_member_and_nothing_fails(tmp_path: Path, crash_factor: int) -> None:
    async def main() -> None:
        async with regions(tmp_path) as fleet:
            await fleet.start()
            clients = Clients(fleet.urls, deadline_s=60.0)
            await clients.open()
            async with clients.working():
                for _ in range(crash_factor):
                    leader = await asyncio.to_thread(fleet.cluster.leader)
                    region = fleet.cluster.members.index(leader)
                    await clients.wait_answered(100)
                    leader.kill()
                    await fleet.nodes[region].discard()
                    await clients.wait_answered(300)
                    leader.start()
                    await fleet.nodes[region].start()
                    await clients.wait_answered(100)
            await check_all_is_well(fleet, clients)

    asyncio.run(main())


def test_everything_is_killed_at_once_and_started_again_and_nothing_acknowledged_is_lost(
    tmp_path: Path, crash_factor: int
) -> None:
    async def main() -> None:
        async with regions(tmp_path) as fleet:
            await fleet.start()
            clients = Clients(fleet.urls, deadline_s=60.0)
            await clients.open()
            async with clients.working():
                for _ in range(crash_factor):
                    await clients.wait_answered(300)
                    for node in fleet.nodes:
                        node.kill()
                    fleet.cluster.kill()
                    await asyncio.gather(*(node.wait() for node in fleet.nodes))
                    # The nodes first: they wait for their journal.
                    starting = asyncio.create_task(fleet.start())
                    fleet.cluster.start()
                    await starting
                    await clients.wait_answered(200)
            await check_all_is_well(fleet, clients)

    asyncio.run(main())


def test_what_clients_are_not_told_during_an_outage_was_done_or_not_and_nothing_else_is_strange(
    tmp_path: Path, crash_factor: int
) -> None:
    async def main() -> None:
        async with regions(tmp_path) as fleet:
            await fleet.start()
            clients = Clients(fleet.urls, deadline_s=1.0)
            await clients.open()
            for _ in range(crash_factor):
                async with clients.working():
                    await clients.wait_answered(200)
                    for member in fleet.cluster.members[:2]:
                        member.signal(signal.SIGSTOP)
                    wanted = len(clients.failed) + 20
                    while len(clients.failed) < wanted:
                        await asyncio.sleep(0.05)
                    for member in fleet.cluster.members[:2]:
                        member.signal(signal.SIGCONT)
                    await clients.wait_answered(300)
                assert any(sent.outcome is None for sent in clients.sent)
                await clients.ask_again()
            clients.failed.clear()
            await check_all_is_well(fleet, clients)

    asyncio.run(main())

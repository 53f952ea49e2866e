"""Three nodes serve one ledger from one journal in etcd: its leader is killed, one node snapshots and starts anew."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fivenines.ids import IdMaker
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings, found
from fivenines.ledger import Command, OpenAccount, Outcome, PostOne, RegisterAsset, digest
from fivenines.node import Node, NodeSettings, open_node
from tests.integration.etcd.clusters import fresh_settings
from tests.integration.etcd.conftest import StartCluster
from tests.integration.etcd.writing import nearest_first

REGIONS = 3


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def start_node(stack: AsyncExitStack, folder: Path, settings: EtcdJournalSettings) -> Node:
    folder.mkdir(exist_ok=True)
    journal = await EtcdJournal.open(settings)
    stack.push_async_callback(journal.close)
    return await stack.enter_async_context(open_node(folder, journal, NodeSettings(appends_in_flight_max=4)))


class Clients:
    """Clients of each node, who post from a to b, one unit at a time."""

    def __init__(self, nodes: list[Node]) -> None:
        self.applied = 0
        self._running = True
        self._tasks = [asyncio.create_task(self._post(node)) for node in nodes for _ in range(4)]

    async def wait_applied(self, more: int) -> None:
        wanted = self.applied + more
        while self.applied < wanted:
            assert not any(task.done() for task in self._tasks)
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._running = False
        await asyncio.gather(*self._tasks)

    async def _post(self, node: Node) -> None:
        ids = IdMaker()
        while self._running:
            receipt = await node.writer.submit([PostOne(ids.numbers(1)[0].to_bytes(16), "a", "b", 1)])
            assert receipt.outcomes == [Outcome.posted]
            self.applied += 1


def test_three_nodes_hold_the_same_books_whatever_happens_to_the_journals_leader(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    async def main() -> None:
        cluster = start_cluster()
        settings = fresh_settings(cluster, append_s_max=30.0, mark_frames=20)
        await found(settings)
        async with AsyncExitStack() as stack:
            nodes = [
                await start_node(stack, tmp_path / f"node{number}", nearest_first(settings, number))
                for number in range(REGIONS)
            ]
            opening: list[Command] = [
                RegisterAsset("EUR/2"),
                OpenAccount("a", "EUR/2", min_balance=None),
                OpenAccount("b", "EUR/2"),
            ]
            receipt = await nodes[0].writer.submit(opening)
            for node in nodes:
                await node.replica.wait_position(receipt.position, 10.0)
            clients = Clients(nodes)
            await clients.wait_applied(300)
            killed = await asyncio.to_thread(cluster.leader)
            killed.kill()
            await clients.wait_applied(300)
            assert await nodes[1].snapshot()
            killed.start()
            await clients.wait_applied(300)
            await clients.stop()

            # Behind the snapshot, one that is new to the journal begins with it.
            await nodes[1].journal.trim(nodes[1].statistics.snapshot_position)
            last = max(node.journal.last for node in nodes)
            for node in nodes:
                await node.replica.wait_position(last, 10.0)
            assert {digest(node.state) for node in nodes} == {digest(nodes[0].state)}
            assert nodes[0].state.accounts["b"].credits == clients.applied
        async with AsyncExitStack() as stack:
            again = await start_node(stack, tmp_path / "node1", settings)
            assert again.replica.position == last
            assert digest(again.state) == digest(nodes[0].state)

    run(main())

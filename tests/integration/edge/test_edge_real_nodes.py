"""Real nodes on a real journal behind one edge: plain HTTP clients, which repeat nothing, lose nothing."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from fivenines.ids import new_id
from fivenines.traffic.edge import Server
from tests.integration.edge.edges import PATIENCE_S, Edge, edges, wait_until
from tests.integration.regions.fleet import NodeProcess, Regions, regions


class Payers:
    """Clients that post one transaction after the other on connections that they keep, each of 1 cent."""

    def __init__(self, url: str, *, with_id: bool) -> None:
        self.paid = 0
        self.failed: list[str] = []
        self._url = url
        self._with_id = with_id
        self._stopping = False

    async def more(self, count: int) -> None:
        wanted = self.paid + count

        async def are_there() -> bool:
            return self.paid >= wanted or bool(self.failed)

        await wait_until(are_there, f"{count} more were paid")

    async def _pay(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=PATIENCE_S) as http:
            while not self._stopping:
                posting = {"source": "bank", "destination": "shop", "amount": 1}
                body = {"postings": [posting]} | ({"id": new_id()} if self._with_id else {})
                try:
                    answer = await http.post("/v1/transactions", json=body)
                    if answer.status_code == 200:
                        self.paid += 1
                    else:
                        self.failed.append(f"{answer.status_code} {answer.text}")
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))

    @contextlib.asynccontextmanager
    async def paying(self, clients: int = 4) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(self._pay())
            try:
                yield
            finally:
                self._stopping = True


@contextlib.asynccontextmanager
async def behind_one_edge(folder: Path) -> AsyncIterator[tuple[Regions, Edge]]:
    async with regions(folder) as fleet, edges() as platform:
        await fleet.start()
        found = [(node.name, urlsplit(node.url)) for node in fleet.nodes]
        servers = [Server(name=name, host=url.hostname or "", port=url.port or 0) for name, url in found]
        edge = await platform.start(platform.describe("region1", servers))
        for server in servers:
            await edge.sees(server.name, is_up=True)
        for path, body in (
            ("/v1/assets", {"asset": "EUR/2"}),
            ("/v1/accounts", {"id": "bank", "asset": "EUR/2", "min_balance": None}),
            ("/v1/accounts", {"id": "shop", "asset": "EUR/2"}),
        ):
            (await platform.http.post(edge.url + path, json=body)).raise_for_status()
        yield fleet, edge


async def balance(fleet: Regions, edge: Edge) -> int:
    answer = await fleet.http.get(f"{edge.url}/v1/accounts/shop?consistency=linearizable")
    return int(answer.raise_for_status().json()["balance"])


def test_nodes_that_are_killed_or_hang_fail_no_transaction_and_double_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with behind_one_edge(tmp_path) as (fleet, edge):
            payers = Payers(edge.url, with_id=True)
            async with payers.paying():
                await payers.more(100)
                killed, hanging, _ = fleet.nodes
                await killed.discard()
                await payers.more(100)
                await killed.start()
                await edge.sees(killed.name, is_up=True)
                hanging.signal(signal.SIGSTOP)
                await payers.more(100)
                hanging.signal(signal.SIGCONT)
                leader = await asyncio.to_thread(fleet.cluster.leader)
                leader.kill()
                await payers.more(100)
                leader.start()
            assert payers.failed == []
            assert await balance(fleet, edge) == payers.paid

    asyncio.run(run())


def test_a_rolling_restart_fails_no_transaction_not_even_one_without_an_id(tmp_path: Path) -> None:
    async def run() -> None:
        async with behind_one_edge(tmp_path) as (fleet, edge):
            payers = Payers(edge.url, with_id=False)

            async def restart(node: NodeProcess) -> None:
                await edge.runtime.drain(node.name)
                await wait_until(lambda: edge.runtime.is_idle(node.name), "the node is idle")
                await node.stop()
                await node.start()
                await edge.runtime.ready(node.name)
                await edge.sees(node.name, is_up=True)

            async with payers.paying():
                await payers.more(50)
                for node in fleet.nodes:
                    await restart(node)
                    await payers.more(50)
            assert payers.failed == []
            assert await balance(fleet, edge) == payers.paid

    asyncio.run(run())


def test_a_stream_of_events_comes_through_the_edge(tmp_path: Path) -> None:
    async def run() -> None:
        async with behind_one_edge(tmp_path) as (fleet, edge):
            payers = Payers(edge.url, with_id=True)
            seen = 0
            async with fleet.http.stream(
                "GET", f"{edge.url}/v1/events?after=0", headers={"accept": "text/event-stream"}
            ) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                async with payers.paying(1):
                    async for line in stream.aiter_lines():
                        seen += line.startswith("data:")
                        if seen >= 20:
                            break
            assert seen == 20
            poll = await fleet.http.get(f"{edge.url}/v1/events?after={2**40}&wait_s=3")
            assert poll.status_code == 503, "the node's own word, after a wait that is longer than an ordinary one"

    asyncio.run(run())

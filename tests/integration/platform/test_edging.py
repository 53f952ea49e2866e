"""An agent's hold on its edge: what was ordered stays so, whatever becomes of HAProxy; each edge takes all services."""

import asyncio
import os
import signal
import socketserver
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from fivenines.platform.local.edging import Edging, config_file, socket_file
from fivenines.platform.local.program import Program
from fivenines.platform.spec import Platform, Region, Service
from fivenines.platform.topology import Topology, make_topology
from fivenines.traffic.edge import EdgeUnreachableError, Runtime, command, find_haproxy
from tests.e2e.platforms import free_network, need_servers
from tests.integration.edge.edges import wait_until

REGIONS = ("frankfurt", "belgium", "stockholm")
NODES = ("frankfurt-1", "frankfurt-2")


def topology_in(folder: Path, *services: Service) -> Topology:
    spec = Platform(
        platform="bank",
        regions=tuple(Region(name=name, provider="local", nodes=2) for name in REGIONS),
        services=services,
    )
    return make_topology(spec, folder / "p", home=folder, network=free_network())


class Edge:
    """HAProxy as an agent runs it, before nodes that are not there."""

    def __init__(self, topology: Topology, region: str) -> None:
        need_servers()
        self.edging = Edging(topology, region)
        self.runtime = Runtime(socket_file(topology, region))
        self._config, self._socket = config_file(topology, region), socket_file(topology, region)
        self._running: list[asyncio.subprocess.Process] = []
        self.edging.write()

    @property
    def pid(self) -> int:
        return self._running[-1].pid

    async def start(self, *, reload: bool = False) -> None:
        haproxy = find_haproxy()
        assert haproxy is not None
        old = {"reload_of": self.pid, "socket": self._socket} if reload else {}
        words = command(haproxy, self._config, **old)  # type: ignore[arg-type]
        self._running.append(await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL))

        async def is_there() -> bool:
            try:
                return f"Pid: {self.pid}\n" in await self.runtime.ask("show info")
            except EdgeUnreachableError:
                return False

        await wait_until(is_there, "the edge answers")

    async def known(self) -> dict[str, Any]:
        """Return what HAProxy knows: who is drained, in all backends or none; weights; where writes go."""
        orders = await self.runtime.orders()
        found: dict[str, Any] = {"writes": orders.are_writes_remote}
        for name in NODES:
            rows = [each for each in orders.servers if each.name == name]
            (is_drained,) = {each.is_drained for each in rows}
            (weight,) = {each.weight for each in rows if each.weight is not None}
            found[name] = (is_drained, weight)
        return found

    async def stop(self) -> None:
        for process in self._running:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def edge_in(topology: Topology, region: str = "frankfurt") -> AsyncIterator[Edge]:
    edge = Edge(topology, region)
    try:
        await edge.start()
        yield edge
    finally:
        await edge.stop()


def node(name: str) -> Program:
    return Program(name=name, role="node", command=(), is_in_edge=True)


def test_an_edge_that_hung_when_it_was_told_is_told_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with edge_in(topology_in(tmp_path)) as edge:
            first, second = NODES
            await edge.edging.drain(node(first))
            assert await edge.known() == {"writes": False, first: (True, 100), second: (False, 100)}
            os.kill(edge.pid, signal.SIGSTOP)
            await asyncio.gather(edge.edging.ready(node(first)), edge.edging.drain(node(second)))
            with pytest.raises(EdgeUnreachableError):
                await edge.edging.reconcile()
            os.kill(edge.pid, signal.SIGCONT)
            await edge.edging.reconcile()
            assert await edge.known() == {"writes": False, first: (False, 100), second: (True, 100)}

    asyncio.run(run())


@pytest.mark.parametrize("reload", [True, False])
def test_another_process_is_told_all_that_was_ordered(tmp_path: Path, *, reload: bool) -> None:
    async def run() -> None:
        async with edge_in(topology_in(tmp_path)) as edge:
            first, second = NODES
            await edge.edging.drain(node(first))
            await edge.edging.ready(node(second))
            await edge.edging.weigh(second, 0)
            await edge.edging.send_writes(remote=True)
            ordered = {"writes": True, first: (True, 100), second: (False, 0)}
            await edge.edging.reconcile()  # as when the process before a reload still answers
            assert await edge.known() == ordered
            if not reload:
                os.kill(edge.pid, signal.SIGKILL)
            await edge.start(reload=reload)
            assert await edge.known() != ordered
            await edge.edging.reconcile()
            assert await edge.known() == ordered

    asyncio.run(run())


def test_what_nobody_ordered_is_taken_back(tmp_path: Path) -> None:
    """Such as an order that had no answer in time, and was carried out all the same."""

    async def run() -> None:
        async with edge_in(topology_in(tmp_path)) as edge:
            first, second = NODES
            await edge.edging.ready(node(first))
            await edge.runtime.drain(first)
            await edge.runtime.weight(second, 30)
            await edge.runtime.set_writes_remote(True)
            await edge.edging.reconcile()
            assert await edge.known() == {"writes": False, first: (False, 100), second: (False, 100)}

    asyncio.run(run())


class _Copy(socketserver.BaseRequestHandler):
    """Answers whatever it is asked, then hangs up."""

    def handle(self) -> None:
        self.request.recv(65_536)
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nshop")


@contextmanager
def copy_at(host: str, port: int) -> Iterator[None]:
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer((host, port), _Copy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_a_service_of_one_region_is_served_by_all_edges(tmp_path: Path, protocol: Any) -> None:
    """Its name leads to all of them."""
    shop = Service(
        name="shop",
        command=("shop",),
        port=8_081,
        edge_port=9_980,
        protocol=protocol,
        replicas=1,
        regions=("frankfurt",),
    )

    async def run() -> None:
        topology = topology_in(tmp_path, shop)
        home, away = topology.region("frankfurt").host, topology.region("belgium").host
        with copy_at(home, shop.port):
            async with (
                edge_in(topology, "frankfurt") as edge,
                edge_in(topology, "belgium") as other,
                httpx.AsyncClient(trust_env=False) as http,
            ):

                async def serves(host: str) -> bool:
                    try:
                        answer = await http.get(f"http://{host}:{shop.edge_port}/")
                    except httpx.TransportError:
                        return False
                    return (answer.status_code, answer.text) == (200, "shop")

                for host in (home, away):
                    await wait_until(partial(serves, host), f"{host} serves it")
                pools = {each.name: each.pool for each in (await edge.edging.look()).servers}
                assert pools == {"frankfurt-1": "ledger", "frankfurt-2": "ledger", "frankfurt-shop-1": "shop"}
                assert {each.pool for each in (await other.edging.look()).servers} == {"ledger"}

    asyncio.run(run())

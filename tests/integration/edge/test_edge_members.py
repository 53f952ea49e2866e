"""Nodes join, leave, drain and change their weight while an edge works."""

import asyncio
import re
import signal

import httpx
import pytest

from fivenines.traffic.edge import (
    ConfigRefusedError,
    EdgeUnreachableError,
    RefusedError,
    Runtime,
    Server,
    Timeouts,
    check,
)
from tests.integration.edge.edges import Edge, Load, edges, wait_until


def test_a_drain_and_a_stop_lose_no_request_under_load() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first, second])
            for node in (first, second):
                await node.control(delay_s=0.01)
            async with Load(edge.url) as load:
                await load.more(100)
                for node in (first, second):
                    await edge.runtime.drain(node.name)
                    await wait_until(lambda node=node: edge.runtime.is_idle(node.name), "the node is idle")  # type: ignore[misc]
                    before = load.count(node.name)
                    await load.more(100)
                    assert load.count(node.name) == before, "a drained node gets nothing new"
                    node.kill()
                    node.start()
                    await node.control(delay_s=0.01)
                    await edge.runtime.ready(node.name)
                    await edge.sees(node.name, is_up=True)
                    await load.more(100)
                    assert load.count(node.name) > before, "and is back"
            assert load.failed == []
            assert {each.name for each in await edge.runtime.servers() if each.is_up} == {"n1", "n2"}

    asyncio.run(run())


def test_a_node_that_is_killed_under_load_fails_no_request() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first, second])
            async with Load(edge.url, clients=16) as load:
                await load.more(200)
                first.kill()
                await load.more(500)
                await edge.sees("n1", is_up=False)
                first.start()
                await edge.sees("n1", is_up=True)
                before = load.count("n1")
                await wait_until(lambda: _is_above(load, "n1", before), "the node gets requests again")
            assert load.failed == []

    asyncio.run(run())


async def _is_above(load: Load, name: str, count: int) -> bool:
    return load.count(name) > count


def test_a_node_that_hangs_under_load_fails_no_request_and_is_out() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first, second])
            async with Load(edge.url, clients=16) as load:
                await load.more(200)
                first.signal(signal.SIGSTOP)
                await edge.sees("n1", is_up=False)
                await load.more(200)
                first.signal(signal.SIGCONT)
                await edge.sees("n1", is_up=True)
            assert load.failed == []

    asyncio.run(run())


def test_weights_are_percents_and_0_ejects() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first, second])
            await edge.runtime.weight("n1", 50)
            assert {each.name: each.weight for each in await edge.runtime.servers()} == {"n1": 50, "n2": 100}
            await edge.runtime.eject("n1")
            seen = {each.name: (each.weight, each.is_up, each.is_drained) for each in await edge.runtime.servers()}
            assert seen == {"n1": (0, True, False), "n2": (100, True, False)}
            async with Load(edge.url) as load:
                await load.more(100)
            assert load.count("n1") == 0
            await edge.runtime.weight("n1", 100)
            async with Load(edge.url) as load:
                await load.more(100)
            assert load.count("n1") > 0
            assert load.failed == []
            with pytest.raises(RefusedError, match="nobody of the name 'n9'"):
                await edge.runtime.drain("n9")

    asyncio.run(run())


def test_nodes_that_are_all_ejected_still_serve() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first, second])
            for node in (first, second):
                await edge.runtime.eject(node.name)
            async with Load(edge.url) as load:
                await load.more(50)
            assert load.failed == []
            assert load.count("n1")
            assert load.count("n2")

    asyncio.run(run())


def test_a_node_that_comes_back_starts_slowly() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first, second], timeouts=Timeouts(slow_start_s=60))
            await first.control(ready=0)
            await edge.sees("n1", is_up=False)
            await first.control(ready=1)
            await edge.sees("n1", is_up=True)
            row = next(row for row in await edge.runtime.rows() if (row.backend, row.name) == ("ledger", "n1"))
            assert row.weight == 100
            assert row.weight_now < 50

    asyncio.run(run())


def test_a_node_joins_and_leaves_without_a_reload() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first])
            pid = edge.process.pid
            await edge.runtime.add_node(edge.settings, second.server)
            await edge.sees("n2", is_up=True)
            async with Load(edge.url) as load:
                await load.more(100)
                assert load.count("n2")
                await edge.runtime.drain("n2")
                await wait_until(lambda: edge.runtime.is_idle("n2"), "the node is idle")
                await edge.runtime.remove_node("n2")
                await load.more(50)
                # One of the configuration cannot be deleted: it gets nothing, and may come back, from elsewhere too.
                await edge.runtime.add_node(edge.settings, second.server)
                await edge.sees("n2", is_up=True)
                await edge.runtime.remove_node("n1")
                before = load.count("n1")
                await load.more(50)
                assert load.count("n1") == before
                await edge.runtime.add_node(edge.settings, first.server)
                await edge.sees("n1", is_up=True)
                await load.more(50)
                assert load.count("n1") > before
            assert load.failed == []
            assert [each.name for each in await edge.runtime.servers()] == ["n1", "n2"]
            assert f"Pid: {pid}\n" in await edge.runtime.ask("show info")

    asyncio.run(run())


def test_a_node_is_reached_at_another_address_when_told() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first])
            await edge.runtime.set_address("n1", second.server.host, second.server.port)
            await edge.runtime.set_address("n1", second.server.host, second.server.port)
            answer = await platform.http.get(edge.url + "/v1/accounts/a")
            assert answer.json()["node"] == "n2"

    asyncio.run(run())


def test_a_reload_fails_no_request_and_keeps_what_was_ordered() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            settings = platform.describe("eu-west", [first.server, second.server])
            state = settings.admin_socket.with_name("state")
            settings = platform.describe("eu-west", [first.server, second.server], state_file=state)
            edge = await platform.start(settings)
            for node in (first, second):
                await node.control(delay_s=0.005)
                await edge.sees(node.name, is_up=True)
            async with Load(edge.url, clients=16) as load:
                await load.more(100)
                await edge.runtime.weight("n2", 30)
                await edge.runtime.drain("n1")
                await edge.runtime.set_writes_remote(True)
                for _ in range(3):
                    await edge.runtime.save_state(state)
                    await edge.start(reload=True)
                    state.unlink()
                    before = load.count("n1")
                    await load.more(200)
                    assert load.count("n1") == before
            assert load.failed == []
            for process in edge.former:
                assert process.wait(20) == 0
            seen = {each.name: (each.weight, each.is_drained) for each in await edge.runtime.servers()}
            assert seen == {"n1": (100, True), "n2": (30, False)}
            assert await edge.runtime.are_writes_remote()

    asyncio.run(run())


def test_what_was_seen_is_counted() -> None:
    async def run() -> None:
        async with edges() as platform:
            first = platform.node("n1")
            edge = await platform.edge([first])
            await edge.runtime.totals()
            for status in (200, 200, 404, 500):
                await first.control(status=status)
                await platform.http.get(edge.url + "/v1/accounts/a")
            totals = await edge.runtime.totals()
            assert (totals.requests, totals.failed, totals.refused, totals.elsewhere) == (4, 1, 1, 0)
            assert totals.requests_per_s > 0
            assert 0 < (totals.p50_ms or 0) <= (totals.p99_ms or 0)
            await first.control(delay_s=0.3)
            await platform.http.get(edge.url + "/v1/accounts/a")
            assert ((await edge.runtime.totals()).p99_ms or 0) > 200, "only what came since the last look counts"
            assert (await edge.runtime.totals()).p99_ms is None
            assert totals.failed_per_s == pytest.approx(totals.requests_per_s / 4)
            (server,) = await edge.runtime.servers()
            assert (server.requests, server.errors, server.in_flight, server.pool) == (5, 2, 0, "ledger")
            assert server.check.startswith("L7OK")
            with pytest.raises(RefusedError, match="no 'shop'"):
                await edge.runtime.totals("shop")
            page = (await platform.http.get(edge.statistics_url + "/metrics")).text
            assert re.search(
                r'^haproxy_server_http_responses_total\{proxy="ledger",server="n1",code="2xx"\} 2$', page, re.MULTILINE
            )
            assert (await platform.http.get(edge.statistics_url, follow_redirects=True)).status_code == 200

    asyncio.run(run())


def test_a_busy_edge_keeps_its_connections_to_nodes() -> None:
    """To open one for each request, when more clients than ever ask, is to give way just then."""
    clients, rounds = 240, 4

    async def ask(edge: Edge, all_here: asyncio.Barrier) -> None:
        reader, writer = await asyncio.open_connection(edge.settings.host, edge.settings.port)
        for _ in range(rounds):
            await all_here.wait()
            writer.write(b"GET /v1/accounts/a HTTP/1.1\r\nHost: edge\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
        writer.close()

    async def run() -> None:
        async with edges() as platform:
            node = platform.node("n1")
            edge = await platform.edge([node], connections_max=256, requests_max=256)
            await node.control(delay_s=0.3)
            all_here = asyncio.Barrier(clients)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(clients):
                    tasks.create_task(ask(edge, all_here))
            page = (await platform.http.get(edge.statistics_url + "/metrics")).text
            name = r'^haproxy_server_connection_%s_total\{proxy="ledger",server="n1"\} (\d+)$'
            opened, kept = (int(re.findall(name % each, page, re.MULTILINE)[0]) for each in ("attempts", "reuses"))
            assert opened + kept >= rounds * clients
            assert opened <= 2 * clients

    asyncio.run(run())


def test_an_edge_that_is_away_is_said_to_be() -> None:
    async def run() -> None:
        async with edges() as platform:
            edge = await platform.edge([])
            edge.kill()
            with pytest.raises(EdgeUnreachableError, match=r"admin\.sock: Connection refused"):
                await edge.runtime.servers()
            with pytest.raises(EdgeUnreachableError, match="No such file"):
                await Runtime(edge.config_path.with_name("none")).servers()
            with pytest.raises(httpx.ConnectError):
                await platform.http.get(edge.url)
            edge.config_path.write_text("frontend x\n  bind nowhere\n")
            with pytest.raises(ConfigRefusedError, match="nowhere"):
                check(edge.config_path)

    asyncio.run(run())


def test_an_edge_that_hangs_is_said_to_be_away() -> None:
    async def run() -> None:
        async with edges() as platform:
            edge = await platform.edge([])
            edge.signal(signal.SIGSTOP)
            with pytest.raises(EdgeUnreachableError, match="no answer"):
                await Runtime(edge.settings.admin_socket, patience_s=0.2).drain("n1")
            edge.signal(signal.SIGCONT)
            with pytest.raises(RefusedError, match="add ledger/n1"):
                await edge.runtime.add_server("ledger", Server(name="n1", host="127.0.0.1", port=1), "nonsense")

    asyncio.run(run())

"""Which way a request goes: to a node, to another region, or to the last resort; and what is said of it."""

import asyncio
import json
import re
from collections.abc import Sequence

import httpx
import msgspec
import pytest

from fivenines.traffic.edge import RateLimit, Server, Service, TcpProxy, Timeouts
from tests.integration.edge.edges import Edge, Node, Platform, edges, free_port, wait_until

WEST, NORTH = "127.0.1.1", "127.0.2.1"


async def two_regions(platform: Platform, west: Sequence[Node], north: Sequence[Node]) -> tuple[Edge, Edge]:
    """Start the edges of two regions that know each other."""
    ports = {WEST: free_port(WEST), NORTH: free_port(NORTH)}
    made = []
    for region, host, nodes, other, there in (
        ("eu-west", WEST, west, "eu-north", NORTH),
        ("eu-north", NORTH, north, "eu-west", WEST),
    ):
        elsewhere = (Server(name=other, host=there, port=ports[there]),)
        settings = platform.describe(region, [node.server for node in nodes], host, elsewhere=elsewhere)
        made.append(await platform.start(msgspec.structs.replace(settings, port=ports[host])))
    for edge, nodes in zip(made, (west, north), strict=True):
        for node in nodes:
            await edge.sees(node.name, is_up=True)
    return made[0], made[1]


async def answered_by(platform: Platform, edge: Edge, method: str = "GET") -> tuple[int, str, str]:
    answer = await platform.http.request(method, edge.url + "/v1/accounts/a")
    return answer.status_code, answer.headers.get("x-region", ""), answer.headers.get("x-served-by", "")


def test_checks_that_fail_everywhere_refuse_nobody() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second = platform.node("n1"), platform.node("n2")
            edge = await platform.edge([first, second])
            for node in (first, second):
                await node.control(ready=0)
                await edge.sees(node.name, is_up=False)
            assert (await platform.http.get(edge.url + "/edge/ready")).status_code == 503
            assert (await platform.http.get(edge.url + "/edge/live")).status_code == 200
            answers = [await platform.http.get(edge.url + "/v1/accounts/a") for _ in range(20)]
            assert {each.status_code for each in answers} == {200}
            assert {each.headers["x-served-by"] for each in answers} == {"n1", "n2"}

    asyncio.run(run())


def test_a_region_without_nodes_is_served_by_the_other_one_until_they_are_back() -> None:
    async def run() -> None:
        async with edges() as platform:
            ours, theirs = platform.node("west-1", WEST), platform.node("north-1", NORTH)
            more = platform.node("west-2", WEST)
            west, north = await two_regions(platform, [ours, more], [theirs])
            await west.sees("eu-north", is_up=True)
            assert (await answered_by(platform, west))[:2] == (200, "eu-west")
            for node in (ours, more):
                node.kill()
            # From the first request on: nobody waits for the checks to find out.
            assert await answered_by(platform, west) == (200, "eu-north", "north-1")
            assert await answered_by(platform, west, "PATCH") == (200, "eu-north", "north-1")
            assert await answered_by(platform, north) == (200, "eu-north", "north-1")
            assert (await west.runtime.totals()).elsewhere >= 2
            assert [each.name for each in await west.runtime.servers() if each.is_edge] == ["eu-north"]
            ours.start()
            await west.sees("west-1", is_up=True)
            assert await answered_by(platform, west) == (200, "eu-west", "west-1")

    asyncio.run(run())


def test_two_regions_without_nodes_ask_each_other_once_and_no_more() -> None:
    async def run() -> None:
        async with edges() as platform:
            ours, theirs = platform.node("west-1", WEST), platform.node("north-1", NORTH)
            west, north = await two_regions(platform, [ours], [theirs])
            for node, edge in ((ours, west), (theirs, north)):
                node.kill()
                await edge.sees(node.name, is_up=False)
            for edge, other in ((west, "eu-north"), (north, "eu-west")):
                await edge.sees(other, is_up=False)
            for edge in (west, north):
                status, _region, _by = await answered_by(platform, edge)
                assert status == 503
            # Nor does one that is sent on, although the edge would have somewhere to send it.
            theirs.start()
            await west.sees("eu-north", is_up=True)
            answer = await platform.http.get(west.url + "/v1/accounts/a", headers={"Ledger-Edge": "eu-west"})
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["type"] == "/problems/nothing_serves"
            assert await theirs.seen() == []

    asyncio.run(run())


def test_a_region_that_is_cut_off_still_reads_when_the_others_are_away() -> None:
    async def run() -> None:
        async with edges() as platform:
            ours, theirs = platform.node("west-1", WEST), platform.node("north-1", NORTH)
            west, north = await two_regions(platform, [ours], [theirs])
            await ours.control(ready=0)
            await west.sees("west-1", is_up=False)
            north.kill()
            await west.sees("eu-north", is_up=False)
            assert await answered_by(platform, west) == (200, "eu-west", "west-1")

    asyncio.run(run())


def test_writes_go_to_another_region_while_the_switch_says_so() -> None:
    async def run() -> None:
        async with edges() as platform:
            ours, theirs = platform.node("west-1", WEST), platform.node("north-1", NORTH)
            west, north = await two_regions(platform, [ours], [theirs])
            await west.sees("eu-north", is_up=True)
            assert not await west.runtime.are_writes_remote()
            await west.runtime.set_writes_remote(True)
            assert await answered_by(platform, west) == (200, "eu-west", "west-1")
            assert await answered_by(platform, west, "PATCH") == (200, "eu-north", "north-1")
            # Both say so: what was sent on stays.
            await north.runtime.set_writes_remote(True)
            assert await answered_by(platform, west, "PATCH") == (200, "eu-north", "north-1")
            # Nobody there: here, then.
            north.kill()
            assert await answered_by(platform, west, "PATCH") == (200, "eu-west", "west-1")
            await west.runtime.set_writes_remote(False)
            assert await answered_by(platform, west, "PATCH") == (200, "eu-west", "west-1")

    asyncio.run(run())


def test_a_client_that_asks_too_often_is_told_when_to_come_back() -> None:
    async def run() -> None:
        async with edges() as platform:
            node = platform.node("n1")
            limit = RateLimit(requests_per_s=2, burst=10)
            edge = await platform.edge([node], rate_limit=limit, trusted=("127.0.0.3",))
            answers = [await platform.http.post(edge.url + "/v1/transactions", json={"id": "a"}) for _ in range(30)]
            assert [each.status_code for each in answers[:10]] == [200] * 10
            refused = answers[-1]
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["type"] == "/problems/too_many_requests"
            assert refused.headers["x-request-id"]
            # Another client is not concerned, and a trusted one never is.
            for address, count in (("127.0.0.2", 10), ("127.0.0.3", 30)):
                transport = httpx.AsyncHTTPTransport(local_address=address)
                async with httpx.AsyncClient(transport=transport) as other:
                    statuses = {(await other.get(edge.url + "/v1/accounts/a")).status_code for _ in range(count)}
                assert statuses == {200}

    asyncio.run(run())


def test_requests_have_ids_and_say_for_whom_they_are() -> None:
    async def run() -> None:
        async with edges() as platform:
            node = platform.node("n1")
            edge = await platform.edge([node])
            forged = {"X-Forwarded-For": "10.1.1.1", "Forwarded": "for=10.1.1.1"}
            kept = await platform.http.get(edge.url + "/a", headers=forged | {"X-Request-Id": "mine-1"})
            made = await platform.http.get(edge.url + "/b")
            replaced = await platform.http.get(edge.url + "/c", headers={"X-Request-Id": 'no"good'})
            assert kept.headers["x-request-id"] == "mine-1"
            for answer in (made, replaced):
                assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])
            seen = await node.seen()
            assert [each["headers"]["x-request-id"] for each in seen] == [
                each.headers["x-request-id"] for each in (kept, made, replaced)
            ]
            assert seen[0]["headers"]["x-forwarded-for"] == "127.0.0.1"
            assert seen[0]["headers"]["forwarded"] == "for=127.0.0.1"
            assert kept.headers["ledger-position"] == "7"

    asyncio.run(run())


def test_what_failed_or_was_repeated_is_in_the_log_as_json_and_nothing_else() -> None:
    async def run() -> None:
        async with edges() as platform:
            first = platform.node("n1")
            edge = await platform.edge([first])
            await platform.http.get(edge.url + "/fine")
            await first.control(status=500)
            await platform.http.get(edge.url + '/bad"%22\\', headers={"X-Request-Id": "r1"})

            async def is_logged() -> bool:
                return '"edge.request"' in edge.log

            await wait_until(is_logged, "it is logged")
            lines = [json.loads(line) for line in edge.log.splitlines() if line.startswith("{")]
            (line,) = lines
            assert line["id"] == "r1"
            assert (line["status"], line["region"], line["server"], line["method"]) == (500, "eu-west", "n1", "GET")
            assert line["path"].startswith("/bad")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["timestamp"])

    asyncio.run(run())


def test_events_come_through_as_they_come_and_for_longer_than_an_answer_may_take() -> None:
    async def run() -> None:
        async with edges() as platform:
            node = platform.node("n1")
            edge = await platform.edge([node], timeouts=Timeouts(answer_s=0.2))
            await node.control(events=2, delay_s=0.5, told=0)
            arrived = []
            async with platform.http.stream("GET", edge.url + "/v1/events") as stream:
                assert stream.headers["content-type"] == "text/event-stream"
                async for line in stream.aiter_lines():
                    if line.startswith("id:"):
                        arrived.append(line)
                        # The second one is not sent before the first one is here.
                        await node.control(told=len(arrived))
            assert arrived == ["id: 0", "id: 1"]

    asyncio.run(run())


def test_services_and_the_journal_are_behind_the_edge_too() -> None:
    async def run() -> None:
        async with edges() as platform:
            shop, raw, member = platform.node("shop-1"), platform.node("raw-1"), platform.node("etcd1")
            services = (
                Service(name="shop", mode="http", port=free_port(), servers=(shop.server,), health_path="/ready"),
                Service(name="raw", mode="tcp", port=free_port(), servers=(raw.server,)),
            )
            journal = TcpProxy(name="journal", port=free_port(), servers=(member.server,), health_path="/ready")
            edge = await platform.edge([], services=services, tcp_proxies=(journal,))
            for name in ("shop-1", "raw-1", "etcd1"):
                await edge.sees(name, is_up=True)
            for port, name in ((services[0].port, "shop-1"), (services[1].port, "raw-1"), (journal.port, "etcd1")):
                answer = await platform.http.get(f"http://127.0.0.1:{port}/x")
                assert answer.json()["node"] == name
            await edge.runtime.drain("shop-1")
            assert [each.is_drained for each in await edge.runtime.servers() if each.pool == "shop"] == [True]
            await edge.runtime.ready("shop-1")
            # A check that is wrong cuts nobody off.
            await member.control(ready=0)
            await edge.sees("etcd1", is_up=False)
            async with httpx.AsyncClient(trust_env=False) as http:
                assert (await http.get(f"http://127.0.0.1:{journal.port}/x")).json()["node"] == "etcd1"

    asyncio.run(run())


def test_a_service_repeats_only_what_is_safe() -> None:
    async def run() -> None:
        async with edges() as platform:
            shop, other = platform.node("shop-1"), platform.node("shop-2")
            for node in (shop, other):
                await node.control(status=503)
            service = Service(name="shop", mode="http", port=free_port(), servers=(shop.server, other.server))
            edge = await platform.edge([], services=(service,))
            url = f"http://127.0.0.1:{service.port}/orders"
            counts = []
            for method, headers in (("POST", {}), ("POST", {"Idempotency-Key": "k"}), ("PUT", {}), ("PATCH", {})):
                before = len(await shop.seen()) + len(await other.seen())
                assert (await platform.http.request(method, url, headers=headers)).status_code == 503
                counts.append(len(await shop.seen()) + len(await other.seen()) - before)
            assert counts == [1, 3, 3, 1]
            assert (await edge.runtime.totals("shop")).failed == 4

    asyncio.run(run())


@pytest.mark.parametrize("elsewhere", [(), ("127.0.2.1", "edge.example", "::1")])
@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_haproxy_takes_all_kinds_of_settings_and_warns_of_nothing(elsewhere: tuple[str, ...], mode: str) -> None:
    async def run() -> None:
        async with edges() as platform:
            others = tuple(Server(name=f"r{n}", host=host, port=9959) for n, host in enumerate(elsewhere))
            node = Server(name="n1", host="localhost", port=1)
            service = Service(
                name="shop",
                mode="http" if mode == "http" else "tcp",
                port=free_port(),
                servers=(node,),
                elsewhere=others if mode == "http" else (),
                health_path="/healthz?x=1",
                answer_s=20,
            )
            settings = platform.describe(
                "eu-west",
                [node],
                elsewhere=others,
                services=(service,),
                tcp_proxies=(TcpProxy(name="journal", port=free_port(), servers=(node,), health_path="/health"),),
                rate_limit=RateLimit(requests_per_s=0.5, burst=1000),
                trusted=("10.0.0.0/8", "::1"),
                threads=2,
                headers=False,
            )
            edge = await platform.start(settings)
            assert (await platform.http.get(edge.url + "/edge/live")).status_code == 200
            # It says when servers are down, and it does not know where edge.example is; nothing else.
            said = [line for line in edge.log.splitlines() if "[WARNING]" in line or "[ALERT]" in line]
            assert [line for line in said if " config : " in line and "'edge.example'" not in line] == []

    asyncio.run(run())

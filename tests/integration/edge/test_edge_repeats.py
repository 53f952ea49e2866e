"""What is repeated at another node, and what never is."""

import asyncio
import signal
from typing import Any

import pytest

from fivenines.traffic.edge import Timeouts
from tests.integration.edge.edges import Edge, Node, Platform, edges, wait_until

TRANSACTIONS = "/v1/transactions"
WITH_ID = {"id": "01932c07-209c-7d2f-8f0e-5b6a1c2d3e4f", "postings": []}
WITHOUT_ID: dict[str, Any] = {"postings": []}


# Longer than it takes a test to say what a node shall do, on a busy machine too.
PATIENT = Timeouts(answer_s=6, elsewhere_s=20, client_try_s=21, slow_start_s=0)


async def two_nodes(platform: Platform, timeouts: Timeouts | None = None) -> tuple[Node, Node, Edge]:
    first, second = platform.node("n1"), platform.node("n2")
    return first, second, await platform.edge([first, second], timeouts=timeouts or Timeouts(slow_start_s=0))


async def first_seen(*nodes: Node) -> Node:
    """Wait until one of the nodes has a request; return it."""
    found: list[Node] = []

    async def is_seen() -> bool:
        found.extend([node for node in nodes if await node.seen()])
        return bool(found)

    await wait_until(is_seen, "a node has the request")
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_write_with_an_id_is_repeated_with_its_body_when_its_node_dies_or_hangs(number: signal.Signals) -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second, edge = await two_nodes(platform, PATIENT)
            for node in (first, second):
                await node.control(delay_s=20)
            asking = asyncio.create_task(platform.http.post(edge.url + TRANSACTIONS, json=WITH_ID))
            hit = await first_seen(first, second)
            other = second if hit is first else first
            sent = (await hit.seen())[0]
            await other.control(delay_s=0)
            hit.signal(number)
            answer = await asking
            assert answer.status_code == 200
            assert answer.headers["x-served-by"] == other.name
            repeated = (await other.seen())[0]
            assert (repeated["sha"], repeated["method"]) == (sent["sha"], "POST")
            assert (
                repeated["headers"]["x-request-id"] == sent["headers"]["x-request-id"] == answer.headers["x-request-id"]
            )
            hit.kill()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("GET", "/v1/accounts/a?at_least=7", None, {}),
        ("PATCH", "/v1/accounts/a", {**WITH_ID, "metadata": {}}, {}),
        ("PATCH", "/v1/accounts/a", {"metadata": {}}, {"Ledger-Retry": "safe"}),
        ("POST", "/v1/accounts", [{"id": "a", "asset": "EUR/2"}], {}),
        ("POST", "/v1/assets", {"asset": "EUR/2"}, {}),
        ("POST", TRANSACTIONS, [WITH_ID], {"Ledger-Retry": "safe"}),
    ],
)
def test_what_is_safe_to_repeat_is_answered_although_a_node_is_dying(
    method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second, edge = await two_nodes(platform, PATIENT)
            for node in (first, second):
                await node.control(delay_s=20)
            asking = asyncio.create_task(platform.http.request(method, edge.url + path, json=body, headers=headers))
            hit = await first_seen(first, second)
            other = second if hit is first else first
            await other.control(delay_s=0)
            hit.kill()
            answer = await asking
            assert (answer.status_code, answer.headers["x-served-by"]) == (200, other.name)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        *(("POST", TRANSACTIONS, each) for each in (WITHOUT_ID, [WITH_ID], {"id": None}, {"metadata": {"id": "no"}})),
        ("PATCH", "/v1/accounts/a", {"status": "closed"}),
        ("PATCH", "/v1/accounts/a", {"metadata": {"id": "no"}}),
    ],
)
def test_a_write_that_is_not_safe_to_repeat_reaches_one_node_once(method: str, path: str, body: Any) -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second, edge = await two_nodes(platform, PATIENT)
            for node in (first, second):
                await node.control(delay_s=20)
            asking = asyncio.create_task(platform.http.request(method, edge.url + path, json=body))
            hit = await first_seen(first, second)
            other = second if hit is first else first
            hit.kill()
            answer = await asking
            assert answer.status_code == 502
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "/problems/bad_gateway"
            assert await other.seen() == []

    asyncio.run(run())


def test_a_write_that_is_not_safe_to_repeat_waits_longer_than_others() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second, edge = await two_nodes(platform)
            for node in (first, second):
                await node.control(delay_s=2.5)
            answer = await platform.http.post(edge.url + TRANSACTIONS, json=WITHOUT_ID)
            assert answer.status_code == 200
            assert len(await first.seen()) + len(await second.seen()) == 1

    asyncio.run(run())


def test_a_dead_node_fails_no_request_even_of_those_that_are_not_safe_to_repeat() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, _second, edge = await two_nodes(platform)
            first.kill()
            answers = [await platform.http.post(edge.url + TRANSACTIONS, json=WITHOUT_ID) for _ in range(20)]
            assert {(each.status_code, each.headers["x-served-by"]) for each in answers} == {(200, "n2")}

    asyncio.run(run())


def test_a_node_that_says_503_is_passed_over() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, _second, edge = await two_nodes(platform)
            await first.control(status=503)
            answers = [await platform.http.post(edge.url + TRANSACTIONS, json=WITH_ID) for _ in range(100)]
            assert {(each.status_code, each.headers["x-served-by"]) for each in answers} == {(200, "n2")}
            # Out of its own accord, for its checks say that it is well.
            assert (await edge.runtime.totals()).failed == 0

    asyncio.run(run())


def test_repeats_end_where_they_are_in_vain() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second, edge = await two_nodes(platform)
            for node in (first, second):
                await node.control(status=503)
            answers = [await platform.http.post(edge.url + TRANSACTIONS, json=WITH_ID) for _ in range(300)]
            assert {each.status_code for each in answers} == {503}
            assert {each.headers["ledger-position"] for each in answers} == {"7"}, "the node's own answer comes through"
            tries = len(await first.seen()) + len(await second.seen())
            assert tries < 300 + 3 * 40, tries
            # What is answered again ends it, and then one node's failure is made up for again.
            for node in (first, second):
                await node.control(status=200)
            answers = [await platform.http.post(edge.url + TRANSACTIONS, json=WITH_ID) for _ in range(50)]
            assert {each.status_code for each in answers} == {200}

    asyncio.run(run())


def test_a_body_that_fits_no_buffer_comes_through_whole_and_is_not_repeated() -> None:
    async def run() -> None:
        async with edges() as platform:
            first, second, edge = await two_nodes(platform)
            headers = {"content-type": "application/json", "Ledger-Retry": "safe"}
            for size in (50_000, 70_000, 8_000_000):
                answer = await platform.http.post(edge.url + TRANSACTIONS, content=b"x" * size, headers=headers)
                assert (answer.status_code, answer.json()["bytes"]) == (200, size)
            for node in (first, second):
                await node.control(status=503)
            before = len(await first.seen()) + len(await second.seen())
            answer = await platform.http.post(edge.url + TRANSACTIONS, content=b"x" * 70_000, headers=headers)
            assert answer.status_code == 503
            assert len(await first.seen()) + len(await second.seen()) == before + 1
            answer = await platform.http.post(edge.url + TRANSACTIONS, content=b"x" * 50_000, headers=headers)
            assert answer.status_code == 503
            assert len(await first.seen()) + len(await second.seen()) == before + 4

    asyncio.run(run())


def test_a_stream_of_unknown_length_comes_through() -> None:
    async def run() -> None:
        async with edges() as platform:
            _first, _second, edge = await two_nodes(platform)

            async def parts() -> Any:
                for _ in range(20):
                    yield b"y" * 10_000
                    await asyncio.sleep(0)

            answer = await platform.http.post(edge.url + TRANSACTIONS, content=parts())
            assert (answer.status_code, answer.json()["bytes"]) == (200, 200_000)

    asyncio.run(run())

"""A node tells the events that are asked for, and how far it has looked."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fivenines.ids import new_id
from fivenines.journal import FileJournal, Frame
from fivenines.node.history import KnownHolds
from tests.integration.node.served import Served, request, served


def moved(source: str, destination: str, kind: str = "post", **fields: Any) -> dict[str, Any]:
    posting = {"source": source, "destination": destination, "amount": 5}
    return {"id": new_id(), "kind": kind, "postings": [posting], **fields}


async def open_accounts(node: Served, *names: str) -> None:
    await node.post({"asset": "EUR/2"}, "/v1/assets")
    accounts = [{"id": id, "asset": "EUR/2", "min_balance": None} for id in names]
    assert (await node.post(accounts, "/v1/accounts")).status_code == 200


async def found(node: Served, query: str) -> list[str]:
    """Read all pages, and return what the events are about."""
    subjects: list[str] = []
    after, end = 0, node.node.replica.position
    while after < end:
        page = (await node.get(f"/v1/events?after={after}&limit=1&{query}")).json()
        assert page["position"] > after
        after = page["position"]
        subjects += [event["subject"] for event in page["events"]]
    return subjects


def test_events_are_chosen_by_type_and_by_account(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            await open_accounts(node, "bank:cash", "bank:fees", "customers:alice", "customers:bob")
            post, hold = moved("bank:cash", "customers:alice"), moved("customers:alice", "customers:bob", "hold")
            fee, bad = moved("bank:cash", "bank:fees"), moved("bank:cash", "customers:nobody")
            other = moved("bank:cash", "bank:fees", "hold")
            release = {"id": new_id(), "kind": "release", "hold": hold["id"]}
            settle = {"id": new_id(), "kind": "settle", "hold": other["id"]}
            sent = [post, hold, fee, bad, other, release, settle]
            for item in sent:
                assert (await node.post(item)).status_code in {200, 409}
            ids = [item["id"] for item in sent]
            assert await found(node, "") == ids
            assert await found(node, "type=transaction.*") == ids
            assert await found(node, "type=transaction.posted") == [post["id"], fee["id"]]
            both = "type=fivenines.transaction.posted&type=transaction.refused"
            assert await found(node, both) == [post["id"], fee["id"], bad["id"]]
            # A release names no account; its hold does.
            customers = [post["id"], hold["id"], bad["id"], release["id"]]
            assert await found(node, "account=customers:") == customers
            assert await found(node, "account=customers:b&account=bank:f") == [
                item["id"] for item in (hold, fee, other, release, settle)
            ]
            assert await found(node, "account=customers:&type=transaction.released") == [release["id"]]
            assert await found(node, "account=merchants:") == []
            for query, field in (("type=transaction.past", "type"), ("account=", "account")):
                answer = await node.http.get(f"/v1/events?{query}")
                assert (answer.status_code, answer.json()["field"]) == (422, field)

    asyncio.run(main())


def test_a_filtered_poll_waits_for_what_is_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            await open_accounts(node, "a", "b", "c")
            start = node.node.replica.position
            polling = asyncio.create_task(node.get(f"/v1/events?after={start}&account=c&wait_s=60"))
            for _ in range(3):
                assert (await node.post(moved("a", "b"))).status_code == 200
            wanted = moved("a", "c")
            assert (await node.post(wanted)).status_code == 200
            page = (await polling).json()
            assert [event["subject"] for event in page["events"]] == [wanted["id"]]
            # And one that waits in vain has come to the end all the same.
            assert (await node.post(moved("a", "b"))).status_code == 200
            page = (await node.get(f"/v1/events?after={start}&account=d&wait_s=1")).json()
            assert (page["events"], page["position"]) == ([], node.node.replica.position)

    asyncio.run(main())


def test_a_filtered_stream_tells_how_far_it_has_looked(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            await open_accounts(node, "a", "b", "c")
            for _ in range(5):
                assert (await node.post(moved("a", "b"))).status_code == 200
            end = node.node.replica.position
            reader, writer = await node.connect()
            query = "/v1/events?after=0&account=c&type=transaction.posted"
            writer.write(request("GET", query, headers=["Accept: text/event-stream"]))
            assert b" 200 " in await reader.readline()
            while not (line := await reader.readline()).startswith((b"id: ", b"data: ")):
                assert line
            assert line == b"id: %d\n" % end
            wanted = moved("a", "c")
            assert (await node.post(wanted)).status_code == 200
            while not (line := await reader.readline()).startswith(b"data: "):
                assert line
            assert wanted["id"].encode() in line
            writer.close()

    asyncio.run(main())


def test_a_hold_that_a_reader_came_across_is_not_looked_for_when_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[int] = []
    read = FileJournal.read

    def counted(journal: FileJournal, start: int) -> Iterator[Frame]:
        began.append(start)
        return read(journal, start)

    async def main() -> None:
        async with served(tmp_path) as node:
            await open_accounts(node, "a", "b")
            hold = moved("a", "b", "hold")
            release = {"id": new_id(), "kind": "release", "hold": hold["id"]}
            for item in (hold, release):
                assert (await node.post(item)).status_code == 200
            monkeypatch.setattr(FileJournal, "read", counted)
            assert await found(node, "account=a") == [hold["id"], release["id"]]
            # A page at a time, each from where the one before ended, and none of it to look for the hold.
            assert began == [1, node.node.replica.position]

    asyncio.run(main())


def test_the_hold_that_was_noted_first_is_forgotten_first() -> None:
    known = KnownHolds(most=2)
    for hold in (b"1", b"2", b"3"):
        known.note(hold, frozenset({hold.decode()}))
    assert [known.get(hold) for hold in (b"1", b"2", b"3")] == [None, frozenset({"2"}), frozenset({"3"})]

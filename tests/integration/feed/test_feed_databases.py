"""The feed on a database that several deliverers share, and over sources that come and go."""

import asyncio
import random
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from fivenines.node import NodeSettings
from tests.e2e.serving import Api, Server, run_server
from tests.integration.feed.feeding import (
    Child,
    Receiver,
    all_events,
    check_order,
    mixed,
    move_many,
    open_accounts,
    shown,
    stepping,
    subscribe,
    until,
)
from tests.integration.node.served import one, served
from tests.integration.sql.servers import postgres_server


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """An empty database of PostgreSQL."""
    with postgres_server() as server:
        yield server.new_database()


@pytest.mark.crash
def test_of_deliverers_that_share_a_database_one_takes_over_from_the_other(
    database: str, tmp_path: Path, crash_factor: int
) -> None:
    is_over = threading.Event()
    sent: list[str] = []
    chance = random.Random(7)
    with run_server(tmp_path / "data") as api, Receiver() as receiver:
        accounts = open_accounts(api, 6)
        start = api.position

        def load() -> None:
            while not is_over.is_set():
                if len(sent) < len(receiver.taken) + 200:
                    sent.extend(move_many(api, mixed(accounts, 3, seed=len(sent)), per_request=3))
                is_over.wait(0.02)

        def begin(owner: str) -> Child:
            return Child.deliverer(tmp_path, api.server.url, database=database, owner=owner)

        running = {owner: begin(owner) for owner in ("one", "two")}
        try:
            id = subscribe(running["one"], receiver.url, after=start)
            with stepping(load):
                try:
                    for _ in range(4 * crash_factor):
                        owner = chance.choice(["one", "two"])
                        until(partial(receiver.was_asked, len(receiver.asked) + 20))
                        running.pop(owner).kill()
                        until(partial(receiver.was_asked, len(receiver.asked) + 20))
                        running[owner] = begin(owner)
                finally:
                    is_over.set()
            until(lambda: {event["subject"] for event in receiver.taken} >= set(sent))
            until(lambda: shown(running["two"], id)["position"] >= api.position)
            told = all_events(api.server.url, start)
        finally:
            for child in running.values():
                child.kill()
    assert [event["subject"] for event in told] == sent
    check_order(told, receiver.taken)


def test_a_ledger_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server, Api(server) as api, Receiver() as receiver:
        accounts = open_accounts(api, 4)
        start = api.position
        ids = move_many(api, mixed(accounts, 10))
        with Child.deliverer(tmp_path, server.url) as child:
            id = subscribe(child, receiver.url, after=start)
            until(lambda: len(receiver.taken) == 10)
            server.kill()
            until(lambda: shown(child, id)["problem"])
            with Server(tmp_path / "data", "--port", str(server.port)) as again, Api(again) as more:
                ids += move_many(more, mixed(accounts, 10, seed=1))
                until(lambda: len(receiver.taken) >= 20)
                assert shown(child, id)["problem"] is None
                told = all_events(again.url, start)
    assert [event["subject"] for event in told] == ids
    check_order(told, receiver.taken)


def test_of_several_sources_one_that_answers_will_do(tmp_path: Path) -> None:
    with run_server(tmp_path / "data") as api, Receiver() as receiver:
        accounts = open_accounts(api, 4)
        start = api.position
        with Child.deliverer(tmp_path, "http://127.0.0.1:9", api.server.url) as child:
            subscribe(child, receiver.url, after=start)
            move_many(api, mixed(accounts, 10))
            until(lambda: len(receiver.taken) == 10)
        check_order(all_events(api.server.url, start), receiver.taken)


def test_what_was_trimmed_away_is_told_and_not_skipped(tmp_path: Path) -> None:
    async def main() -> None:
        settings = NodeSettings(journal_frames_kept=3, snapshots_kept=1)
        async with served(tmp_path / "data", settings=settings, segment_bytes=2_000) as node:
            await node.open_books()
            for _ in range(40):
                assert (await node.post(one())).status_code == 200
            assert await node.node.snapshot()
            assert node.node.journal.first > 10
            await asyncio.to_thread(check_trimmed, f"http://127.0.0.1:{node.port}")

    def check_trimmed(url: str) -> None:
        with Receiver() as receiver, Child.deliverer(tmp_path, url) as child:
            id = subscribe(child, receiver.url, after=0)
            until(lambda: "trimmed away" in (shown(child, id)["problem"] or ""))
            gone = httpx.get(f"{child.url}/v1/events?after=0")
            assert (gone.status_code, gone.json()["field"]) == (410, "after")
            assert (shown(child, id)["position"], receiver.taken) == (0, [])

    asyncio.run(main())


def test_a_lane_with_more_waiting_than_it_may_hold_reads_on_as_room_comes(tmp_path: Path) -> None:
    with run_server(tmp_path / "data") as api, Receiver() as receiver:
        accounts = open_accounts(api, 3)
        start = api.position
        ids = move_many(api, mixed(accounts, 300), per_request=10)
        with Child.deliverer(tmp_path, api.server.url, waiting_max=5) as child:
            subscribe(child, receiver.url, after=start)
            until(lambda: len(receiver.taken) >= len(ids))
        check_order(all_events(api.server.url, start), receiver.taken)

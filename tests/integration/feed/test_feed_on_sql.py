"""The feed over a history in SQL, as a historian has it: the events of a node, for all time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
from sqlalchemy import Engine

from fivenines.api import Event, Events
from fivenines.historian.feed.pages import feed_pages
from fivenines.historian.feed.signing import Secrets
from fivenines.historian.feed.source import PolledSource
from fivenines.historian.feed.webhooks import Webhooks
from fivenines.historian.sql import HistoryUnavailableError, Queries, open_engine
from fivenines.node.filters import EventFilter
from tests.integration.feed.feeding import SECRET, Receiver, check_order
from tests.unit.historian_sql.lives import live, project


def source_of(engine: Engine) -> PolledSource:
    queries = Queries(engine)
    return PolledSource(queries.events_after, queries.position, unavailable=(HistoryUnavailableError,), poll_s=0.005)


@asynccontextmanager
async def asking(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the feed's pages."""
    transport = httpx.ASGITransport(app=feed_pages(source_of(engine)))
    async with httpx.AsyncClient(transport=transport, base_url="http://history", timeout=60) as http:
        yield http


async def pages(http: httpx.AsyncClient, query: str, end: int) -> list[Event]:
    found: list[Event] = []
    after = 0
    while after < end:
        response = await http.get(f"/v1/events?after={after}&limit=7{query}")
        assert response.status_code == 200, response.text
        page = msgspec.json.decode(response.content, type=Events)
        assert page.position > after
        found += page.events
        after = page.position
    return found


def test_events_are_those_of_a_node_and_filters_choose_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        life = live(11)
        engine = open_engine(f"sqlite:///{tmp_path / 'history.db'}")
        project(engine, 2, life.steps)
        end = life.state.position
        account = next(iter(life.state.accounts))
        async with asking(engine) as http:
            assert await pages(http, "", end) == life.events
            for query, wanted in [
                (
                    "&type=transaction.released&type=transaction.settled",
                    EventFilter.of(["transaction.released", "transaction.settled"]),
                ),
                (f"&account={account}", EventFilter.of(accounts=[account])),
            ]:
                chosen = [event for event in life.events if wanted.matches(event)]
                assert chosen
                assert await pages(http, query, end) == chosen
        engine.dispose()

    asyncio.run(main())


def test_a_long_poll_is_answered_when_the_history_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        life = live(12)
        engine = open_engine(f"sqlite:///{tmp_path / 'history.db'}")
        projector = project(engine, 2, life.steps[:20])
        position = life.steps[19].frame.position
        async with asking(engine) as http:
            polling = asyncio.create_task(http.get(f"/v1/events?after={position}&wait_s=60"))
            early = await http.get(f"/v1/events?after={position + 1}")
            assert (early.status_code, early.json()["type"]) == (503, "/problems/not_there_yet")
            await asyncio.to_thread(projector.project, life.steps[20:])
            page = msgspec.json.decode((await polling).content, type=Events)
            assert page.position > position
            assert page.events == [event for event in life.events if position < event.data.position <= page.position]
        engine.dispose()

    asyncio.run(main())


def test_a_database_without_a_history_is_not_available_yet(tmp_path: Path) -> None:
    async def main() -> None:
        engine = open_engine(f"sqlite:///{tmp_path / 'history.db'}")
        async with asking(engine) as http:
            answer = await http.get("/v1/events?after=0")
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/feed_unavailable")
            assert answer.headers["Retry-After"] == "1"
        engine.dispose()

    asyncio.run(main())


def test_webhooks_live_in_the_database_of_the_history(tmp_path: Path) -> None:
    async def main(receiver: Receiver) -> None:
        life = live(13)
        engine = open_engine(f"sqlite:///{tmp_path / 'history.db'}")
        project(engine, 2, life.steps)
        secrets = Secrets(None, {"FIVENINES_WEBHOOK_SECRET_TEST": SECRET.decode()})
        webhooks = Webhooks(engine, source_of(engine), secrets, owner="history")
        webhooks.store.install()
        made = await webhooks.add(receiver.url, "test", EventFilter(), 0)
        running = asyncio.create_task(webhooks.run())
        while (status := webhooks.status(made.id)) is None or status.cursor < life.state.position:
            assert not running.done()
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        engine.dispose()
        told = msgspec.to_builtins(life.events)
        assert receiver.unsigned == 0
        check_order(told, receiver.taken)

    with Receiver() as receiver:
        asyncio.run(main(receiver))

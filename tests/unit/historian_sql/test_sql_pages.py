"""The SQL history over HTTP: forms, positions, and problems that name the field."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import Engine
from starlette.routing import Router

from fivenines.historian.sql import Queries, open_engine, pages
from fivenines.ids import as_text
from fivenines.ledger import Hold, OpenAccount, Post, Posting, PostOne, RegisterAsset
from tests.unit.historian_sql.lives import Life, project
from tests.unit.ledger.world import NOW_MS, make_id

NOW_US = NOW_MS * 1000  # 2025-10-09T08:53:20Z


@pytest.fixture
def life() -> Life:
    life = Life()
    life.tell(RegisterAsset("EUR/2"), OpenAccount("bank", "EUR/2", None), OpenAccount("alice", "EUR/2"), time_us=NOW_US)
    life.tell(PostOne(make_id(1), "bank", "alice", 100), time_us=NOW_US + 1_000_000)
    rent = Post(make_id(2), (Posting("alice", "bank", 30),), "2025-10-01", "rent", b'{"flat":"12","floor":3}')
    life.tell(rent, PostOne(make_id(3), "alice", "bank", 5_000), time_us=NOW_US + 2_000_000)
    life.tell(Hold(make_id(4), (Posting("alice", "bank", 20),)), time_us=NOW_US + 24 * 3600 * 1_000_000)
    return life


@pytest.fixture
def engine(tmp_path: Path, life: Life) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'history.db'}")
    project(engine, 2, life.steps)
    yield engine
    engine.dispose()


class Client:
    """Asks the pages as a server would."""

    def __init__(self, router: Router) -> None:
        self._transport = httpx.ASGITransport(router)

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://history") as client:
                return await client.get(path)

        return asyncio.run(ask())


@pytest.fixture
def client(engine: Engine) -> Client:
    return Client(pages(Queries(engine)))


def get(client: Client, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200, response.text
    assert response.headers["Ledger-Position"] == "4"
    return response.json()


def test_a_history_is_told_in_the_form_of_a_node(client: Client, life: Life) -> None:
    told = [msgspec.to_builtins(event.data) for event in life.events]
    first = get(client, "/v1/accounts/alice/history?limit=3")
    assert first == {"transactions": told[:0:-1], "next": "3-0"}
    assert get(client, "/v1/accounts/alice/history?limit=3&before=3-0") == {"transactions": told[:1], "next": None}
    # A position alone is what a node takes.
    assert get(client, "/v1/accounts/alice/history?before=3") == {"transactions": told[:1], "next": None}


def test_a_statement_leads_from_its_opening_to_its_closing_balance(client: Client) -> None:
    found = get(client, "/v1/accounts/alice/statement?from=2025-10-09&to=2025-10-09")
    assert (found["opening"], found["closing"], found["next"]) == (0, 70, None)
    assert [(line["amount"], line["balance"], line["counterparty"]) for line in found["lines"]] == [
        (100, 100, "bank"),
        (-30, 70, "bank"),
    ]
    assert found["lines"][1]["reference"] == "rent"
    assert found["lines"][1]["effective_date"] == "2025-10-01"
    part = get(client, "/v1/accounts/alice/statement?from=2025-10-09&to=2025-10-09&limit=1")
    assert part["next"] == "2-0-0"
    rest = get(client, f"/v1/accounts/alice/statement?from=2025-10-09&to=2025-10-09&after={part['next']}")
    assert part["lines"] + rest["lines"] == found["lines"]
    later = get(client, "/v1/accounts/alice/statement?from=2025-10-10&to=2025-12-31")
    assert (later["opening"], later["closing"], later["lines"]) == (70, 70, [])


@pytest.mark.parametrize(
    ("asked", "position", "balance", "available"),
    [
        ("", 4, 70, 50),
        ("?position=2", 2, 100, 100),
        ("?position=1", 1, 0, 0),
        ("?time=2025-10-09T08:53:21Z", 2, 100, 100),
        ("?time=2025-10-09T10:53:21.999999%2B02:00", 2, 100, 100),
        ("?time=2025-10-09T08:53:22Z", 3, 70, 70),
        ("?time=9999-12-31T00:00:00Z", 4, 70, 50),
    ],
)
def test_a_balance_is_told_as_of_a_position_or_a_time(
    client: Client, asked: str, position: int, balance: int, available: int
) -> None:
    found = get(client, f"/v1/accounts/alice/balance{asked}")
    assert (found["position"], found["balance"], found["available"]) == (position, balance, available)


@pytest.mark.parametrize(
    "asked", ["reference=rent", "metadata.flat=12", "metadata.floor=3", "reference=rent&metadata.flat=12"]
)
def test_transactions_are_found_by_reference_and_metadata(client: Client, asked: str) -> None:
    (found,) = get(client, f"/v1/transactions?{asked}")["transactions"]
    assert (found["id"], found["metadata"]) == (as_text(make_id(2)), {"flat": "12", "floor": 3})
    assert get(client, f"/v1/transactions?{asked}x")["transactions"] == []


def test_a_transaction_is_told_with_its_outcome_and_a_hold_with_how_it_stands(client: Client) -> None:
    assert get(client, f"/v1/transactions/{as_text(make_id(3))}")["outcome"] == "insufficient_funds"
    hold = get(client, f"/v1/transactions/{as_text(make_id(4)).upper()}")
    assert hold["state"] == "open"
    assert hold["remaining"] == [{"source": "alice", "destination": "bank", "amount": 20}]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/accounts/alice/history?limit=0", "limit"),
        ("/v1/accounts/alice/history?limit=1001", "limit"),
        ("/v1/accounts/alice/history?before=x", "before"),
        ("/v1/accounts/alice/history?before=1-", "before"),
        ("/v1/accounts/alice/statement", "from"),
        ("/v1/accounts/alice/statement?from=2025-10-09", "to"),
        ("/v1/accounts/alice/statement?from=2025-13-09&to=2025-10-09", "from"),
        ("/v1/accounts/alice/statement?from=20251009&to=2025-10-09", "from"),
        ("/v1/accounts/alice/statement?from=2025-10-09&to=2025-10-08", "to"),
        ("/v1/accounts/alice/statement?from=2025-10-09&to=2025-10-09&after=2-0", "after"),
        ("/v1/accounts/alice/balance?position=-1", "position"),
        ("/v1/accounts/alice/balance?position=9223372036854775808", "position"),
        ("/v1/accounts/alice/balance?time=yesterday", "time"),
        ("/v1/accounts/alice/balance?time=2025-10-09T08:53:21", "time"),
        ("/v1/accounts/alice/balance?time=2025-10-09T08:53:21Z&position=1", "time"),
        ("/v1/transactions", "reference"),
        ("/v1/transactions?reference=a&reference=b", "reference"),
        ("/v1/transactions?metadata.a=1&metadata.a=2", "metadata.a"),
        ("/v1/transactions/17", "id"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(client: Client, path: str, field: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["field"]) == (422, field)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/accounts/nobody/history",
        "/v1/accounts/nobody/balance",
        "/v1/accounts/alice/balance?position=0",
        "/v1/accounts/alice/balance?time=0001-01-01T00:00:00%2B14:00",
        "/v1/accounts/nobody%00/statement?from=2025-10-09&to=2025-10-09",
        f"/v1/transactions/{as_text(make_id(99))}",
    ],
)
def test_what_is_not_there_is_told_with_the_position(client: Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.headers["Ledger-Position"]) == (404, "4")
    assert response.json()["type"] == "/problems/not_found"


def test_a_position_that_is_not_reached_yet_will_be(client: Client) -> None:
    response = client.get("/v1/accounts/alice/balance?position=5")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json()["type"] == "/problems/not_there_yet"


def test_a_database_that_is_away_is_told_with_when_to_come_again(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'history.db'}")
    response = Client(pages(Queries(engine))).get("/v1/accounts/alice/history")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json()["type"] == "/problems/history_unavailable"
    engine.dispose()

"""The same history in SQLite and in PostgreSQL: whatever the ledger lived through, to the last digit."""

import pytest
from sqlalchemy import Engine, make_url

from fivenines.historian.sql import VERSIONS, Cursor, HistoryUnavailableError, Projector, Queries, open_engine
from fivenines.ids import as_text
from fivenines.ledger import AMOUNT_MAX, Hold, OpenAccount, Post, Posting, RegisterAsset, Settle
from tests.integration.sql.servers import PostgresServer, postgres_server
from tests.unit.historian_sql.lives import (
    Life,
    check_balances,
    check_events,
    check_everything,
    check_history,
    everything,
    live,
    project,
)
from tests.unit.ledger.world import NOW_MS, make_id

NOW_US = NOW_MS * 1000


@pytest.mark.parametrize("seed", range(100, 102))
@pytest.mark.parametrize("version", VERSIONS)
def test_postgresql_tells_a_life_as_it_was(postgres: PostgresServer, version: int, seed: int) -> None:
    life = live(seed)
    engine = open_engine(postgres.new_database())
    project(engine, version, life.steps)
    check_everything(engine, version, life)
    engine.dispose()


def test_both_databases_hold_the_same_rows(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    life = live(110)
    engines = [
        open_engine(postgres.new_database()),
        open_engine(f"sqlite:///{tmp_path_factory.mktemp('history') / 'history.db'}"),
    ]
    for engine in engines:
        project(engine, 2, life.steps)
    assert everything(engines[0], 2) == everything(engines[1], 2)
    for engine in engines:
        engine.dispose()


@pytest.mark.parametrize("version", VERSIONS)
def test_no_digit_is_lost_up_to_the_largest_amount(engine: Engine, version: int) -> None:
    life = Life()
    opened = [OpenAccount(name, "EUR/2", min_balance=None) for name in ("a", "b", "c")]
    life.tell(RegisterAsset("EUR/2"), *opened, time_us=NOW_US)
    for number, amount in enumerate((2**126, 2**126 - 1, 2**63, 2**63 - 1, 1)):
        life.tell(Post(make_id(number), (Posting("a", "b", amount),)), time_us=NOW_US)
    life.tell(Hold(make_id(10), (Posting("b", "c", AMOUNT_MAX),)), time_us=NOW_US)
    life.tell(Settle(make_id(11), make_id(10), (Posting("b", "c", 2**126 + 1),)), time_us=NOW_US)
    project(engine, version, life.steps)
    assert life.totals[-1]["b"] == (2**126 + 1, AMOUNT_MAX, 0, 0)
    check_balances(Queries(engine), life, range(1, len(life.steps) + 1))
    check_events(Queries(engine), life, limit=3)


@pytest.mark.parametrize(
    "said",
    [
        "plain",
        "",
        "with\0nul",
        "tab\tline\nreturn\r\\back\\N\\.",
        "\\N",
        "\\.",
        "\ue000 private \ue0000000",
        "'quotes\" and % and {braces}",
        "ünïcödé €",
        "\N{MONEY BAG}" * 256,
    ],
)
def test_no_character_is_lost(engine: Engine, said: str) -> None:
    life = Life()
    life.tell(RegisterAsset("EUR/2"), OpenAccount("a", "EUR/2", min_balance=None), time_us=NOW_US)
    life.tell(OpenAccount("b", "EUR/2", metadata=b'{"k":"\\u0000"}'), time_us=NOW_US)
    # A name that the gateway would refuse: a frame may hold it all the same, and must not stop the history.
    odd = f"x{said[:100]}"
    life.tell(OpenAccount(odd, "EUR/2"), time_us=NOW_US)
    post = Post(make_id(1), (Posting("a", odd, 5),), "2026-01-31", said, b'{"k":"\\u0000\\\\","n":{"deep":[1]}}')
    life.tell(post, time_us=NOW_US)
    project(engine, 2, life.steps, batch=1)
    queries = Queries(engine)
    check_history(queries, life, limit=10)
    check_events(queries, life, limit=10)
    found = queries.search(reference=said).content.transactions
    assert [transaction.reference for transaction in found] == [said]
    assert [found[0].id] == [t.id for t in queries.search(metadata={"k": "\0\\"}).content.transactions]
    assert queries.search(reference=said + "?").content.transactions == []


def test_a_long_reference_is_found_by_all_of_it(engine: Engine) -> None:
    life = Life()
    life.tell(RegisterAsset("EUR/2"), OpenAccount("a", "EUR/2", None), OpenAccount("b", "EUR/2"), time_us=NOW_US)
    long = "€" * 5_000
    posts = [Post(make_id(n), (Posting("a", "b", 1),), None, long + end) for n, end in enumerate(("x", "y", "x"))]
    life.tell(*posts, time_us=NOW_US)
    project(engine, 2, life.steps)
    found = Queries(engine).search(reference=long + "x").content.transactions
    assert [transaction.id for transaction in found] == [as_text(make_id(2)), as_text(make_id(0))]


@pytest.mark.parametrize("version", VERSIONS)
def test_pages_end_within_a_frame_and_go_on_there(engine: Engine, version: int) -> None:
    life = Life()
    opened = [OpenAccount(name, "EUR/2", min_balance=None) for name in ("a", "b", "c")]
    life.tell(RegisterAsset("EUR/2"), *opened, time_us=NOW_US)
    for frame in range(3):
        life.tell(
            *(
                Post(
                    make_id(frame * 200 + n),
                    (Posting("a", "b", n), Posting("b", "a", 1), Posting("a", "c", n)),
                    None,
                    "rent" if n % 2 else None,
                    b'{"run":7,"half":%d,"ok":true}' % (n % 2),
                )
                for n in range(1, 101)
            ),
            time_us=NOW_US + frame * 24 * 3600 * 1_000_000,
        )
    project(engine, version, life.steps)
    queries = Queries(engine)
    check_history(queries, life, limit=7)
    assert _all_found(queries, reference="rent") == _told(life, lambda n: n % 2 == 1)
    assert _all_found(queries, metadata={"half": "0"}) == _told(life, lambda n: n % 2 == 0)
    assert _all_found(queries, metadata={"half": "1", "run": "7", "ok": "true"}) == _told(life, lambda n: n % 2 == 1)
    assert _all_found(queries, reference="rent", metadata={"half": "0"}) == []
    assert _all_found(queries, reference="rent", metadata={"half": "1"}) == _told(life, lambda n: n % 2 == 1)
    assert _all_found(queries, metadata={"half": "2"}) == []


def test_a_projector_goes_on_when_its_server_was_killed_and_is_back() -> None:
    with postgres_server() as server:
        life = live(120)
        engine = open_engine(server.new_database())
        projector, queries = Projector(engine, 2), Queries(engine)
        projector.project(life.steps[:10])
        server.kill()
        with pytest.raises(HistoryUnavailableError):
            projector.project(life.steps[10:20])
        with pytest.raises(HistoryUnavailableError):
            queries.position()
        server.start()
        # What was committed last may be gone with the server, rows and position together.
        assert queries.position() == projector.position
        projector.project(life.steps[projector.position :])
        check_everything(engine, 2, life)
        engine.dispose()


def test_a_database_without_a_history_says_so(engine: Engine) -> None:
    with pytest.raises(HistoryUnavailableError):
        Queries(engine).position()


def test_a_url_names_the_database_alone() -> None:
    engine = open_engine("postgresql://someone@localhost/history")
    assert engine.driver == make_url("postgresql+psycopg://").get_driver_name()
    engine.dispose()


def _all_found(queries: Queries, *, reference: str | None = None, metadata: dict[str, str] | None = None) -> list[str]:
    found: list[str] = []
    before = None
    while True:
        page = queries.search(reference=reference, metadata=metadata, before=before, limit=7).content
        found += [transaction.id for transaction in page.transactions]
        if page.next is None:
            return found
        before = Cursor.parse(page.next)
        assert before is not None


def _told(life: Life, is_wanted: object) -> list[str]:
    assert callable(is_wanted)
    return [event.subject for event in reversed(life.events) if is_wanted(int(event.data.postings[0].amount))]

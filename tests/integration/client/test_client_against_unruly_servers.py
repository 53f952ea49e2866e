"""A server may do anything to a connection: each id is done at most once, and errors tell truly what is known."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines import AsyncLedger, Ledger
from fivenines.api import NewTransaction, Posting
from fivenines.client import Limits, MaybeDoneError, NotDoneError, NotFoundError, UnavailableError
from fivenines.ids import new_id, new_ids, new_ids16
from tests.integration.client.shells import QUICK, SHELLS, Open, Ticks
from tests.integration.client.unruly import SLOW, SURELY_NOT_DONE, WITHOUT_WORK, WORDS, UnrulyLedger, Word

shells = pytest.mark.parametrize("open_ledger", SHELLS)
scripts = st.lists(st.sampled_from([word for word in WORDS if word not in SLOW]), max_size=5)


@shells
@pytest.mark.parametrize("word", WORDS)
def test_whatever_one_try_meets_the_next_one_is_answered_and_the_work_is_done_once(
    open_ledger: Open, word: Word
) -> None:
    with UnrulyLedger([word]) as server, open_ledger(server.url, limits=QUICK) as ledger:
        result = ledger.post(source="a", destination="b", amount=1)
        assert result.outcome == "posted"
        assert server.done == {result.id: 1}
        assert server.seen[result.id] >= (1 if word == "serve" else 2)


@shells
@pytest.mark.parametrize("word", WORDS[1:])
def test_when_the_deadline_passes_the_error_tells_what_is_known(open_ledger: Open, word: Word) -> None:
    with (
        UnrulyLedger([word] * 100) as server,
        open_ledger(server.url, limits=QUICK, deadline_s=Ticks.TWO_TRIES, clock=Ticks()) as ledger,
    ):
        id = new_id()
        with pytest.raises(UnavailableError) as caught:
            ledger.post(source="a", destination="b", amount=1, id=id)
        assert caught.type is (NotDoneError if word in SURELY_NOT_DONE else MaybeDoneError)
        assert caught.value.ids == (id,)
        assert server.done == ({} if word in WITHOUT_WORK else {id: 1})
        if caught.type is MaybeDoneError:
            # What the error advises: look it up, or send it again under the same id.
            server.script.clear()
            if word in WITHOUT_WORK:
                with pytest.raises(NotFoundError):
                    ledger.transaction(id)
            else:
                assert ledger.transaction(id).outcome == "posted"
            assert ledger.post(source="a", destination="b", amount=1, id=id).outcome == "posted"
            assert server.done == {id: 1}


@shells
@settings(max_examples=25)
@given(first=scripts, second=scripts, count=st.integers(1, 5), batch_max=st.integers(1, 3))
def test_arrays_through_two_unruly_servers_are_answered_whole_and_in_order(
    open_ledger: Open, first: list[Word], second: list[Word], count: int, batch_max: int
) -> None:
    limits = Limits(try_timeout_s=0.15, backoff_s_min=0.001, backoff_s_max=0.01, avoid_s=0.05, batch_max=batch_max)
    with UnrulyLedger(first) as one, UnrulyLedger(second) as two:
        two.book, two.done = one.book, one.done  # two servers of one ledger
        with open_ledger(one.url, two.url, limits=limits) as ledger:
            ids = new_ids(count)
            results = ledger.submit([NewTransaction(id=id, postings=[Posting("a", "b", 1)]) for id in ids])
            rows = [(id16, "a", "b", 1) for id16 in new_ids16(count)]
            row_results = ledger.submit_rows(rows)
        assert [(result.id, result.outcome) for result in results] == [(id, "posted") for id in ids]
        assert [(result.id, result.outcome) for result in row_results] == [(row[0], "posted") for row in rows]
        assert set(one.done.values()) == {1}
        assert len(one.done) == 2 * count


@shells
def test_a_server_that_is_not_there_is_told_as_not_done(open_ledger: Open) -> None:
    with UnrulyLedger() as server:
        url = server.url
    with open_ledger(url, limits=QUICK, deadline_s=Ticks.TWO_TRIES, clock=Ticks()) as ledger:
        with pytest.raises(NotDoneError, match=r"no connection to http://127\.0\.0\.1") as caught:
            ledger.post(source="a", destination="b", amount=1)
        assert caught.value.tries == 2


@shells
def test_the_other_region_answers_when_one_is_gone_and_is_kept_from_then_on(open_ledger: Open) -> None:
    with UnrulyLedger() as gone:
        url = gone.url
    with UnrulyLedger() as server, open_ledger(url, server.url, limits=QUICK) as ledger:
        for _ in range(3):
            ledger.post(source="a", destination="b", amount=1)
        assert len(server.done) == 3


@shells
def test_a_server_that_does_not_speak_tls_is_told_as_not_done(open_ledger: Open) -> None:
    with UnrulyLedger() as server:
        url = server.url.replace("http:", "https:")
        with (
            open_ledger(url, limits=QUICK, deadline_s=Ticks.TWO_TRIES, clock=Ticks()) as ledger,
            pytest.raises(NotDoneError, match=r"(?i)ssl"),
        ):
            ledger.post(source="a", destination="b", amount=1)
        assert not server.done


@shells
def test_a_closed_client_sends_nothing(open_ledger: Open) -> None:
    with UnrulyLedger() as server:
        ledger = open_ledger(server.url)
        with ledger:
            ledger.close()
            with pytest.raises(RuntimeError, match="closed"):
                ledger.account("a")
        assert not server.paths


def test_a_request_that_finds_no_free_connection_was_not_done() -> None:
    limits = Limits(connections_max=1, try_timeout_s=60)
    with UnrulyLedger(["hang_before"]) as server, Ledger(server.url, limits=limits) as ledger:
        first = threading.Thread(target=ledger.post, kwargs={"source": "a", "destination": "b", "amount": 1})
        first.start()
        server.arrived.wait()
        ledger.operations.session.deadline_s = 0.2
        with pytest.raises(NotDoneError, match="connections_max"):
            ledger.post(source="a", destination="b", amount=1)
        server.closing.set()
        first.join()
        assert set(server.done.values()) == {1}
        assert len(server.done) == 1


@shells
def test_the_other_region_answers_when_one_hangs(open_ledger: Open) -> None:
    with UnrulyLedger(["hang_after"] * 100) as hanging, UnrulyLedger() as server:
        with open_ledger(hanging.url, server.url, limits=Limits(try_timeout_s=1, avoid_s=60)) as ledger:
            for _ in range(3):
                ledger.post(source="a", destination="b", amount=1)
        assert len(server.done) == 3
        assert sum(hanging.seen.values()) == 1


@shells
def test_an_answer_that_goes_on_for_ever_is_cut_at_its_limit(open_ledger: Open) -> None:
    limits = Limits(answer_bytes_max=1, backoff_s_min=0.001, backoff_s_max=0.01)
    with (
        UnrulyLedger(["drip"] * 100) as server,
        open_ledger(server.url, limits=limits, deadline_s=Ticks.TWO_TRIES, clock=Ticks()) as ledger,
        pytest.raises(NotDoneError, match="does not end"),
    ):
        ledger.account("a")


@shells
def test_a_read_waits_for_what_this_client_has_seen(open_ledger: Open) -> None:
    with UnrulyLedger() as server, open_ledger(server.url, limits=QUICK) as ledger:
        assert ledger.position == 0
        id = ledger.post(source="a", destination="b", amount=1).id
        assert ledger.position == 7
        ledger.transaction(id)
        assert server.paths == ["/v1/transactions", f"/v1/transactions/{id}?at_least=7"]


def test_a_task_that_finds_no_free_connection_has_not_done_anything() -> None:
    async def load(server: UnrulyLedger) -> None:
        limits = Limits(connections_max=1, try_timeout_s=60)
        async with AsyncLedger(server.url, limits=limits) as ledger:
            first = asyncio.create_task(ledger.post(source="a", destination="b", amount=1))
            await asyncio.to_thread(server.arrived.wait)
            ledger.operations.session.deadline_s = 0.2
            with pytest.raises(NotDoneError, match="connections_max"):
                await ledger.post(source="a", destination="b", amount=1)
            server.closing.set()
            await first

    with UnrulyLedger(["hang_before"]) as server:
        asyncio.run(load(server))
        assert list(server.done.values()) == [1]


def test_many_tasks_share_one_client_through_unruly_times() -> None:
    words: list[Word] = ["cut_after", "busy", "serve", "bad_gateway", "reset_after", "serve", "half", "noise"]

    async def load(url: str) -> list[str]:
        async with AsyncLedger(url, limits=QUICK) as ledger, asyncio.TaskGroup() as group:
            tasks = [group.create_task(ledger.post(source="a", destination="b", amount=1)) for _ in range(60)]
        return [task.result().id for task in tasks]

    with UnrulyLedger(words * 10) as server:
        ids = asyncio.run(load(server.url))
        assert len(set(ids)) == 60
        assert server.done == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("url", ["localhost:9959", "ftp://x", "http://", "http://x?y=1", "http://x#y", ""])
@shells
def test_what_is_no_url_of_a_ledger_is_refused_at_once(open_ledger: Open, url: str) -> None:
    with pytest.raises(ValueError, match="is no URL of a ledger"):
        open_ledger(url)


def test_urls_come_from_the_environment_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def urls(*given: str) -> tuple[str, ...]:
        with Ledger(*given) as ledger:
            return ledger.operations.session.servers.urls

    monkeypatch.delenv("FIVENINES_URL", raising=False)
    assert urls() == ("http://127.0.0.1:9959",)
    monkeypatch.setenv("FIVENINES_URL", "http://a:1, https://b/base/,http://a:1")
    assert urls() == ("http://a:1", "https://b/base")
    assert urls("http://c:2/") == ("http://c:2",)

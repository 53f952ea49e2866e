"""One reply, one judgement: each row of the table is a kind of reply and what it means for a call."""

import datetime

import msgspec
import pytest

from fivenines.api import NewTransaction, Posting
from fivenines.client.answers import Account, ItemResult
from fivenines.client.errors import InvalidRequestError, LedgerError, NotFoundError, RefusedError
from fivenines.client.wire import (
    JSON,
    MSGPACK,
    Answer,
    Failure,
    NoAnswer,
    Reply,
    Request,
    array_body,
    judge,
    path,
    reader,
)
from tests.unit.client.driving import problem, reply

WRITE = Request(method="POST", path="/v1/transactions", body=b"{}", ids=("t1",), names="t1")
READ = Request(method="GET", path="/v1/accounts/a", names="a")
RESULT = {"id": "t1", "outcome": "posted", "position": 7}
FROM_AN_EDGE = Reply(status=503, media_type="text/html", body=b"<h1>503</h1>")

read_result = reader(ItemResult)


@pytest.mark.parametrize(
    ("came", "url", "maybe_done"),
    [
        (Failure("unreached", ""), "leave", False),
        (Failure("busy_here", ""), "keep", False),
        (Failure("timed_out", ""), "leave", True),
        (Failure("cut_off", ""), "keep_once", True),
        (Failure("garbled", ""), "leave", True),
        (problem(429, "too_many"), "keep", False),
        (problem(503, "overloaded"), "leave", False),
        (problem(503, "maybe_done"), "leave", True),
        (FROM_AN_EDGE, "leave", True),
        (reply(502, None, position=None), "leave", True),
        (problem(504), "leave", True),
        (reply(200, "what?"), "leave", True),
        (reply(200, [RESULT]), "leave", True),
        (Reply(status=200, media_type="text/html", body=b"<p>Welcome to the hotel!</p>", position=None), "leave", True),
    ],
)
def test_what_is_tried_again_and_whether_it_may_have_been_done(
    came: Reply | Failure, url: str, maybe_done: bool
) -> None:
    verdict = judge(WRITE, came, read_result)
    assert isinstance(verdict, NoAnswer)
    assert (verdict.url, verdict.maybe_done, verdict.is_final) == (url, maybe_done, False)


@pytest.mark.parametrize("came", [problem(500), problem(501), reply(507, None)])
def test_a_server_that_fails_inside_is_not_asked_again(came: Reply) -> None:
    verdict = judge(WRITE, came, read_result)
    assert isinstance(verdict, NoAnswer)
    assert verdict.is_final
    assert verdict.maybe_done


@pytest.mark.parametrize(
    ("request_", "came", "kind", "says"),
    [
        (WRITE, problem(409, outcome="insufficient_funds", id="t1"), RefusedError, "insufficient funds"),
        (WRITE, problem(422, field="$.postings[0].amount", detail="is negative"), InvalidRequestError, "is negative"),
        (WRITE, problem(404), InvalidRequestError, "404"),
        (WRITE, problem(401), InvalidRequestError, "401"),
        (WRITE, Reply(status=301, media_type="text/html", body=b"moved"), InvalidRequestError, "moved"),
        (READ, problem(404, detail="there is no account 'a'"), NotFoundError, "there is no account 'a'"),
        (READ, Reply(status=404, media_type="text/html", body=b"nginx"), InvalidRequestError, "nginx"),
        (READ, problem(400, field="at_least", detail="is no number"), InvalidRequestError, "at_least"),
        (READ, Reply(status=418, media_type=JSON, body=b"\xff{"), InvalidRequestError, "418"),
        (READ, Reply(status=410), InvalidRequestError, "410"),
    ],
)
def test_a_final_word_is_an_error_that_says_what_is_wrong(
    request_: Request, came: Reply, kind: type[LedgerError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        judge(request_, came, read_result)


def test_a_refusal_carries_its_facts() -> None:
    came = reply(
        409,
        {"type": "/problems/x", "title": "T.", "status": 409, "outcome": "account_frozen", "id": "t9", "position": 4},
    )
    with pytest.raises(RefusedError) as caught:
        judge(WRITE, came, read_result)
    error = caught.value
    assert (error.outcome, error.id, error.position, error.detail) == ("account_frozen", "t9", 4, "T.")
    assert "unfreeze" in error.hint
    assert error.hint in str(error)


@pytest.mark.parametrize(
    ("retry_after", "date", "expected_s"),
    [
        (None, None, 0),
        ("0", None, 0),
        ("7", None, 7),
        (" 120 ", None, 120),
        ("-5", None, 0),
        ("1.5", None, 0),
        ("soon", None, 0),
        ("٣", None, 0),
        ("9" * 400, None, 999_999_999),
        ("Mon, 23 Nov 2026 20:00:09 GMT", "Mon, 23 Nov 2026 20:00:00 GMT", 9),
        ("Mon, 23 Nov 2026 19:00:00 GMT", "Mon, 23 Nov 2026 20:00:00 GMT", 0),
        ("Mon, 23 Nov 2026 20:00:09 GMT", None, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_of_the_servers_clock(
    retry_after: str | None, date: str | None, expected_s: float
) -> None:
    verdict = judge(WRITE, problem(503, retry_after=retry_after, date=date), read_result)
    assert isinstance(verdict, NoAnswer)
    assert verdict.not_before_s == expected_s


def test_a_read_is_never_maybe_done() -> None:
    for came in (problem(503, "maybe_done"), problem(504), problem(500), FROM_AN_EDGE):
        verdict = judge(READ, came, read_result)
        assert isinstance(verdict, NoAnswer)
        assert not verdict.maybe_done


@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
@pytest.mark.parametrize("amount", [0, -1, 2**53, -(2**53), 2**63, 2**64, 2**127 - 1, 1 - 2**127])
def test_an_amount_is_an_int_whichever_way_it_was_written(amount: int, media_type: str) -> None:
    encode = msgspec.msgpack.encode if media_type == MSGPACK else msgspec.json.encode
    account = {
        "id": "a",
        "asset": "EUR/2",
        "status": "open",
        "balance": str(amount),
        "available": amount if -(2**63) <= amount < 2**64 else str(amount),
        "debits": 0,
        "credits": "0",
        "held_debits": 0,
        "held_credits": 0,
        "min_balance": None,
        "max_balance": str(amount),
        "metadata": {"1": "1"},
    }
    read = reader(Account)(encode(account), media_type)
    assert (read.balance, read.available, read.max_balance) == (amount, amount, amount)
    assert read.min_balance is None
    assert read.metadata == {"1": "1"}


def test_fields_that_a_newer_server_adds_are_no_trouble() -> None:
    verdict = judge(WRITE, reply(200, {**RESULT, "mood": "fine"}), read_result)
    assert verdict == Answer(ItemResult("t1", "posted", 7))


def test_an_array_is_msgpack_unless_a_number_is_too_large_for_it() -> None:
    small = NewTransaction(
        id="x", postings=[Posting("a", "b", 2**64 - 1)], effective_date=datetime.date(2026, 11, 23), metadata={"k": 1}
    )
    large = NewTransaction(id="y", postings=[Posting("a", "b", 2**64)], metadata={"n": 2**70})
    body, media_type = array_body([small])
    assert media_type == MSGPACK
    assert msgspec.msgpack.decode(body)[0]["effective_date"] == "2026-11-23"
    body, media_type = array_body([small, large])
    assert media_type == JSON
    assert msgspec.json.decode(body)[1]["postings"][0]["amount"] == 2**64
    assert msgspec.json.decode(body)[1]["metadata"] == {"n": 2**70}


def test_a_path_is_quoted() -> None:
    assert path("v1", "accounts", "a/../b?c#d é") == "/v1/accounts/a%2F..%2Fb%3Fc%23d%20%C3%A9"
    assert path("v1", "accounts", prefix="x:&y", after=None, limit=5) == "/v1/accounts?prefix=x%3A%26y&limit=5"

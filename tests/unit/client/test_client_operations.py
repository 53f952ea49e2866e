"""Each operation sends what the API describes, and gives back what a caller can use."""

import datetime
import inspect
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fivenines import AsyncLedger, Ledger
from fivenines.api import NewAccount, NewTransaction
from fivenines.client import InvalidRequestError, Limits, MaybeDoneError, NotDoneError, Posting, RowResult, with_ids
from fivenines.client.answers import AnsweredPosting
from fivenines.client.operations import Operations
from fivenines.client.retry import Call, Try
from fivenines.client.wire import MSGPACK, Reply
from fivenines.ids import as_text, new_id, new_ids, new_ids16
from tests.unit.client.driving import TIMED_OUT, UNREACHED, Came, Drive, problem, reply

HOLD = "01932c07-209c-7d2f-8f0e-5b6a1c2d3e4f"
ACCOUNT = {"asset": "EUR/2", "status": "open", "min_balance": 0, "max_balance": None, "metadata": {}} | dict.fromkeys(
    ("balance", "available", "debits", "credits", "held_debits", "held_credits"), 0
)
POSTINGS = [Posting("a", "b", 5)]


def decoded(step: Try) -> Any:
    decode = msgspec.msgpack.decode if step.request.media_type == MSGPACK else msgspec.json.decode
    return decode(step.request.body)


def never(_step: Try) -> Came:
    """Answer nothing: nothing may be sent."""
    raise AssertionError("something was sent")


_HOLLOW: dict[str, Any] = {}
_HOLLOW["again"] = _HOLLOW


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"rate": float("nan")}, r"metadata\['rate'\] is nan"),
        ({"rate": [1, {"x": float("-inf")}]}, r"metadata\['rate'\]\[1\]\['x'\] is -inf"),
        ({"raw": b"1"}, "bytes"),
        ({"day": datetime.date(2026, 1, 1)}, "date"),
        ({"any": object()}, "object"),
        ({"deep": {1: "one"}}, "no text: 1"),
        ({None: "none"}, "no text: None"),
        ({"half": "\ud800"}, "no Unicode text"),
        ({"\ud800": 1}, "no Unicode text"),
        (_HOLLOW, "100 deep"),
        ([("a", 1)], "not list"),
    ],
    ids=["nan", "infinity", "bytes", "date", "object", "number", "none", "surrogate", "name", "cycle", "pairs"],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda o, m: o.open_account("a", asset="EUR/2", metadata=m),
        lambda o, m: o.open_accounts([NewAccount("a", "EUR/2", metadata=m)]),
        lambda o, m: o.change_account("a", metadata=m),
        lambda o, m: o.post(source="a", destination="b", amount=1, metadata=m),
        lambda o, m: o.transact(POSTINGS, metadata=m),
        lambda o, m: o.hold(POSTINGS, metadata=m),
        lambda o, m: o.settle(HOLD, metadata=m),
        lambda o, m: o.release(HOLD, metadata=m),
        lambda o, m: o.submit([NewTransaction(postings=POSTINGS, metadata=m)]),
    ],
    ids=["open", "open_many", "change", "post", "transact", "hold", "settle", "release", "submit"],
)
def test_metadata_that_json_cannot_say_is_refused_before_anything_is_sent(
    ask: Callable[[Operations, Any], Call[Any]], metadata: Any, told: str
) -> None:
    drive = Drive(never)
    with pytest.raises(ValueError, match=told):
        drive.run(ask(drive.operations, metadata))


def test_metadata_that_json_can_say_is_sent_as_it_is() -> None:
    metadata = {"a": [None, True, 1, 1.5, "é", {"b": []}], "": {}, "large": 2**70}
    drive = Drive(accept)
    drive.run(drive.operations.post(source="a", destination="b", amount=1, metadata=metadata))
    assert decoded(drive.tries[0])["metadata"] == metadata


def accept(step: Try) -> Came:
    """Answer a write as a node would that refuses nothing."""
    sent = decoded(step)
    if not isinstance(sent, list):
        return reply(200, {"id": sent.get("id", "x"), "outcome": "done"})
    if isinstance(sent[0], dict):
        return reply(200, [{"id": item["id"], "outcome": "posted"} for item in sent])
    body = msgspec.msgpack.encode([{"id": row[0], "outcome": "posted"} for row in sent])
    return Reply(status=200, media_type=MSGPACK, body=body)


@pytest.mark.parametrize(
    ("ask", "method", "path", "sent"),
    [
        (lambda o: o.create_asset("EUR/2"), "POST", "/v1/assets", {"asset": "EUR/2"}),
        (lambda o: o.open_account("a", asset="EUR/2"), "POST", "/v1/accounts", {"id": "a", "asset": "EUR/2"}),
        (
            lambda o: o.open_account("a", asset="EUR/2", min_balance=None, max_balance=9, metadata={"k": [1]}),
            "POST",
            "/v1/accounts",
            {"id": "a", "asset": "EUR/2", "min_balance": None, "max_balance": 9, "metadata": {"k": [1]}},
        ),
        (
            lambda o: o.change_account("a:b", min_balance=None, max_balance=7, metadata={}, change_id=HOLD),
            "PATCH",
            "/v1/accounts/a%3Ab",
            {"id": HOLD, "min_balance": None, "max_balance": 7, "metadata": {}},
        ),
        (
            lambda o: o.post(source="a", destination="b", amount=5, id=HOLD),
            "POST",
            "/v1/transactions",
            {"id": HOLD, "postings": [{"source": "a", "destination": "b", "amount": 5}]},
        ),
        (
            lambda o: o.transact(
                POSTINGS,
                id=HOLD,
                effective_date=datetime.date(2026, 11, 23),
                reference="r",
                metadata={"k": "v"},
            ),
            "POST",
            "/v1/transactions",
            {
                "id": HOLD,
                "postings": [{"source": "a", "destination": "b", "amount": 5}],
                "effective_date": "2026-11-23",
                "reference": "r",
                "metadata": {"k": "v"},
            },
        ),
        (
            lambda o: o.hold(POSTINGS, timeout_s=60, id=HOLD),
            "POST",
            "/v1/transactions",
            {
                "kind": "hold",
                "id": HOLD,
                "timeout_s": 60,
                "postings": [{"source": "a", "destination": "b", "amount": 5}],
            },
        ),
        (
            lambda o: o.settle(HOLD, postings=POSTINGS, final=False, id="x"),
            "POST",
            "/v1/transactions",
            {
                "kind": "settle",
                "id": "x",
                "hold": HOLD,
                "final": False,
                "postings": [{"source": "a", "destination": "b", "amount": 5}],
            },
        ),
        (
            lambda o: o.settle(HOLD, id="x"),
            "POST",
            "/v1/transactions",
            {"kind": "settle", "id": "x", "hold": HOLD},
        ),
        (
            lambda o: o.release(HOLD, id="x"),
            "POST",
            "/v1/transactions",
            {"kind": "release", "id": "x", "hold": HOLD},
        ),
    ],
)
def test_a_write_is_sent_as_the_api_describes_it(
    ask: Callable[[Operations], Call[object]], method: str, path: str, sent: object
) -> None:
    drive = Drive(accept)
    drive.run(ask(drive.operations))
    assert [(step.request.method, step.request.path) for step in drive.tries] == [(method, path)]
    assert decoded(drive.tries[0]) == sent


@pytest.mark.parametrize(("name", "status"), [("freeze", "frozen"), ("unfreeze", "open"), ("close_account", "closed")])
def test_a_status_is_changed_under_an_id_of_its_own(name: str, status: str) -> None:
    drive = Drive(accept)
    drive.run(getattr(drive.operations, name)("a"))
    sent = decoded(drive.tries[0])
    assert sent["status"] == status
    assert uuid.UUID(sent["id"]).version == 7


@pytest.mark.parametrize(
    "ask",
    [
        lambda o: o.post(source="a", destination="b", amount=5),
        lambda o: o.transact(POSTINGS),
        lambda o: o.hold(POSTINGS),
        lambda o: o.settle(HOLD),
        lambda o: o.release(HOLD),
        lambda o: o.freeze("a"),
        lambda o: o.submit([NewTransaction(postings=POSTINGS), NewTransaction(id=new_id(), postings=POSTINGS)]),
    ],
    ids=["post", "transact", "hold", "settle", "release", "freeze", "submit"],
)
def test_every_write_has_ids_before_its_first_try_and_keeps_them(ask: Callable[[Operations], Call[object]]) -> None:
    script: list[Came] = [TIMED_OUT, UNREACHED]
    drive = Drive(lambda step: script.pop(0) if script else accept(step))
    drive.run(ask(drive.operations))
    assert len(drive.tries) == 3
    assert len({step.request.body for step in drive.tries}) == 1
    sent = decoded(drive.tries[0])
    assert all(uuid.UUID(item["id"]).version == 7 for item in (sent if isinstance(sent, list) else [sent]))


def test_ids_are_given_only_where_there_is_none() -> None:
    own = new_id()
    given = with_ids([NewTransaction(reference="1"), NewTransaction(id=own), NewTransaction(reference="3")])
    assert [item.reference for item in given] == ["1", None, "3"]
    assert given[1].id == own
    assert len({item.id for item in given} - {None}) == 3


def test_an_array_goes_in_parts_and_its_outcomes_come_back_in_order() -> None:
    drive = Drive(accept, limits=Limits(batch_max=3))
    ids = new_ids(8)
    results = drive.run(drive.operations.submit(NewTransaction(id=id, postings=POSTINGS) for id in ids))
    assert [result.id for result in results] == ids
    assert [len(decoded(step)) for step in drive.tries] == [3, 3, 2]


def test_an_empty_array_asks_nobody() -> None:
    drive = Drive([UNREACHED])
    assert drive.run(drive.operations.submit([])) == []
    assert drive.run(drive.operations.submit_rows([])) == []
    assert drive.run(drive.operations.open_accounts([])) == []
    assert drive.tries == []


def test_an_array_that_is_too_long_for_the_server_is_halved_until_it_fits() -> None:
    def answer(step: Try) -> Came:
        return problem(413) if len(decoded(step)) > 2 else accept(step)

    drive = Drive(answer)
    items = [NewTransaction(id=id, postings=POSTINGS) for id in new_ids(10)]
    assert [result.id for result in drive.run(drive.operations.submit(items))] == [item.id for item in items]
    assert [len(decoded(step)) for step in drive.tries] == [10, 5, 2, 2, 2, 2, 2]
    drive.run(drive.operations.submit(items))
    assert [len(decoded(step)) for step in drive.tries[7:]] == [2, 2, 2, 2, 2]


def test_an_array_of_too_many_bytes_is_halved_before_it_is_sent() -> None:
    drive = Drive(accept, limits=Limits(body_bytes_max=2_000))
    items = [NewTransaction(id=id, postings=POSTINGS, reference="r" * 200) for id in new_ids(12)]
    assert [result.id for result in drive.run(drive.operations.submit(items))] == [item.id for item in items]
    assert [len(decoded(step)) for step in drive.tries] == [6, 6]
    drive.run(drive.operations.submit([NewTransaction(postings=POSTINGS, reference="r" * 9_000)]))
    assert [len(decoded(step)) for step in drive.tries] == [6, 6, 1]


def test_one_item_that_is_too_long_is_an_error() -> None:
    drive = Drive([problem(413, detail="too large")])
    with pytest.raises(InvalidRequestError, match="too large"):
        drive.run(drive.operations.submit([NewTransaction(postings=POSTINGS)] * 4))
    assert [len(decoded(step)) for step in drive.tries] == [4, 2, 1]


def test_a_wrong_item_is_named_by_its_place_in_the_callers_array() -> None:
    def answer(step: Try) -> Came:
        return accept(step) if len(drive.tries) < 3 else problem(422, field="$[1].postings[0].amount", detail="is 0")

    drive = Drive(answer, limits=Limits(batch_max=3))
    items = [NewTransaction(id=id, postings=POSTINGS) for id in new_ids(9)]
    with pytest.raises(InvalidRequestError) as caught:
        drive.run(drive.operations.submit(items))
    assert caught.value.field == "$[7].postings[0].amount"
    assert [result.id for result in caught.value.answered] == [item.id for item in items[:6]]


def test_when_the_ledger_goes_away_half_way_what_was_decided_is_told() -> None:
    def answer(step: Try) -> Came:
        return accept(step) if len(drive.tries) < 2 else TIMED_OUT

    drive = Drive(answer, limits=Limits(batch_max=2), deadline_s=5)
    ids = new_ids(6)
    with pytest.raises(MaybeDoneError) as caught:
        drive.run(drive.operations.submit([NewTransaction(id=id, postings=POSTINGS) for id in ids]))
    assert [result.id for result in caught.value.answered] == ids[:2]
    assert caught.value.ids == tuple(ids[2:4])
    assert caught.value.id == ids[2]


def test_fewer_outcomes_than_commands_are_no_answer() -> None:
    drive = Drive([reply(200, [{"id": "x", "outcome": "posted"}])], deadline_s=1)
    with pytest.raises(MaybeDoneError, match="1 outcomes for 2 commands"):
        drive.run(drive.operations.submit([NewTransaction(postings=POSTINGS)] * 2))


def test_rows_go_and_come_back_in_their_short_form() -> None:
    drive = Drive(accept, limits=Limits(batch_max=2))
    rows = [(id, "a", "b", 2**62 - 1) for id in new_ids16(3)]
    results = drive.run(drive.operations.submit_rows(rows))
    assert results == [RowResult(row[0], "posted") for row in rows]
    assert [decoded(step) for step in drive.tries] == [[list(row) for row in rows[:2]], [list(rows[2])]]


def test_rows_with_an_amount_too_large_for_a_row_are_sent_as_transactions() -> None:
    drive = Drive(accept)
    rows = [(id, "a", "b", 2**100) for id in new_ids16(2)]
    results = drive.run(drive.operations.submit_rows(rows))
    assert results == [RowResult(row[0], "posted") for row in rows]
    assert decoded(drive.tries[0])[1] == {
        "id": as_text(rows[1][0]),
        "postings": [{"source": "a", "destination": "b", "amount": 2**100}],
    }


def test_an_unanswered_row_is_told_by_its_id_in_text_form() -> None:
    drive = Drive([UNREACHED], deadline_s=1)
    row = (new_ids16(1)[0], "a", "b", 1)
    with pytest.raises(NotDoneError) as caught:
        drive.run(drive.operations.submit_rows([row]))
    assert caught.value.ids == (as_text(row[0]),)


def test_refusals_among_many_are_values() -> None:
    outcomes = [{"id": "a", "outcome": "done"}, {"id": "b", "outcome": "asset_unknown"}, {"id": "c", "outcome": "new"}]
    drive = Drive([reply(200, outcomes)])
    results = drive.run(drive.operations.open_accounts([NewAccount(id, "EUR/2") for id in "abc"]))
    assert [result.is_refusal for result in results] == [False, True, True]


def test_a_listing_is_fetched_page_by_page() -> None:
    pages = [
        {"accounts": [{"id": "p:1"} | ACCOUNT, {"id": "p:2"} | ACCOUNT], "next": "p:2"},
        {"accounts": [{"id": "p:3"} | ACCOUNT], "next": None},
    ]
    drive = Drive([reply(200, page) for page in pages], limits=Limits(page=2), reads_own_writes=False)
    assert [account.id for account in drive.items(drive.operations.accounts(prefix="p:"))] == ["p:1", "p:2", "p:3"]
    assert [step.request.path for step in drive.tries] == [
        "/v1/accounts?prefix=p%3A&limit=2",
        "/v1/accounts?prefix=p%3A&after=p%3A2&limit=2",
    ]


def test_a_page_of_history_may_be_empty_and_not_be_the_last() -> None:
    transaction = {
        "id": HOLD,
        "kind": "post",
        "outcome": "posted",
        "position": 3,
        "time": "2026-11-23T19:00:00Z",
        "postings": [{"source": "a", "destination": "b", "amount": str(2**90)}],
        "effective_date": "2026-11-20",
    }
    pages = [{"transactions": [], "next": 5}, {"transactions": [transaction], "next": None}]
    drive = Drive([reply(200, page) for page in pages], reads_own_writes=False)
    (found,) = drive.items(drive.operations.history("a"))
    assert found.postings == [AnsweredPosting("a", "b", 2**90)]
    assert found.effective_date == datetime.date(2026, 11, 20)
    assert drive.tries[1].request.path == "/v1/accounts/a/history?before=5&limit=1000"


def test_many_accounts_are_asked_for_in_parts_that_fit_in_a_url() -> None:
    drive = Drive([reply(200, {"accounts": [{"id": "x"} | ACCOUNT], "next": None})], reads_own_writes=False)
    found = drive.run(drive.operations.accounts_of([f"a:{n}" for n in range(450)]))
    assert len(found) == 3
    assert [step.request.path.count("%2C") + 1 for step in drive.tries] == [200, 200, 50]


@pytest.mark.parametrize("shell", [Ledger, AsyncLedger])
def test_both_shells_have_every_operation_with_its_arguments_and_its_text(shell: type) -> None:
    operations = {name: value for name, value in vars(Operations).items() if not name.startswith("_")}
    assert len(operations) > 15
    for name, operation in operations.items():
        method = getattr(shell, name)
        assert method.__doc__ == operation.__doc__
        assert method.__qualname__ == f"{shell.__name__}.{name}"
        assert inspect.signature(method).parameters == inspect.signature(operation).parameters
        assert "Generator" not in str(inspect.signature(method).return_annotation)

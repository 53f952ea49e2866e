"""Bad input of every kind: a clear 4xx, nothing done, and the server serves on."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from fivenines.ids import new_id, new_ids16
from tests.e2e.serving import Api, raw_exchange

JSON = "application/json"
MSGPACK = "application/msgpack"
AMOUNT_MAX = 2**127 - 1


@pytest.fixture
def books(api: Api) -> Iterator[Callable[..., httpx.Response]]:
    """Two accounts that no bad request may move: called with a body, it posts that and returns the refusal."""
    source, destination = api.account(prefix="bad"), api.account(prefix="bad")

    def post(content: bytes, content_type: str = JSON, path: str = "/v1/transactions") -> httpx.Response:
        content = content.replace(b"@a", source.encode()).replace(b"@b", destination.encode())
        response = api.request("POST", path, content=content, headers={"Content-Type": content_type})
        assert 400 <= response.status_code < 500, response.text
        return response

    yield post
    for account in (source, destination):
        got = api.get(f"/v1/accounts/{account}").json()
        assert (got["debits"], got["credits"], got["held_debits"], got["held_credits"]) == (0, 0, 0, 0), got
        assert api.history(account) == []
    assert api.move(source, destination, 1).status_code == 200


def transaction(amount: str = "1", extra: str = "", **fields: Any) -> bytes:
    head = json.dumps({"id": new_id(), **fields})[1:-1]
    return f'{{{head}{extra},"postings":[{{"source":"@a","destination":"@b","amount":{amount}}}]}}'.encode()


def packed(**fields: Any) -> bytes:
    """A whole transaction in msgpack, except for what `fields` spoil."""
    postings = [{"source": "x:1", "destination": "x:2", "amount": 1}]
    return msgspec.msgpack.encode({"id": new_id(), "postings": postings} | fields)


def numbered(values: Iterable[Any]) -> list[Any]:
    """Name cases by their number: bodies are no names."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), id=f"case-{number}")
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    "amount",
    numbered(
        [
            *("1.0", "1.5", "-0.0", "1e3", "1E400", "0", "-0", "-1", "true", "null", "{}", "[1]", "[]"),
            *(str(2**127), str(-(2**127)), "9" * 5_000, str(10**40)),
            *(
                '"1.0"',
                '"-1"',
                '"0"',
                '""',
                '" 1"',
                '"1 "',
                '"+1"',
                '"1e3"',
                '"0x10"',
                '"1_000"',
                '"١"',
                '"NaN"',
                '"Infinity"',
            ),
            *(f'"{2**127}"', f'"{"9" * 5_000}"'),
        ]
    ),
)
def test_an_amount_that_is_none_is_refused_by_its_field(books: Callable[..., httpx.Response], amount: str) -> None:
    problem = books(transaction(amount))
    assert problem.status_code == 422
    assert problem.json()["field"] == "$.postings[0].amount"
    assert problem.json()["detail"]


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "01", "+1", "1.", ".5", "0x1", "1_000", "'1'", ""])
def test_what_is_no_json_number_makes_no_body(books: Callable[..., httpx.Response], amount: str) -> None:
    assert books(transaction(amount)).status_code == 400


@pytest.mark.parametrize("amount", numbered([AMOUNT_MAX, str(AMOUNT_MAX), "00007", 2**53 + 1, 2**63 - 1, 2**64]))
def test_the_widest_amounts_are_taken_and_read_back_exactly(api: Api, amount: int | str) -> None:
    source, destination = api.account(), api.account()
    answer = api.move(source, destination, amount)
    assert answer.json()["outcome"] == "posted"
    exact = int(amount)
    expected = exact if exact < 2**53 else str(exact)
    account = api.get(f"/v1/accounts/{destination}").json()
    assert (account["balance"], account["credits"], account["available"]) == (expected, expected, expected)
    assert api.get(f"/v1/accounts/{source}").json()["balance"] == (-exact if exact < 2**53 else str(-exact))
    stored = api.get(f"/v1/transactions/{answer.json()['id']}").json()
    assert stored["postings"][0]["amount"] == expected
    assert api.get(f"/v1/accounts/{source}/history").json()["transactions"] == [stored]
    event = api.get(f"/v1/events?after={stored['position'] - 1}&limit=1").json()["events"][0]
    assert event["data"] == stored


@pytest.mark.parametrize(
    ("body", "field"),
    numbered(
        [
            (transaction(id="no uuid"), "$.id"),
            (transaction(id=""), "$.id"),
            (transaction(id=5), "$.id"),
            (transaction(id=new_id() + "\n"), "$.id"),
            (transaction(id=new_id().replace("-", "")), "$.id"),
            (transaction(id="{" + new_id() + "}"), "$.id"),
            (transaction(kind="transfer"), "$.kind"),
            (transaction(kind=None), "$.kind"),
            (transaction(extra=',"surprise":1'), "$"),
            (transaction(kind="post", hold=new_id()), "$.hold"),
            (transaction(kind="hold", hold=new_id()), "$.hold"),
            (transaction(kind="settle"), "$.hold"),
            (transaction(kind="settle", hold="x"), "$.hold"),
            (transaction(kind="release"), "$.hold"),
            (transaction(kind="release", hold=new_id()), "$.postings"),
            (transaction(timeout_s=5), "$.timeout_s"),
            (transaction(kind="settle", hold=new_id(), timeout_s=5), "$.timeout_s"),
            (transaction(kind="hold", timeout_s=0), "$.timeout_s"),
            (transaction(kind="hold", timeout_s=31_622_401), "$.timeout_s"),
            (transaction(kind="hold", timeout_s=1.5), "$.timeout_s"),
            (transaction(final=False), "$.final"),
            (transaction(kind="hold", final=False), "$.final"),
            (transaction(kind="settle", hold=new_id(), final="no"), "$.final"),
            (transaction(reference="x" * 257), "$.reference"),
            (transaction(reference=7), "$.reference"),
            (transaction(effective_date="2024-02-30"), "$.effective_date"),
            (transaction(effective_date="yesterday"), "$.effective_date"),
            (transaction(effective_date=20240201), "$.effective_date"),
            (transaction(metadata=[]), "$.metadata"),
            (transaction(metadata=None), "$.metadata"),
            (transaction(metadata={"big": "x" * 4_096}), "$.metadata"),
            (transaction(metadata={"deep": json.loads("[" * 40 + "]" * 40)}), "$.metadata"),
            (b"{}", "$.postings"),
            (b'{"postings":[]}', "$.postings"),
            (b'{"kind":"hold","postings":[]}', "$.postings"),
            (b'{"postings":{}}', "$.postings"),
            (b'{"postings":[[]]}', "$.postings[0]"),
            (b'{"postings":[{}]}', "$.postings[0]"),
            (b'{"postings":[{"source":"@a","amount":1}]}', "$.postings[0]"),
            (b'{"postings":[{"source":"","destination":"@b","amount":1}]}', "$.postings[0].source"),
            (b'{"postings":[{"source":"@a","destination":"a b","amount":1}]}', "$.postings[0].destination"),
            (
                b'{"postings":[{"source":"@a","destination":"' + b"x" * 129 + b'","amount":1}]}',
                "$.postings[0].destination",
            ),
            ('{"postings":[{"source":"@a","destination":"kontó","amount":1}]}'.encode(), "$.postings[0].destination"),
            (b'{"postings":[{"source":"@a\\n","destination":"@b","amount":1}]}', "$.postings[0].source"),
            (b'{"postings":[{"source":"@a","destination":"@b","amount":1,"fee":1}]}', "$.postings[0]"),
            (b"[" + transaction() + b"," + transaction("0") + b"]", "$[1].postings[0].amount"),
            (b"[" + transaction() + b',{"postings":1}]', "$[1].postings"),
            (b"[]", "$"),
            (b"[[]]", "$[0]"),
            (b"null", "$"),
            (b"1", "$"),
            (b'"post"', "$"),
            (b"[" * 100_000, "$[0]"),
            (b'{"postings":' + b"[" * 100_000, "$.postings[0]"),
        ]
    ),
)
def test_a_transaction_that_is_none_is_refused_by_its_field(
    books: Callable[..., httpx.Response], body: bytes, field: str
) -> None:
    problem = books(body)
    assert (problem.status_code, problem.json().get("field")) == (422, field), problem.text


@pytest.mark.parametrize("version", [*"12345", *"689abcdef0"])
def test_an_id_of_another_version_of_uuid_is_refused(books: Callable[..., httpx.Response], version: str) -> None:
    id = new_id()
    problem = books(transaction(id=f"{id[:14]}{version}{id[15:]}"))
    assert problem.status_code == 422
    assert "UUIDv7" in problem.json()["detail"]
    row = new_ids16(1)[0]
    other = row[:6] + bytes([int(version, 16) << 4 | row[6] & 15]) + row[7:]
    problem = books(msgspec.msgpack.encode([[row, "x", "y", 1], [other, "x", "y", 1]]), MSGPACK)
    assert (problem.status_code, problem.json()["field"]) == (422, "$[1][0]")


@pytest.mark.parametrize("variant", [*"01234567cdef"])
def test_an_id_of_another_variant_is_refused(books: Callable[..., httpx.Response], variant: str) -> None:
    id = new_id()
    assert books(transaction(id=f"{id[:19]}{variant}{id[20:]}")).status_code == 422


@pytest.mark.parametrize(
    "body",
    numbered(
        [
            b"",
            b" ",
            b"{",
            b'{"id":',
            transaction()[:-1],
            transaction() + b"x",
            b"\xef\xbb\xbf" + transaction(),
            transaction().decode().encode("utf-16"),
            b"\x00",
            b'{"kind":"\xff"}',
            transaction(extra=',"reference":"\xff"').decode().encode("latin-1"),
            transaction(extra=',"reference":"\\ud800"'),
            transaction(extra=',"reference":"\\udc00\\ud800"'),
            transaction(extra=',"metadata":{"\\ud800":1}'),
            transaction(extra=',"metadata":{"a":"\\udfff"}'),
            transaction(extra=',"metadata":{"a":' + "[" * 100_000),
            transaction(extra=',"metadata":' + '{"a":' * 100_000),
            transaction(extra=',"metadata":{"a":' + "[" * 1_500 + "]" * 1_500 + "}"),
            transaction(extra=',"metadata":{"a":NaN}'),
            b"// a comment\n" + transaction(),
            transaction().replace(b'"', b"'"),
        ]
    ),
)
def test_a_body_that_cannot_be_read_is_a_400(books: Callable[..., httpx.Response], body: bytes) -> None:
    problem = books(body)
    assert problem.status_code == 400, problem.text
    assert problem.json()["detail"]


@pytest.mark.parametrize("number", numbered(["1e400", "9" * 4_400, "-" + "9" * 4_400]))
def test_a_number_in_metadata_beyond_all_bounds_is_refused(books: Callable[..., httpx.Response], number: str) -> None:
    assert books(transaction(extra=f',"metadata":{{"a":{number}}}')).status_code == 422


def test_metadata_comes_back_as_it_went_in(api: Api) -> None:
    metadata = {
        "text": 'žluťoučký \u0001 \\ "',
        "n": -3,
        "x": 1.25,
        "none": None,
        "list": [True, {"deep": {}}],
        "": 10**30,
    }
    deepest: Any = []
    for _ in range(30):
        deepest = [deepest]
    metadata["nested"] = deepest
    account = api.account(metadata=metadata)
    other = api.account()
    answer = api.move(account, other, 1, metadata=metadata, reference="\u0000 ☃", effective_date="0001-01-01")
    assert api.get(f"/v1/accounts/{account}").json()["metadata"] == metadata
    stored = api.get(f"/v1/transactions/{answer.json()['id']}").json()
    assert (stored["metadata"], stored["reference"], stored["effective_date"]) == (metadata, "\u0000 ☃", "0001-01-01")


def test_too_many_postings_and_items_are_counted(api: Api, books: Callable[..., httpx.Response]) -> None:
    posting = {"source": "@a", "destination": "@b", "amount": 1}
    for count in (1_001, 10_000):
        problem = books(json.dumps({"id": new_id(), "postings": [posting] * count}).encode())
        assert (problem.status_code, problem.json()["field"]) == (422, "$.postings")
        assert str(count) in problem.json()["detail"]
    problem = books(json.dumps([{"postings": [posting]}] * 10_001).encode())
    assert (problem.status_code, problem.json()["field"]) == (413, "$")
    assert "10001 items" in problem.json()["detail"]
    problem = books(json.dumps([{"postings": [posting] * 1_000}] * 21).encode())
    assert (problem.status_code, problem.json()["field"]) == (413, "$")
    assert "21000 postings" in problem.json()["detail"]
    rows = msgspec.msgpack.encode([[id, "x", "y", 1] for id in new_ids16(10_001)])
    # Not through `books`, which looks for the names of its accounts: random ids contain those, too.
    too_many = api.request("POST", "/v1/transactions", content=rows, headers={"Content-Type": MSGPACK})
    assert (too_many.status_code, too_many.json()["field"]) == (413, "$")
    source, destination = api.account(), api.account()
    answer = api.post(
        "/v1/transactions",
        {"id": new_id(), "postings": [{"source": source, "destination": destination, "amount": 1}] * 1_000},
    )
    assert answer.json()["outcome"] == "posted"
    assert api.balance(destination) == 1_000


@pytest.mark.parametrize(
    "body",
    numbered(
        [
            b"",
            b"\xc1",
            b"\x81",
            bytes(range(256)),
            b"\xdd\xff\xff\xff\xff",
            b"\xdd\xff\xff\xff\xff\x94",
            b"\xdd\x7f\xff\xff\xff\x94",
            b"\xdf\xff\xff\xff\xff",
            b"\x91\x94\xc6\xff\xff\xff\xff",
            b"\x91" * 100_000,
            b"\x91\x91" + b"\xdc" * 50_000,
            packed()[:-1],
            packed() + b"\x00",
            packed(id=b"\x00" * 16),
            packed(postings=[{"source": "x:1", "destination": "x:2", "amount": 1.0}]),
            packed(postings=[{"source": "x:1", "destination": "x:2", "amount": float("nan")}]),
            packed(postings=[{"source": "x:1", "destination": "x:2", "amount": -1}]),
            packed(postings=[{"source": "x:1", "destination": "x:2", "amount": b"1"}]),
            packed(postings=[["x:1", "x:2", 1]]),
            packed(metadata={"a": msgspec.msgpack.Ext(5, b"x")}),
            packed(metadata={"a": float("nan")}),
            packed(metadata={"a": float("inf")}),
            packed(metadata={"a": [float("-inf")]}),
            packed(metadata={"a": b"\xff"}),
            packed(metadata={"a": datetime.now(UTC)}),
            packed(metadata={"a": {1: 2, "b": 3}}),
            packed(metadata={"a": {None: 3}}),
            packed(metadata={1: 2}),
            b"\x82\xa8metadata\x81\xa1x\x81\x91\x01\x03\xa8postings\x90",
            b"\x82\xa8metadata\x81\xa1x\x81\x81\x01\x02\x03\xa8postings\x90",
            b"\x82\xa8metadata\x81\xa1x\xa1\xff\xa8postings\x90",
            b"\x82\xa8metadata\x81\xa1x" + b"\x91" * 900 + b"\x01\xa8postings\x90",
            b"\x82\xa8metadata\x81\xa1x" + b"\x91" * 5_000 + b"\x01\xa8postings\x90",
            msgspec.msgpack.encode([[new_ids16(1)[0], "x", "y"]]),
            msgspec.msgpack.encode([[new_ids16(1)[0][:15], "x", "y", 1]]),
            msgspec.msgpack.encode([[new_id(), "x", "y", 1]]),
            msgspec.msgpack.encode([[new_ids16(1)[0], "", "y", 1]]),
            msgspec.msgpack.encode([[new_ids16(1)[0], "x" * 129, "y", 1]]),
            msgspec.msgpack.encode([[new_ids16(1)[0], "x", "y", 0]]),
            msgspec.msgpack.encode([[new_ids16(1)[0], "x", "y", 2**62]]),
            msgspec.msgpack.encode([[new_ids16(1)[0], "x", "y", "1"]]),
            msgspec.msgpack.encode([[new_ids16(1)[0], "x", "y", 1], {"postings": []}]),
        ]
    ),
)
def test_msgpack_that_says_nothing_we_take_is_refused(books: Callable[..., httpx.Response], body: bytes) -> None:
    assert books(body, MSGPACK).status_code in {400, 422}


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"]
)
def test_a_body_of_another_type_is_refused_before_it_is_read(
    books: Callable[..., httpx.Response], content_type: str
) -> None:
    assert books(transaction(), content_type).status_code == 415


@pytest.mark.parametrize(
    ("path", "body", "field"),
    numbered(
        [
            ("/v1/assets", {"asset": "eur/2"}, "$.asset"),
            ("/v1/assets", {"asset": "EUR"}, "$.asset"),
            ("/v1/assets", {"asset": "EUR/37"}, "$.asset"),
            ("/v1/assets", {"asset": "EUR/02"}, "$.asset"),
            ("/v1/assets", {"asset": "E" * 17 + "/2"}, "$.asset"),
            ("/v1/assets", {}, "$"),
            ("/v1/assets", [{"asset": "EUR/2"}], "$"),
            ("/v1/accounts", {"id": "x"}, "$"),
            ("/v1/accounts", {"id": "x y", "asset": "EUR/2"}, "$.id"),
            ("/v1/accounts", {"id": "x", "asset": "EUR"}, "$.asset"),
            ("/v1/accounts", {"id": "x", "asset": "EUR/2", "min_balance": 1}, "$.min_balance"),
            ("/v1/accounts", {"id": "x", "asset": "EUR/2", "min_balance": "-0.5"}, "$.min_balance"),
            ("/v1/accounts", {"id": "x", "asset": "EUR/2", "min_balance": -(2**127)}, "$.min_balance"),
            ("/v1/accounts", {"id": "x", "asset": "EUR/2", "max_balance": -1}, "$.max_balance"),
            ("/v1/accounts", {"id": "x", "asset": "EUR/2", "max_balance": str(2**127)}, "$.max_balance"),
            ("/v1/accounts", {"id": "x", "asset": "EUR/2", "max_balance": 1.5}, "$.max_balance"),
            ("/v1/accounts", {"id": "x", "asset": "EUR/2", "status": "frozen"}, "$"),
            ("/v1/accounts", {"id": "x", "asset": "EUR/2", "metadata": {"a": "b" * 5_000}}, "$.metadata"),
            ("/v1/accounts", [{"id": "x", "asset": "EUR/2"}, {"id": "x", "asset": "EUR"}], "$[1].asset"),
            ("/v1/accounts", [], "$"),
        ]
    ),
)
def test_an_account_or_asset_that_is_none_is_refused_by_its_field(api: Api, path: str, body: Any, field: str) -> None:
    problem = api.post(path, body)
    assert (problem.status_code, problem.json()["field"]) == (422, field), problem.text
    assert api.get("/v1/accounts/x").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    numbered(
        [
            ({"status": "gone"}, "$.status"),
            ({"status": None}, "$.status"),
            ({"id": "x"}, "$.id"),
            ({"min_balance": 0}, "$"),
            ({"max_balance": None}, "$"),
            ({"min_balance": 1.5, "max_balance": None}, "$.min_balance"),
            ({"min_balance": 0, "max_balance": str(2**127)}, "$.max_balance"),
            ({"metadata": None}, "$.metadata"),
            ({"asset": "EUR/2"}, "$"),
            ([], "$"),
        ]
    ),
)
def test_a_change_that_is_none_is_refused_by_its_field(api: Api, body: Any, field: str) -> None:
    account = api.account()
    before = api.get(f"/v1/accounts/{account}").json()
    problem = api.patch(f"/v1/accounts/{account}", body)
    assert (problem.status_code, problem.json()["field"]) == (422, field), problem.text
    assert api.get(f"/v1/accounts/{account}").json() == before


@pytest.mark.parametrize(
    ("path", "field"),
    numbered(
        [
            ("/v1/accounts?limit=0", "limit"),
            ("/v1/accounts?limit=1001", "limit"),
            ("/v1/accounts?limit=-1", "limit"),
            ("/v1/accounts?limit=1.0", "limit"),
            ("/v1/accounts?limit=", "limit"),
            ("/v1/accounts?limit=%C2%B2", "limit"),
            ("/v1/accounts?limit=" + "9" * 5_000, "limit"),
            ("/v1/accounts?at_least=x", "at_least"),
            ("/v1/accounts?consistency=strong", "consistency"),
            ("/v1/accounts?ids=" + ",".join(["a"] * 1_001), "ids"),
            ("/v1/events?after=-1", "after"),
            ("/v1/events?after=1e3", "after"),
            ("/v1/events?wait_s=61", "wait_s"),
            ("/v1/transactions/7", "id"),
            ("/v1/transactions/" + "0" * 32, "id"),
            ("/v1/transactions/00000000-0000-4000-8000-000000000000", "id"),
        ]
    ),
)
def test_a_parameter_that_is_none_is_refused_by_its_name(api: Api, path: str, field: str) -> None:
    problem = api.get(path)
    assert (problem.status_code, problem.json()["field"]) == (422, field), problem.text


def test_history_takes_no_parameter_that_is_none(api: Api) -> None:
    account = api.account()
    for query, field in (("before=0", "before"), ("before=x", "before"), ("limit=0", "limit")):
        problem = api.get(f"/v1/accounts/{account}/history?{query}")
        assert (problem.status_code, problem.json()["field"]) == (422, field)


@pytest.mark.parametrize("last_id", numbered([b"\xb2", b"x", b"9" * 5_000, b"-1", b""]))
def test_a_last_event_id_that_is_none_is_refused(api: Api, last_id: bytes) -> None:
    head = b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nConnection: close\r\nLast-Event-ID: "
    answer = raw_exchange(api.server.port, head + last_id + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 422 "), answer
    assert b'"field":"Last-Event-ID"' in answer


def test_paths_and_methods_that_are_none_say_so(api: Api) -> None:
    for path in (
        "/nope",
        "/v1",
        "/v1/accounts/",
        "/v1/accounts/a/b/c",
        "/docs/assets/nope",
        "/v1//accounts",
        "/V1/accounts",
    ):
        assert api.get(path).status_code == 404, path
    for path in (
        "/v1/accounts/no:such",
        "/v1/accounts/%61%2Fb",
        "/v1/accounts/%ff%00%0d%0a",
        f"/v1/transactions/{new_id()}",
    ):
        assert api.get(path).status_code == 404, path
    allowed = {
        ("GET", "/v1/transactions"): "POST",
        ("DELETE", "/v1/assets"): "POST",
        ("DELETE", "/v1/accounts"): "GET, HEAD, POST",
        ("PATCH", "/v1/accounts"): "GET, HEAD, POST",
        ("PUT", "/v1/accounts/a"): "GET, HEAD, PATCH",
        ("POST", "/v1/accounts/a"): "GET, HEAD, PATCH",
        ("PATCH", "/v1/accounts/a/history"): "GET, HEAD",
        ("OPTIONS", "/v1/events"): "GET, HEAD",
        ("TRACE", "/live"): "GET, HEAD",
        ("POST", "/metrics"): "GET, HEAD",
    }
    for (method, path), methods in allowed.items():
        response = api.request(method, path)
        assert (response.status_code, response.headers["Allow"]) == (405, methods), (method, path)


def test_a_body_too_large_is_refused_with_and_without_a_length(api: Api) -> None:
    limit = 8 * 1024 * 1024
    head = b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for length in (limit + 1, 10**15):
        answer = raw_exchange(api.server.port, head + b"Content-Length: %d\r\n\r\n" % length)
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        assert b"ledger-position:" in answer
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    answer = raw_exchange(api.server.port, head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 9, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    exact = b'{"kind":"settle"' + b" " * limit
    answer = raw_exchange(api.server.port, head + b"Content-Length: %d\r\n\r\n" % limit, exact[: limit - 1], b"}")
    assert answer.startswith(b"HTTP/1.1 422 "), answer


def test_who_hangs_up_in_the_middle_has_done_nothing(api: Api) -> None:
    source, destination = api.account(), api.account()
    body = json.dumps(
        [{"id": new_id(), "postings": [{"source": source, "destination": destination, "amount": 1}]}]
    ).encode()
    head = b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    whole = head % len(body) + body
    for cut in range(1, len(whole), 7):
        with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
            connection.sendall(whole[:cut])
    assert api.get("/v1/accounts?consistency=linearizable&limit=1").status_code == 200
    assert api.balance(destination) == 0
    assert b'"outcome":"posted"' in raw_exchange(api.server.port, whole)
    assert api.balance(destination) == 1


@pytest.mark.parametrize(
    "request_bytes",
    numbered(
        [
            b"nonsense\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /live HTTP/9.9\r\nHost: x\r\n\r\n",
            b"POST /v1/transactions HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
            b"POST /v1/transactions HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /v1/transactions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/transactions HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            b"POST /v1/transactions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"GET /live HTTP/1.1\r\nBad Header: x\r\n\r\n",
            b"GET /live HTTP/1.1\r\nA: b\x00c\r\n\r\n",
        ]
    ),
)
def test_what_is_no_http_is_told_so(api: Api, request_bytes: bytes) -> None:
    answer = raw_exchange(api.server.port, request_bytes, shut=True)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 415 ")), answer
    assert b"ledger-position: " in answer
    assert b"application/problem+json" in answer


def test_a_head_without_end_is_refused(api: Api) -> None:
    line = b"X-More: " + b"x" * 8_000 + b"\r\n"
    answer = raw_exchange(api.server.port, b"GET /live HTTP/1.1\r\nHost: x\r\n", *[line] * 20)
    assert answer.startswith(b"HTTP/1.1 431 "), answer
    answer = raw_exchange(api.server.port, b"GET /" + b"x" * 70_000, b"x" * 70_000)
    assert answer.startswith(b"HTTP/1.1 431 "), answer


# --- what is wrong is said in words of ours --------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["a b", "", "ä", "x" * 129, "a\n", "a/b"])
def test_an_account_id_that_is_none_is_told_what_one_is(api: Api, account: str) -> None:
    reason = "is not an account id: 1 to 128 characters of A-Z a-z 0-9 : _ . -"
    opened = api.post("/v1/accounts", [{"id": account, "asset": "EUR/2"}]).json()
    assert (opened["status"], opened["field"], opened["detail"]) == (422, "$[0].id", reason)
    posting = {"source": "a", "destination": account, "amount": 1}
    moved = api.post("/v1/transactions", {"id": new_id(), "postings": [posting]}).json()
    assert (moved["status"], moved["field"], moved["detail"]) == (422, "$.postings[0].destination", reason)


def test_an_asset_that_is_none_is_told_what_one_is(api: Api) -> None:
    problem = api.post("/v1/assets", {"asset": "euro"}).json()
    assert (problem["status"], problem["field"]) == (422, "$.asset")
    assert problem["detail"].startswith("is not an asset: a code in capitals")


@pytest.mark.parametrize("account", [".", ".."])
def test_an_account_that_no_url_can_name_is_not_opened(api: Api, account: str) -> None:
    problem = api.post("/v1/accounts", {"id": account, "asset": api.asset()}).json()
    assert (problem["status"], problem["field"]) == (422, "$.id")
    assert "no URL" in problem["detail"]
    for near in ("...", ".a", "a.", "-."):
        assert api.post("/v1/accounts", {"id": near, "asset": "EUR/2"}).status_code == 200
        assert api.get(f"/v1/accounts/{near}").json()["id"] == near


@pytest.mark.parametrize("change", [{}, {"id": new_id()}])
def test_a_change_of_nothing_is_refused_and_writes_no_frame(api: Api, change: dict[str, Any]) -> None:
    account = api.account()
    position = api.position
    problem = api.patch(f"/v1/accounts/{account}", change).json()
    assert (problem["status"], problem["field"]) == (422, "$")
    assert "changes nothing" in problem["detail"]
    assert api.position == position


@pytest.mark.parametrize("text", [rb"\ud800", rb"\udc00", rb"a\ud800b and more", rb"\udc00\ud800"])
def test_half_a_surrogate_pair_is_called_so(books: Callable[..., httpx.Response], text: bytes) -> None:
    problem = books(b'{"metadata":{"a":"' + text + b'"},"postings":[]}').json()
    assert (problem["status"], "half of a surrogate pair" in problem["detail"]) == (400, True), problem


@pytest.mark.parametrize("body", [rb'{"metadata":{"a":"\u00e9', rb'{"reference":"\ud83d\ude00","postings":['])
def test_a_body_that_ends_too_soon_is_called_so(books: Callable[..., httpx.Response], body: bytes) -> None:
    assert "truncated" in books(body).json()["detail"]

"""What the HTTP API promises: outcomes, repeats, reads of every kind, and the position on every answer."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import pytest

from fivenines.ids import IdMaker, new_id, new_ids, new_ids16
from tests.e2e.serving import Api

DAY_MS = 24 * 3600 * 1000


def packed(api: Api, body: Any, path: str = "/v1/transactions") -> Any:
    response = api.request(
        "POST", path, content=msgspec.msgpack.encode(body), headers={"Content-Type": "application/msgpack"}
    )
    assert response.headers["Content-Type"] == "application/msgpack", response.text
    return msgspec.msgpack.decode(response.content)


def new_transaction(source: str, destination: str, amount: int | str = 1, **fields: Any) -> dict[str, Any]:
    posting = {"source": source, "destination": destination, "amount": amount}
    return {"id": new_id(), "postings": [posting], **fields}


def id_of_time(ms: int) -> str:
    text = f"{IdMaker(clock_ms=lambda: ms).numbers(1)[0]:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def refused(response: httpx.Response) -> str:
    assert response.status_code == 409, response.text
    problem = response.json()
    assert problem["type"] == f"/problems/{problem['outcome']}"
    assert problem["id"]
    assert problem["position"] <= int(response.headers["Ledger-Position"])
    return str(problem["outcome"])


# --- refusals --------------------------------------------------------------------------------------------------------


def test_each_refusal_of_a_posting_has_its_name(api: Api) -> None:
    rich, poor, full = api.account(), api.account(min_balance=0), api.account(max_balance=10)
    other = api.account("JPY/0")
    frozen, closed = api.account(), api.account()
    assert api.patch(f"/v1/accounts/{frozen}", {"status": "frozen"}).status_code == 200
    assert api.patch(f"/v1/accounts/{closed}", {"status": "closed"}).status_code == 200
    assert refused(api.move(rich, "no:such", 1)) == "account_unknown"
    assert refused(api.move("no:such", rich, 1)) == "account_unknown"
    assert refused(api.move(rich, rich, 1)) == "same_account"
    assert refused(api.move(rich, other, 1)) == "asset_mismatch"
    assert refused(api.move(poor, rich, 1)) == "insufficient_funds"
    assert refused(api.move(rich, full, 11)) == "balance_limit_exceeded"
    assert refused(api.move(rich, frozen, 1)) == "account_frozen"
    assert refused(api.move(closed, rich, 1)) == "account_closed"
    assert api.move(rich, poor, 2**127 - 1).status_code == 200
    assert refused(api.move(rich, api.account(), 1)) == "total_overflow"
    now_ms = time.time_ns() // 1_000_000
    assert refused(api.move(rich, full, 1, id=id_of_time(now_ms - 31 * DAY_MS))) == "id_expired"
    assert refused(api.move(rich, full, 1, id=id_of_time(now_ms + DAY_MS))) == "id_in_future"
    assert refused(api.move(rich, full, 1, id=id_of_time(2**48 - 1))) == "id_in_future"
    id = new_id()
    assert api.move(api.account(), full, 1, id=id).status_code == 200
    assert refused(api.move(rich, full, 2, id=id)) == "id_reused"


def test_each_refusal_of_an_account_or_asset_has_its_name(api: Api) -> None:
    api.asset("GBP/2")
    assert refused(api.post("/v1/assets", {"asset": "GBP/3"})) == "asset_exists"
    assert refused(api.post("/v1/accounts", {"id": "never:1", "asset": "ZZZ/2"})) == "asset_unknown"
    account, other = api.account(), api.account()
    assert refused(api.post("/v1/accounts", {"id": account, "asset": "EUR/2", "min_balance": -1})) == "account_exists"
    assert api.move(account, other, 5).status_code == 200
    path = f"/v1/accounts/{account}"
    assert refused(api.patch(path, {"status": "closed"})) == "account_not_empty"
    assert refused(api.patch(path, {"min_balance": 0, "max_balance": None})) == "limits_conflict"
    assert refused(api.patch("/v1/accounts/no:such", {"status": "frozen"})) == "account_unknown"
    assert api.move(other, account, 5).status_code == 200
    assert api.patch(path, {"status": "closed"}).status_code == 200
    assert refused(api.patch(path, {"status": "open"})) == "account_closed"


def test_each_refusal_about_a_hold_has_its_name(api: Api) -> None:
    source, destination = api.account(), api.account()

    def ask(kind: str, hold: str, amount: int | None = None, **fields: Any) -> httpx.Response:
        postings = [{"source": source, "destination": destination, "amount": amount}] if amount else []
        return api.post(
            "/v1/transactions", {"id": new_id(), "kind": kind, "hold": hold, "postings": postings, **fields}
        )

    def hold(amount: int, **fields: Any) -> str:
        answer = api.move(source, destination, amount, kind="hold", **fields).json()
        assert answer["outcome"] == "held"
        return str(answer["id"])

    assert refused(ask("settle", new_id())) == "hold_unknown"
    first = hold(10)
    assert refused(ask("settle", first, 11)) == "hold_exceeded"
    assert ask("settle", first, 4, final=False).json()["outcome"] == "settled"
    assert ask("settle", first, 4, final=False).json()["outcome"] == "settled"
    assert refused(ask("settle", first, 4, final=False)) == "hold_exceeded"
    assert ask("settle", first).json()["outcome"] == "settled"
    assert refused(ask("settle", first)) == "hold_already_settled"
    second = hold(7)
    assert ask("release", second).json()["outcome"] == "released"
    assert refused(ask("release", second)) == "hold_already_released"
    third = hold(5, timeout_s=1)
    assert api.get(f"/v1/accounts/{source}").json()["held_debits"] == 5
    # It expires by itself: nothing is written meanwhile but what the node writes.
    position = api.position
    while api.get(f"/v1/accounts/{source}").json()["held_debits"]:
        position += 1
        api.get(f"/v1/platform?at_least={position}")
    assert refused(ask("settle", third)) == "hold_expired"
    account = api.get(f"/v1/accounts/{source}").json()
    assert (account["balance"], account["held_debits"], account["debits"]) == (-10, 0, 10)
    done = [t["outcome"] for t in api.history(destination) if t["outcome"] in {"held", "settled", "released"}]
    assert done == ["held", "released", "held", "settled", "settled", "settled", "held"]


# --- repeats ---------------------------------------------------------------------------------------------------------


def test_the_same_id_gets_the_same_answer_in_every_form(api: Api) -> None:
    source, destination = api.account(), api.account()
    body = new_transaction(source, destination, 5)
    first = api.post("/v1/transactions", body).json()
    assert api.move(source, destination, 1).status_code == 200
    assert api.post("/v1/transactions", body).json() == first
    assert api.post("/v1/transactions", [body, body]).json() == [first, first]
    assert packed(api, body) == first
    assert packed(api, [body]) == [first]
    row = [bytes.fromhex(body["id"].replace("-", "")), source, destination, 5]
    assert packed(api, [row]) == [{"id": row[0], "outcome": "posted", "position": first["position"]}]
    upper = {**body, "id": body["id"].upper()}
    assert api.post("/v1/transactions", upper).json() == first
    assert api.post("/v1/transactions", {**body, "kind": "post", "metadata": {}, "final": True}).json() == first
    assert api.post("/v1/transactions", {**body, "metadata": {"a": 1}}).status_code == 409
    assert api.balance(destination) == 6


def test_a_refusal_is_repeated_even_when_it_would_now_succeed(api: Api) -> None:
    poor, destination = api.account(min_balance=0), api.account()
    body = new_transaction(poor, destination, 5)
    first = api.post("/v1/transactions", body)
    assert refused(first) == "insufficient_funds"
    assert api.move(destination, poor, 100).status_code == 200
    again = api.post("/v1/transactions", body)
    assert refused(again) == "insufficient_funds"
    assert again.json() == first.json()
    (item,) = api.post("/v1/transactions", [body]).json()
    assert (item["outcome"], item["position"]) == ("insufficient_funds", first.json()["position"])
    assert api.get(f"/v1/transactions/{body['id']}").json()["outcome"] == "insufficient_funds"


def test_an_array_has_an_outcome_for_each_item_in_order(api: Api) -> None:
    source, destination = api.account(min_balance=-3), api.account()
    items = [new_transaction(source, destination, amount) for amount in (2, 2, 1)]
    results = api.post("/v1/transactions", [*items, items[0], {**items[0], "kind": "hold"}]).json()
    assert [r["outcome"] for r in results] == ["posted", "insufficient_funds", "posted", "posted", "id_reused"]
    assert [r["id"] for r in results] == [i["id"] for i in [*items, items[0], items[0]]]
    assert len({r["position"] for r in results}) == 1
    assert api.balance(destination) == 3


def test_an_id_that_the_server_makes_is_said_not_to_be_safe_to_retry(api: Api) -> None:
    source, destination = api.account(), api.account()
    with_id, without = new_transaction(source, destination), new_transaction(source, destination)
    del without["id"]
    answer = api.post("/v1/transactions", without).json()
    assert answer["safe_to_retry"] is False
    assert api.get(f"/v1/transactions/{answer['id']}").json()["outcome"] == "posted"
    assert "safe_to_retry" not in api.post("/v1/transactions", with_id).json()
    mixed = api.post("/v1/transactions", [without, new_transaction(source, destination)]).json()
    assert [r.get("safe_to_retry", True) for r in mixed] == [False, True]
    accepted = api.post("/v1/transactions", without, headers={"Prefer": "respond-async"})
    assert accepted.json()["safe_to_retry"] is False
    change = api.patch(f"/v1/accounts/{source}", {"metadata": {"a": 1}}).json()
    assert change["safe_to_retry"] is False
    assert "safe_to_retry" not in api.patch(f"/v1/accounts/{source}", {"id": new_id(), "metadata": {}}).json()


def test_respond_async_answers_once_it_is_durable(api: Api) -> None:
    source, destination = api.account(), api.account()
    items = [new_transaction(source, destination, 3) for _ in range(3)]
    answer = api.post("/v1/transactions", items, headers={"Prefer": "wait=1, respond-async"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.json()["ids"] == [item["id"] for item in items]
    account = api.get(f"/v1/accounts/{destination}?at_least={answer.json()['position']}").json()
    assert account["balance"] == 9
    assert [r["position"] for r in api.post("/v1/transactions", items).json()] == [answer.json()["position"]] * 3


def test_several_postings_are_carried_out_all_or_none(api: Api) -> None:
    euros = api.account(), api.account()
    yen = api.account("JPY/0"), api.account("JPY/0", min_balance=0)
    fx = [
        {"source": euros[0], "destination": euros[1], "amount": 100},
        {"source": yen[0], "destination": yen[1], "amount": 16_000},
    ]
    assert api.post("/v1/transactions", {"id": new_id(), "postings": fx}).json()["outcome"] == "posted"
    bad = [fx[0], {"source": yen[1], "destination": yen[0], "amount": 16_001}]
    assert refused(api.post("/v1/transactions", {"id": new_id(), "postings": bad})) == "insufficient_funds"
    assert [api.balance(a) for a in (*euros, *yen)] == [-100, 100, -16_000, 16_000]


# --- accounts --------------------------------------------------------------------------------------------------------


def test_accounts_are_listed_in_pages_by_prefix(api: Api) -> None:
    api.asset()
    stem = f"list{new_id()[-6:]}"
    ids = sorted(f"{stem}:{number:03}" for number in range(57)) + [f"{stem}:9{letter}" for letter in "aZz_-."]
    answer = api.post("/v1/accounts", [{"id": id, "asset": "EUR/2"} for id in ids])
    assert {item["outcome"] for item in answer.json()} == {"done"}
    for limit in (1, 7, 31, 63, 64, 1_000):
        found: list[str] = []
        query: dict[str, Any] = {"prefix": f"{stem}:", "limit": limit}
        while True:
            page = api.get("/v1/accounts", params=query).json()
            assert 0 < len(page["accounts"]) <= limit
            found += [account["id"] for account in page["accounts"]]
            if page["next"] is None:
                break
            query["after"] = page["next"]
        assert found == sorted(ids), limit
    # What is opened one by one finds its place as well, between two looks.
    late = [f"{stem}:0005", f"{stem}:!", f"{stem}:zz"]
    assert api.post("/v1/accounts", {"id": late[1], "asset": "EUR/2"}).status_code == 422
    for id in (late[0], late[2]):
        assert api.post("/v1/accounts", {"id": id, "asset": "EUR/2"}).status_code == 200
        page = api.get(f"/v1/accounts?prefix={stem}&limit=1000").json()["accounts"]
        assert id in [account["id"] for account in page]
        assert page == sorted(page, key=lambda account: str(account["id"]))
    assert api.get(f"/v1/accounts?prefix={stem}:x").json() == {"accounts": [], "next": None}
    some = api.get(f"/v1/accounts?ids={ids[3]},no:such,{ids[1]}").json()["accounts"]
    assert [account["id"] for account in some] == [ids[3], ids[1]]


def test_opening_an_account_again_changes_nothing(api: Api) -> None:
    account, other = api.account(metadata={"b": 1, "a": 2}), api.account()
    assert api.move(other, account, 5).status_code == 200
    again = {"id": account, "asset": "EUR/2", "min_balance": None, "metadata": {"a": 2, "b": 1}}
    assert api.post("/v1/accounts", again).json()["outcome"] == "done"
    assert api.patch(f"/v1/accounts/{account}", {"metadata": {"c": 3}}).status_code == 200
    assert api.post("/v1/accounts", again).json()["outcome"] == "done"
    found = api.get(f"/v1/accounts/{account}").json()
    assert (found["balance"], found["metadata"]) == (5, {"c": 3})


def test_a_change_of_an_account_leaves_out_what_stays(api: Api) -> None:
    account = api.account(metadata={"a": 1}, max_balance=2**127 - 1)
    path = f"/v1/accounts/{account}"
    assert api.get(path).json()["max_balance"] == str(2**127 - 1)
    change = {"id": new_id(), "status": "frozen"}
    first = api.patch(path, change).json()
    found = api.get(path).json()
    assert (found["status"], found["metadata"], found["max_balance"]) == ("frozen", {"a": 1}, str(2**127 - 1))
    assert api.patch(path, {"status": "open", "min_balance": -5, "max_balance": "7"}).status_code == 200
    assert api.patch(path, change).json() == first
    found = api.get(path).json()
    assert (found["status"], found["min_balance"], found["max_balance"], found["metadata"]) == ("open", -5, 7, {"a": 1})
    assert api.patch(path, {"metadata": {}, "min_balance": None, "max_balance": None}).status_code == 200
    found = api.get(path).json()
    assert (found["min_balance"], found["max_balance"], found["metadata"]) == (None, None, {})
    assert refused(api.patch(path, {"id": change["id"], "status": "closed"})) == "id_reused"
    assert api.get(f"/v1/transactions/{change['id']}").status_code == 404
    assert packed_patch(api, path, {"status": "closed"})["outcome"] == "done"


def packed_patch(api: Api, path: str, body: Any) -> Any:
    response = api.request(
        "PATCH", path, content=msgspec.msgpack.encode(body), headers={"Content-Type": "application/x-msgpack"}
    )
    return msgspec.msgpack.decode(response.content)


# --- history and events ----------------------------------------------------------------------------------------------


def test_history_is_read_backwards_in_pages(api: Api) -> None:
    source, destination, stranger = api.account(), api.account(), api.account()
    ids = []
    for amount in range(1, 12):
        ids.append(api.move(source, destination, amount).json()["id"])
        api.move(source, stranger, 1)
    batch = [new_transaction(source, destination, 50 + n) for n in range(5)]
    ids += [item["id"] for item in api.post("/v1/transactions", batch).json()]
    expected = ids[::-1]
    for limit in (1, 2, 3, 1_000):
        assert [t["id"] for t in api.history(destination, limit)] == expected, limit
    assert [t["id"] for t in api.history(stranger)] == [t["id"] for t in api.history(source) if t["id"] not in ids]
    first = api.get(f"/v1/accounts/{destination}/history?limit=1").json()
    assert len(first["transactions"]) == 5, "all of a frame's are returned together"
    assert api.get("/v1/accounts/no:such/history").status_code == 404


def test_history_knows_settlements_and_releases_that_name_no_account(api: Api) -> None:
    source, destination, other = api.account(), api.account(), api.account()
    holds = [api.move(source, destination, 5, kind="hold").json()["id"] for _ in range(2)]
    settle, release = new_ids(2)
    api.post("/v1/transactions", {"id": settle, "kind": "settle", "hold": holds[0]})
    api.post("/v1/transactions", {"id": release, "kind": "release", "hold": holds[1]})
    for account in (source, destination):
        assert [t["id"] for t in api.history(account)] == [release, settle, *holds[::-1]]
    assert api.history(other) == []


def test_events_come_in_order_and_each_once_however_they_are_read(api: Api) -> None:
    source, destination = api.account(), api.account()
    start = api.position
    ids = [api.move(source, destination, amount).json()["id"] for amount in range(1, 6)]
    ids.append(api.move(source, source, 1).json()["id"])
    ids += [
        r["id"] for r in api.post("/v1/transactions", [new_transaction(source, destination) for _ in range(3)]).json()
    ]
    events: list[dict[str, Any]] = []
    for limit in (1, 2, 100):
        events.clear()
        after = start
        while True:
            page = api.get(f"/v1/events?after={after}&limit={limit}").json()
            if page["position"] == after:
                break
            events += page["events"]
            after = page["position"]
        assert [event["subject"] for event in events] == ids, limit
        assert len({event["id"] for event in events}) == len(events)
        assert {event["specversion"] for event in events} == {"1.0"}
    kinds = [event["type"].rpartition(".")[2] for event in events]
    assert kinds == ["posted"] * 5 + ["refused"] + ["posted"] * 3
    assert all(event["data"] == api.get(f"/v1/transactions/{event['subject']}").json() for event in events)


def test_a_long_poll_waits_for_the_next_event(api: Api) -> None:
    source, destination = api.account(), api.account()
    position = api.position
    empty = api.get(f"/v1/events?after={position}&wait_s=1").json()
    assert empty == {"events": [], "position": position}
    found: list[dict[str, Any]] = []

    def wait() -> None:
        found.append(httpx.get(f"{api.server.url}/v1/events?after={position}&wait_s=20", timeout=60).json())

    waiting = threading.Thread(target=wait)
    waiting.start()
    id = api.move(source, destination, 1).json()["id"]
    waiting.join()
    assert [event["subject"] for event in found[0]["events"]] == [id]


@contextmanager
def stream(api: Api, after: int | None = None, **headers: str) -> Iterator[Iterator[str]]:
    query = "" if after is None else f"?after={after}"
    with httpx.stream(
        "GET", f"{api.server.url}/v1/events{query}", headers={"Accept": "text/event-stream", **headers}, timeout=60
    ) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Ledger-Position"].isdigit()
        yield response.iter_lines()


def next_events(lines: Iterator[str]) -> tuple[list[str], str]:
    """Read the events of one page of the stream, and the id at its end."""
    subjects: list[str] = []
    for line in lines:
        if line.startswith("data: "):
            subjects.append(msgspec.json.decode(line[6:])["subject"])
        if line.startswith("id: "):
            return subjects, line[4:]
    raise AssertionError("the stream ended")


def test_a_stream_of_events_goes_on_where_it_was_cut(api: Api) -> None:
    source, destination = api.account(), api.account()
    start = api.position
    first = api.move(source, destination, 1).json()["id"]
    with stream(api, start) as lines:
        subjects, last_id = next_events(lines)
        assert subjects == [first]
        second = api.move(source, destination, 2).json()["id"]
        subjects, last_id = next_events(lines)
        assert subjects == [second]
    third = api.move(source, destination, 3).json()["id"]
    with stream(api, 0, **{"Last-Event-ID": last_id}) as lines:
        assert next_events(lines)[0] == [third]
    with stream(api) as lines:
        fourth = api.move(source, destination, 4).json()["id"]
        assert next_events(lines)[0] == [fourth]


@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        ("respond-async", 202),
        ("Respond-Async", 202),
        ("wait=1 ,respond-async ; x=1", 202),
        ("no-respond-async-please", 200),
        ("respond-asynchronously", 200),
        ('x="y"', 200),
        ("", 200),
    ],
)
def test_only_the_very_preference_for_an_early_answer_gives_one(api: Api, prefer: str, status: int) -> None:
    source, destination = api.account(), api.account()
    body = {"id": new_id(), "postings": [{"source": source, "destination": destination, "amount": 1}]}
    assert api.post("/v1/transactions", body, headers={"Prefer": prefer}).status_code == status


# --- consistency, and what every answer carries ----------------------------------------------------------------------


def test_a_read_waits_for_the_position_that_it_asks_for(api: Api) -> None:
    source, destination = api.account(), api.account()
    position = api.position
    found: list[httpx.Response] = []

    def read() -> None:
        found.append(httpx.get(f"{api.server.url}/v1/accounts/{destination}?at_least={position + 1}", timeout=60))

    waiting = threading.Thread(target=read)
    waiting.start()
    assert api.move(source, destination, 3).status_code == 200
    waiting.join()
    assert found[0].json()["balance"] == 3
    too_far = api.get(f"/v1/accounts/{destination}?at_least={2**62}")
    assert too_far.status_code == 503
    assert too_far.headers["Retry-After"].isdigit()


def test_a_linearizable_read_goes_through_the_journal(api: Api) -> None:
    account = api.account()
    before = api.position
    answer = api.get(f"/v1/accounts/{account}?consistency=linearizable")
    assert answer.status_code == 200
    assert int(answer.headers["Ledger-Position"]) > before


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json", "/metrics", "/live", "/ready", "/v1/platform"],
)
def test_every_page_names_the_position_and_answers_head(api: Api, path: str) -> None:
    whole, head = api.get(path), api.request("HEAD", path)
    assert whole.status_code == head.status_code
    assert whole.status_code in {200, 307}
    assert head.content == b""


def test_the_position_never_goes_back_for_one_client(api: Api) -> None:
    source, destination = api.account(), api.account()
    last = 0
    for number in range(30):
        path = ["/metrics", "/v1/platform", f"/v1/accounts/{source}", "/docs"][number % 4]
        answer = api.move(source, destination, 1) if number % 3 else api.get(path)
        position = int(answer.headers["Ledger-Position"])
        assert position >= last
        last = position


def test_the_platform_and_the_metrics_tell_how_things_stand(api: Api) -> None:
    source, destination = api.account(), api.account()
    ids = new_ids16(10)
    assert {r["outcome"] for r in packed(api, [[id, source, destination, 1] for id in ids])} == {"posted"}
    platform = api.get("/v1/platform").json()
    assert platform["ready"] is True
    assert "EUR/2" in platform["assets"]
    assert platform["position"] == platform["journal_last"]
    metrics = api.get("/metrics").text
    assert f"fivenines_ledger_position {float(platform['position'])}" in metrics
    assert 'fivenines_http_requests_total{route="transactions",status="200"}' in metrics
    assert "fivenines_ready 1.0" in metrics
    # Whatever is asked, it does not make new series.
    count = len(metrics.splitlines())
    for number in range(20):
        api.get(f"/nope/{number}")
        api.get(f"/v1/accounts/nope:{number}")
        api.request("OPTIONS", f"/v1/accounts/{number}")
    assert len(api.get("/metrics").text.splitlines()) <= count + 20


def test_the_documentation_works_without_the_internet(api: Api) -> None:
    page = api.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("/docs/assets/swagger-ui.css", "/docs/assets/swagger-ui-bundle.js"):
        assert asset in page
        assert api.get(asset).status_code == 200
    assert api.get("/openapi.json").json()["openapi"] == "3.1.0"

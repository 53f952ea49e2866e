"""A hold tells how it stands: what is left of it while it is open, and how it ended."""

import time

from fivenines.ids import new_id
from tests.e2e.serving import Api


def transact(api: Api, **fields: object) -> str:
    response = api.post("/v1/transactions", {"id": new_id(), **fields})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def hold(api: Api, source: str, destination: str, amount: int, **fields: object) -> str:
    posting = {"source": source, "destination": destination, "amount": amount}
    return transact(api, kind="hold", postings=[posting], **fields)


def read(api: Api, id: str) -> dict[str, object]:
    response = api.get(f"/v1/transactions/{id}")
    assert response.status_code == 200, response.text
    found: dict[str, object] = response.json()
    return found


def test_an_open_hold_tells_what_is_left_and_until_when(api: Api) -> None:
    shop, alice = api.account(), api.account()
    id = hold(api, alice, shop, 100, timeout_s=3600)
    found = read(api, id)
    assert (found["outcome"], found["state"]) == ("held", "open")
    assert found["remaining"] == [{"source": alice, "destination": shop, "amount": 100}]
    assert str(found["expires"]) > str(found["time"])
    transact(
        api,
        kind="settle",
        hold=id,
        final=False,
        postings=[{"source": alice, "destination": shop, "amount": 30}],
    )
    assert read(api, id)["remaining"] == [{"source": alice, "destination": shop, "amount": 70}]


def test_a_hold_that_has_ended_tells_how(api: Api) -> None:
    shop, alice = api.account(), api.account()
    settled, released, expired = (hold(api, alice, shop, 5, timeout_s=timeout_s) for timeout_s in (60, 60, 1))
    transact(api, kind="settle", hold=settled)
    transact(api, kind="release", hold=released)
    while read(api, expired)["state"] == "open":
        time.sleep(0.05)
    states = [read(api, id)["state"] for id in (settled, released, expired)]
    assert states == ["settled", "released", "expired"]
    assert not any({"remaining", "expires"} & set(read(api, id)) for id in (settled, released, expired))


def test_what_is_no_hold_and_a_hold_that_was_refused_have_no_state(api: Api) -> None:
    poor, rich = api.account(min_balance=0), api.account()
    posted = api.move(rich, poor, 5).json()["id"]
    assert "state" not in read(api, posted)
    posting = {"source": poor, "destination": rich, "amount": 50}
    refused = api.post("/v1/transactions", {"id": new_id(), "kind": "hold", "postings": [posting]}).json()["id"]
    assert "state" not in read(api, refused)

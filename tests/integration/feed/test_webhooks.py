"""Webhooks with real servers and real processes: at least once, in order for each account, none skipped."""

import random
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.serving import Api, run_server
from tests.integration.feed.feeding import (
    SECRET,
    Child,
    Got,
    Receiver,
    accounts_in,
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

AHEAD_MAX = 200
"""So many events may wait, so that what is left at the end is soon delivered, however often it was killed."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A ledger that the tests share; each has its own accounts."""
    with run_server(tmp_path_factory.mktemp("ledger") / "data") as api:
        yield api


def test_all_events_are_delivered_signed_and_in_order(api: Api, tmp_path: Path) -> None:
    accounts = open_accounts(api, 6)
    start = api.position
    with Receiver() as receiver, Child.deliverer(tmp_path, api.server.url) as child:
        id = subscribe(child, receiver.url, after=start)
        ids = move_many(api, mixed(accounts, 200), per_request=20)
        until(lambda: len(receiver.taken) >= len(ids))
        until(lambda: shown(child, id)["position"] >= api.position)
        assert child.stop() == 0
    told = all_events(api.server.url, start)
    assert [event["subject"] for event in told] == ids
    # None was delivered twice: nobody was killed.
    assert len(receiver.taken) == len(ids)
    assert (receiver.unsigned, receiver.overlaps) == (0, [])
    check_order(told, receiver.taken)


@pytest.mark.crash
def test_a_deliverer_that_is_killed_again_and_again_skips_nothing(api: Api, tmp_path: Path, crash_factor: int) -> None:
    accounts = open_accounts(api, 8)
    start = api.position
    chance = random.Random(1)
    is_over = threading.Event()
    flaky = random.Random(2)
    sent: list[str] = []

    def load() -> None:
        number = 0
        while not is_over.is_set():
            if len(sent) < len(receiver.taken) + AHEAD_MAX:
                number += 1
                sent.extend(move_many(api, mixed(accounts, 5, seed=number), per_request=5))
            is_over.wait(0.01)

    with Receiver(lambda _event: 500 if flaky.random() < 0.1 else 200) as receiver:
        with Child.deliverer(tmp_path, api.server.url) as child:
            subscribe(child, receiver.url, after=start)
        with stepping(load):
            try:
                for _ in range(12 * crash_factor):
                    # From not yet begun to well under way.
                    enough = len(receiver.asked) + chance.choice([0, 1, 10, 60])
                    with Child.deliverer(tmp_path, api.server.url):
                        until(partial(receiver.was_asked, enough))
            finally:
                is_over.set()
        with Child.deliverer(tmp_path, api.server.url) as child:
            until(lambda: {event["subject"] for event in receiver.taken} >= set(sent))
            assert child.stop() == 0
    told = all_events(api.server.url, start)
    assert [event["subject"] for event in told] == sent
    assert receiver.unsigned == 0
    check_order(told, receiver.taken)


def test_one_account_that_is_not_taken_holds_up_no_other(api: Api, tmp_path: Path) -> None:
    slow, *others = open_accounts(api, 5)
    start = api.position
    is_mended = threading.Event()

    def judge(event: Got) -> int:
        return 500 if slow in accounts_in(event) and not is_mended.is_set() else 200

    with Receiver(judge) as receiver, Child.deliverer(tmp_path, api.server.url) as child:
        id = subscribe(child, receiver.url, after=start)
        stuck = move_many(api, [(slow, others[0]), (slow, others[1])])
        free = move_many(api, mixed(others[2:], 30, seed=3))
        behind = move_many(api, [(others[0], others[2])])
        until(lambda: {event["subject"] for event in receiver.taken} == set(free))
        # The one behind shares an account with one that is stuck, so it waits, and the cursor does, too.
        until(lambda: shown(child, id)["failing"] == 1)
        assert shown(child, id)["position"] < api.position
        # A restart changes nothing: what was taken beyond the cursor is not delivered again.
        assert child.stop() == 0
        with Child.deliverer(tmp_path, api.server.url) as again:
            is_mended.set()
            until(lambda: len(receiver.taken) == len(stuck) + len(free) + len(behind))
            until(lambda: shown(again, id)["position"] >= api.position)
    check_order(all_events(api.server.url, start), receiver.taken)
    assert receiver.overlaps == []


def test_a_receiver_that_hangs_is_given_up_on_and_asked_again(api: Api, tmp_path: Path) -> None:
    accounts = open_accounts(api, 2)
    start = api.position
    asked: list[str] = []

    def judge(event: Got) -> int:
        asked.append(event["id"])
        return 0 if len(asked) <= 2 else 200

    with Receiver(judge) as receiver, Child.deliverer(tmp_path, api.server.url, timeout_s=0.3) as child:
        subscribe(child, receiver.url, after=start)
        move_many(api, mixed(accounts, 3))
        told = all_events(api.server.url, start)
        until(lambda: len(receiver.taken) >= 3)
        assert asked[:3] == [told[0]["id"]] * 3
        receiver.release.set()
        until(lambda: len(receiver.taken) >= 5)
    check_order(told, [event for event in receiver.taken if event["id"] in {each["id"] for each in told}])


def test_a_receiver_that_is_away_gets_all_when_it_is_back(api: Api, tmp_path: Path) -> None:
    accounts = open_accounts(api, 3)
    start = api.position
    is_away = threading.Event()
    is_away.set()
    with (
        Receiver(lambda _event: 503 if is_away.is_set() else 200) as receiver,
        Child.deliverer(tmp_path, api.server.url) as child,
    ):
        subscribe(child, receiver.url, after=start)
        move_many(api, mixed(accounts, 20))
        until(lambda: len(receiver.asked) >= 5)
        assert receiver.taken == []
        is_away.clear()
        until(lambda: len(receiver.taken) == 20)
    check_order(all_events(api.server.url, start), receiver.taken)


def test_what_is_given_up_is_kept_and_can_be_replayed(api: Api, tmp_path: Path) -> None:
    bad, *others = open_accounts(api, 4)
    start = api.position
    is_mended = threading.Event()

    def judge(event: Got) -> int:
        return 422 if bad in accounts_in(event) and not is_mended.is_set() else 200

    with Receiver(judge) as receiver:
        with Child.deliverer(tmp_path, api.server.url, tries=2) as child:
            id = subscribe(child, receiver.url, after=start)
            dead = move_many(api, [(bad, others[0]) for _ in range(4)])
            free = move_many(api, mixed(others, 10))
            until(lambda: shown(child, id)["dead_letters"] == 4)
            until(lambda: shown(child, id)["position"] >= api.position)
            assert {event["subject"] for event in receiver.taken} == set(free)
            page = httpx.get(f"{child.url}/v1/webhooks/{id}/dead-letters?limit=3").json()
            rest = httpx.get(f"{child.url}/v1/webhooks/{id}/dead-letters?after={page['next']}").json()
            letters = page["dead_letters"] + rest["dead_letters"]
            assert [letter["event"]["subject"] for letter in letters] == dead
            assert {(letter["tries"], letter["reason"]) for letter in letters} == {(2, "it answered 422")}
            assert rest["next"] is None
            # Not mended: a replay gives them up again.
            one = {"events": [letters[0]["event"]["id"]]}
            answer = httpx.post(f"{child.url}/v1/webhooks/{id}/replay", json=one)
            assert (answer.status_code, answer.json()) == (202, {"replayed": 1})
            until(lambda: len(receiver.asked) >= 4 * 2 + 10 + 2)
            until(
                lambda: (
                    not any(
                        letter["is_waiting"]
                        for letter in httpx.get(f"{child.url}/v1/webhooks/{id}/dead-letters").json()["dead_letters"]
                    )
                )
            )
            assert shown(child, id)["dead_letters"] == 4
            is_mended.set()
            assert httpx.post(f"{child.url}/v1/webhooks/{id}/replay").json() == {"replayed": 4}
            # A kill in the middle of a replay loses none of it.
        with Child.deliverer(tmp_path, api.server.url, tries=2) as child:
            until(lambda: shown(child, id)["dead_letters"] == 0)
    replayed = [event["subject"] for event in receiver.taken if event["subject"] in dead]
    assert list(dict.fromkeys(replayed)) == dead


def test_a_subscription_gets_what_it_asks_for_and_no_more(api: Api, tmp_path: Path) -> None:
    customers, banks = open_accounts(api, 2), open_accounts(api, 2, prefix="banks")
    start = api.position
    with Receiver() as some, Receiver() as refusals, Child.deliverer(tmp_path, api.server.url) as child:
        subscribe(child, some.url, after=start, accounts=["customers:"], types=["transaction.posted"])
        subscribe(child, refusals.url, after=start, types=["transaction.refused"])
        move_many(api, mixed(banks, 5))
        # They share an account: between others no order is promised.
        wanted = move_many(api, [(banks[0], customers[0]), (customers[0], banks[1])])
        refused = api.move(banks[0], "banks:nobody", 1).json()["id"]
        until(lambda: len(some.taken) >= 2 and refusals.taken)
        gone = subscribe(child, some.url, after=start)
        assert httpx.delete(f"{child.url}/v1/webhooks/{gone}").status_code == 204
        assert httpx.delete(f"{child.url}/v1/webhooks/{gone}").status_code == 404
        assert len(httpx.get(f"{child.url}/v1/webhooks").json()["webhooks"]) == 2
    assert [event["subject"] for event in some.taken][:2] == wanted
    assert [event["subject"] for event in refusals.taken] == [refused]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "ftp://example.org/x", "secret": "test"}, "url"),
        ({"url": "example.org", "secret": "test"}, "url"),
        ({"url": "http://user:pass@example.org/", "secret": "test"}, "url"),
        ({"url": "http://[::1", "secret": "test"}, "url"),
        ({"url": "http://example.org/", "secret": "absent"}, "secret"),
        ({"url": "http://example.org/", "secret": "../test"}, "secret"),
        ({"url": "http://example.org/", "secret": "test", "types": ["nothing"]}, "types"),
        ({"url": "http://example.org/", "secret": "test", "accounts": [""]}, "accounts"),
        ({"url": "http://example.org/", "secret": "test", "after": -1}, "after"),
        ({"url": 7, "secret": "test"}, "url"),
    ],
)
def test_what_is_wrong_with_a_subscription_is_told_by_its_field(
    child_of_all: Child, body: dict[str, Any], field: str
) -> None:
    answer = httpx.post(f"{child_of_all.url}/v1/webhooks", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert httpx.get(f"{child_of_all.url}/v1/webhooks").json() == {"webhooks": []}


@pytest.fixture(scope="module")
def child_of_all(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A deliverer that only answers."""
    with Child.deliverer(tmp_path_factory.mktemp("feed"), api.server.url) as child:
        yield child


def test_secrets_are_stored_nowhere(child_of_all: Child, tmp_path: Path, api: Api) -> None:
    with Child.deliverer(tmp_path, api.server.url) as child:
        id = subscribe(child, "http://127.0.0.1:9/")
        assert SECRET.decode() not in httpx.get(f"{child.url}/v1/webhooks/{id}").text
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("feed.sqlite*"))
    assert b"127.0.0.1:9" in kept
    assert SECRET not in kept


def test_events_come_through_as_from_a_node(child_of_all: Child, api: Api) -> None:
    accounts = open_accounts(api, 2)
    start = api.position
    ids = move_many(api, mixed(accounts, 5))
    assert all_events(child_of_all.url, start) == all_events(api.server.url, start)
    empty = httpx.get(f"{child_of_all.url}/v1/events?after={api.position}&wait_s=1").json()
    assert empty == {"events": [], "position": api.position}
    early = httpx.get(f"{child_of_all.url}/v1/events?after={api.position + 1}")
    assert (early.status_code, early.json()["type"]) == (503, "/problems/not_there_yet")
    query = f"after={start}&account={accounts[0]}&type=transaction.posted"
    headers = {"Accept": "text/event-stream"}
    with httpx.stream("GET", f"{child_of_all.url}/v1/events?{query}", headers=headers, timeout=60) as response:
        lines = [line for line, _ in zip(response.iter_lines(), range(3 * len(ids) + 1), strict=False)]
    assert sum(line.startswith("data: ") for line in lines) == 5
    assert f"id: {api.position}" in lines

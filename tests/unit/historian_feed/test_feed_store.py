"""What is kept of lanes: taken by one at a time, committed whole."""

from pathlib import Path

import pytest

from fivenines.api import Posting, Transaction
from fivenines.historian.feed.ordering import Key
from fivenines.historian.feed.store import DeadLetter, LaneLostError, Store, StoreUnavailableError, Subscription
from fivenines.historian.sql import open_engine
from fivenines.node.history import event_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a file, with a lane that begins after position 10."""
    store = Store(open_engine(f"sqlite:///{tmp_path / 'feed.sqlite'}"))
    store.install()
    store.install()  # there already
    store.begin("lane", 10)
    return store


def letter(position: int, item: int = 0, reason: str = "it answered 500") -> DeadLetter:
    transaction = Transaction("x", "post", "posted", position, "", [Posting("a", "b", 1)], reference="\0☃")
    return DeadLetter(Key(position, item), event_of(transaction, item, "/v1/events"), 3, reason, 1_000)


def term_of(store: Store, owner: str = "one", now_s: float = 100.0) -> int:
    taken = store.take("lane", owner, now_s, silent_s_max=15.0)
    assert taken is not None
    return taken.term


def test_what_was_committed_is_found_by_the_next_one(store: Store) -> None:
    term = term_of(store)
    store.commit("lane", term, 100.0, cursor=11, delivered=[Key(11, 0), Key(13, 1)], dead=[letter(13)])
    taken = store.take("lane", "one", 100.0, silent_s_max=15.0)
    assert taken is not None
    assert (taken.cursor, taken.done) == (11, {Key(13, 1), Key(13, 0)})
    assert store.dead_letters("lane") == [letter(13)]
    store.commit("lane", taken.term, 100.0, cursor=13)
    taken = store.take("lane", "one", 100.0, silent_s_max=15.0)
    assert taken is not None
    assert (taken.cursor, taken.done) == (13, set())
    assert store.count_dead() == {"lane": 1}


def test_one_who_was_replaced_changes_nothing(store: Store) -> None:
    first = term_of(store)
    second = term_of(store)
    assert second == first + 1
    with pytest.raises(LaneLostError):
        store.commit("lane", first, 100.0, cursor=99, delivered=[Key(20, 0)], dead=[letter(21)])
    assert (store.cursors(), store.dead_letters("lane")) == ({"lane": 10}, [])
    store.commit("lane", second, 100.0, cursor=12)
    assert store.cursors() == {"lane": 12}


def test_another_one_waits_until_the_first_is_silent(store: Store) -> None:
    term = term_of(store, "one", now_s=100.0)
    assert store.take("lane", "two", 114.0, silent_s_max=15.0) is None
    store.commit("lane", term, 114.0, cursor=10)
    assert store.take("lane", "two", 128.0, silent_s_max=15.0) is None
    assert term_of(store, "two", now_s=129.0) == term + 1
    assert store.take("lane", "one", 130.0, silent_s_max=15.0) is None


def test_a_lane_that_is_gone_cannot_be_taken(store: Store) -> None:
    with pytest.raises(LaneLostError):
        store.take("another", "one", 0.0, silent_s_max=15.0)
    store.begin("lane", 99)  # it is there already
    assert store.cursors() == {"lane": 10}


def test_dead_letters_come_in_pages_and_are_replayed_all_or_some(store: Store) -> None:
    term = term_of(store)
    letters = [letter(20), letter(20, 1), letter(21)]
    store.commit("lane", term, 100.0, cursor=30, dead=letters)
    assert store.dead_letters("lane", limit=2) == letters[:2]
    assert store.dead_letters("lane", after=Key(20, 1)) == letters[2:]
    assert store.replay("lane", [Key(20, 1), Key(99, 0)]) == 1
    assert [each.key for each in store.dead_letters("lane", only_waiting=True)] == [Key(20, 1)]
    assert store.replay("lane") == 3
    again = letter(20, 1, reason="it answered 404")
    store.commit("lane", term, 100.0, cursor=30, replayed=[Key(20, 0)], dead_again=[again])
    assert store.dead_letters("lane") == [again, letters[2]._replace(is_waiting=True)]


def test_a_webhook_that_is_removed_leaves_nothing(store: Store) -> None:
    webhook = Subscription("id", "http://example.org", "secret", ("a",), (), 7)
    store.add_webhook(webhook, "hook")
    assert store.webhooks() == [webhook]
    taken = store.take("hook", "one", 0.0, silent_s_max=15.0)
    assert taken is not None
    assert taken.cursor == 7
    store.commit("hook", taken.term, 0.0, cursor=8, delivered=[Key(9, 0)], dead=[letter(10)])
    assert store.remove_webhook("id", "hook")
    assert not store.remove_webhook("id", "hook")
    assert (store.webhooks(), store.dead_letters("hook"), store.cursors()) == ([], [], {"lane": 10})
    with pytest.raises(LaneLostError):
        store.commit("hook", taken.term, 0.0, cursor=9)


def test_a_database_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    store = Store(open_engine(f"sqlite:///{tmp_path / 'absent' / 'feed.sqlite'}"))
    with pytest.raises(StoreUnavailableError):
        store.install()

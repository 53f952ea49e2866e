"""The order of delivery, against what it promises, for any accounts and any course of events."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from fivenines.api import Transaction
from fivenines.historian.feed.ordering import Key, Order, key_of
from fivenines.node.history import event_of

ACCOUNTS = st.one_of(st.none(), st.frozensets(st.sampled_from("abcde"), max_size=3))


def shares(one: frozenset[str] | None, other: frozenset[str] | None) -> bool:
    """Return whether two events may be about the same account."""
    return one is None or other is None or not one.isdisjoint(other)


@given(events=st.lists(ACCOUNTS, max_size=30), chance=st.randoms(use_true_random=False))
def test_an_event_waits_for_each_earlier_one_that_shares_an_account_and_for_no_other(
    events: list[frozenset[str] | None], chance: Random
) -> None:
    order = Order()
    keys = [Key(number, 0) for number in range(len(events))]
    to_add = list(keys)
    undone: list[Key] = []  # in the order in which they were added
    under_way: set[Key] = set()
    put_off: dict[Key, float] = {}
    now_s = 0.0
    while to_add or undone:
        steps = ["take", "wait", *(["add"] if to_add else []), *(["finish", "finish", "put off"] if under_way else [])]
        step = chance.choice(steps)
        if step == "add":
            key = to_add.pop(0)
            order.add(key, events[key.position])
            undone.append(key)
        elif step == "wait":
            now_s += 1.0
        elif step in {"finish", "put off"}:
            key = chance.choice(sorted(under_way))
            under_way.remove(key)
            if step == "finish":
                order.finish(key)
                undone.remove(key)
            else:
                put_off[key] = now_s + 2.0
                order.put_off(key, put_off[key])
        else:
            free = {
                key
                for number, key in enumerate(undone)
                if key not in under_way
                and put_off.get(key, 0.0) <= now_s
                and not any(shares(events[key.position], events[other.position]) for other in undone[:number])
            }
            assert order.free(now_s) == len(free)
            taken = order.take(now_s)
            assert (taken in free) if free else (taken is None)
            if taken is not None:
                under_way.add(taken)
        assert set(order) == set(undone)
    assert len(order) == 0
    assert order.take(now_s) is None


def test_those_that_were_never_tried_go_before_those_that_failed() -> None:
    order = Order()
    for number in range(3):
        order.add(Key(number, 0), frozenset({str(number)}))
    first = order.take(0.0)
    assert first == Key(0, 0)
    order.put_off(first, 5.0)
    assert [order.take(9.0) for _ in range(4)] == [Key(1, 0), Key(2, 0), first, None]
    assert order.due_s() is None


def test_what_is_added_again_comes_after_what_waits() -> None:
    order = Order()
    order.add(Key(5, 0), frozenset("a"))
    order.add(Key(6, 0), frozenset("a"))
    order.add(Key(1, 0), frozenset("a"))  # replayed
    found = []
    while (key := order.take(0.0)) is not None:
        found.append(key.position)
        order.finish(key)
    assert found == [5, 6, 1]


def test_a_key_is_read_from_the_id_of_an_event() -> None:
    event = event_of(Transaction("x", "post", "posted", 12, ""), 34, "/v1/events")
    assert key_of(event) == Key(12, 34)
    assert str(Key(12, 34)) == event.id
    for text in ("", "1", "-", "1-", "-1", "1-x", "1-2-3", "١-1", "1" * 20 + "-0"):
        assert Key.parse(text) is None, text

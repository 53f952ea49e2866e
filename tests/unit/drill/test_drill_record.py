"""When the killer kills, what ends a recovery, and how transactions are cut into requests."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fivenines.api import NewTransaction, Posting
from fivenines.drill.record import Killer, Try
from fivenines.drill.replay import requests_of

HERE = "here:1"
BODY = b"\x92\x81\xa2id\xa1a\x81\xa2id\xa1b"  # two items, in msgpack


class Target:
    def __init__(self, *targets: int, patience: int = 100) -> None:
        self.hits = 0
        self.killer = Killer(targets, patience=patience, wanted=16, is_hit=HERE.__eq__, kill=self._hit)

    def consider(self, acknowledged: int, others: list[Try], now: float, address: str = HERE) -> None:
        """With others under way, one goes out now."""
        going_out = Try(BODY, is_msgpack=True, at=now, address=address, out_at=now)
        self.killer.consider(acknowledged, [*others, going_out], going_out)

    def _hit(self) -> str:
        self.hits += 1
        return "the target"


def tries(sent: int, waiting: int = 0, at: float = 1.0, address: str = HERE) -> list[Try]:
    return [Try(BODY, is_msgpack=True, at=at, address=address, out_at=at) for _ in range(sent)] + [
        Try(BODY, is_msgpack=True, at=at, address=address) for _ in range(waiting)
    ]


def test_requests_to_others_than_the_target_do_not_count() -> None:
    target = Target(50)
    target.consider(50, tries(14) + tries(9, address="elsewhere:1"), now=2.0)
    assert target.hits == 0
    target.consider(51, tries(15) + tries(9, address="elsewhere:1"), now=2.0)
    (kill,) = target.killer.kills
    assert (kill.what, kill.requests) == ("the target", 16)


def test_the_kill_waits_for_a_request_to_the_target_which_it_cuts_off_for_certain() -> None:
    target = Target(50)
    target.consider(200, tries(20), now=2.0, address="elsewhere:1")
    assert target.hits == 0
    target.consider(200, tries(20), now=2.0)
    assert target.hits == 1


def test_nobody_is_killed_before_the_target() -> None:
    target = Target(50)
    target.consider(49, tries(19), now=2.0)
    assert target.hits == 0


def test_the_kill_comes_with_many_requests_sent_and_unanswered() -> None:
    target = Target(50)
    target.consider(50, tries(14, waiting=10), now=2.0)
    assert target.hits == 0
    target.consider(51, tries(15, waiting=1), now=2.5)
    (kill,) = target.killer.kills
    assert (kill.at, kill.after, kill.requests, kill.transactions) == (2.5, 51, 16, 32)


def test_a_killer_who_waited_long_is_content_with_one_request() -> None:
    target = Target(50, patience=100)
    target.consider(140, tries(0, waiting=3), now=2.0)
    assert target.hits == 0
    target.consider(150, tries(0), now=2.0)
    assert target.hits == 1


def test_the_next_kill_waits_until_the_ledger_is_back() -> None:
    target = Target(50, 60)
    target.consider(50, tries(15), now=2.0)
    target.consider(70, tries(15), now=2.1)
    target.killer.heard(Try(BODY, is_msgpack=True, at=1.9, ended=2.2))  # an answer that was on its way
    recoveries = [kill.recovery_s for kill in target.killer.kills]
    assert recoveries == [None]
    target.killer.heard(Try(BODY, is_msgpack=True, at=2.5, ended=3.0))
    assert target.killer.kills[0].recovery_s == 1.0
    target.consider(70, tries(15), now=3.5)
    assert target.hits == 2


def test_each_target_is_hit_once() -> None:
    target = Target(50)
    target.consider(50, tries(15), now=2.0)
    target.killer.heard(Try(BODY, is_msgpack=True, at=2.5, out_at=math.inf, ended=3.0))
    target.consider(80, tries(15), now=4.0)
    assert target.hits == 1


def transaction(customer: int) -> NewTransaction:
    return NewTransaction(postings=[Posting(source="till", destination=f"c:{customer}", amount=1)])


@given(st.lists(st.integers(0, 40)).map(sorted))
def test_requests_keep_the_order_and_never_part_a_customer(customers: list[int]) -> None:
    given_ = [transaction(customer) for customer in customers]
    requests = list(requests_of(given_, lambda account: account.startswith("c:")))
    assert [each for request in requests for each in request] == given_
    assert all(requests)
    for one, next_ in pairwise(requests):
        assert one[-1].postings[0].destination != next_[0].postings[0].destination


def test_transactions_of_many_customers_go_in_small_requests() -> None:
    requests = list(requests_of([transaction(number) for number in range(25)], lambda account: account != "till"))
    assert [len(request) for request in requests] == [10, 10, 5]

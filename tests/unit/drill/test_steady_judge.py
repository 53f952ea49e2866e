"""The judge of a steady load finds each kind of wrong that is planted, and finds nothing where nothing is wrong."""

import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.disk import OnDisk, Totals
from fivenines.drill.steady import Asked, Load, account_prefix
from fivenines.drill.steady_judge import SLOW_S, judge_steady, stretch

LOAD = Load(url="http://api.bank.test:9959", nameservers=(("127.0.0.1:53",),), rate_per_s=10.0, name="7")
ACCOUNTS = [f"{account_prefix(LOAD)}{number:03d}" for number in range(3)]
BANK = f"{account_prefix(LOAD)}bank"


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def post(number: int, *, due: float, latency_s: float = 0.05, amount: int = 10) -> Asked:
    """One that was acknowledged at the position that is its number."""
    return Asked(
        due,
        0,
        ACCOUNTS[number % len(ACCOUNTS)],
        id=id_of(number),
        amount=amount,
        ended=due + latency_s,
        outcome="posted",
        position=number,
    )


def read(due: float) -> Asked:
    return Asked(due, 0, ACCOUNTS[0], ended=due + 0.01, outcome="read")


def journal_of(asked: list[Asked]) -> OnDisk:
    """A journal that has just what was acknowledged."""
    disk = OnDisk(position=max((each.position for each in asked), default=0))
    disk.accounts = {account: Totals("EUR/2") for account in [BANK, *ACCOUNTS]}
    for each in asked:
        if each.id:
            carry_out(disk, each)
    return disk


def carry_out(disk: OnDisk, asked: Asked) -> None:
    disk.carried_out[asked.id] = asked.position
    disk.accounts[asked.account].credits += asked.amount
    disk.accounts[BANK].debits += asked.amount


def some() -> list[Asked]:
    """Ten posts one after the other, and reads between them."""
    posts = [post(number, due=number / 10) for number in range(1, 11)]
    return [each for one in posts for each in (one, read(one.due + 0.01))]


def test_nothing_is_wrong_where_nothing_is() -> None:
    asked = some()
    verdict = judge_steady(asked, journal_of(asked), LOAD)
    assert verdict.is_good
    assert (verdict.acknowledged, verdict.failed) == (10, 0)


def test_a_load_of_which_nothing_was_acknowledged_is_not_good() -> None:
    assert not judge_steady([], OnDisk(), LOAD).is_good


def lost(asked: list[Asked], disk: OnDisk) -> None:
    gone = asked[4]
    del disk.carried_out[gone.id]
    disk.accounts[gone.account].credits -= gone.amount


def doubled(asked: list[Asked], disk: OnDisk) -> None:
    disk.carried_out[asked[4].id] += 1


def reused(asked: list[Asked], disk: OnDisk) -> None:
    disk.reused.append(asked[4].id)


def reordered(asked: list[Asked], disk: OnDisk) -> None:
    first, last = asked[4], asked[6]
    first.position, last.position = last.position, first.position
    disk.carried_out[first.id], disk.carried_out[last.id] = first.position, last.position


def wrong_balance(_asked: list[Asked], disk: OnDisk) -> None:
    disk.accounts[ACCOUNTS[1]].credits += 1


def refused_and_carried_out(asked: list[Asked], _disk: OnDisk) -> None:
    asked[4].outcome = "insufficient_funds"


PLANTED: list[tuple[Callable[[list[Asked], OnDisk], None], str]] = [
    (lost, "lost"),
    (doubled, "doubled"),
    (reused, "doubled"),
    (reordered, "reordered"),
    (wrong_balance, "wrong_balances"),
    (refused_and_carried_out, "wrong_balances"),
]


@pytest.mark.parametrize(("plant", "found_as"), PLANTED, ids=[each.__name__ for each, _ in PLANTED])
def test_what_is_planted_is_found_and_called_by_its_name(
    plant: Callable[[list[Asked], OnDisk], None], found_as: str
) -> None:
    asked = some()
    disk = journal_of(asked)
    plant(asked, disk)
    verdict = judge_steady(asked, disk, LOAD)
    assert not verdict.is_good
    found = {name for name in ("lost", "doubled", "reordered", "wrong_balances") if getattr(verdict, name)}
    assert found == {found_as}


@pytest.mark.parametrize("is_there", [True, False])
def test_what_nobody_got_an_answer_about_may_have_happened_or_not(is_there: bool) -> None:
    asked = some()
    unheard = Asked(1.5, 0, ACCOUNTS[2], id=id_of(99), amount=7, ended=31.5, error="the deadline is over")
    disk = journal_of(asked)
    if is_there:
        carry_out(disk, msgspec.structs.replace(unheard, position=11))
    verdict = judge_steady([*asked, unheard], disk, LOAD)
    assert verdict.is_good
    assert verdict.failed == 1


def test_accounts_of_others_are_none_of_its_business() -> None:
    asked = some()
    disk = journal_of(asked)
    disk.accounts["steady:8:001"] = Totals("EUR/2", credits=5)
    disk.accounts["platform:probe"] = Totals("EUR/2", debits=5)
    assert judge_steady(asked, disk, LOAD).is_good


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), min_size=1, max_size=40))
def test_what_is_decided_while_both_are_under_way_is_in_any_order(times: list[tuple[float, float]]) -> None:
    """Positions in the order of answers are right whatever overlaps: none was decided before one answered earlier."""
    ordered = sorted(times, key=lambda each: each[0] + each[1])
    asked = [post(number, due=due, latency_s=after) for number, (due, after) in enumerate(ordered, start=1)]
    assert judge_steady(asked, journal_of(asked), LOAD).is_good


def test_a_stretch_counts_what_was_due_in_it() -> None:
    asked = [post(number, due=float(number)) for number in range(1, 11)]
    found = stretch(asked, 3.0, 6.0, rate_per_s=1.0)
    assert found.requests == 3
    assert (found.failed, found.budget_s, found.errors) == (0, 0.0, ())
    assert found.longest_pause_s == pytest.approx(0.05)
    assert found.p99_ms == pytest.approx(50)


def test_who_failed_and_who_waited_for_long_is_charged_to_the_budget() -> None:
    asked = [post(number, due=number / 10) for number in range(1, 11)]
    asked[2].outcome, asked[2].error = "", "gave up"
    asked[3].outcome, asked[3].error = "", "gave up"
    asked[5].ended = asked[5].due + SLOW_S + 1
    found = stretch(asked, 0.0, 2.0, rate_per_s=10.0)
    assert (found.requests, found.failed) == (10, 2)
    assert found.errors == ("gave up",)
    assert found.budget_s == pytest.approx(0.3)
    assert found.longest_pause_s == pytest.approx(SLOW_S + 1)


def test_an_empty_stretch_is_no_trouble() -> None:
    found = stretch([], 0.0, 1.0, rate_per_s=10.0)
    assert (found.requests, found.failed, found.longest_pause_s, found.p99_ms) == (0, 0, 0.0, 0.0)


def test_one_that_has_not_ended_waits_for_ever() -> None:
    assert Asked(1.0, 0, ACCOUNTS[0]).latency_s == math.inf

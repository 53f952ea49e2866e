"""Which events pass a filter, and what is said of a filter that cannot be meant."""

import pytest
from msgspec import UNSET, UnsetType

from fivenines.api import Event, Posting, Transaction
from fivenines.node.filters import ALL_EVENTS, EVENT_TYPES, EventFilter, accounts_of
from fivenines.node.history import event_of
from fivenines.node.requests import InvalidRequestError

ID = "01932c07-209c-7d2f-8f0e-5b6a1c2d3e4f"


def told(
    outcome: str = "posted", *pairs: tuple[str, str], kind: str = "post", accounts: str | UnsetType = UNSET
) -> Event:
    """Return an event of a transaction between these accounts."""
    postings = [Posting(source, destination, 1) for source, destination in pairs]
    hold = ID if kind in {"settle", "release"} else None
    return event_of(Transaction(ID, kind, outcome, 7, "", postings, hold), 0, "/v1/events", accounts)  # type: ignore[arg-type]


def test_an_empty_filter_lets_all_pass() -> None:
    assert ALL_EVENTS.is_all
    assert EventFilter.of(["transaction.*"]) == ALL_EVENTS
    assert ALL_EVENTS.matches(told("posted", ("a", "b")))
    assert ALL_EVENTS.matches(told("released", kind="release"))


@pytest.mark.parametrize("name", ["transaction.held", "fivenines.transaction.held"])
def test_a_type_may_be_written_in_full_or_short(name: str) -> None:
    wanted = EventFilter.of([name])
    assert wanted.matches(told("held", ("a", "b"), kind="hold"))
    assert not wanted.matches(told("posted", ("a", "b")))


def test_an_account_may_be_source_or_destination_of_any_posting() -> None:
    wanted = EventFilter.of(accounts=["customers:", "fees"])
    assert wanted.matches(told("posted", ("bank:cash", "bank:other"), ("bank:cash", "customers:alice")))
    assert wanted.matches(told("posted", ("customers:alice", "bank:cash")))
    assert wanted.matches(told("posted", ("bank:cash", "fees:card")))
    assert not wanted.matches(told("posted", ("bank:customers:", "bank:cash")))


def test_one_of_the_types_and_one_of_the_accounts_is_needed() -> None:
    wanted = EventFilter.of(["transaction.posted", "transaction.refused"], ["customers:"])
    assert wanted.matches(told("insufficient_funds", ("customers:alice", "bank:cash")))
    assert not wanted.matches(told("held", ("customers:alice", "bank:cash"), kind="hold"))
    assert not wanted.matches(told("posted", ("bank:cash", "bank:other")))


def test_a_release_is_about_the_accounts_of_its_hold() -> None:
    release = told("released", kind="release", accounts="bank:cash,customers:alice")
    assert accounts_of(release) == frozenset({"bank:cash", "customers:alice"})
    assert EventFilter.of(accounts=["customers:"]).matches(release)
    assert not EventFilter.of(accounts=["merchants:"]).matches(release)


def test_a_settlement_of_a_part_is_about_all_that_its_hold_is_about() -> None:
    settlement = told("settled", ("a", "b"), kind="settle", accounts="a,b,c")
    assert accounts_of(settlement) == frozenset("abc")


def test_where_the_accounts_are_not_known_any_more_it_may_have_been_any() -> None:
    release = told("released", kind="release")
    assert accounts_of(release) is None
    assert EventFilter.of(accounts=["merchants:"]).matches(release)
    # A refusal touched no account but those that it names.
    assert accounts_of(told("hold_unknown", kind="release")) == frozenset()


def test_what_can_be_asked_of_an_event_can_be_asked_of_its_parts() -> None:
    events = [told(outcome, ("a:1", "b:1")) for outcome in ("posted", "held", "insufficient_funds")]
    for wanted in (ALL_EVENTS, EventFilter.of(["transaction.held"], ["b:"]), EventFilter.of(accounts=["c"])):
        for event in events:
            assert wanted.takes(event.type, accounts_of(event)) == wanted.matches(event)


@pytest.mark.parametrize(
    ("types", "accounts", "field"),
    [
        (["transaction.past"], [], "type"),
        (["account.*"], [], "type"),
        ([""], [], "type"),
        ([EVENT_TYPES[0]] * 101, [], "type"),
        ([], [""], "account"),
        ([], ["a" * 129], "account"),
        ([], ["a"] * 101, "account"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(types: list[str], accounts: list[str], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        EventFilter.of(types, accounts)
    assert caught.value.field == field

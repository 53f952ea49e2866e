"""Which events a function wants."""

from typing import Any

import pytest

from fivenines.api import Event, Posting, Transaction
from fivenines.functions.conditions import Conditions, ConditionsError
from fivenines.node.history import event_of

ID = "01932c07-209c-7d2f-8f0e-5b6a1c2d3e4f"
TYPES = ("transaction.posted",)


def posted(*postings: tuple[str, str, int | str], **fields: Any) -> Event:
    transaction = Transaction(ID, "post", "posted", 7, "", [Posting(*each) for each in postings], **fields)
    return event_of(transaction, 0, "/v1/events")


@pytest.mark.parametrize(
    ("where", "is_wanted"),
    [
        (None, True),
        ({}, True),
        ({"account": "customers:"}, True),
        ({"account": ["merchants:", "bank:"]}, True),
        ({"account": "merchants:"}, False),
        ({"source": "customers:"}, True),
        ({"source": "bank:"}, False),
        ({"destination": "bank:"}, True),
        ({"destination": "customers:"}, False),
        ({"amount_at_least": 500}, True),
        ({"amount_at_least": 501}, False),
        ({"kind": "post"}, True),
        ({"kind": "hold"}, False),
        ({"reference": "rent"}, True),
        ({"reference": "ren"}, False),
        ({"source": "customers:", "amount_at_least": 500, "reference": "rent"}, True),
        ({"source": "bank:", "amount_at_least": 500, "reference": "rent"}, False),
    ],
)
def test_all_conditions_must_hold(where: dict[str, Any] | None, is_wanted: bool) -> None:
    event = posted(("customers:alice", "bank:cash", 500), reference="rent")
    assert Conditions(TYPES, where).matches(event) == is_wanted


def test_source_and_amount_must_hold_of_one_posting() -> None:
    event = posted(("customers:alice", "bank:fees", 1), ("bank:cash", "bank:other", "900000000000000000000"))
    assert not Conditions(TYPES, {"source": "customers:", "amount_at_least": 2}).matches(event)
    assert Conditions(TYPES, {"source": "bank:", "amount_at_least": 10**20}).matches(event)


def test_other_types_are_not_wanted() -> None:
    assert not Conditions(("transaction.held", "transaction.refused")).matches(posted(("a", "b", 1)))
    assert Conditions(("transaction.*",)).matches(posted(("a", "b", 1)))


@pytest.mark.parametrize(
    ("types", "where", "name"),
    [
        (("transaction.past",), {}, "types"),
        (TYPES, {"account": ""}, "account"),
        (TYPES, {"source": [7]}, "source"),
        (TYPES, {"amount_at_least": "5"}, "amount_at_least"),
        (TYPES, {"amount_at_least": True}, "amount_at_least"),
        (TYPES, {"kind": "past"}, "kind"),
    ],
)
def test_what_cannot_be_meant_is_told_by_its_name(types: tuple[str, ...], where: dict[str, Any], name: str) -> None:
    with pytest.raises(ConditionsError, match=name):
        Conditions(types, where)

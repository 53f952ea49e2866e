"""Errors say what happened, what it means, and what to do."""

import pytest

from fivenines.client.answers import DONE, ROW_AMOUNT_MAX, ItemResult
from fivenines.client.errors import (
    HINTS,
    InvalidRequestError,
    LedgerError,
    MaybeDoneError,
    NotDoneError,
    NotFoundError,
    RefusedError,
)
from fivenines.ledger import POST_ONE_AMOUNT_MAX, Outcome


def test_every_refusal_has_a_hint() -> None:
    assert set(HINTS) == {outcome.name for outcome in Outcome if outcome.is_refusal}


def test_the_client_knows_refusals_as_the_ledger_does() -> None:
    assert {outcome.name for outcome in Outcome if not outcome.is_refusal} == DONE
    for outcome in Outcome:
        assert ItemResult("x", outcome.name).is_refusal == outcome.is_refusal


def test_the_client_knows_the_largest_amount_of_a_row() -> None:
    assert ROW_AMOUNT_MAX == POST_ONE_AMOUNT_MAX


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            RefusedError("account_frozen", id="t1", position=4, detail="'a' is frozen"),
            (
                "The ledger refused t1: account frozen (account_frozen). 'a' is frozen. "
                "Unfreeze the account first: unfreeze(...)."
            ),
        ),
        (RefusedError("of_tomorrow", id="t1"), "The ledger refused t1: of tomorrow (of_tomorrow)."),
        (
            InvalidRequestError("is negative", field="$.amount", status=422),
            "The request is wrong at $.amount: is negative. (HTTP status 422; nothing was done)",
        ),
        (NotFoundError("a", detail="there is no account 'a'"), "there is no account 'a'."),
        (NotFoundError("a"), "The ledger knows nothing of the name a."),
        (
            NotDoneError(tries=1, reason="no connection"),
            "The ledger could not be reached (1 try; last: no connection). Nothing was done.",
        ),
        (
            MaybeDoneError(ids=("t1", "t2", "t3"), tries=2, reason="no answer"),
            (
                "The ledger gave no answer about t1 and 2 more (2 tries; last: no answer). It may have been done: "
                "look it up by its id, or send it again under the same id, which never does it twice."
            ),
        ),
    ],
)
def test_an_error_is_a_sentence(error: LedgerError, sentence: str) -> None:
    assert str(error) == sentence
    assert error.answered == ()

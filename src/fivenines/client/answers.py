"""What the client answers with: the API's types, with every amount an int.

On the wire an amount beyond 2^53 - 1 is a string, for the sake of readers in other languages. Here it has become a
number again, so nobody who uses the client ever sees the string.
"""

import datetime
from typing import Any, Final, Literal

from msgspec import Struct

from fivenines import api

__all__ = ["DONE", "ROW_AMOUNT_MAX", "Account", "AnsweredPosting", "ItemResult", "Row", "RowResult", "Transaction"]

DONE: Final = frozenset({"posted", "held", "settled", "released", "done"})
"""The outcomes that are no refusals."""

Row = tuple[bytes, str, str, int]
"""A transaction of one posting in its shortest form: id (16 bytes), source, destination, amount."""

ROW_AMOUNT_MAX: Final = 2**62 - 1
"""The largest amount that a node takes in a row."""


class ItemResult(api.ItemResult, frozen=True, omit_defaults=True, gc=False):
    """The outcome of one command."""

    @property
    def is_refusal(self) -> bool:
        """Whether the ledger refused the command, which then changed nothing."""
        return self.outcome not in DONE


class RowResult(api.RowResult, frozen=True, omit_defaults=True, gc=False):
    """The outcome of a transaction that was submitted as a row: its id is 16 bytes."""

    @property
    def is_refusal(self) -> bool:
        """Whether the ledger refused the transaction, which then changed nothing."""
        return self.outcome not in DONE


class AnsweredPosting(api.Posting, frozen=True, gc=False):
    """A posting of a transaction that was decided."""

    amount: int
    """Smallest units of the asset."""


class Account(api.Account, frozen=True):
    """An account as it stood when the ledger answered. Amounts are in smallest units of its asset."""

    balance: int
    """credits - debits"""
    available: int
    """balance - held_debits"""
    debits: int
    credits: int
    held_debits: int
    held_credits: int
    min_balance: int | None
    max_balance: int | None


class Transaction(Struct, frozen=True, kw_only=True):
    """A transaction that was decided; the fields are those of `fivenines.api.Transaction`."""

    id: str
    kind: Literal["post", "hold", "settle", "release"]
    outcome: str
    position: int
    time: str
    """The journal's time, RFC 3339, UTC."""
    postings: list[AnsweredPosting] = []
    hold: str | None = None
    final: bool = True
    timeout_s: int | None = None
    effective_date: datetime.date | None = None
    reference: str | None = None
    metadata: dict[str, Any] = {}
    state: Literal["open", "settled", "released", "expired"] | None = None
    remaining: list[AnsweredPosting] = []
    expires: str | None = None

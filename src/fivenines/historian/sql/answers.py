"""What the SQL history answers with. Transactions and events are those of `fivenines.api`; these are the rest."""

import datetime
import re
from typing import Generic, NamedTuple, Self, TypeVar

from msgspec import Struct

from fivenines import api

__all__ = ["Answer", "Balance", "Cursor", "LineCursor", "Page", "Statement", "StatementLine"]

T = TypeVar("T")

_CURSOR = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,9}))?\Z")
_LINE_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,9})-([0-9]{1,9})\Z")


class Answer(NamedTuple, Generic[T]):
    """An answer, and the position of the history that gave it."""

    content: T
    position: int


class Cursor(NamedTuple):
    """A place in the history: a transaction, by its frame and its number among those that the frame decided."""

    position: int
    item: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` wrote. A position alone is the place before all of its transactions."""
        found = _CURSOR.match(text)
        return cls(int(found[1]), int(found[2] or 0)) if found else None

    def __str__(self) -> str:
        return f"{self.position}-{self.item}"


class LineCursor(NamedTuple):
    """A place in a statement: a posting."""

    position: int
    item: int
    line: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` wrote."""
        found = _LINE_CURSOR.match(text)
        return cls(*map(int, found.groups())) if found else None

    def __str__(self) -> str:
        return f"{self.position}-{self.item}-{self.line}"


class Page(Struct, frozen=True):
    """A page of transactions, the newest first."""

    transactions: list[api.Transaction]
    next: str | None
    """What to pass as `before` for the next page, null at the end."""


class Balance(Struct, frozen=True):
    """What an account had after the frame at `position`."""

    account: str
    asset: str
    position: int
    time: str | None
    """The journal's time of that frame, RFC 3339, UTC."""
    balance: api.Balance
    available: api.Balance
    debits: api.Balance
    credits: api.Balance
    held_debits: api.Balance
    held_credits: api.Balance


class StatementLine(Struct, frozen=True):
    """A posting that moved money to or from the account."""

    transaction: str
    kind: str
    position: int
    time: str
    """The journal's time, by which the line is in the statement."""
    amount: api.Balance
    """Above zero where the account received it."""
    balance: api.Balance
    """After this line."""
    counterparty: str
    reference: str | None
    effective_date: str | None


class Statement(Struct, frozen=True):
    """The movements of an account from one date to another, both included, in UTC, the oldest first."""

    account: str
    asset: str
    from_date: datetime.date
    to_date: datetime.date
    opening: api.Balance
    """The balance before the first date."""
    closing: api.Balance
    """The balance after the last date, or now if that has not passed."""
    lines: list[StatementLine]
    next: str | None
    """What to pass as `after` for the next page, null at the end."""

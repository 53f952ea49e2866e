"""Totals of accounts at a position: the one thing that versions of the projection know in different ways.

Version 1 adds up postings. Version 2 has the totals after each frame that changed them, and looks the last one up.
Everything else that is asked is read the same way from either.
"""

from typing import Any, NamedTuple, Protocol

from sqlalchemy import Column, ColumnElement, Connection, func, select
from sqlalchemy import Text as PlainText

from fivenines.historian.sql.schema import Effect, Tables, is_sqlite

__all__ = ["MOVING", "Balances", "Totals", "balances_of", "exact_sum"]

MOVING = (Effect.post.value, Effect.settle.value, Effect.settle_rest.value)
"""The effects that move money, and do not only reserve it or end that."""

_RELEASING = (Effect.settle.value, Effect.settle_rest.value, Effect.give_back.value)


class Totals(NamedTuple):
    """The totals of an account."""

    debits: int = 0
    credits: int = 0
    held_debits: int = 0
    held_credits: int = 0

    @property
    def balance(self) -> int:
        """What the account has."""
        return self.credits - self.debits


class Balances(Protocol):
    """How a version knows totals."""

    def at(self, connection: Connection, account: str, position: int) -> Totals:
        """Return the totals of one account after the frame at `position`."""

    def between(self, connection: Connection, after: str, last: str, position: int) -> dict[str, Totals]:
        """Return those of all accounts with ids above `after`, up to `last`, if anything was ever posted to them."""


def balances_of(tables: Tables) -> Balances:
    """Return how the projection of `tables` knows totals."""
    return _FromPostings(tables) if tables.balances is None else _FromBalances(tables)


class _FromPostings:
    def __init__(self, tables: Tables) -> None:
        self._postings = tables.postings

    def at(self, connection: Connection, account: str, position: int) -> Totals:
        postings = self._postings
        found = self._sums(connection, position, lambda side: side == account)
        assert found.keys() <= {account}, postings.name
        return found.get(account, Totals())

    def between(self, connection: Connection, after: str, last: str, position: int) -> dict[str, Totals]:
        return self._sums(connection, position, lambda side: (side > after) & (side <= last))

    def _sums(self, connection: Connection, position: int, is_wanted: Any) -> dict[str, Totals]:
        postings = self._postings
        found: dict[str, dict[tuple[str, str], int]] = {}
        for side in (postings.c.source, postings.c.destination):
            query = (
                select(side, postings.c.effect, exact_sum(connection, postings.c.amount))
                .where(is_wanted(side), postings.c.position <= position, postings.c.effect != Effect.refused.value)
                .group_by(side, postings.c.effect)
            )
            for account, effect, total in connection.execute(query):
                found.setdefault(account, {})[side.name, effect] = int(total)
        return {account: _totals(sums) for account, sums in found.items()}


def exact_sum(connection: Connection, amount: Column[int]) -> ColumnElement[Any]:
    """Return the sum of amounts to the last digit; the caller makes an int of it."""
    # SQLite's own would lose digits; this one is set up with its connections.
    return func.exact_sum(amount, type_=PlainText) if is_sqlite(connection) else func.sum(amount)


def _totals(sums: dict[tuple[str, str], int]) -> Totals:
    def of(side: str, *effects: str) -> int:
        return sum(sums.get((side, effect), 0) for effect in effects)

    return Totals(
        of("source", *MOVING),
        of("destination", *MOVING),
        of("source", Effect.hold.value) - of("source", *_RELEASING),
        of("destination", Effect.hold.value) - of("destination", *_RELEASING),
    )


class _FromBalances:
    def __init__(self, tables: Tables) -> None:
        assert tables.balances is not None
        self._balances = tables.balances

    def at(self, connection: Connection, account: str, position: int) -> Totals:
        c = self._balances.c
        query = (
            select(c.debits, c.credits, c.held_debits, c.held_credits)
            .where(c.account == account, c.position <= position)
            .order_by(c.position.desc())
            .limit(1)
        )
        row = connection.execute(query).one_or_none()
        return Totals() if row is None else Totals(*row)

    def between(self, connection: Connection, after: str, last: str, position: int) -> dict[str, Totals]:
        c = self._balances.c
        newest = (
            select(c.account, func.max(c.position).label("position"))
            .where(c.account > after, c.account <= last, c.position <= position)
            .group_by(c.account)
            .subquery()
        )
        query = select(c.account, c.debits, c.credits, c.held_debits, c.held_credits).join(
            newest, (newest.c.account == c.account) & (newest.c.position == c.position)
        )
        return {account: Totals(*totals) for account, *totals in connection.execute(query)}

"""What can be asked of the SQL history.

Each question is answered in one read transaction that begins by looking which projection is active, so an answer is of
one version at one position, also while another is being switched to.

Pages go by key, never by offset: a page is found as quickly at the end of a long history as at its beginning, and rows
that come meanwhile move nothing. A place in the history is a `Cursor`.
"""

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from msgspec import UNSET, UnsetType
from sqlalchemy import Column, Engine, Row, Select, and_, exists, func, literal_column, select, tuple_
from sqlalchemy.exc import DBAPIError

from fivenines import api
from fivenines.historian.sql.answers import (
    Answer,
    Balance,
    Cursor,
    LineCursor,
    Page,
    Statement,
    StatementLine,
)
from fivenines.historian.sql.balances import MOVING, balances_of
from fivenines.historian.sql.errors import HistoryUnavailableError, database_errors
from fivenines.historian.sql.reading import (
    Reading,
    accounts_of_holds,
    time_text,
    transactions_at,
    transactions_between,
    with_hold_state,
)
from fivenines.historian.sql.rows import tag_of
from fivenines.historian.sql.schema import (
    EXPIRY_ITEM,
    REFERENCE_KEY,
    REFERENCE_KEY_LENGTH,
    VERSIONS,
    is_sqlite,
    registry,
    tables_of,
)
from fivenines.ids import as_text
from fivenines.node.history import event_of, json_number

__all__ = ["NotYetError", "Queries"]

T = TypeVar("T")
AnyRow = Row[*tuple[Any, ...]]

_FRAMES_PER_PAGE = 4_096
_DAY_US = 24 * 3600 * 1_000_000
_EPOCH = datetime.date(1970, 1, 1)


class NotYetError(HistoryUnavailableError):
    """The history is not yet where it was asked about; it will be."""


class Queries:
    """Answers from the active projection. Threads may share it; each call blocks on the database.

    All methods raise `HistoryUnavailableError` where the database is away or has no history yet.
    """

    def __init__(self, engine: Engine) -> None:
        options: dict[str, Any] = {} if is_sqlite(engine) else {"isolation_level": "REPEATABLE READ"}
        self._engine = engine.execution_options(**options)

    def position(self) -> int:
        """Return the position up to which the history tells."""
        return self._answer(lambda _reading: None).position

    def account_history(self, account: str, *, before: Cursor | None = None, limit: int = 100) -> Answer[Page | None]:
        """Return the transactions that named or changed an account, the newest first; None if there is no account."""

        def read(reading: Reading) -> Page | None:
            if _account(reading, account) is None:
                return None
            postings = reading.tables.postings
            place = tuple_(postings.c.position, postings.c.item)

            def side(column: Column[Any]) -> Select[Any]:
                query = select(postings.c.position, postings.c.item).distinct()
                query = query.where(column == account, postings.c.item != EXPIRY_ITEM)
                if before is not None:
                    query = query.where(place < tuple(before))
                return query.order_by(postings.c.position.desc(), postings.c.item.desc()).limit(limit + 1)

            found = {
                Cursor(*row)
                for column in (postings.c.source, postings.c.destination)
                for row in reading.connection.execute(side(column))
            }
            return _page(reading, sorted(found, reverse=True), limit)

        return self._answer(read)

    def search(
        self,
        *,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        before: Cursor | None = None,
        limit: int = 100,
    ) -> Answer[Page]:
        """Return the transactions that have this reference and all these pairs in their metadata, the newest first.

        Numbers, true, false and null are compared as JSON writes them.
        """
        tags = [tag_of(key, value) for key, value in (metadata or {}).items()]
        assert tags or reference is not None

        def read(reading: Reading) -> Page:
            transactions = reading.tables.transactions
            first: Any = transactions
            conditions: list[Any] = []
            if tags:
                first = reading.tables.tags.alias("first")
                conditions = [first.c.tag == tags[0]]
            for tag in tags[1:]:
                other = reading.tables.tags.alias()
                is_same = and_(other.c.position == first.c.position, other.c.item == first.c.item)
                conditions.append(exists().where(other.c.tag == tag, is_same))
            if reference is not None:
                if tags:
                    conditions += [
                        transactions.c.position == first.c.position,
                        transactions.c.item == first.c.item,
                    ]
                else:
                    key = literal_column(REFERENCE_KEY, transactions.c.reference.type)
                    conditions.append(key == reference[:REFERENCE_KEY_LENGTH])
                conditions.append(transactions.c.reference == reference)
            if before is not None:
                conditions.append(tuple_(first.c.position, first.c.item) < tuple(before))
            query = (
                select(first.c.position, first.c.item)
                .where(*conditions)
                .order_by(first.c.position.desc(), first.c.item.desc())
                .limit(limit + 1)
            )
            return _page(reading, [Cursor(*row) for row in reading.connection.execute(query)], limit)

        return self._answer(read)

    def transaction(self, id: bytes) -> Answer[api.Transaction | None]:
        """Return a transaction; if it is a hold, with how it stands."""

        def read(reading: Reading) -> api.Transaction | None:
            transactions = reading.tables.transactions
            query = select(transactions.c.position, transactions.c.item).where(transactions.c.id == id)
            row = reading.connection.execute(query).one_or_none()
            if row is None:
                return None
            (found,) = transactions_at(reading, [Cursor(*row)]).values()
            return with_hold_state(reading, found, id)

        return self._answer(read)

    def balance_as_of(
        self, account: str, *, position: int | None = None, time_us: int | None = None
    ) -> Answer[Balance | None]:
        """Return what an account had after a frame, or after the last frame up to a time of the journal's clock.

        None if there was no such account then. Neither given: as the history stands.

        Raises:
            NotYetError: the history has not come to `position`.
        """

        def read(reading: Reading) -> Balance | None:
            at = reading.position if position is None else position
            if at > reading.position:
                raise NotYetError(f"the history is at position {reading.position}, not yet at {at}")
            if time_us is not None:
                at = min(at, _position_at(reading, time_us))
            found = _account(reading, account)
            if found is None or found.opened_position > at:
                return None
            totals = reading.balances.at(reading.connection, account, at)
            frames = reading.tables.frames
            frame_time_us = reading.connection.scalar(select(frames.c.time_us).where(frames.c.position == at))
            return Balance(
                account=account,
                asset=found.asset,
                position=at,
                time=None if frame_time_us is None else time_text(frame_time_us),
                balance=json_number(totals.balance),
                available=json_number(totals.balance - totals.held_debits),
                debits=json_number(totals.debits),
                credits=json_number(totals.credits),
                held_debits=json_number(totals.held_debits),
                held_credits=json_number(totals.held_credits),
            )

        return self._answer(read)

    def statement(
        self,
        account: str,
        from_date: datetime.date,
        to_date: datetime.date,
        *,
        after: LineCursor | None = None,
        limit: int = 1_000,
    ) -> Answer[Statement | None]:
        """Return the movements of an account from one date to another, both included; None if there is no account.

        A movement is of the day in which the journal's time of its frame falls, in UTC. `effective_date` is told of and
        changes nothing: the books only carry it.
        """

        def read(reading: Reading) -> Statement | None:
            found = _account(reading, account)
            if found is None:
                return None
            first = _position_at(reading, _midnight_us(from_date) - 1)
            last = _position_at(reading, _midnight_us(to_date) + _DAY_US - 1)
            opening = reading.balances.at(reading.connection, account, first).balance
            closing = reading.balances.at(reading.connection, account, last).balance
            rows = list(islice(_movements(reading, account, first, last, after=after, limit=limit), limit + 1))
            balance = opening if after is None else _balance_after(reading, account, after, first)
            lines = []
            for row in rows[:limit]:
                balance += row.amount if row.destination == account else -row.amount
                lines.append(_line(row, account, balance))
            more = LineCursor(*tuple(rows[limit - 1])[:3]) if len(rows) > limit else None
            return Statement(
                account=account,
                asset=found.asset,
                from_date=from_date,
                to_date=to_date,
                opening=json_number(opening),
                closing=json_number(closing),
                lines=lines,
                next=None if more is None else str(more),
            )

        return self._answer(read)

    def events_after(self, position: int, limit: int, source: str = "/v1/events") -> tuple[list[api.Event], int]:
        """Return what was decided after `position`, the oldest first, and the position up to which that is all.

        Frames come whole, so there may be more than `limit`. The events are those that a node tells.
        """

        def read(reading: Reading) -> tuple[list[api.Event], int]:
            frames = reading.tables.frames
            query = select(frames.c.position, frames.c.transactions).where(frames.c.position > position)
            last, count = position, 0
            for row in reading.connection.execute(query.order_by(frames.c.position).limit(_FRAMES_PER_PAGE)):
                if count >= limit:
                    break
                last, count = row.position, count + row.transactions
            found = transactions_between(reading, position, last) if count else []
            accounts = accounts_of_holds(reading, (UUID(told.hold).bytes for _, told in found if told.hold is not None))

            def of_hold(told: api.Transaction) -> str | UnsetType:
                if told.hold is None:
                    return UNSET
                # An event never changes: what it was not known to be about when it happened, it is not about later.
                asked, names = accounts.get(UUID(told.hold).bytes, (told.position + 1, ""))
                return names if asked <= told.position and names else UNSET

            return [event_of(told, item, source, of_hold(told)) for item, told in found], last

        return self._answer(read).content

    def _answer(self, read: Callable[[Reading], T]) -> Answer[T]:
        with database_errors():
            version = None
            while True:
                try:
                    with self._reading() as reading:
                        version = reading.tables.version
                        return Answer(read(reading), reading.position)
                except DBAPIError:
                    # The projection may have been retired since it was looked up: then another one is active by now.
                    with self._reading() as now:
                        if version is None or now.tables.version == version:
                            raise

    @contextmanager
    def _reading(self) -> Iterator[Reading]:
        with self._engine.connect() as connection:
            query = select(registry.c.version, registry.c.position).where(registry.c.status == "active")
            row = connection.execute(query).one_or_none()
            if row is None or row.version not in VERSIONS:
                raise HistoryUnavailableError("there is no active projection that this release can read")
            tables = tables_of(row.version)
            yield Reading(connection, tables, balances_of(tables), row.position)


def _account(reading: Reading, id: str) -> AnyRow | None:
    accounts = reading.tables.accounts
    query = select(accounts.c.asset, accounts.c.opened_position).where(accounts.c.id == id)
    return reading.connection.execute(query).one_or_none()


def _page(reading: Reading, found: Sequence[Cursor], limit: int) -> Page:
    shown = found[:limit]
    transactions = transactions_at(reading, shown)
    return Page([transactions[cursor] for cursor in shown], str(shown[-1]) if len(found) > limit else None)


def _position_at(reading: Reading, time_us: int) -> int:
    """Return the position of the last frame up to a time, 0 if there is none."""
    frames = reading.tables.frames
    last_us = select(func.max(frames.c.time_us)).where(frames.c.time_us <= time_us).scalar_subquery()
    found = reading.connection.scalar(select(frames.c.position).where(frames.c.time_us == last_us))
    return found or 0


def _midnight_us(day: datetime.date) -> int:
    return (day - _EPOCH).days * _DAY_US


def _movements(
    reading: Reading, account: str, after_position: int, last: int, *, after: LineCursor | None, limit: int
) -> Iterator[AnyRow]:
    """Yield the rows of the postings that moved money of an account, the oldest first."""
    postings, transactions = reading.tables.postings, reading.tables.transactions
    place = (postings.c.position, postings.c.item, postings.c.line)
    moved: list[AnyRow] = []
    for side in (postings.c.source, postings.c.destination):
        query = (
            select(
                *place,
                postings.c.source,
                postings.c.destination,
                postings.c.amount,
                transactions.c.id,
                transactions.c.kind,
                transactions.c.time_us,
                transactions.c.reference,
                transactions.c.effective_date,
            )
            .join(
                transactions,
                (transactions.c.position == postings.c.position) & (transactions.c.item == postings.c.item),
            )
            .where(
                side == account,
                postings.c.position > after_position,
                postings.c.position <= last,
                postings.c.effect.in_(MOVING),
            )
        )
        if after is not None:
            query = query.where(postings.c.position >= after.position, tuple_(*place) > tuple(after))
        moved += reading.connection.execute(query.order_by(*place).limit(limit + 1)).all()
    return iter(sorted(moved, key=lambda row: row[:3]))


def _balance_after(reading: Reading, account: str, after: LineCursor, first: int) -> int:
    """Return the balance after a line of a statement that begins after position `first`."""
    before = max(first, after.position - 1)
    balance = reading.balances.at(reading.connection, account, before).balance
    postings = reading.tables.postings
    place = tuple_(postings.c.item, postings.c.line)
    for side, sign in ((postings.c.source, -1), (postings.c.destination, 1)):
        query = select(postings.c.amount).where(
            side == account,
            postings.c.position == after.position,
            place <= tuple(after[1:]),
            postings.c.effect.in_(MOVING),
            postings.c.position > first,
        )
        balance += sign * sum(reading.connection.scalars(query))
    return balance


def _line(row: AnyRow, account: str, balance: int) -> StatementLine:
    is_received = row.destination == account
    return StatementLine(
        transaction=as_text(row.id),
        kind=row.kind,
        position=row.position,
        time=time_text(row.time_us),
        amount=json_number(row.amount if is_received else -row.amount),
        balance=json_number(balance),
        counterparty=row.source if is_received else row.destination,
        reference=row.reference,
        effective_date=row.effective_date,
    )

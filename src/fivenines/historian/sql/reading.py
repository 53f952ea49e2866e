"""Rows back into what the API speaks of: a transaction becomes the command it was, and is told of as a node tells."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Table, and_, or_, select

from fivenines import api
from fivenines.historian.sql.answers import Cursor
from fivenines.historian.sql.balances import Balances
from fivenines.historian.sql.schema import EXPIRY_ITEM, Effect, Tables
from fivenines.ledger import Command, Hold, Post, Posting, Release, Settle
from fivenines.node.history import json_number, rfc3339, transaction_of

__all__ = ["Reading", "accounts_of_holds", "time_text", "transactions_at", "transactions_between", "with_hold_state"]

_TIME_US_MAX = 253_402_300_799_999_999  # the last that the calendar of Python can write
_PLACES_PER_QUERY = 200  # SQLite bounds how deep a condition may be
_ASKED = (Effect.post.value, Effect.hold.value, Effect.settle.value, Effect.refused.value)

_decode_remaining = msgspec.json.Decoder(list[tuple[str, str, str]]).decode


class Reading(NamedTuple):
    """One read transaction: it sees one projection at one position, whatever happens meanwhile."""

    connection: Connection
    tables: Tables
    balances: Balances
    position: int


def transactions_at(reading: Reading, cursors: Sequence[Cursor]) -> dict[Cursor, api.Transaction]:
    """Return the transactions at these places."""
    found: dict[Cursor, api.Transaction] = {}
    for start in range(0, len(cursors), _PLACES_PER_QUERY):
        part = sorted(cursors[start : start + _PLACES_PER_QUERY])
        rows = _rows(reading, _is_at(reading.tables.transactions, part))
        asked = _postings(reading, _is_at(reading.tables.postings, part))
        found |= {Cursor(row.position, row.item): _transaction(row, asked) for row in rows}
    return found


def transactions_between(reading: Reading, after: int, last: int) -> list[tuple[int, api.Transaction]]:
    """Return all transactions of the frames after `after` up to `last`, each with its item, the oldest first."""
    transactions, postings = reading.tables.transactions, reading.tables.postings
    rows = _rows(reading, transactions.c.position.between(after + 1, last))
    asked = _postings(reading, postings.c.position.between(after + 1, last))
    return [(row.item, _transaction(row, asked)) for row in rows]


def accounts_of_holds(reading: Reading, holds: Iterable[bytes]) -> dict[bytes, tuple[int, str]]:
    """Return by hold the position at which it was asked for, and the accounts that it was about, with commas."""
    transactions, postings = reading.tables.transactions, reading.tables.postings
    found: dict[bytes, tuple[int, set[str]]] = {}
    wanted = sorted(set(holds))
    for start in range(0, len(wanted), _PLACES_PER_QUERY):
        query = (
            select(transactions.c.id, transactions.c.position, postings.c.source, postings.c.destination)
            .join(
                postings,
                (postings.c.position == transactions.c.position) & (postings.c.item == transactions.c.item),
            )
            .where(transactions.c.id.in_(wanted[start : start + _PLACES_PER_QUERY]), transactions.c.kind == "hold")
        )
        for id, position, source, destination in reading.connection.execute(query):
            found.setdefault(id, (position, set()))[1].update((source, destination))
    return {id: (position, ",".join(sorted(accounts))) for id, (position, accounts) in found.items()}


def with_hold_state(reading: Reading, transaction: api.Transaction, id: bytes) -> api.Transaction:
    """Say of a hold, as a transaction, how it stands at the reading's position."""
    holds = reading.tables.holds
    hold = reading.connection.execute(select(holds).where(holds.c.id == id)).one_or_none()
    if hold is None:
        return transaction
    if hold.state != "open":
        return msgspec.structs.replace(transaction, state=hold.state)
    remaining = [
        api.Posting(source, destination, json_number(int(amount)))
        for source, destination, amount in _decode_remaining(hold.remaining)
    ]
    expires = None if hold.expires_us is None else time_text(hold.expires_us)
    return msgspec.structs.replace(transaction, state="open", remaining=remaining, expires=expires)


def time_text(time_us: int) -> str:
    """Write a journal time as RFC 3339; one beyond the calendar as its last moment."""
    return rfc3339(min(time_us, _TIME_US_MAX))


def _is_at(table: Table, cursors: list[Cursor]) -> ColumnElement[bool]:
    # Frame by frame, which SQLite looks up by its index; by a list of pairs it would read the whole table.
    frames = groupby(cursors, key=lambda cursor: cursor.position)
    return or_(
        *(
            and_(table.c.position == position, table.c.item.in_([cursor.item for cursor in places]))
            for position, places in frames
        )
    )


def _rows(reading: Reading, is_wanted: Any) -> Sequence[Row[Any]]:
    transactions, frames = reading.tables.transactions, reading.tables.frames
    query = (
        select(transactions, frames.c.stamped_us)
        .join(frames, frames.c.position == transactions.c.position)
        .where(is_wanted)
        .order_by(transactions.c.position, transactions.c.item)
    )
    return reading.connection.execute(query).all()


def _postings(reading: Reading, is_wanted: Any) -> dict[tuple[int, int], list[Posting]]:
    """Return what transactions asked for, by their place."""
    postings = reading.tables.postings
    query = (
        select(*(postings.c[name] for name in ("position", "item", "source", "destination", "amount")))
        .where(is_wanted, postings.c.item != EXPIRY_ITEM, postings.c.effect.in_(_ASKED))
        .order_by(postings.c.position, postings.c.item, postings.c.line)
    )
    found: dict[tuple[int, int], list[Posting]] = {}
    for position, item, source, destination, amount in reading.connection.execute(query):
        found.setdefault((position, item), []).append(Posting(source, destination, amount))
    return found


def _transaction(row: Row[Any], asked: dict[tuple[int, int], list[Posting]]) -> api.Transaction:
    command = _command(row, asked.get((row.position, row.item), ()))
    return transaction_of(command, row.outcome, row.position, min(row.stamped_us, _TIME_US_MAX))


def _command(row: Row[Any], asked: Iterable[Posting]) -> Command:
    said = (row.effective_date, row.reference, None if row.metadata is None else row.metadata.encode())
    match row.kind:
        case "post":
            return Post(row.id, tuple(asked), *said)
        case "hold":
            return Hold(row.id, tuple(asked), row.timeout_us, *said)
        case "settle":
            return Settle(row.id, row.hold, tuple(asked), row.final, *said)
        case kind:
            assert kind == "release", kind
            return Release(row.id, row.hold, *said)

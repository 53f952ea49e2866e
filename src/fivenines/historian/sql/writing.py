"""Rows into a database, and books out of it, in the transaction that the caller opened.

PostgreSQL gets its rows by COPY, as blocks of text made here: that is several times quicker than any INSERT. What is
rewritten, accounts and holds, is copied beside the table and merged by one statement. SQLite gets `executemany`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

import msgspec
import psycopg
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Table,
    any_,
    literal,
    select,
)
from sqlalchemy import Text as PlainText

from fivenines.historian.sql.books import AccountBook, Books, HoldBook
from fivenines.historian.sql.columns import Id, Text, WideInteger, sql_text, sqlite_integer
from fivenines.historian.sql.rows import Needs, Rows, Run
from fivenines.historian.sql.schema import Tables, is_sqlite
from fivenines.ids import as_text

__all__ = ["read_books", "write_rows"]

_KEYS_PER_QUERY = 5_000
_ROWS_PER_BLOCK = 5_000

_id_of = attrgetter("id")

T = TypeVar("T")

_decode_remaining = msgspec.json.Decoder(list[tuple[str, str, str]]).decode


def read_books(connection: Connection, tables: Tables, books: Books, needs: Needs) -> None:
    """Bring into the books what `needs` names and they lack, as far as it exists."""
    unknown_holds = books.unknown_holds(needs.holds)
    for keys in _parts(unknown_holds):
        query = select(tables.holds).where(
            _is_one_of(connection, tables.holds.c.id, keys), tables.holds.c.state == "open"
        )
        for row in connection.execute(query):
            remaining = {
                (source, destination): int(amount) for source, destination, amount in _decode_remaining(row.remaining)
            }
            books.holds[row.id] = HoldBook(row.id, row.position, row.item, row.expires_us, remaining)
    held = {id for hold in needs.holds if hold in books.holds for pair in books.holds[hold].remaining for id in pair}
    for names in _parts(books.unknown_accounts(needs.accounts | held)):
        for row in connection.execute(
            select(tables.accounts).where(_is_one_of(connection, tables.accounts.c.id, names))
        ):
            books.accounts[row.id] = AccountBook(
                row.id,
                row.asset,
                row.opened_position,
                row.status,
                row.min_balance,
                row.max_balance,
                None if row.metadata is None else row.metadata.encode(),
                row.debits,
                row.credits,
                row.held_debits,
                row.held_credits,
            )


def _is_one_of(connection: Connection, column: Column[Any], keys: list[Any]) -> ColumnElement[bool]:
    # One array is looked through by the server; thousands of parameters would cost the driver more than all the rest.
    return column.in_(keys) if is_sqlite(connection) else column == any_(literal(keys, ARRAY(column.type)))


def write_rows(connection: Connection, tables: Tables, rows: Rows) -> None:
    """Write all rows."""
    put, merge = (_insert, _upsert) if is_sqlite(connection) else (_copy, _copy_and_merge)
    put(connection, tables.frames, rows.frames)
    if is_sqlite(connection):
        _insert(connection, tables.transactions, list(chain.from_iterable(map(_run_transactions, rows.runs))))
        _insert(connection, tables.postings, list(chain.from_iterable(map(_run_postings, rows.runs))))
    else:
        _copy_blocks(connection, tables.transactions, map(_run_transactions_text, rows.runs))
        _copy_blocks(connection, tables.postings, _run_postings_text(rows.runs))
    put(connection, tables.transactions, rows.transactions)
    put(connection, tables.postings, rows.postings)
    put(connection, tables.tags, rows.tags)
    if tables.balances is not None:
        rows.balances.sort()  # one account after the other, so that neighbours in the index are written together
        if is_sqlite(connection):
            _insert(connection, tables.balances, rows.balances)
        else:
            _copy_blocks(connection, tables.balances, _balances_text(rows))
    merge(connection, tables.accounts, [_account_row(account) for account in rows.accounts.values()])
    merge(connection, tables.holds, [_hold_row(hold) for hold in rows.holds.values()])


def _account_row(account: AccountBook) -> tuple[Any, ...]:
    return (
        account.id,
        account.asset,
        account.status,
        account.min_balance,
        account.max_balance,
        None if account.metadata is None else account.metadata.decode(errors="replace"),
        account.opened_position,
        account.debits,
        account.credits,
        account.held_debits,
        account.held_credits,
    )


def _hold_row(hold: HoldBook) -> tuple[Any, ...]:
    remaining = [(source, destination, str(amount)) for (source, destination), amount in hold.remaining.items()]
    text = msgspec.json.encode(remaining).decode()
    return hold.id, hold.position, hold.item, hold.state, hold.expires_us, text, hold.ended_position


def _parts(values: list[T]) -> Iterator[list[T]]:
    return (values[start : start + _KEYS_PER_QUERY] for start in range(0, len(values), _KEYS_PER_QUERY))


# --- SQLite ----------------------------------------------------------------------------------------------------------


def _insert(connection: Connection, table: Table, rows: list[Any], ending: str = "") -> None:
    if not rows:
        return
    names = [column.name for column in table.columns]
    marks = ", ".join("?" * len(names))
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks}){ending}"  # noqa: S608 our own names
    connection.exec_driver_sql(statement, list(_columnwise(table, rows, _SQLITE)))


def _run_transactions(run: Run) -> list[tuple[Any, ...]]:
    nothing = (None,) * 6
    return [
        (run.position, item, command.id, "post", "posted", run.time_us, *nothing)
        for item, command in zip(run.items, run.commands, strict=True)
    ]


def _run_postings(run: Run) -> list[tuple[Any, ...]]:
    return [
        (run.position, item, 0, "post", command.source, command.destination, command.amount)
        for item, command in zip(run.items, run.commands, strict=True)
    ]


def _upsert(connection: Connection, table: Table, rows: list[Any]) -> None:
    keys, sets = _merging(table)
    _insert(connection, table, rows, f" ON CONFLICT ({keys}) DO UPDATE SET {sets}")


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def _copy(connection: Connection, table: Table, rows: list[Any], name: str | None = None) -> None:
    if not rows:
        return
    _copy_blocks(connection, table, _blocks(table, rows), name)


def _blocks(table: Table, rows: list[Any]) -> Iterator[str]:
    for start in range(0, len(rows), _ROWS_PER_BLOCK):
        lines = map("\t".join, _columnwise(table, rows[start : start + _ROWS_PER_BLOCK], _POSTGRESQL))
        yield "\n".join(lines) + "\n"


def _copy_blocks(connection: Connection, table: Table, blocks: Iterator[str], name: str | None = None) -> None:
    first = next(blocks, None)
    if first is None:
        return
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    columns = ", ".join(column.name for column in table.columns)
    with driver.cursor() as cursor, cursor.copy(f"COPY {name or table.name} ({columns}) FROM STDIN") as copy:
        copy.write(first)
        for block in blocks:
            copy.write(block)


def _run_transactions_text(run: Run) -> str:
    before = f"{run.position}\t"
    after = f"\tpost\tposted\t{run.time_us}" + "\t\\N" * 6 + "\n"
    ids = map(bytes.hex, map(_id_of, run.commands))
    return "".join([f"{before}{item}\t{id}{after}" for item, id in zip(run.items, ids, strict=True)])


def _balances_text(rows: Rows) -> Iterator[str]:
    name = _escapes()
    for start in range(0, len(rows.balances), _ROWS_PER_BLOCK):
        yield "".join(
            [
                f"{name[account]}\t{position}\t{debits}\t{credits}\t{held_debits}\t{held_credits}\n"
                for account, position, debits, credits, held_debits, held_credits in rows.balances[
                    start : start + _ROWS_PER_BLOCK
                ]
            ]
        )


def _run_postings_text(runs: Iterable[Run]) -> Iterator[str]:
    """Yield the lines of postings, one source after the other, so that neighbours in its index are written together.

    An index in the order of the frames is written at its end either way; one by accounts is all over the place, and was
    half of the server's work.
    """
    name = _escapes()
    lines = [
        (c.source, f"{run.position}\t{item}\t0\tpost\t{name[c.source]}\t{name[c.destination]}\t{c.amount}\n")
        for run in runs
        for item, c in zip(run.items, run.commands, strict=True)
    ]
    lines.sort(key=itemgetter(0))
    for start in range(0, len(lines), _ROWS_PER_BLOCK):
        yield "".join([line for _, line in lines[start : start + _ROWS_PER_BLOCK]])


def _copy_and_merge(connection: Connection, table: Table, rows: list[Any]) -> None:
    if not rows:
        return
    new = f"{table.name}_new"
    keys, sets = _merging(table)
    connection.exec_driver_sql(f"CREATE TEMP TABLE IF NOT EXISTS {new} (LIKE {table.name}) ON COMMIT DELETE ROWS")
    _copy(connection, table, rows, new)
    connection.exec_driver_sql(
        f"INSERT INTO {table.name} SELECT * FROM {new} ON CONFLICT ({keys}) DO UPDATE SET {sets}"  # noqa: S608
    )


def _merging(table: Table) -> tuple[str, str]:
    keys = ", ".join(column.name for column in table.primary_key)
    sets = ", ".join(f"{c.name} = excluded.{c.name}" for c in table.columns if not c.primary_key)
    return keys, sets


# --- values, a column at a time --------------------------------------------------------------------------------------

Convert = Callable[[Iterable[Any]], Iterable[Any]]


class _Escaped(dict[str, str]):
    """Text as COPY reads it. Ids of accounts come again and again, so each is looked at once."""

    def __missing__(self, text: str) -> str:
        self[text] = escaped = _escape(text)
        return escaped


_escaped = _Escaped()
_ESCAPED_MAX = 1_000_000
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _escape(text: str) -> str:
    return sql_text(text).translate(_COPY_ESCAPES)


def _escapes() -> _Escaped:
    if len(_escaped) > _ESCAPED_MAX:
        _escaped.clear()
    return _escaped


def _escape_all(texts: Iterable[str]) -> Iterable[str]:
    return map(_escapes().__getitem__, texts)


def _each(convert: Callable[[Any], Any]) -> Convert:
    return lambda values: map(convert, values)


def _or(null: Any, convert: Callable[[Any], Any]) -> Convert:
    return lambda values: [null if value is None else convert(value) for value in values]


def _as_is(values: Iterable[Any]) -> Iterable[Any]:
    return values


_SQLITE: dict[tuple[type, bool | None], Convert] = {
    (Id, False): _each(as_text),
    (Id, True): _or(None, as_text),
    (WideInteger, False): _each(sqlite_integer),
    (WideInteger, True): _or(None, sqlite_integer),
    (Text, False): _each(sql_text),
    (Text, True): _or(None, sql_text),
}
_POSTGRESQL: dict[tuple[type, bool | None], Convert] = {
    (Id, False): _each(bytes.hex),
    (Id, True): _or("\\N", bytes.hex),
    (WideInteger, False): _each(str),
    (WideInteger, True): _or("\\N", str),
    (BigInteger, False): _each(str),
    (BigInteger, True): _or("\\N", str),
    (Integer, False): _each(str),
    (Boolean, True): _or("\\N", str),
    (Text, False): _escape_all,
    (Text, True): _or("\\N", _escape),
    (PlainText, False): _as_is,
}


def _columnwise(
    table: Table, rows: list[Any], converters: Mapping[tuple[type, bool | None], Convert]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as the database takes them. A column at a time, so that what to do is looked up once for each."""
    columns = zip(*rows, strict=True)
    found = zip(table.columns, columns, strict=True)
    converted = (converters.get((type(c.type), c.nullable), _as_is)(values) for c, values in found)
    return zip(*converted, strict=True)

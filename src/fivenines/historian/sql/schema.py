"""The tables of a projection, and the one table that tells of all projections.

A projection is everything that one version of the history writes; its tables carry its version in front (`v1_...`), so
that two versions live beside each other in one database. Version 1 has what happened. Version 2 adds `balances`, the
totals of an account after each frame that changed them, so that a balance as of any position is one look into an index.

    projections     version, position, status: building -> ready <-> active -> retired
    vN_frames       one row a frame: the journal's time, the writer's, how many transactions it decided
    vN_transactions one row for each that was decided, refused ones too, by (position, item)
    vN_postings     what was asked of accounts, and what became of it, by (position, item, line)
    vN_accounts     how each account stands
    vN_holds        how each hold stands
    vN_tags         the pairs of metadata, hashed, for searching
    vN_balances     from version 2 on

`item` counts the transactions that a frame decided, from 0, just as the ids of events do. Holds that expire do so
before the first of them, so their postings stand at `EXPIRY_ITEM`.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    literal_column,
    make_url,
    select,
    text,
)
from sqlalchemy import Text as PlainText

from fivenines.historian.sql.columns import Id, Text, WideInteger
from fivenines.historian.sql.errors import database_errors

__all__ = [
    "EXPIRY_ITEM",
    "LATEST",
    "REFERENCE_KEY",
    "REFERENCE_KEY_LENGTH",
    "VERSIONS",
    "Effect",
    "Projection",
    "Tables",
    "install",
    "is_sqlite",
    "open_engine",
    "projections",
    "registry",
    "tables_of",
]

VERSIONS: Mapping[int, str] = MappingProxyType({1: "what happened", 2: "balances after each frame"})
"""The versions of the projection that this release can write and read, and what each brought."""

LATEST = max(VERSIONS)

EXPIRY_ITEM = -1

REFERENCE_KEY_LENGTH = 256
"""Only so many characters of a reference are indexed: a longer one would not fit into a page of an index."""

Status = Literal["building", "ready", "active", "retired"]


class Effect(StrEnum):
    """What a posting did. The totals of an account follow from its postings alone."""

    post = "post"
    """Moved money."""
    hold = "hold"
    """Reserved it."""
    settle = "settle"
    """Moved money that was held, as the settlement asked."""
    settle_rest = "settle_rest"
    """Moved money that was held, by a settlement that asked for all there was."""
    give_back = "give_back"
    """Ended what was left of a reservation: a release, a final settlement, or an expiry."""
    refused = "refused"
    """Was asked for, and did nothing."""


class Tables(NamedTuple):
    """The tables of one projection."""

    version: int
    metadata: MetaData
    frames: Table
    transactions: Table
    postings: Table
    accounts: Table
    holds: Table
    tags: Table
    balances: Table | None


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection, as the registry tells of it."""

    version: int
    status: Status
    position: int
    frame_digest: bytes
    """Of the frame at `position`: it tells one journal from another."""


_registry_metadata = MetaData()
registry = Table(
    "projections",
    _registry_metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("status", PlainText, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("frame_digest", PlainText, nullable=False),
)
Index(
    "projections_active",
    registry.c.status,
    unique=True,
    postgresql_where=registry.c.status == "active",
    sqlite_where=registry.c.status == "active",
)

REFERENCE_KEY = f"substr(reference, 1, {REFERENCE_KEY_LENGTH})"


@cache
def tables_of(version: int) -> Tables:
    """Return the tables of a version."""
    assert version in VERSIONS, version
    metadata = MetaData()

    def table(name: str, *columns: Column[Any], **options: Any) -> Table:
        return Table(f"v{version}_{name}", metadata, *columns, **options)

    def key(name: str, type: Any) -> Column[Any]:
        return Column(name, type, primary_key=True, autoincrement=False)

    def must(name: str, type: Any) -> Column[Any]:
        return Column(name, type, nullable=False)

    def totals() -> list[Column[Any]]:
        return [must(name, WideInteger) for name in ("debits", "credits", "held_debits", "held_credits")]

    clustered = {"sqlite_with_rowid": False}
    # What is rewritten in place leaves room for that in its pages, so that no index needs to know.
    rewritten = {"postgresql_with": {"fillfactor": 60}}
    frames = table(
        "frames",
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        must("time_us", BigInteger),
        must("stamped_us", BigInteger),
        must("transactions", Integer),
        **clustered,
    )
    Index(f"v{version}_frames_time", frames.c.time_us)
    transactions = table(
        "transactions",
        key("position", BigInteger),
        key("item", Integer),
        must("id", Id),
        must("kind", PlainText),
        must("outcome", PlainText),
        must("time_us", BigInteger),
        Column("effective_date", Text),
        Column("reference", Text),
        Column("metadata", Text),
        Column("hold", Id),
        Column("final", Boolean),
        Column("timeout_us", WideInteger),
        **clustered,
    )
    Index(f"v{version}_transactions_id", transactions.c.id, unique=True)
    has_reference = transactions.c.reference.is_not(None)
    Index(
        f"v{version}_transactions_reference",
        literal_column(REFERENCE_KEY),
        transactions.c.position,
        transactions.c.item,
        postgresql_where=has_reference,
        sqlite_where=has_reference,
    )
    postings = table(
        "postings",
        key("position", BigInteger),
        key("item", Integer),
        key("line", Integer),
        must("effect", PlainText),
        must("source", Text),
        must("destination", Text),
        must("amount", WideInteger),
        **clustered,
    )
    for side in (postings.c.source, postings.c.destination):
        Index(f"v{version}_postings_{side.name}", side, postings.c.position, postings.c.item)
    accounts = table(
        "accounts",
        key("id", Text),
        must("asset", Text),
        must("status", PlainText),
        Column("min_balance", WideInteger),
        Column("max_balance", WideInteger),
        Column("metadata", Text),
        must("opened_position", BigInteger),
        *totals(),
        **rewritten,
    )
    holds = table(
        "holds",
        key("id", Id),
        must("position", BigInteger),
        must("item", Integer),
        must("state", PlainText),
        Column("expires_us", BigInteger),
        must("remaining", Text),
        Column("ended_position", BigInteger),
        **rewritten,
    )
    tags = table("tags", key("tag", Id), key("position", BigInteger), key("item", Integer), **clustered)
    balances = None
    if version >= 2:
        balances = table("balances", key("account", Text), key("position", BigInteger), *totals(), **clustered)
    return Tables(version, metadata, frames, transactions, postings, accounts, holds, tags, balances)


def is_sqlite(bind: Engine | Connection) -> bool:
    """Return whether it is SQLite and not PostgreSQL."""
    return bind.dialect.name == "sqlite"


def open_engine(url: str) -> Engine:
    """Make an engine for a history: `sqlite:///FILE` or `postgresql+psycopg://...`.

    SQLite is set to let readers read on while one writes (WAL), and to begin a transaction where SQLAlchemy says so.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        # A server that went away and came back costs one quick look at a connection, and no failed query.
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    engine = create_engine(parsed, connect_args={"timeout": 60})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # no transactions but those that are asked for
    connection.execute("PRAGMA journal_mode = WAL")
    # A commit that a power cut takes back takes the position back with it, and is simply written again.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.create_aggregate("exact_sum", 1, _ExactSum)  # type: ignore[arg-type]


def _begin_sqlite(connection: Connection) -> None:
    is_writer = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


class _ExactSum:
    """SQLite's own sum fails beyond 64 bits, and makes floats of digits that are text."""

    def __init__(self) -> None:
        self._total = 0

    def step(self, value: int | str) -> None:
        self._total += int(value)

    def finalize(self) -> str:
        return str(self._total)


def projections(engine: Engine) -> list[Projection]:
    """Return what the registry tells, the oldest version first; nothing where there is no history yet."""
    with database_errors(), engine.connect() as connection:
        return read_projections(connection) if inspect(connection).has_table(registry.name) else []


def read_projections(connection: Connection, *, for_update: bool = False) -> list[Projection]:
    """Return what the registry tells in this transaction, and let nobody else change it if that is wanted."""
    query = select(registry).order_by(registry.c.version)
    rows = connection.execute(query.with_for_update() if for_update else query)
    return [Projection(row.version, row.status, row.position, bytes.fromhex(row.frame_digest)) for row in rows]


def install(engine: Engine, version: int = LATEST) -> Projection:
    """Make the tables of a version unless they are there. The first projection of all is active at once."""
    with database_errors(), engine.execution_options(writes=True).begin() as connection:
        if not is_sqlite(engine):
            connection.execute(text("SELECT pg_advisory_xact_lock(59999)"))  # two may come at the same time
        _registry_metadata.create_all(connection)
        known = {projection.version: projection for projection in read_projections(connection)}
        if version in known and known[version].status != "retired":
            return known[version]
        tables_of(version).metadata.create_all(connection)
        is_first = all(projection.status != "active" for projection in known.values())
        projection = Projection(version, "active" if is_first else "building", 0, bytes(32))
        if version in known:
            connection.execute(registry.delete().where(registry.c.version == version))
        values = {"version": version, "status": projection.status, "position": 0, "frame_digest": bytes(32).hex()}
        connection.execute(insert(registry).values(values))
        return projection

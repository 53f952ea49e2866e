"""How far everybody is who gets events, in SQL: SQLite or PostgreSQL.

    feed_lanes      one row a lane: its cursor, who delivers it, and a term that counts those who did
    feed_done       what is done beyond the cursor: lane, position, item
    feed_dead       what was given up, with the event; `state` replay: to be delivered again
    feed_webhooks   subscriptions. Of a secret only its name is kept, never the secret

Everything up to the cursor is done. A lane has one deliverer at a time: who takes it raises the term, and every commit
names the term that it was taken with, so one who was replaced finds out and changes nothing. Another deliverer takes
over only after the beat of the one before has stopped for a while; the same one, after a restart, at once.

All methods block, and raise `StoreUnavailableError` where the database is away.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from fivenines.api import Event
from fivenines.historian.feed.ordering import Key

__all__ = ["DeadLetter", "LaneLostError", "LaneTaken", "Store", "StoreUnavailableError", "Subscription"]

_metadata = MetaData()
_lanes = Table(
    "feed_lanes",
    _metadata,
    Column("lane", String(200), primary_key=True),
    Column("cursor", BigInteger, nullable=False),
    Column("owner", String(200), nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("beat_s", BigInteger, nullable=False),
)
_done = Table(
    "feed_done",
    _metadata,
    Column("lane", String(200), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("item", Integer, primary_key=True),
)
_dead = Table(
    "feed_dead",
    _metadata,
    Column("lane", String(200), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("event", LargeBinary, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("dead_s", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),
)
_webhooks = Table(
    "feed_webhooks",
    _metadata,
    Column("id", String(64), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", String(64), nullable=False),
    Column("types", Text, nullable=False),
    Column("accounts", Text, nullable=False),
    Column("start", BigInteger, nullable=False),
)
_REASON_CHARACTERS_MAX = 2_000
_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(Event).decode
_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode


class StoreUnavailableError(Exception):
    """The database is away, or refuses: nothing was done, or all of it. Try again later."""


class LaneLostError(Exception):
    """Another deliverer has the lane now."""


class DeadLetter(NamedTuple):
    """An event that was given up."""

    key: Key
    event: Event
    tries: int
    reason: str
    """What went wrong the last time."""
    dead_s: int
    """Unix time."""
    is_waiting: bool = False
    """Whether it is to be delivered again."""


class LaneTaken(NamedTuple):
    """What a deliverer finds of a lane."""

    term: int
    cursor: int
    done: set[Key]
    """What is done beyond the cursor."""


class Subscription(NamedTuple):
    """A webhook, as it is stored."""

    id: str
    url: str
    secret: str
    """The name of its secret."""
    types: tuple[str, ...]
    accounts: tuple[str, ...]
    start: int
    """It gets what comes after this position."""


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise StoreUnavailableError(f"the database failed: {reason}") from error


class Store:
    """The tables of the feed. Threads may share it."""

    def __init__(self, engine: Engine) -> None:
        # A SQLite engine of ours takes the lock of a writer at once where it is told so.
        self._engine = engine.execution_options(writes=True)
        self._reads = engine

    def install(self) -> None:
        """Create the tables that are missing."""
        with _telling():
            _metadata.create_all(self._reads)

    # --- lanes -------------------------------------------------------------------------------------------------------

    def begin(self, lane: str, start: int) -> None:
        """Make a lane that begins after a position, unless it is there."""
        with _telling(), self._engine.begin() as connection:
            if connection.scalar(select(func.count()).where(_lanes.c.lane == lane)) == 0:
                _make_lane(connection, lane, start)

    def take(self, lane: str, owner: str, now_s: float, *, silent_s_max: float) -> LaneTaken | None:
        """Take a lane; None while another owner has it, and was heard of within `silent_s_max`.

        Raises:
            LaneLostError: there is none of this name.
        """
        with _telling(), self._engine.begin() as connection:
            query = select(_lanes).where(_lanes.c.lane == lane).with_for_update()
            row = connection.execute(query).one_or_none()
            if row is None:
                raise LaneLostError(f"{lane} is gone")
            if row.owner not in {"", owner} and now_s - row.beat_s < silent_s_max:
                return None
            taken = {"owner": owner, "term": row.term + 1, "beat_s": int(now_s)}
            connection.execute(update(_lanes).where(_lanes.c.lane == lane).values(taken))
            done = connection.execute(select(_done.c.position, _done.c.item).where(_done.c.lane == lane))
            return LaneTaken(row.term + 1, row.cursor, {Key(*each) for each in done})

    def commit(
        self,
        lane: str,
        term: int,
        now_s: float,
        *,
        cursor: int,
        delivered: Sequence[Key] = (),
        dead: Sequence[DeadLetter] = (),
        replayed: Sequence[Key] = (),
        dead_again: Sequence[DeadLetter] = (),
    ) -> None:
        """Write down what came of events, all of it or nothing, and that the deliverer lives.

        Raises:
            LaneLostError: another one has the lane, or it is gone.
        """
        with _telling(), self._engine.begin() as connection:
            is_ours = and_(_lanes.c.lane == lane, _lanes.c.term == term)
            values = {"cursor": cursor, "beat_s": int(now_s)}
            if connection.execute(update(_lanes).where(is_ours).values(values)).rowcount != 1:
                raise LaneLostError(f"{lane} is delivered by another one, or is gone")
            beyond = [key for key in (*delivered, *(letter.key for letter in dead)) if key.position > cursor]
            if beyond:
                rows = [{"lane": lane, "position": key.position, "item": key.item} for key in beyond]
                connection.execute(insert(_done), rows)
            connection.execute(delete(_done).where(_done.c.lane == lane, _done.c.position <= cursor))
            if dead:
                _forget_dead(connection, lane, (letter.key for letter in dead))
                connection.execute(insert(_dead), [_dead_row(lane, letter) for letter in dead])
            if replayed:
                _forget_dead(connection, lane, replayed)
            for letter in dead_again:
                row = _dead_row(lane, letter)
                connection.execute(update(_dead).where(_at(lane, letter.key)).values(row))

    def cursors(self) -> dict[str, int]:
        """Return how far each lane is."""
        with _telling(), self._reads.connect() as connection:
            return {row.lane: row.cursor for row in connection.execute(select(_lanes.c.lane, _lanes.c.cursor))}

    # --- dead letters ------------------------------------------------------------------------------------------------

    def dead_letters(
        self, lane: str, *, after: Key | None = None, limit: int = 100, only_waiting: bool = False
    ) -> list[DeadLetter]:
        """Return what a lane gave up, the oldest first; or only what waits to be delivered again."""
        query = select(_dead).where(_dead.c.lane == lane)
        if only_waiting:
            query = query.where(_dead.c.state == "replay")
        if after is not None:
            query = query.where(tuple_(_dead.c.position, _dead.c.item) > tuple(after))
        query = query.order_by(_dead.c.position, _dead.c.item).limit(limit)
        with _telling(), self._reads.connect() as connection:
            return [
                DeadLetter(
                    Key(row.position, row.item),
                    _decode_event(row.event),
                    row.tries,
                    row.reason,
                    row.dead_s,
                    row.state == "replay",
                )
                for row in connection.execute(query)
            ]

    def count_dead(self) -> dict[str, int]:
        """Return how many dead letters each lane has."""
        query = select(_dead.c.lane, func.count()).group_by(_dead.c.lane)
        with _telling(), self._reads.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def replay(self, lane: str, keys: Sequence[Key] | None = None) -> int:
        """Have dead letters delivered again, all or these; return how many."""
        is_meant = _dead.c.lane == lane
        if keys is not None:
            is_meant = and_(is_meant, or_(*(_at(lane, key) for key in keys)))
        with _telling(), self._engine.begin() as connection:
            return connection.execute(update(_dead).where(is_meant).values(state="replay")).rowcount

    # --- webhooks ----------------------------------------------------------------------------------------------------

    def add_webhook(self, subscription: Subscription, lane: str) -> None:
        """Store a subscription, and make its lane."""
        row = subscription._asdict()
        row["types"], row["accounts"] = (_encode(row[name]).decode() for name in ("types", "accounts"))
        with _telling(), self._engine.begin() as connection:
            connection.execute(insert(_webhooks).values(row))
            _make_lane(connection, lane, subscription.start)

    def webhooks(self) -> list[Subscription]:
        """Return all subscriptions, the oldest first."""
        with _telling(), self._reads.connect() as connection:
            return [
                Subscription(
                    row.id, row.url, row.secret, _decode_names(row.types), _decode_names(row.accounts), row.start
                )
                for row in connection.execute(select(_webhooks).order_by(_webhooks.c.id))
            ]

    def remove_webhook(self, id: str, lane: str) -> bool:
        """Forget a subscription, its lane and its dead letters; return whether there was one."""
        with _telling(), self._engine.begin() as connection:
            count = connection.execute(delete(_webhooks).where(_webhooks.c.id == id)).rowcount
            for table in (_lanes, _done, _dead):
                connection.execute(delete(table).where(table.c.lane == lane))
            return bool(count)


def _make_lane(connection: Connection, lane: str, start: int) -> None:
    free = {"lane": lane, "cursor": start, "owner": "", "term": 0, "beat_s": 0}
    connection.execute(insert(_lanes).values(free))


def _at(lane: str, key: Key) -> ColumnElement[bool]:
    return and_(_dead.c.lane == lane, _dead.c.position == key.position, _dead.c.item == key.item)


def _forget_dead(connection: Connection, lane: str, keys: Iterable[Key]) -> None:
    for key in keys:
        connection.execute(delete(_dead).where(_at(lane, key)))


def _dead_row(lane: str, letter: DeadLetter) -> dict[str, object]:
    return {
        "lane": lane,
        "position": letter.key.position,
        "item": letter.key.item,
        "event": _encode(letter.event),
        "tries": letter.tries,
        "reason": letter.reason.replace("\0", "")[:_REASON_CHARACTERS_MAX],
        "dead_s": letter.dead_s,
        "state": "replay" if letter.is_waiting else "dead",
    }

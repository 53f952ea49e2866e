"""From one version of the history to the next, while the old one serves.

1. `build` projects the journal's life into the tables of the new version, beside the old ones.
2. From then on both are projected (`projectors`, `project_all`).
3. `compare` holds the two against each other: numbers of rows, sums by asset, the totals of each account, and sampled
   transactions in full. Only what agrees becomes ready.
4. `switch` makes the new one active, in one transaction. A query sees the one or the other. The old one goes on being
   projected, so that `switch` leads back just as well.
5. `retire` drops the tables of a version that is not active, when told to.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update

from fivenines.historian.follower import Step
from fivenines.historian.sql.answers import Cursor
from fivenines.historian.sql.balances import MOVING, balances_of, exact_sum
from fivenines.historian.sql.errors import NotSwitchableError, database_errors
from fivenines.historian.sql.projector import Projector
from fivenines.historian.sql.reading import Reading, transactions_at
from fivenines.historian.sql.schema import (
    Projection,
    is_sqlite,
    read_projections,
    registry,
    tables_of,
)

__all__ = ["Comparison", "build", "compare", "retire", "switch"]

_STEPS_PER_BATCH = 64
_COMMANDS_PER_BATCH = 50_000
_ACCOUNTS_PER_PART = 5_000
_TRANSACTIONS_PER_PART = 500
_DIFFERENCES_MAX = 100


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two projections have to say about the same position."""

    position: int
    counts: dict[str, tuple[int, int]]
    """The rows of each table up to the position, in the old and the new."""
    sums: dict[str, tuple[int, int]]
    """What was moved of each asset."""
    accounts: int
    """How many accounts were compared by their totals."""
    samples: int
    """How many transactions were compared in full."""
    differences: list[str] = field(default_factory=list)
    """What differs, in words; the first hundred."""

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def build(engine: Engine, version: int, steps: Iterable[Step]) -> Projector:
    """Project `steps`, the first of which follows on where the new version stands, and return its projector.

    It may be called again with further steps, also after it failed. Raises as `Projector.project` does.
    """
    projector = Projector(engine, version)
    batch: list[Step] = []
    commands = 0
    for step in steps:
        batch.append(step)
        commands += len(step.batch.commands)
        if commands >= _COMMANDS_PER_BATCH or len(batch) >= _STEPS_PER_BATCH:
            projector.project(batch)
            batch, commands = [], 0
    projector.project(batch)
    return projector


def compare(engine: Engine, old: int, new: int, *, samples: int = 1_000, seed: int = 0) -> Comparison:
    """Hold two projections against each other, at the last position that both have. A new one that agrees is ready."""
    options: dict[str, Any] = {} if is_sqlite(engine) else {"isolation_level": "REPEATABLE READ"}
    with database_errors():
        with engine.execution_options(**options).connect() as connection:
            known = {projection.version: projection for projection in read_projections(connection)}
            positions = _kept(known, old).position, _kept(known, new).position
            before, now = tables_of(old), tables_of(new)
            readings = (
                Reading(connection, before, balances_of(before), min(positions)),
                Reading(connection, now, balances_of(now), min(positions)),
            )
            result = _compare(readings, is_even=positions[0] == positions[1], samples=samples, seed=seed)
        if result.is_equal:
            with engine.execution_options(writes=True).begin() as connection:
                connection.execute(
                    update(registry)
                    .where(registry.c.version == new, registry.c.status == "building")
                    .values(status="ready")
                )
    return result


def switch(engine: Engine, version: int) -> None:
    """Make `version` the active projection, and the one that was it ready, so that the way back is open.

    Raises:
        NotSwitchableError: it was not compared, or it is behind the active one, so that answers would go back in time.
    """
    with database_errors(), engine.execution_options(writes=True).begin() as connection:
        known = {projection.version: projection for projection in read_projections(connection, for_update=True)}
        wanted = _kept(known, version)
        active = next((projection for projection in known.values() if projection.status == "active"), None)
        if wanted == active:
            return
        if wanted.status != "ready":
            raise NotSwitchableError(f"version {version} is {wanted.status}, not ready: compare it first")
        if active is not None:
            if wanted.position < active.position:
                raise NotSwitchableError(
                    f"version {version} is at position {wanted.position}, behind the active at {active.position}"
                )
            _set_status(connection, active.version, "ready")
        _set_status(connection, version, "active")


def retire(engine: Engine, version: int) -> None:
    """Drop the tables of a version. There is no way back to it but to build it anew.

    Raises:
        NotSwitchableError: it is active.
    """
    with database_errors(), engine.execution_options(writes=True).begin() as connection:
        known = {projection.version: projection for projection in read_projections(connection, for_update=True)}
        if _kept(known, version).status == "active":
            raise NotSwitchableError(f"version {version} is active: switch to another one first")
        _set_status(connection, version, "retired")
        tables_of(version).metadata.drop_all(connection)


def _kept(known: dict[int, Projection], version: int) -> Projection:
    found = known.get(version)
    if found is None or found.status == "retired":
        raise NotSwitchableError(f"there is no projection of version {version}")
    return found


def _set_status(connection: Connection, version: int, status: str) -> None:
    connection.execute(update(registry).where(registry.c.version == version).values(status=status))


def _compare(readings: tuple[Reading, Reading], *, is_even: bool, samples: int, seed: int) -> Comparison:
    position = readings[0].position
    result = Comparison(
        position,
        counts=_both(_counts, readings),
        sums=_both(_sums, readings),
        accounts=0,
        samples=0,
    )
    for name, pair in result.counts.items():
        _differ(result, f"rows of {name}", *pair)
    for asset, pair in result.sums.items():
        _differ(result, f"moved of {asset}", *pair)
    accounts = 0
    for after, last, count in _account_parts(readings[0]):
        accounts += count
        _differ_each(result, "totals of", *(r.balances.between(r.connection, after, last, position) for r in readings))
        if is_even:  # else the one has accounts as they stood earlier
            _differ_each(result, "account", *(_accounts(reading, after, last) for reading in readings))
    if is_even:
        _differ_each(result, "holds that are", *(_holds(reading) for reading in readings))
    sampled = _sample(readings[0], samples, Random(seed))
    for start in range(0, len(sampled), _TRANSACTIONS_PER_PART):
        part = sampled[start : start + _TRANSACTIONS_PER_PART]
        _differ_each(result, "transaction", *(transactions_at(reading, part) for reading in readings))
    return dataclasses.replace(result, accounts=accounts, samples=len(sampled))


def _both(read: Callable[[Reading], dict[str, int]], readings: tuple[Reading, Reading]) -> dict[str, tuple[int, int]]:
    old, new = (read(reading) for reading in readings)
    return {name: (old.get(name, 0), new.get(name, 0)) for name in sorted(old.keys() | new.keys())}


def _differ(result: Comparison, what: str, old: object, new: object) -> None:
    if old != new and len(result.differences) < _DIFFERENCES_MAX:
        result.differences.append(f"{what}: {old} before, {new} now")


def _differ_each(result: Comparison, what: str, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> None:
    if old != new:
        for key in [*old, *(key for key in new if key not in old)]:
            _differ(result, f"{what} {key}", old.get(key), new.get(key))


def _counts(reading: Reading) -> dict[str, int]:
    """Return how many rows there are up to the position, of each table that all versions have."""
    tables = reading.tables
    until = {
        "frames": tables.frames.c.position,
        "transactions": tables.transactions.c.position,
        "postings": tables.postings.c.position,
        "tags": tables.tags.c.position,
        "accounts": tables.accounts.c.opened_position,
        "holds": tables.holds.c.position,
    }
    count = select(func.count())
    return {
        name: reading.connection.execute(count.where(column <= reading.position)).scalar_one()
        for name, column in until.items()
    }


def _sums(reading: Reading) -> dict[str, int]:
    """Return what was moved of each asset."""
    postings, accounts = reading.tables.postings, reading.tables.accounts
    query = (
        select(accounts.c.asset, exact_sum(reading.connection, postings.c.amount))
        .join(postings, postings.c.source == accounts.c.id)
        .where(postings.c.position <= reading.position, postings.c.effect.in_(MOVING))
        .group_by(accounts.c.asset)
    )
    return {asset: int(total) for asset, total in reading.connection.execute(query)}


def _account_parts(reading: Reading) -> Iterator[tuple[str, str, int]]:
    """Yield the ids of accounts in parts: after which, up to which, and how many there are between."""
    ids = reading.tables.accounts.c.id
    opened = reading.tables.accounts.c.opened_position <= reading.position
    after = ""
    while part := reading.connection.scalars(
        select(ids).where(ids > after, opened).order_by(ids).limit(_ACCOUNTS_PER_PART)
    ).all():
        yield after, part[-1], len(part)
        after = part[-1]


def _accounts(reading: Reading, after: str, last: str) -> dict[str, tuple[Any, ...]]:
    accounts = reading.tables.accounts
    query = select(accounts).where(accounts.c.id > after, accounts.c.id <= last)
    return {row.id: tuple(row) for row in reading.connection.execute(query)}


def _holds(reading: Reading) -> dict[str, int]:
    state = reading.tables.holds.c.state
    query = select(state, func.count()).group_by(state)
    return dict(tuple(row) for row in reading.connection.execute(query))


def _sample(reading: Reading, samples: int, random: Random) -> list[Cursor]:
    frames = reading.tables.frames
    found: set[Cursor] = set()
    for _ in range(samples if reading.position else 0):
        query = (
            select(frames.c.position, frames.c.transactions)
            .where(frames.c.position.between(random.randint(1, reading.position), reading.position))
            .where(frames.c.transactions > 0)
            .order_by(frames.c.position)
            .limit(1)
        )
        row = reading.connection.execute(query).one_or_none()
        if row is not None:
            found.add(Cursor(row.position, random.randrange(row.transactions)))
    return sorted(found)

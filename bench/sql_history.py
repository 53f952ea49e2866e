"""How many transactions a second a projector writes into SQL, and how long a query of what it wrote takes.

    python -m bench.sql_history [--transactions N] [--one-core]

The steps of frames of 8,000 transactions of one posting between 10,000 accounts are made first and are not measured:
they are what the follower gives to everything that keeps history. Measured is `Projector.project`, with the commit, on
a PostgreSQL of our own, tuned and durable as in the other benchmarks, and on a file of SQLite. By `--one-core` all of
it, the server too, shares one core.
"""

import argparse
import datetime
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from sqlalchemy import Engine, text

from bench.peers.postgres import postgres_cluster, postgres_version
from bench.processes import work_folder
from bench.workload import account_names, opening, transfers
from fivenines.historian.follower import Follower, Step
from fivenines.historian.sql import VERSIONS, Projector, Queries, build, compare, open_engine, switch
from fivenines.ids import as_text
from fivenines.journal import Frame
from fivenines.ledger import Outcome, State, encode

__all__ = ["SqlRow", "measure_queries", "measure_sql_history", "steps_of"]

ACCOUNTS = 10_000
BUILD = Path(__file__).resolve().parent.parent / "build"


@dataclass(frozen=True, slots=True)
class SqlRow:
    """What was measured of one database and one version."""

    database: str
    version: int
    frame_size: int
    transactions: int
    seconds: float
    cpu_seconds: float
    """Of this process."""
    server_cpu_seconds: float
    """Of the server's process that serves this one; none for SQLite, which is within this one."""
    bytes: int
    """What the history takes on disk."""

    @property
    def per_second(self) -> float:
        """Transactions a second."""
        return self.transactions / self.seconds


def steps_of(transactions: int, *, size: int = 8_000) -> tuple[list[Step], list[Step]]:
    """Return the steps that open the accounts, and those that are measured."""
    names = account_names(ACCOUNTS)
    follower = Follower(State(), bytes(32))

    def live(batches: Sequence[bytes]) -> list[Step]:
        steps = []
        for payload in batches:
            position = follower.state.position + 1
            steps.append(follower.step(Frame(position, payload, position.to_bytes(32, "big"))))
        return steps

    opened = live([encode(batch) for batch in opening(names)])
    moved = live([encode(batch) for batch in transfers(names, batches=transactions // size, size=size)])
    assert all(outcome == Outcome.posted for step in moved for outcome in step.applied.outcomes)
    return opened, moved


def measure_sql_history(
    engine: Engine, version: int, opened: Sequence[Step], moved: Sequence[Step], *, per_batch: int = 80_000
) -> SqlRow:
    """Project the steps into an empty history, `per_batch` transactions in a SQL transaction."""
    build(engine, version, opened)
    size = len(moved[0].batch.commands)
    frames = max(1, per_batch // size)
    projector = Projector(engine, version)
    server = _server_process(engine)
    began, cpu_began, server_began = time.perf_counter(), time.process_time(), _cpu_seconds(server)
    for start in range(0, len(moved), frames):
        projector.project(moved[start : start + frames])
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return SqlRow(
        engine.dialect.name,
        version,
        size,
        len(moved) * size,
        seconds,
        cpu_seconds,
        _cpu_seconds(server) - server_began,
        _bytes(engine, version),
    )


def measure_queries(engine: Engine, moved: Sequence[Step], *, count: int = 200) -> dict[str, tuple[float, float]]:
    """Return the median and the 99th percentile of each kind of query, in milliseconds, one after the other."""
    queries, random, names = Queries(engine), Random(1), account_names(ACCOUNTS)
    first, last = moved[0].applied.position, moved[-1].applied.position
    day = _day(moved[0].applied.time_us)

    def some_id() -> bytes:
        return random.choice(random.choice(moved).batch.commands).id  # type: ignore[union-attr]

    kinds: dict[str, Callable[[], object]] = {
        "history, the newest 100": lambda: queries.account_history(random.choice(names)),
        "balance as of a position": lambda: queries.balance_as_of(
            random.choice(names), position=random.randint(first, last)
        ),
        "statement of a day, 1,000 lines": lambda: queries.statement(random.choice(names), day, day),
        "a transaction": lambda: queries.transaction(some_id()),
        "1,000 events": lambda: queries.events_after(random.randint(first, last - 1), 1_000),
        "search that finds nothing": lambda: queries.search(metadata={"order": as_text(some_id())}),
    }
    measured = {}
    for name, ask in kinds.items():
        times = []
        for _ in range(count):
            began = time.perf_counter()
            ask()
            times.append((time.perf_counter() - began) * 1000)
        times.sort()
        measured[name] = times[count // 2], times[count * 99 // 100]
    return measured


def _server_process(engine: Engine) -> int | None:
    if engine.dialect.name == "sqlite":
        return None
    with engine.connect() as connection:  # the pool lends the one connection that there is to whoever comes next
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def _cpu_seconds(process: int | None) -> float:
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _day(time_us: int) -> datetime.date:
    return datetime.datetime.fromtimestamp(time_us // 1_000_000, datetime.UTC).date()


def _bytes(engine: Engine, version: int) -> int:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            return int(
                connection.execute(
                    text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
                ).scalar_one()
            )
        return int(
            connection.execute(
                text(
                    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE :name"
                ),
                {"name": f"v{version}\\_%"},
            ).scalar_one()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transactions", type=int, default=800_000)
    parser.add_argument("--one-core", action="store_true", help="let this process and the server share one core")
    arguments = parser.parse_args()
    if arguments.one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    opened, moved = steps_of(arguments.transactions)
    small_opened, small_moved = steps_of(min(arguments.transactions, 200_000), size=100)
    where = "one core for all" if arguments.one_core else f"{len(os.sched_getaffinity(0))} cores"
    print(f"{postgres_version()}; {where}")
    print(f"{'':<10} version  frame transactions      per s  own CPU us  server CPU us  bytes of each")
    with work_folder(BUILD) as work:
        with postgres_cluster(work) as cluster:
            url = f"postgresql+psycopg://{cluster.dsn.partition('://')[2]}"
            engine = open_engine(url)
            for version in VERSIONS:
                _print(measure_sql_history(engine, version, opened, moved))
            began = time.perf_counter()
            result = compare(engine, 1, 2)
            assert result.is_equal, result.differences
            print(f"comparing both versions: {time.perf_counter() - began:.1f} s")
            for version in VERSIONS:
                switch(engine, version)
                _print_queries(f"postgresql, version {version}", measure_queries(engine, moved))
            cluster.run_sql("create database small")
            engine.dispose()
            engine = open_engine(url.replace("/postgres?", "/small?"))
            for version in VERSIONS:
                _print(measure_sql_history(engine, version, small_opened, small_moved))
            engine.dispose()
        for version in VERSIONS:
            engine = open_engine(f"sqlite:///{work / f'history-{version}.db'}")
            _print(measure_sql_history(engine, version, opened, moved))
            _print_queries(f"sqlite, version {version}", measure_queries(engine, moved))
            engine.dispose()


def _print(row: SqlRow) -> None:
    own, server = (1e6 * cpu / row.transactions for cpu in (row.cpu_seconds, row.server_cpu_seconds))
    print(
        f"{row.database:<10} {row.version:>7} {row.frame_size:>6,} {row.transactions:>12,} {row.per_second:>10,.0f}"
        f" {own:>11.1f} {server:>14.1f} {row.bytes / row.transactions:>14,.0f}",
        flush=True,
    )


def _print_queries(name: str, measured: dict[str, tuple[float, float]]) -> None:
    for kind, (median, p99) in measured.items():
        print(f"  {name}: {kind}: median {median:.1f} ms, p99 {p99:.1f} ms", flush=True)


if __name__ == "__main__":
    main()

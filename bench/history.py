"""The benchmarks of history: the archive, restoring from it, SQL, events and functions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from bench.events import measure_cold_starts, measure_delivery
from bench.harness import Benchmark, Figure, Run, Setting
from bench.in_process import prepare
from bench.peers.postgres import postgres_cluster
from bench.sql_history import measure_sql_history, steps_of
from fivenines.historian.sql import LATEST, open_engine

__all__ = ["HISTORY"]

MILLION = 1_000_000
EVENTS_PER_S = 100
COLD_STARTS = 10


@contextmanager
def projecting(setting: Setting, *, into: str) -> Iterator[Run]:
    """Project into databases that are new each time, of one server."""
    opened, moved = steps_of(setting.scaled(400_000))
    numbers = iter(range(MILLION))

    def measured(url: str) -> Mapping[str, float]:
        engine = open_engine(url)
        try:
            return {f"project_{into}_per_s": measure_sql_history(engine, LATEST, opened, moved).per_second}
        finally:
            engine.dispose()

    if into == "sqlite":
        yield lambda: measured(f"sqlite:///{setting.work / f'history-{next(numbers)}.db'}")
        return
    with postgres_cluster(setting.work) as cluster:
        url = f"postgresql+psycopg://{cluster.dsn.partition('://')[2]}"

        def run() -> Mapping[str, float]:
            name = f"history_{next(numbers)}"
            cluster.run_sql(f"create database {name}")
            return measured(url.replace("/postgres?", f"/{name}?"))

        yield run


@contextmanager
def delivering(setting: Setting) -> Iterator[Run]:
    """Deliver what is written at a steady rate to a webhook."""
    numbers = iter(range(MILLION))

    def run() -> Mapping[str, float]:
        folder = setting.work / str(next(numbers))
        folder.mkdir()
        return measure_delivery(folder, rate=EVENTS_PER_S, seconds=setting.seconds)

    yield run


@contextmanager
def starting_cold(setting: Setting) -> Iterator[Run]:
    """Start a function from zero processes, some times."""
    numbers = iter(range(MILLION))

    def run() -> Mapping[str, float]:
        folder = setting.work / str(next(numbers))
        folder.mkdir()
        return measure_cold_starts(folder, times=setting.scaled(COLD_STARTS))

    yield run


HISTORY = (
    Benchmark(
        "archive",
        {
            "archive_mb_per_s": Figure("MB/s", "frames applied, sealed, and written durably to a folder, one process"),
            "archive_size_share": Figure("share", "what is left of them", less_is_better=True),
        },
        partial(prepare, "archive", None, MILLION, module="bench.archive"),
        runs_max=3,
    ),
    Benchmark(
        "restore",
        {"restore_per_s": Figure("transactions/s", "restored from the first frame on, checked, applied, digested")},
        partial(prepare, "restore", "make_archive", MILLION, module="bench.archive"),
        runs_max=3,
    ),
    Benchmark(
        "project_sqlite",
        {"project_sqlite_per_s": Figure("transactions/s", "projected into SQLite, frames of 8,000")},
        partial(projecting, into="sqlite"),
        runs_max=3,
    ),
    Benchmark(
        "project_postgres",
        {
            "project_postgres_per_s": Figure(
                "transactions/s", "projected into PostgreSQL, frames of 8,000, two cores for both", goal=50_000
            )
        },
        partial(projecting, into="postgres"),
        runs_max=3,
    ),
    Benchmark(
        "events",
        {
            "event_delivery_p50_ms": Figure("ms", "acknowledged write to webhook, 100 a second", less_is_better=True),
            "event_delivery_p99_ms": Figure("ms", "the same", less_is_better=True),
            "event_deliveries_per_s": Figure("events/s", "that were delivered meanwhile"),
        },
        delivering,
        runs_max=3,
    ),
    Benchmark(
        "functions",
        {
            "function_cold_start_ms": Figure(
                "ms", "event there to function run, from no process", goal=300, less_is_better=True
            ),
            "function_cold_start_worst_ms": Figure("ms", "the same: the worst of ten", less_is_better=True),
        },
        starting_cold,
        runs_max=3,
    ),
)

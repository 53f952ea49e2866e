"""The benchmark of the SQL history measures what it says."""

from pathlib import Path

from bench.sql_history import measure_queries, measure_sql_history, steps_of
from fivenines.historian.sql import Queries, open_engine


def test_the_benchmark_measures_transactions_that_are_in_the_history(tmp_path: Path) -> None:
    opened, moved = steps_of(300, size=100)
    engine = open_engine(f"sqlite:///{tmp_path / 'history.db'}")
    row = measure_sql_history(engine, 2, opened, moved, per_batch=200)
    assert (row.database, row.version, row.frame_size, row.transactions) == ("sqlite", 2, 100, 300)
    assert row.per_second > 0
    events, position = Queries(engine).events_after(len(opened), 1_000)
    assert (len(events), position) == (300, len(opened) + 3)
    assert all(0 < median <= p99 for median, p99 in measure_queries(engine, moved, count=5).values())
    engine.dispose()

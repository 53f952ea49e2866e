"""What can go wrong with the SQL history. All of it is an operating error: money moves on, and history comes later.

    SqlHistoryError
        HistoryUnavailableError   the database is away or refuses: ask again later
        HistoryMovedError         another projector wrote, or the history is of another journal: begin anew
        NotSwitchableError        a projection cannot be switched to, or retired, as things are

A write that failed with `HistoryUnavailableError` was done whole or not at all, and the stored position tells which: so
to project the same steps again is always safe.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import SQLAlchemyError

__all__ = [
    "HistoryMovedError",
    "HistoryUnavailableError",
    "NotSwitchableError",
    "SqlHistoryError",
    "database_errors",
]


class SqlHistoryError(Exception):
    """The SQL history cannot do what was asked."""


class HistoryUnavailableError(SqlHistoryError):
    """The database is away, or refuses. Nothing is lost by trying again later."""


class HistoryMovedError(SqlHistoryError):
    """The stored position is not the one that this projector left: somebody else writes this history."""


class NotSwitchableError(SqlHistoryError):
    """A projection is not in a state in which it can be switched to, or retired."""


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what SQLAlchemy and the drivers raise into `HistoryUnavailableError`."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        raise HistoryUnavailableError(f"the history database failed: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]

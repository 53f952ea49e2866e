"""A PostgreSQL server of the tests' own, gone afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fivenines.drill.postgres import PostgresMissingError, PostgresServer

__all__ = ["PostgresServer", "postgres_server"]

# Durability is the server's own matter, and is not tested here: processes are killed, and power is never cut.
OPTIONS = "-c fsync=off -c full_page_writes=off"


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server for as long as the block lasts; skip the test where none can be run."""
    try:
        server = PostgresServer(OPTIONS)
    except PostgresMissingError as error:
        pytest.skip(str(error))
    try:
        server.start()
        yield server
    finally:
        server.discard()

"""A PostgreSQL server for all tests here, and an empty history in each database for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fivenines.historian.sql import open_engine
from tests.integration.sql.servers import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server shared by tests: none may stop it, and each has a database of its own."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a history may be, in each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'history.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An empty history."""
    engine = open_engine(url)
    yield engine
    engine.dispose()

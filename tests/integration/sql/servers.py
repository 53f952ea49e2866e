"""A PostgreSQL server of the tests' own: made by `initdb`, on a Unix socket only, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

# Durability is the server's own matter, and is not tested here: processes are killed, and power is never cut.
OPTIONS = "-c listen_addresses='' -c fsync=off -c full_page_writes=off -c jit=off"


@dataclass
class PostgresServer:
    """A server that may be stopped, killed and started again."""

    bin: Path
    folder: Path
    socket_folder: Path
    user: str | None
    _numbers: Iterator[int]

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://tests@/{database}?host={self.socket_folder}"

    def new_database(self) -> str:
        """Make an empty database, and return its URL."""
        name = f"history_{next(self._numbers)}"
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-l", str(self.folder / "log"), "-o", f"{OPTIONS} -k {self.socket_folder}")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; by the mode `immediate` it has no time to tidy up, as if it was killed."""
        self._run("pg_ctl", "stop", "-w", "-m", mode)

    def _run(self, program: str, *arguments: str) -> None:
        # The server outlives its starter and keeps its outputs, so they must not be a pipe that is read to its end.
        subprocess.run(
            [self.bin / program, *arguments, "-D", self.folder / "data"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )


def postgres_bin() -> Path:
    """Return the folder of the newest server's programs; skip the test where there is none."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    pytest.skip("PostgreSQL is not installed")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server for as long as the block lasts. Root may not run one, so root runs it as the user `postgres`."""
    bin_folder = postgres_bin()
    user = None
    if os.geteuid() == 0:
        if not any(entry.pw_name == "postgres" for entry in pwd.getpwall()):
            pytest.skip("root may not run PostgreSQL, and there is no user postgres to run it")
        user = "postgres"
    # A socket's path is bounded to about a hundred bytes, and the folders of tests lie deep.
    with tempfile.TemporaryDirectory(prefix="fivenines-sql-") as short:
        folder = Path(short)
        if user is not None:
            shutil.chown(folder, user, user)
        server = PostgresServer(bin_folder, folder, folder, user, count(1))
        server._run("initdb", "--locale=C", "--encoding=UTF8", "--auth=trust", "-U", "tests", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")

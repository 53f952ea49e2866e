"""A PostgreSQL server on this machine, by `initdb`, on a Unix socket only; it may be killed and started again."""

import os
import pwd
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

__all__ = ["PostgresMissingError", "PostgresServer", "has_postgres", "postgres_programs", "postgres_user"]

_OPTIONS = "-c listen_addresses='' -c jit=off"


class PostgresMissingError(Exception):
    """PostgreSQL cannot be run here; the sentence says why."""


def postgres_programs() -> Path:
    """Return the folder of the newest installed server's programs. Raises `PostgresMissingError`."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise PostgresMissingError("PostgreSQL is not installed (Debian: postgresql)")


def postgres_user() -> str | None:
    """Return who is to run the server: None for the present user. Raises `PostgresMissingError`."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise PostgresMissingError("root may not run PostgreSQL, and there is no user postgres to run it") from None


def has_postgres() -> bool:
    """Whether PostgreSQL can be run here."""
    try:
        postgres_programs()
        postgres_user()
    except PostgresMissingError:
        return False
    return True


class PostgresServer:
    """A server with data of its own. Root may not run one, so root runs it as the user `postgres`.

    Args:
        options: further options of `postgres`.

    Raises:
        PostgresMissingError: it is not installed, or there is no user to run it.
    """

    def __init__(self, options: str = "") -> None:
        self._bin, self._user = postgres_programs(), postgres_user()
        # A socket's path is bounded to about a hundred bytes, and the folders of drills lie deep.
        self._folder = Path(tempfile.mkdtemp(prefix="fivenines-sql-"))
        if self._user is not None:
            shutil.chown(self._folder, self._user, self._user)
        self._options = f"{_OPTIONS} {options} -k {self._folder}"
        self._numbers = count(1)
        self._run("initdb", "--locale=C", "--encoding=UTF8", "--auth=trust", "-U", "books", "--no-sync")

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql+psycopg://books@/{database}?host={self._folder}"

    def new_database(self) -> str:
        """Make an empty database, and return its URL."""
        from sqlalchemy import create_engine, text

        name = f"history_{next(self._numbers)}"
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._run("pg_ctl", "start", "-w", "-l", str(self._folder / "log"), "-o", self._options)

    def kill(self) -> None:
        """End it without time to tidy up, as if it was killed. Harmless when it does not run."""
        if (self._folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-w", "-m", "immediate", check=False)

    def discard(self) -> None:
        """Leave nothing behind."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        # The server outlives its starter and keeps its outputs, so they must not be a pipe that is read to its end.
        subprocess.run(
            [self._bin / program, *arguments, "-D", self._folder / "data"],
            check=check,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )

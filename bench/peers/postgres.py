"""A PostgreSQL cluster of its own for a benchmark, tuned as a team that knows it would tune it.

The cluster is made by `initdb` in the benchmark's folder, listens on a Unix socket only, and is gone afterwards. Root
may not run PostgreSQL, so that root runs it as the user `postgres`, which the Debian package makes.

Durability is what ours is held to as well: an acknowledged transaction is on disk (`fsync`, `synchronous_commit`).
Everything else is set for speed: see SETTINGS.
"""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, running
from fivenines.drill.postgres import PostgresMissingError, postgres_programs, postgres_user

__all__ = ["ACCOUNTS", "DATABASE", "SETTINGS", "Cluster", "postgres_cluster", "postgres_version"]

DATABASE = "postgres"
ACCOUNTS = 10_000
SCHEMA = Path(__file__).with_name("schema.sql")

SETTINGS: Mapping[str, str] = {
    # As durable as ours, and as safe against a torn page as a bank would want it: these are the defaults.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_sync_method": "fdatasync",
    "wal_compression": "lz4",
    # Everything fits into memory; no checkpoint, which would write pages beside the log, falls into a run.
    "shared_buffers": "1GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "wal_buffers": "64MB",
    "max_wal_size": "16GB",
    "min_wal_size": "2GB",
    "checkpoint_timeout": "1h",
    # No archive and no standby: less is written than a team could afford in production.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Plans for data in memory and queries that are the same each time.
    "random_page_cost": "1.1",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "max_connections": "100",
    "listen_addresses": "",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster."""

    socket_folder: Path
    user: str
    bin: Path

    @property
    def dsn(self) -> str:
        """Where asyncpg finds it."""
        return f"postgresql://{self.user}@/{DATABASE}?host={self.socket_folder}"

    def is_ready(self) -> bool:
        """Tell whether it takes connections."""
        argv: list[str | Path] = [self.bin / "pg_isready", "-q", "-h", self.socket_folder]
        return subprocess.run(argv, check=False).returncode == 0

    def run_sql(self, sql: str) -> str:
        """Run statements, each in its own transaction, and return what they print."""
        command: list[str | Path] = [self.bin / "psql", "-h", self.socket_folder, "-U", self.user, "-d", DATABASE]
        done = subprocess.run(
            [*command, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"psql failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def reset(self) -> None:
        """Start from empty books, with the pages written back, so that each run finds the same."""
        self.run_sql(
            f"""
            truncate transactions, accounts;
            insert into accounts (id, min_balance)
            select 'bench:' || lpad(i::text, 6, '0'), -1000000000000 from generate_series(1, {ACCOUNTS}) as i;
            vacuum analyze accounts;
            vacuum analyze transactions;
            checkpoint;
            """
        )

    def check(self) -> int:
        """Return the number of transactions in the books, once it is sure that they balance."""
        count, moved, credits, debits = self.run_sql(
            "select count(*), coalesce(sum(amount), 0), (select sum(credits) from accounts),"
            " (select sum(debits) from accounts) from transactions"
        ).split("|")
        if not moved == credits == debits:
            raise BenchError(f"the peer's books do not balance: {moved} moved, {credits} credited, {debits} debited")
        return int(count)


def installed() -> tuple[Path, str | None]:
    """Return where the server's programs are, and who is to run them. Raises `BenchError`."""
    try:
        return postgres_programs(), postgres_user()
    except PostgresMissingError as error:
        raise BenchError(str(error)) from error


def postgres_version() -> str:
    """Return the version of the server that would run, as in `postgres (PostgreSQL) 15.12`."""
    return subprocess.run(
        [installed()[0] / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()


@contextmanager
def postgres_cluster(work: Path) -> Iterator[Cluster]:
    """Run a cluster with the schema, and empty books of 10,000 accounts, for as long as the block lasts."""
    bin_folder, user = installed()
    data, log = work / "postgres", work / "postgres.log"
    # A socket's path is bounded to about a hundred bytes, and a checkout may lie deep.
    with tempfile.TemporaryDirectory(prefix="fivenines-bench-") as short:
        socket_folder = Path(short)
        data.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(data, user, user)
            shutil.chown(socket_folder, user, user)
        made = subprocess.run(
            [bin_folder / "initdb", "-D", data, "--locale=C", "--encoding=UTF8", "--auth=trust", "-U", "bench"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        if made.returncode:
            raise BenchError(f"initdb failed: {made.stderr.strip()}")
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        argv = [str(bin_folder / "postgres"), "-D", str(data), "-k", str(socket_folder), *options]
        cluster = Cluster(socket_folder, "bench", bin_folder)
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
        with running(argv, log=log, ready=cluster.is_ready, cwd=Path("/"), user=user, stop_signal=signal.SIGINT):
            cluster.run_sql(SCHEMA.read_text(encoding="utf-8"))
            cluster.reset()
            yield cluster

"""The peer of `make bench-failover`, for real: what a good client of it does, and that it starts and leaves nothing."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bench.failover.load import ACCOUNTS, DEADLINE_S, account
from bench.failover.peer import Patroni, why_no_peer
from bench.failover.senders import Database, GaveUpError
from bench.peers.postgres import SCHEMA
from bench.processes import BenchError, work_folder
from fivenines.drill.postgres import PostgresServer, has_postgres
from fivenines.ids import new_id
from fivenines.platform.local.isolation import why_not
from tests.e2e.platforms import left_of

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build"

KILLED = """
import os, signal, sys
from pathlib import Path
from bench.failover.peer import Patroni
from bench.failover.sweeping import swept
folder, network = Path(sys.argv[1]), int(sys.argv[2])
with swept(folder, [network]):
    Patroni(folder, network=network)._network.make()
    (folder / "made").touch()
    print(*sorted(each.name for each in Path("/var/run/netns").glob(f"fn{network}-*")), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""A benchmark that makes its networks, and is killed."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL that may be killed."""
    if not has_postgres():
        pytest.skip("PostgreSQL is not installed: Debian has it in the package postgresql")
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.discard()


def with_books(server: PostgresServer) -> str:
    """Make a database with the peer's schema, and return where it is."""
    dsn = server.new_database().replace("+psycopg", "")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.read_text().encode())
        connection.execute(
            "insert into accounts (id, min_balance) select unnest(%s::text[]), -1000000",
            ([account(number) for number in range(ACCOUNTS)],),
        )
    return dsn


def test_a_transfer_outlives_a_crash_of_the_database_and_is_done_once(server: PostgresServer) -> None:
    dsn = with_books(server)

    async def check() -> list[bool]:
        database = Database(dsn)
        try:
            deadline = time.monotonic() + DEADLINE_S
            ids = [new_id() for _ in range(3)]
            told = [await database.transfer(ids[0], account(0), account(1), 5, deadline=deadline)]
            await asyncio.to_thread(server.kill)
            waiting = asyncio.create_task(database.transfer(ids[1], account(0), account(1), 7, deadline=deadline))
            await asyncio.to_thread(server.start)
            told.append(await waiting)
            told.append(await database.transfer(ids[0], account(0), account(1), 5, deadline=deadline))
            return told
        finally:
            await database.close()

    assert asyncio.run(check()) == [False, True, False]
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select credits from accounts where id = %s", (account(1),)).fetchone() == (12,)


def test_a_client_gives_up_at_its_deadline_and_at_once_when_it_is_refused(server: PostgresServer) -> None:
    dsn = with_books(server)

    async def why(id: str, seconds: float) -> str:
        database = Database(dsn)
        try:
            with pytest.raises(GaveUpError) as error:
                await database.transfer(id, account(0), account(1), 5, deadline=time.monotonic() + seconds)
            return str(error.value)
        finally:
            await database.close()

    assert "PostgreSQL refuses" in asyncio.run(why("no uuid", DEADLINE_S))
    server.kill()
    assert "no answer by the deadline" in asyncio.run(why(new_id(), 0.5))


def test_the_peer_starts_takes_a_transfer_and_leaves_nothing_behind() -> None:
    if (reason := why_no_peer()) is not None:
        pytest.skip(reason)
    network, id = 200 + os.getpid() % 50, new_id()

    async def check(folder: Path) -> set[bytes]:
        peer = Patroni(folder, network=network)
        try:
            await peer.start()
            database = Database(peer.plan(rate_per_s=1.0).dsn)
            try:
                await database.transfer(id, account(0), account(1), 5, deadline=time.monotonic() + DEADLINE_S)
            finally:
                await database.close()
            with pytest.raises(BenchError, match="node_killed is no fault of the peer"):
                await peer.hit("node_killed")
            return await peer.ids()
        finally:
            await peer.discard()

    with work_folder(BUILD) as work:
        assert asyncio.run(check(work / "peer")) == {bytes.fromhex(id.replace("-", ""))}
        assert not left_of(work)
    assert not list(Path("/var/run/netns").glob(f"fn{network}-*"))
    assert not Path(f"/sys/class/net/fn{network}").exists()


def test_what_a_killed_benchmark_made_is_taken_away(tmp_path: Path) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    network, folder = 150 + os.getpid() % 50, tmp_path / "work"
    folder.mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(network)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert killed.stdout.split() == [f"fn{network}-r{number}" for number in (1, 2, 3)], killed.stderr
    until = time.monotonic() + 60
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()
    assert not list(Path("/var/run/netns").glob(f"fn{network}-*"))
    assert not Path(f"/sys/class/net/fn{network}").exists()

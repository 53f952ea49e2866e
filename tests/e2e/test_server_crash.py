"""A real server, killed at random moments under load: what it acknowledged is there, once, and nothing else is.

The moments come from a seed, which is part of what a failure prints.
"""

import random
import time
from pathlib import Path

import pytest

from tests.e2e.ledger_load import Load
from tests.e2e.serving import Server, start_and_kill

pytestmark = pytest.mark.crash

KILLS = 25


def kill_again_and_again(directory: Path, seed: int, kills: int, *options: str) -> Load:
    """Kill a server under load, start it again on the same folder, check its books, and again."""
    chance = random.Random(seed)
    load = Load(seed)
    asked_again = 0
    with Server(directory, *options) as server:
        load.open_accounts(server.port)
    for number in range(kills):
        if chance.random() < 0.25:
            # Not even up yet: while it reads its snapshot and its journal.
            start_and_kill(directory, chance.uniform(0, 0.6), *options)
        with Server(directory, *options) as server:
            asked_again += load.ask_again(server.port)
            load.check(server.port)
            with load.running(server.port):
                time.sleep(chance.uniform(0, 0.12))
                server.kill()
            assert "Traceback" not in server.log, (seed, number, server.log)
    with Server(directory, *options) as server:
        asked_again += load.ask_again(server.port)
        load.check(server.port, sample=200)
        assert server.stop() == 0
    with Server(directory, *options) as server:
        load.check(server.port, sample=200)
    outcomes = {item.outcome for item in load.items}
    assert {"posted", "held", "settled", "insufficient_funds"} <= outcomes, outcomes
    assert load.refusals == []
    assert asked_again > 0, "no kill ever came between a request and its answer"
    return load


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_nothing_acknowledged_is_lost_or_doubled(
    tmp_path: Path, crash_factor: int, seed: int
) -> None:
    load = kill_again_and_again(tmp_path / "data", seed, KILLS * crash_factor)
    assert all(item.outcome for item in load.items)


def test_killed_while_snapshots_are_written_nothing_is_lost_or_doubled(tmp_path: Path, crash_factor: int) -> None:
    kill_again_and_again(tmp_path / "data", 3, KILLS * crash_factor, "--snapshot-every", "40")
    assert '"event": "snapshot.written"' in (tmp_path / "data.log").read_text()


def test_the_check_notices_what_is_lost_or_doubled(tmp_path: Path) -> None:
    """An alarm that cannot ring proves nothing."""
    load = Load(5)
    with Server(tmp_path / "data") as server:
        load.open_accounts(server.port)
        with load.running(server.port) as stop:
            time.sleep(0.2)
            stop()
        load.check(server.port)
        moved = next(item for item in load.items if item.outcome == "posted")
        load.items.append(moved)
        with pytest.raises(AssertionError):
            load.check(server.port)
        load.items = [item for item in load.items if item is not moved]
        with pytest.raises(AssertionError):
            load.check(server.port)


def test_a_successor_starts_while_the_orphan_of_a_killed_server_still_writes_its_snapshot(
    tmp_path: Path, crash_factor: int
) -> None:
    """The forked child keeps neither the journal's lock nor the port, and what it leaves harms nobody."""
    directory = tmp_path / "data"
    load = Load(4, accounts_count=3)
    port = "0"
    for _ in range(5 * crash_factor):
        with Server(directory, "--snapshot-every", "1", "--port", port) as server:
            port = str(server.port)
            load.open_accounts(server.port)
            load.ask_again(server.port)
            with load.running(server.port):
                time.sleep(0.1)
                server.kill()
    with Server(directory) as server:
        load.ask_again(server.port)
        load.check(server.port, sample=100)
        assert not list(directory.glob("*.draft"))

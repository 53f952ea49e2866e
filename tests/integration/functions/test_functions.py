"""Functions on events in real processes: at least once, in order, from none to many and back to none."""

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from fivenines.ids import new_id
from tests.e2e.serving import Api, run_server
from tests.integration.feed.feeding import Child, all_events, check_order, stepping, until

MODULE = str(Path(__file__).with_name("recording.py"))
EXAMPLE = str(Path(__file__).resolve().parents[3] / "examples" / "low_balance.py")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A ledger that the tests share; each begins where the one before ended."""
    with run_server(tmp_path_factory.mktemp("ledger") / "data") as api:
        yield api


class Functions:
    """The functions of `recording`, run in a folder."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.start = api.position
        self.accounts = [api.account(prefix="functions") for _ in range(6)]

    def run(self, *options: str) -> Child:
        """Start a runner."""
        return run_module(self.folder, self.api, MODULE, "--after", str(self.start), "--retry-s", "0.02", *options)

    def command(self, *words: str) -> dict[str, Any]:
        """Run another command on the folder, and return what it says."""
        command = [sys.executable, "-m", "fivenines", "functions", *words, "--data", str(self.folder / "f"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def move(self, source: int, destination: int, reference: str = "") -> str:
        """Post a transaction between two of the accounts, and return its id."""
        fields = {"reference": reference} if reference else {}
        answer = self.api.move(self.accounts[source], self.accounts[destination], 1, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def lines(self, what: str = "", function: str = "record") -> list[dict[str, Any]]:
        """Return what was written down."""
        path = self.folder / "log.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["function"] == function and what in {"", line["what"]}]

    def done(self) -> list[str]:
        """Return the transactions that were done, in that order."""
        return [line["subject"] for line in self.lines("end")]

    def has_begun(self, count: int) -> bool:
        return len(self.lines("begin")) >= count

    def go(self, name: str = "go") -> None:
        """Let go on what waits for it."""
        (self.folder / name).touch()


def run_module(folder: Path, api: Api, module: str, *options: str) -> Child:
    environment = os.environ | {
        "RECORDING_FOLDER": str(folder),
        "FIVENINES_URL": api.server.url,
        "LOW_BALANCE_DB": str(folder / "low.sqlite"),
        "LOW_BALANCE_LIMIT": "100",
    }
    command = ["-m", "fivenines", "functions", "run", module, "--data", str(folder / "f"), "--json", *options]
    return Child(folder / "runner.log", *command, environment=environment)


def children_of(pid: int) -> set[int]:
    """Return the processes that a process started and that run."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found.update(map(int, path.read_text().split()))
    return found


@pytest.fixture
def functions(api: Api, tmp_path: Path) -> Functions:
    return Functions(api, tmp_path)


def test_each_function_gets_the_events_that_it_wants_in_their_order(functions: Functions) -> None:
    with functions.run() as runner:
        assert runner.ready == {"event": "ready", "functions": ["odd", "record"]}
        ids = [functions.move(number % 3, 3 + number % 2) for number in range(20)]
        odd = functions.move(0, 1, "odd")
        functions.api.move(functions.api.account(), functions.api.account(), 1)
        until(lambda: functions.lines("end", "odd") and len(functions.done()) == 21)
        assert runner.stop() == 0
    assert [line["subject"] for line in functions.lines("end", "odd")] == [odd]
    assert sorted(functions.done()) == sorted([*ids, odd])
    told = [event for event in all_events(functions.api.server.url, functions.start) if event["subject"] in {*ids, odd}]
    check_order(told, [event for id in functions.done() for event in told if event["subject"] == id])
    places = {line["event"]: line["place"] for line in functions.lines("end")}
    assert all(event["id"] == "{}-{}".format(*places[event["id"]]) for event in told)


def test_it_scales_to_its_bound_and_back_to_none(functions: Functions) -> None:
    with functions.run("--max-processes", "3", "--idle-s", "0.2") as runner:
        assert children_of(runner.process.pid) == set()
        ids = [functions.move(2 * number, 2 * number + 1, "hold") for number in range(3)]
        more = [functions.move(number % 6, (number + 1) % 6, "hold") for number in range(6)]
        until(lambda: len({line["process"] for line in functions.lines("begin")}) == 3)
        assert len(children_of(runner.process.pid)) == 3
        functions.go()
        until(lambda: len(functions.done()) == len(ids + more))
        until(lambda: children_of(runner.process.pid) == set())
        # And from none again.
        again = functions.move(0, 1)
        until(lambda: again in functions.done())
    running: set[int] = set()
    for line in functions.lines():
        (running.add if line["what"] == "begin" else running.remove)(line["process"])
        assert len(running) <= 3
    assert functions.done()[:9] != []
    assert set(functions.done()) == {*ids, *more, again}


@pytest.mark.crash
def test_a_runner_that_is_killed_again_and_again_skips_nothing(functions: Functions, crash_factor: int) -> None:
    chance = random.Random(5)
    is_over = threading.Event()
    sent: list[str] = []

    def load() -> None:
        while not is_over.is_set():
            if len(sent) < len(functions.done()) + 100:
                source, destination = chance.sample(range(6), 2)
                sent.append(functions.move(source, destination))
            is_over.wait(0.02)

    killing = random.Random(6)
    with functions.run():
        pass
    with stepping(load):
        try:
            for _ in range(10 * crash_factor):
                enough = len(functions.lines("begin")) + killing.choice([0, 1, 5, 30])
                with functions.run():
                    until(partial(functions.has_begun, enough))
        finally:
            is_over.set()
    with functions.run() as runner:
        until(lambda: set(functions.done()) >= set(sent))
        assert runner.stop() == 0
    told = all_events(functions.api.server.url, functions.start)
    assert [event["subject"] for event in told] == sent
    by_id = {event["id"]: event for event in told}
    check_order(told, [by_id[line["event"]] for line in functions.lines("end")])
    check_order(told, [by_id[line["event"]] for line in functions.lines("begin")])
    check_no_overlap(functions.lines())


def check_no_overlap(lines: list[dict[str, Any]]) -> None:
    """Check that no two events of one account were under way together, even of two runners of which one was killed."""
    # An orphan may see that its runner is gone before it ends itself; else each runner comes after the one before.
    turns = [runner for runner, _ in groupby(line["runner"] for line in lines if line["runner"] != 1)]
    assert len(turns) == len(set(turns))
    under_way: dict[str, tuple[str, int]] = {}
    for line in lines:
        call = line["event"], line["process"]
        for account in line["accounts"]:
            if line["what"] == "begin":
                assert under_way.get(account, ("", 0))[1] != line["process"], line
                under_way[account] = call
            else:
                assert under_way.pop(account) == call, line


def test_what_fails_is_tried_again_given_up_and_replayed(functions: Functions) -> None:
    with functions.run("--tries", "3") as runner:
        bad = [functions.move(0, 1, "fail"), functions.move(1, 2, "fail")]
        good = functions.move(2, 3)
        # The good one is behind the bad ones, until those are given up.
        until(lambda: functions.done() == [good])
        assert [line["attempt"] for line in functions.lines("begin")][:6] == [1, 2, 3, 1, 2, 3]
        until(lambda: functions.command("dead-letters")["count"] == 2)
        letters = functions.command("dead-letters", "record")["dead_letters"]
        assert [letter["event"]["subject"] for letter in letters] == bad
        assert {letter["reason"] for letter in letters} == {"RuntimeError: as the reference says"}
        functions.go("mended")
        assert functions.command("replay", "record", letters[1]["event"]["id"]) == {"replayed": 1}
        until(lambda: functions.done() == [good, bad[1]])
        assert functions.command("replay", "record") == {"replayed": 1}
        until(lambda: functions.done() == [good, bad[1], bad[0]])
        until(lambda: functions.command("dead-letters")["count"] == 0)
        assert runner.stop() == 0
    assert [line["is_replay"] for line in functions.lines("end")] == [False, True, True]


def test_one_that_hangs_and_one_whose_process_ends_are_tried_again(functions: Functions) -> None:
    with functions.run("--timeout-s", "1") as runner:
        ids = [functions.move(0, 1, "exit"), functions.move(1, 2, "hang"), functions.move(2, 3)]
        until(lambda: functions.done() == ids)
        begun = [(line["subject"], line["attempt"]) for line in functions.lines("begin")]
        assert begun == [(ids[0], 1), (ids[0], 2), (ids[1], 1), (ids[1], 2), (ids[2], 1)]
        assert runner.stop() == 0
    log = runner.log_path.read_text()
    assert "its process ended with status 3" in log
    assert "it took longer than 1 s" in log


def test_a_stop_lets_functions_finish(functions: Functions) -> None:
    with functions.run() as runner:
        id = functions.move(0, 1, "hold")
        until(partial(functions.has_begun, 1))
        runner.process.terminate()
        functions.go()
        assert runner.stop() == 0
    assert functions.done() == [id]
    with functions.run() as runner:
        later = functions.move(0, 1)
        until(lambda: later in functions.done())
    # What was finished while stopping was written down.
    assert functions.done() == [id, later]


def test_a_function_ends_with_a_runner_that_is_killed(functions: Functions) -> None:
    with functions.run("--max-processes", "2") as runner:
        ids = [functions.move(0, 1, "hold"), functions.move(2, 3, "hold")]
        until(partial(functions.has_begun, 2))
        runner.kill()
    # The next one has the folder only when no function of the one before is left, though both wait for ever.
    with functions.run("--max-processes", "2") as runner:
        until(partial(functions.has_begun, 4))
        functions.go()
        until(lambda: set(functions.done()) == set(ids))
        assert runner.stop() == 0
    check_no_overlap(functions.lines())
    assert len(functions.done()) == 2


def test_one_folder_has_one_runner(functions: Functions) -> None:
    with functions.run():
        command = [sys.executable, "-m", "fivenines", "functions", "run", MODULE, "--data", str(functions.folder / "f")]
        environment = os.environ | {"RECORDING_FOLDER": str(functions.folder)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "another runner uses" in done.stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "has no function that is decorated"),
        ("raise OSError('no luck')", "OSError: no luck"),
        ("import fivenines\n@fivenines.on('transaction.past')\ndef f(event, context): ...", "is no type of event"),
        ("import fivenines\nfivenines.on('transaction.posted', where={'asset': 'EUR/2'})", "no condition asset"),
    ],
)
def test_a_module_that_cannot_be_run_is_refused_with_the_reason(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "wrong.py").write_text(source)
    command = ["functions", "run", str(tmp_path / "wrong.py"), "--data", str(tmp_path / "f")]
    done = subprocess.run([sys.executable, "-m", "fivenines", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert reason in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_example_tells_each_fall_below_the_limit_once(api: Api, tmp_path: Path) -> None:
    start = api.position
    bank, alice, bob = api.account(prefix="bank"), api.account(prefix="customers"), api.account(prefix="customers")

    def move(source: str, destination: str, amount: int) -> str:
        answer = api.move(source, destination, amount, id=new_id())
        assert answer.status_code == 200
        return str(answer.headers["Ledger-Position"])

    def told() -> list[tuple[str, int]]:
        with sqlite3.connect(tmp_path / "low.sqlite") as database:
            found = database.execute("SELECT account, balance FROM notifications ORDER BY rowid").fetchall()
        database.close()
        return found

    def seen(account: str) -> str:
        with sqlite3.connect(tmp_path / "low.sqlite") as database:
            query = "SELECT position FROM seen WHERE account = ?"
            tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'seen'").fetchone()[0]
            row = database.execute(query, (account,)).fetchone() if tables else None
        database.close()
        return str(row[0]) if row else ""

    with run_module(tmp_path, api, EXAMPLE, "--after", str(start)):
        for source, destination, amount in [
            (bank, alice, 150),  # above
            (bank, bob, 500),
            (alice, bob, 60),  # alice falls to 90
            (alice, bank, 10),  # and further: not told again
            (bank, alice, 100),  # above
            (alice, bank, 100),  # 80: told again
        ]:
            position = move(source, destination, amount)
            account = alice if alice in {source, destination} else bob
            until(lambda account=account, position=position: seen(account) == position)  # type: ignore[misc]
        assert told() == [(alice, 90), (alice, 80)]
    # All of it once more, from another folder: nothing is told twice.
    (tmp_path / "f").rename(tmp_path / "before")
    with run_module(tmp_path, api, EXAMPLE, "--after", str(start)) as runner:
        last = move(bob, bank, 1)
        until(lambda: seen(bob) == last)
        assert runner.stop() == 0
    assert told() == [(alice, 90), (alice, 80)]

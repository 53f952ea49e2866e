"""The demo as a user runs it: a small bank, a whole platform or one process, real kills."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from defusedxml import ElementTree

from fivenines.drill.supervise import LedgerFailedError, LedgerProcess
from fivenines.platform.local.dying import dying_with_us
from tests.e2e.platforms import free_network, left_of, need_servers

pytestmark = pytest.mark.alone

COMMAND = (sys.executable, "-m", "fivenines.drill.demo")


def run_demo(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a demo to its end, with changes to the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "BOOKS"} | changes
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def pids_told(output: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"process (\d+)", output)]


def on_platform() -> list[str]:
    """What to tell a demo on a platform of its own."""
    need_servers()
    return ["--network", str(free_network())]


@pytest.mark.long
@pytest.mark.crash
@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nobody_notices_when_parts_of_a_platform_are_killed(
    tmp_path: Path, crash_factor: int
) -> None:
    kills = 3 * crash_factor
    # Slowly, so that all is whole again between two kills, on a machine that is busy with other things too.
    size = ["--transactions", str(2_000 * kills), "--kills", str(kills), "--rate", "12", "--seed", "7"]
    done = run_demo(*size, "--out", str(tmp_path), *on_platform())
    told = assert_good(done, tmp_path)
    assert told["kills"] == kills == len(told["recoveries_s"])
    assert told["failed_requests"] == 0
    events = told["events"]
    assert len(events) == kills
    assert [each["name"].split()[0] for each in events[:3]] == ["node", "the", "region"]
    assert "the journal's leader killed" in {each["name"] for each in events}
    assert all(each["failed_requests"] == 0 for each in events)
    assert all(each["whole_after_s"] > 0 and each["requests"] > 0 for each in events)
    assert all(each["longest_pause_s"] >= 0 and each["budget_s"] >= 0 for each in events)
    assert left_of(tmp_path) == ""


@pytest.mark.crash
def test_nothing_is_lost_when_the_one_process_is_killed_on_the_way(tmp_path: Path, crash_factor: int) -> None:
    kills = 3 * crash_factor
    size = ["--transactions", str(2_000 * kills), "--kills", str(kills), "--seed", "7"]
    done = run_demo("--embedded", *size, "--out", str(tmp_path))
    told = assert_good(done, tmp_path)
    assert told["kills"] == kills == len(told["recoveries_s"])
    assert all(count >= 1 for count in told["requests_cut_off_at_kills"])


def assert_good(done: "subprocess.CompletedProcess[str]", out: Path) -> dict[str, Any]:
    """Check what any demo has to come to, and return what it told."""
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads((out / "demo.json").read_text())
    assert told["failures"] == []
    assert told["acknowledged"] == told["transactions"] > 1_000
    assert (told["lost"], told["doubled"], told["mismatches"], told["failed_requests"]) == (0, 0, 0, 0)
    assert told["longest_pause_s"] > 0
    assert told["account_days_exact"] == told["checks"]["wrong_days"]["looked_at"]
    picture = ElementTree.fromstring((out / "demo.svg").read_text())
    assert "nothing lost" in "".join(picture.itertext())
    assert not [pid for pid in pids_told(done.stdout) if is_alive(pid)]
    return told


def test_books_that_contradict_themselves_are_told_and_are_no_fault_of_the_ledger(tmp_path: Path) -> None:
    books = tmp_path / "books"
    books.mkdir()
    header = "trans_id;account_id;date;type;operation;amount;balance;k_symbol;bank;account"
    rows = [
        "1;1;230101;PRIJEM;VKLAD;100.00;100.00;;;",
        "2;1;230102;PRIJEM;VKLAD;50.00;150.10;;;",
        "3;1;230103;PRIJEM;VKLAD;50.00;999.00;;;",
        "4;1;230104;PRIJEM;VKLAD;1.00;1000.00;;;",
    ]
    (books / "trans.csv").write_text("\n".join([header, *rows]) + "\n")
    done = run_demo("--embedded", "--kills", "0", "--out", str(tmp_path), BOOKS=str(books))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "demo.json").read_text())
    assert (told["account_days_exact"], told["account_days_rounded"], told["account_days_contradictory"]) == (2, 1, 1)
    assert told["mismatches"] == 0


def test_books_that_are_not_there_are_told_in_a_sentence(tmp_path: Path) -> None:
    done = run_demo("--books", str(tmp_path / "nowhere"), "--out", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("the demo failed: ")
    assert "Traceback" not in done.stdout + done.stderr


def test_a_machine_without_etcd_is_told_what_to_install(tmp_path: Path) -> None:
    done = run_demo("--transactions", "100", "--out", str(tmp_path), PATH=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    assert "the demo failed: etcd is not installed: on Debian and Ubuntu it is in the package etcd-server" in told
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("form", "number"), [("platform", signal.SIGINT), ("embedded", signal.SIGINT), ("embedded", signal.SIGTERM)]
)
def test_a_demo_that_is_stopped_leaves_no_process_behind(form: str, number: signal.Signals, tmp_path: Path) -> None:
    with begun(form, tmp_path) as demo:
        assert demo.stdout is not None
        told = ""
        for line in demo.stdout:
            told += line
            if "rows, up to" in line:
                demo.send_signal(number)
    assert demo.returncode == 130, told
    pids = pids_told(told)
    assert len(pids) == (6 if form == "platform" else 1)
    assert not [pid for pid in pids if is_alive(pid)]
    assert left_of(tmp_path) == ""


@pytest.mark.timeout(400)
@pytest.mark.skipif(not dying_with_us(), reason="needs setpriv, which Linux has")
@pytest.mark.parametrize("form", ["platform", "embedded"])
def test_a_demo_that_is_killed_leaves_no_process_behind(form: str, tmp_path: Path) -> None:
    with begun(form, tmp_path) as demo:
        assert demo.stdout is not None
        seen = ""
        for line in demo.stdout:
            if "rows, up to" in line and not seen:
                seen = left_of(tmp_path)
                demo.kill()
    assert demo.returncode == -signal.SIGKILL
    assert seen.count("fivenines serve") == (6 if form == "platform" else 1)
    assert seen.count("--data-dir ") == (3 if form == "platform" else 0)
    until = time.monotonic() + 60
    while left := left_of(tmp_path):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def begun(form: str, out: Path) -> "subprocess.Popen[str]":
    """Begin a demo that goes on for long enough to be ended on the way."""
    options = on_platform() if form == "platform" else ["--embedded"]
    command = [*COMMAND, "--transactions", "50000", "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def _start_kill_start(folder: Path) -> tuple[bool, int, str, str]:
    process = LedgerProcess(folder / "ledger", log=folder / "ledger.log")
    try:
        first = await process.start()
        process.kill()
        status = await process.wait()
        second = await process.start()
        await process.stop()
        return process.pid is None, status, first.url, second.url
    finally:
        await process.discard()


def test_a_killed_ledger_starts_again_at_the_same_address(tmp_path: Path) -> None:
    import asyncio

    is_gone, status, first, second = asyncio.run(_start_kill_start(tmp_path))
    assert is_gone
    assert status == -signal.SIGKILL
    assert first == second


def test_a_ledger_that_does_not_start_is_told_with_what_it_logged(tmp_path: Path) -> None:
    import asyncio

    (tmp_path / "ledger").write_text("a file where the folder should be")

    async def start() -> None:
        await LedgerProcess(tmp_path / "ledger", log=tmp_path / "ledger.log").start()

    with pytest.raises(LedgerFailedError, match="did not start"):
        asyncio.run(start())

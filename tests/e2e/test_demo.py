"""The demo as a user runs it: a small bank, a real ledger, real kills."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from defusedxml import ElementTree

from fivenines.drill.supervise import LedgerFailedError, LedgerProcess, dying_with_us
from tests.integration.etcd.clusters import need_etcd

COMMAND = (sys.executable, "-m", "fivenines.drill.demo")


def run_demo(*arguments: str, books: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "BOOKS"}
    if books is not None:
        environment["BOOKS"] = books
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def pids_told(output: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"process (\d+)", output)]


@pytest.mark.crash
@pytest.mark.parametrize("form", ["regions", "embedded"])
def test_nothing_is_lost_when_the_ledger_is_killed_on_the_way(form: str, tmp_path: Path, crash_factor: int) -> None:
    if form == "regions":
        need_etcd()
    count = 2 if form == "regions" else 3  # a region is away for a while, and the next kill waits for it
    transactions, kills = str(2_000 * count * crash_factor), str(count * crash_factor)
    options = ("--embedded",) if form == "embedded" else ()
    done = run_demo("--transactions", transactions, "--kills", kills, "--seed", "7", "--out", str(tmp_path), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "demo.json").read_text())
    assert told["failures"] == []
    assert told["acknowledged"] == told["transactions"] > 1_000
    assert (told["lost"], told["doubled"], told["mismatches"], told["failed_requests"]) == (0, 0, 0, 0)
    assert told["kills"] == count * crash_factor == len(told["recoveries_s"])
    assert all(count >= 1 for count in told["requests_cut_off_at_kills"])
    assert told["longest_pause_s"] > 0
    assert told["account_days_exact"] == told["checks"]["wrong_days"]["looked_at"]
    picture = ElementTree.fromstring((tmp_path / "demo.svg").read_text())
    assert "nothing lost" in "".join(picture.itertext())
    assert not [pid for pid in pids_told(done.stdout) if is_alive(pid)]


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
    done = run_demo("--embedded", "--kills", "0", "--out", str(tmp_path), books=str(books))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "demo.json").read_text())
    assert (told["account_days_exact"], told["account_days_rounded"], told["account_days_contradictory"]) == (2, 1, 1)
    assert told["mismatches"] == 0


def test_books_that_are_not_there_are_told_in_a_sentence(tmp_path: Path) -> None:
    done = run_demo("--books", str(tmp_path / "nowhere"), "--out", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("the demo failed: ")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_no_process_behind(number: signal.Signals, tmp_path: Path) -> None:
    need_etcd()
    command = [*COMMAND, "--transactions", "50000", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        told = ""
        for line in demo.stdout:
            told += line
            if "rows, up to" in line:
                demo.send_signal(number)
    assert demo.returncode == 130, told
    pids = pids_told(told)
    assert len(pids) == 3
    assert not [pid for pid in pids if is_alive(pid)]
    assert str(tmp_path) not in running(), "a member of etcd is left behind"


@pytest.mark.skipif(not dying_with_us(), reason="needs setpriv, which Linux has")
@pytest.mark.parametrize("form", ["regions", "embedded"])
def test_a_demo_that_is_killed_leaves_no_process_behind(form: str, tmp_path: Path) -> None:
    if form == "regions":
        need_etcd()
    options = ("--embedded",) if form == "embedded" else ()
    command = [*COMMAND, "--transactions", "50000", "--out", str(tmp_path), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        seen = ""
        for line in demo.stdout:
            if "rows, up to" in line and not seen:
                seen = running()
                demo.kill()
    assert demo.returncode == -signal.SIGKILL
    assert seen.count(f"--data {tmp_path}") == (3 if form == "regions" else 1)
    assert seen.count(f"--data-dir {tmp_path}") == (3 if form == "regions" else 0)
    until = time.monotonic() + 60
    while str(tmp_path) in (left := running()):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def running() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


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

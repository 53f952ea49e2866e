"""The command line as a user types it: each command in a process of its own, against a real server."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

import fivenines
from fivenines.cli.books import _show as show_report
from fivenines.importers import Report
from tests.e2e.serving import Api, Server, run_server


def run(*arguments: str | Path, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `fivenines` and check its exit status. The width is fixed so that output wraps the same everywhere."""
    done = subprocess.run(
        [sys.executable, "-m", "fivenines", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def run_json(*arguments: str | Path) -> Any:
    """Run with --json: stdout is one JSON object and nothing else."""
    return json.loads(run(*arguments, "--json").stdout)


COMMANDS = (
    ("serve",),
    ("import",),
    ("generate",),
    ("generate", "bank"),
    ("balance",),
    ("journal",),
    ("journal", "verify"),
    ("journal", "show"),
    ("journal", "found"),
    ("snapshot",),
    ("rules",),
    ("rules", "show"),
    ("rules", "activate"),
    ("bench",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_explains_itself(command: tuple[str, ...]) -> None:
    shown = run(*command, "--help").stdout
    assert "Usage:" in shown
    if command not in {("generate",), ("journal",), ("rules",)}:
        assert "Examples" in shown
        assert f"fivenines {' '.join(command)}" in shown


def test_every_command_is_listed() -> None:
    shown = run("--help").stdout
    assert all(command[0] in shown for command in COMMANDS)


def test_wrong_usage_is_exit_status_2() -> None:
    assert "No such command" in run("blance", status=2).stderr
    assert "--port" in run("serve", "--port", "70000", status=2).stderr


def test_optimized_python_is_refused() -> None:
    """Assertions are what stops a replica that has gone wrong."""
    assert "-O" in run("--version", status=1, PYTHONOPTIMIZE="1").stderr


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated bank of a few hundred transactions."""
    directory = tmp_path_factory.mktemp("bank")
    made = run_json("generate", "bank", "--customers", "20", "--days", "70", "--seed", "5", "--to", directory)
    assert made["transactions"] > 300
    return directory


def test_a_generated_bank_is_imported_once_and_its_balances_agree(bank: Path, tmp_path: Path) -> None:
    """The whole way of a newcomer: generate, serve, import twice, look, verify, snapshot."""
    with run_server(tmp_path / "data") as api:
        url = api.server.url
        first = run_json("import", "berka", bank, "--url", url)
        assert (first["is_good"], first["mismatched"], first["contradictory"]) == (True, 0, 0)
        assert first["new"] == first["rows"] > 300

        balances = run_json("balance", "--url", url)
        assert balances["sums"] == {"CZK/2": "0"}
        again = run_json("import", "berka", bank, "--url", url)
        assert (again["new"], again["repeated"]) == (0, first["new"])
        assert run_json("balance", "--url", url)["accounts"] == balances["accounts"]

        shown = run("balance", "berka:account:1", "berka:cash", "--url", url).stdout
        assert "berka:account:1" in shown
        by_id = {account["id"]: account for account in balances["accounts"]}
        assert _money(by_id["berka:cash"]["balance"]) in shown
        assert "as it must" in run("balance", "--url", url).stdout
        assert api.server.stop() == 0

    verdict = run_json("journal", "verify", "--data", tmp_path / "data")
    assert (verdict["is_sound"], verdict["damage"], verdict["tail"]) == (True, None, None)
    frames = [
        json.loads(line) for line in run("journal", "show", "--data", tmp_path / "data", "--json").stdout.splitlines()
    ]
    assert [frame["position"] for frame in frames] == list(range(1, verdict["last"] + 1))
    assert frames[-1]["digest"] == verdict["last_digest"]
    posted = [c for frame in frames for c in frame["commands"] if c["command"] in {"Post", "PostOne"}]
    assert len({command["id"] for command in posted}) == first["new"]

    state = run_json("snapshot", "--data", tmp_path / "data")
    assert state["position"] == verdict["last"]
    assert run_json("snapshot", "--data", tmp_path / "data")["digest"] == state["digest"]


def _money(minor: str) -> str:
    sign, digits = ("-" if minor.startswith("-") else ""), minor.lstrip("-").rjust(3, "0")
    return f"{sign}{int(digits[:-2]):,}.{digits[-2:]}"


def test_journal_show_prints_what_a_frame_carries(api: Api, tmp_path: Path) -> None:
    with run_server(tmp_path / "data") as served:
        alice, bob = served.account(prefix="alice"), served.account(prefix="bob")
        position = served.move(alice, bob, 1250, reference="invoice 7").json()["position"]
        data = served.server.directory
        shown = run("journal", "show", "--data", data, "--from", str(position), "--to", str(position)).stdout
        past = run("journal", "show", "--data", data, "--from", "50000", status=1).stderr
        turned = run("journal", "show", "--data", data, "--from", "5", "--to", "3", status=2).stderr
        verdict = run("journal", "verify", "--data", data).stdout
    assert f"{alice} -> {bob}: 1250" in shown
    assert "invoice 7" in shown
    assert "1 command  " in shown
    assert len(shown.splitlines()) == 2
    assert f"there is no frame 50,000: the journal ends at position {position}" in past
    assert "3 is before --from 5" in turned
    assert "in 1 segment, " in verdict


def test_an_import_that_is_interrupted_says_that_it_goes_on_and_does(bank: Path, tmp_path: Path) -> None:
    with run_server(tmp_path / "data") as served:
        arguments = ("import", "berka", bank, "--url", served.server.url)
        served.server.process.send_signal(signal.SIGSTOP)  # so that the import is surely not done yet
        importing = subprocess.Popen(
            [sys.executable, "-m", "fivenines", *map(str, arguments)], stderr=subprocess.PIPE, text=True
        )
        with importing:
            connections = Path(f"/proc/{importing.pid}/net/tcp")
            port = f":{served.server.port:04X} 01"
            while port not in connections.read_text():
                assert importing.poll() is None
            importing.send_signal(signal.SIGINT)
            _, told = importing.communicate(timeout=60)
        served.server.process.send_signal(signal.SIGCONT)
        assert importing.returncode == 130
        assert "goes on" in told
        assert "Traceback" not in told
        assert run_json(*arguments)["is_good"]


def test_differences_are_told_up_to_a_screen(bank: Path, capsys: pytest.CaptureFixture[str]) -> None:
    differences = [f"account {number}: must be 1" for number in range(1_000)]
    report = Report("berka", "import:berka:x", {}, new=1, mismatched=73_919, mismatches=differences)
    show_report(bank, report)
    shown = capsys.readouterr().out
    assert shown.count("must be 1") == 20
    assert "and 73,899 more" in shown


class Meddler(ThreadingHTTPServer):
    """Stands before a ledger, and moves money in it whenever a page of accounts was read, so many times."""

    def __init__(self, served: Api, times: int) -> None:
        super().__init__(("127.0.0.1", 0), _Meddling)
        self.served, self.times = served, times
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Meddling(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        meddler = self.server
        assert isinstance(meddler, Meddler)
        answer = meddler.served.get(self.path)
        if meddler.times:
            meddler.times -= 1
            assert meddler.served.move("m:1999", "m:0000", 5).status_code == 200
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Content-Length", "Ledger-Position"):
            self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_balances_of_different_moments_have_no_sum(tmp_path: Path) -> None:
    """More accounts than a page holds, in a ledger that moves from page to page: never a cry of wolf."""
    with run_server(tmp_path / "data") as served:
        served.asset()
        names = [f"m:{number:04}" for number in range(2_000)]
        opened = served.post("/v1/accounts", [{"id": n, "asset": "EUR/2", "min_balance": None} for n in names])
        assert {result["outcome"] for result in opened.json()} == {"done"}
        with Meddler(served, times=1) as once:
            shown = run("balance", "--url", once.url).stdout
        assert "sum of EUR: 0.00  as it must" in shown
        with Meddler(served, times=100) as always:
            shown = run("balance", "--url", always.url).stdout
            told = run_json("balance", "--url", always.url)
            some = run_json("balance", *names[:250], "--url", always.url)
        assert "was being written" in shown
        assert "sum of" not in shown
        for each in (told, some):
            assert each["sums"] is None
            assert each["position_first"] < each["position"]
        assert run_json("balance", "--url", served.server.url)["sums"] == {"EUR/2": "0"}


def test_names_are_printed_as_they_are_and_no_part_of_them_becomes_a_picture_or_a_style(
    bank: Path, tmp_path: Path
) -> None:
    """`:bank:` is a picture to a library for terminals, and `[bold]` a style; in a name they are neither."""
    folder = tmp_path / "[bold]:bank:"
    shutil.copytree(bank, folder)
    with run_server(tmp_path / "data") as served:
        url = served.server.url
        served.asset()
        names = ("mine:bank:AB", "shop:key:1", "a:fire:b")
        for name in names:
            opened = served.post("/v1/accounts", {"id": name, "asset": "EUR/2", "min_balance": None})
            assert opened.status_code == 200
        assert served.patch("/v1/accounts/a:fire:b", {"status": "frozen"}).status_code == 200
        served.move("mine:bank:AB", "shop:key:1", 7, reference="[red]:fire:[/]")
        shown = run("balance", *names, "--url", url).stdout
        assert [name for name in names if name not in shown] == []
        assert "a:fire:b (frozen)" in shown
        assert str(folder) in run("import", "berka", folder, "--url", url).stdout
        shown = run("journal", "show", "--data", served.server.directory).stdout
        assert "mine:bank:AB -> shop:key:1: 7" in shown
        assert "[red]:fire:[/]" in shown
        for absent in ("no:bank:one", r"a[bold]b", "a[/]b", r"a\[b]"):
            assert absent in run("balance", absent, "--url", url, status=1).stderr
    assert "[red]:key:, path" in run("import", "berka", tmp_path / "[red]:key:", status=1).stderr
    shutil.copytree(tmp_path / "data", folder / "data")
    assert str(folder) in run("snapshot", "--data", folder / "data").stdout


def test_a_long_journal_is_shown_with_a_bar_on_the_terminal_and_frames_in_the_file(tmp_path: Path) -> None:
    with run_server(tmp_path / "data") as served:
        account = served.account()
        for number in range(1_100):
            assert served.patch(f"/v1/accounts/{account}", {"metadata": {"n": number}}).status_code == 200
        assert served.server.stop() == 0
    ours, terminal = pty.openpty()
    told = b""
    with (
        (tmp_path / "frames").open("w") as frames,
        subprocess.Popen(
            [sys.executable, "-m", "fivenines", "journal", "show", "--data", tmp_path / "data", "--json"],
            stdout=frames,
            stderr=terminal,
            env=os.environ | {"COLUMNS": "120", "TERM": "xterm"},
        ) as showing,
    ):
        os.close(terminal)
        with contextlib.suppress(OSError):  # how a terminal says that its other side is closed
            while part := os.read(ours, 65536):
                told += part
    os.close(ours)
    assert showing.returncode == 0
    assert b"1000/" in told
    assert b"/s" in told
    shown = (tmp_path / "frames").read_text().splitlines()
    assert len(shown) >= 1_100
    assert json.loads(shown[-1])["position"] == len(shown)


def test_what_is_wrong_is_one_line_and_a_hint(tmp_path: Path, bank: Path) -> None:
    for arguments, reason in (
        (("journal", "verify", "--data", tmp_path), "there is no journal in"),
        (("journal", "show", "--data", tmp_path), "there is no journal in"),
        (("snapshot", "--data", tmp_path), "there is no journal in"),
        (("import", "berka", tmp_path / "absent", "--url", "http://127.0.0.1:9"), "absent"),
        (("import", "mt940", bank), "there is no importer 'mt940'"),
        (("generate", "bank", "--to", "/proc/nowhere"), "nowhere"),
    ):
        error = run(*arguments, status=1).stderr
        assert reason in error
        assert error.startswith("error: ")


def test_a_ledger_that_is_not_there_is_said_at_once_with_the_command_that_starts_one() -> None:
    error = run("balance", "--url", "http://127.0.0.1:9", status=1).stderr
    assert "127.0.0.1:9" in error
    assert "fivenines serve" in error


def test_an_account_that_is_not_there_is_named(api: Api) -> None:
    known = api.account()
    assert "nobody" in run("balance", known, "nobody", "--url", api.server.url, status=1).stderr


def test_a_second_server_on_the_same_folder_is_refused_and_told_the_first_ones_pid(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as first:
        error = run("serve", "--data", tmp_path / "data", "--port", "0", status=1).stderr
        assert str(first.process.pid) in error
        assert "another --data" in error
        error = run("snapshot", "--data", tmp_path / "data", status=1).stderr
        assert "by itself" in error


NOISE = """
import logging, threading, warnings
import structlog
from fivenines.cli.output import configure_logs

def fail():
    raise ValueError("no")

class Rude:
    def __del__(self):
        fail()

configure_logs(as_json=True)
structlog.get_logger("fivenines.node").info("node.serving", port=1)
logging.getLogger("uvicorn.error").warning("a request of %s", "noise")
try:
    fail()
except ValueError:
    logging.getLogger("asyncio").exception("a task failed")
warnings.warn("old")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
rude = Rude()
del rude
fail()
"""


def test_with_json_all_that_anybody_logs_is_json_tracebacks_included() -> None:
    done = subprocess.run([sys.executable, "-c", NOISE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(events) == 7
    assert events[1].items() >= {"event": "a request of noise", "logger": "uvicorn.error", "level": "warning"}.items()
    assert sum("ValueError: no" in event.get("exception", "") for event in events) == 4


def test_with_json_a_server_that_cannot_start_says_so_in_json(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as first:
        error = run("serve", "--data", tmp_path / "data", "--port", "0", "--json", status=1).stderr
    failed = [json.loads(line) for line in error.splitlines()][-1]
    assert failed["event"] == "failed"
    assert str(first.process.pid) in failed["reason"]
    assert "another --data" in failed["hint"]


def test_an_address_that_is_taken_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as first:
        error = run("serve", "--data", tmp_path / "other", "--port", str(first.port), status=1).stderr
    assert str(first.port) in error
    assert "--port" in error


def test_a_damaged_journal_is_refused_and_verify_names_the_same_place(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with run_server(data) as served:
        alice, bob = served.account(), served.account()
        for amount in range(1, 20):
            served.move(alice, bob, amount)
        assert served.server.stop() == 0
    (journal,) = data.glob("journal-*.log")
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 0x10
    journal.write_bytes(content)
    before = {path.name: path.read_bytes() for path in data.iterdir()}

    damage = json.loads(run("journal", "verify", "--data", data, "--json", status=1).stdout)["damage"]
    assert damage["file"] == str(journal)
    assert "damaged" in run("journal", "verify", "--data", data, status=1).stdout
    error = run("serve", "--data", data, "--port", "0", status=1).stderr.replace("\n", " ")
    assert journal.name in error
    assert str(damage["offset"]) in error.replace(",", "")
    assert str(damage["position"]) in error
    after = {path.name: path.read_bytes() for path in data.iterdir()}
    assert {name: content for name, content in after.items() if name != "journal.lock"} == {
        name: content for name, content in before.items() if name != "journal.lock"
    }


def test_bench_measures_a_ledger_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    figures = run_json("bench", "--on", tmp_path, "--seconds", "0.3")
    assert len(figures) == 3
    assert all(figure["per_s"] > 0 and figure["p50_ms"] <= figure["p99_ms"] for figure in figures.values())
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_told_without_a_command() -> None:
    assert run("--version").stdout == f"fivenines {fivenines.__version__}\n"

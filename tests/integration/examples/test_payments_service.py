"""The example service beside a real ledger: what it promises its payers, and the platform that runs it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fivenines.ids import new_id
from fivenines.platform.loading import load
from fivenines.platform.spec import Platform
from tests.e2e.serving import Server

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
START_S_MAX = 60.0


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ledger for all of them."""
    with Server(tmp_path_factory.mktemp("ledger") / "data") as server:
        yield server


def platform() -> Platform:
    """Return what the example's platform.yaml declares."""
    return load(EXAMPLES / "platform.yaml")


@contextmanager
def running(ledger: Server) -> Iterator[tuple["subprocess.Popen[bytes]", httpx.Client]]:
    """Run the service as an agent would: by its declared command, in its folder, told everything by the environment."""
    (service,) = platform().services
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {"HOST": "127.0.0.1", "PORT": str(port), "FIVENINES_URL": ledger.url, "FIVENINES_REGION": "eu-west"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FIVENINES_")}
    process = subprocess.Popen(
        [sys.executable if word == "{python}" else word for word in service.command],
        cwd=EXAMPLES / service.folder,
        env=kept | told | {"FIVENINES_NAME": "eu-west-payments-1"},
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
            wait_until_started(http, process, str(service.probes.startup.path))
            yield process, http
    finally:
        process.kill()
        process.wait()


def wait_until_started(http: httpx.Client, process: "subprocess.Popen[bytes]", path: str) -> None:
    """Ask its startup probe until it answers. Raises AssertionError when the process ends or takes too long."""
    until = time.monotonic() + START_S_MAX
    while True:
        assert process.poll() is None, f"ended with status {process.returncode}"
        assert time.monotonic() < until, "does not start"
        try:
            if http.get(path).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)


def payment(to: str, amount: Any = 1_250, **fields: Any) -> dict[str, Any]:
    """Return a payment with an id of its own."""
    return {"id": str(new_id()), "to": to, "amount": amount, **fields}


def test_a_payment_is_paid_once_however_often_it_comes(ledger: Server) -> None:
    with running(ledger) as (_, http):
        paid = payment("customers:alice")
        answers = [http.post("/pay", json=paid) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201] * 3
        assert answers[0].json() == {
            "id": paid["id"],
            "outcome": answers[0].json()["outcome"],
            "balance": 1_250,
            "by": "eu-west-payments-1",
        }
        assert {answer.json()["balance"] for answer in answers} == {1_250}
        # Another process knows of it, too: nothing is kept in this one.
    with running(ledger) as (_, http):
        assert http.post("/pay", json=paid).json()["balance"] == 1_250


def test_what_cannot_be_paid_is_refused_and_says_why(ledger: Server) -> None:
    with running(ledger) as (_, http):
        poor = http.post("/pay", json=payment("customers:carol", 100, **{"from": "customers:bob"}))
        assert (poor.status_code, poor.json()["outcome"]) == (409, "insufficient_funds")
        bad: list[Any] = [{"to": "customers:alice", "amount": 1}, [], "x", payment("customers:alice", "much")]
        bad += [payment("no such account!"), payment("customers:alice", 0), payment("customers:alice") | {"id": "x"}]
        statuses = [http.post("/pay", json=body).status_code for body in bad]
        assert all(status in {409, 422} for status in statuses), statuses
        assert http.post("/pay", content=b"{").status_code == 422
        assert http.get("/live").status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="what is in flight is seen in /proc")
def test_on_sigterm_it_finishes_what_is_in_flight_and_ends(ledger: Server) -> None:
    with running(ledger) as (process, http):
        assert http.post("/pay", json=payment("customers:dora")).status_code == 201
        answers: list[httpx.Response] = []
        ledger.process.send_signal(signal.SIGSTOP)
        try:
            payer = threading.Thread(target=lambda: answers.append(http.post("/pay", json=payment("customers:dora"))))
            payer.start()
            # The payment waits for the ledger now: what came after it on another connection is answered.
            with httpx.Client(base_url=http.base_url, trust_env=False) as other:
                wait_until_in_flight(process.pid, ledger.port)
                assert other.get("/ready").json() == {"status": "ready", "region": "eu-west"}
            process.send_signal(signal.SIGTERM)
        finally:
            ledger.process.send_signal(signal.SIGCONT)
        payer.join(timeout=30)
        assert [answer.status_code for answer in answers] == [201]
        assert answers[0].json()["balance"] == 2_500
        assert process.wait(timeout=30) in {0, -signal.SIGTERM}


def wait_until_in_flight(pid: int, port: int) -> None:
    """Wait until a process has sent something that a stopped server has not read. Raises AssertionError."""
    until = time.monotonic() + START_S_MAX
    wanted = f":{port:04X}"
    while True:
        assert time.monotonic() < until, "nothing is in flight"
        rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        if any(row[1].endswith(wanted) and int(row[4].partition(":")[2], 16) > 0 and row[3] == "01" for row in rows):
            return
        time.sleep(0.02)

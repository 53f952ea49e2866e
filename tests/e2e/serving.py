"""A real `fivenines serve` for tests: its own process, its own folder, a free port, and nothing left behind."""

import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from fivenines.ids import new_id

__all__ = ["Api", "Killable", "Server", "ServerStartError", "raw_exchange", "run_server", "start_and_kill"]

_START_S_MAX = 60
_STOP_S_MAX = 60


class ServerStartError(Exception):
    """The server did not get ready; `log` is what it said."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log


class Killable:
    """A process that says on stdout when it is ready, and that is ended by us."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self.process.kill()
        self._wait()

    def stop(self) -> int:
        """End it with SIGTERM, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        status = self.process.wait(timeout=_STOP_S_MAX)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        else:
            self._wait()


class Server(Killable):
    """A running server. Its log is in `<directory>.log`, beside its data."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.log_path = directory.with_name(directory.name + ".log")
        self.process = _spawn(directory, self.log_path, options)
        self.ready = self._wait_ready()
        self.url: str = self.ready["url"]
        self.port = int(self.url.rpartition(":")[2])

    def _wait_ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        watchdog = threading.Timer(_START_S_MAX, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        if not line:
            self.process.wait()
            self.process.stdout.close()
            raise ServerStartError(self.log_path.read_text())
        ready: dict[str, Any] = json.loads(line)
        assert ready["event"] == "ready", ready
        return ready

    @property
    def log(self) -> str:
        """What the server wrote to stderr, over all of its starts."""
        return self.log_path.read_text()


def start_and_kill(directory: Path, after_s: float, *options: str) -> None:
    """Start a server and kill it so soon that it may not be ready yet."""
    process = _spawn(directory, directory.with_name(directory.name + ".log"), options)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _spawn(directory: Path, log_path: Path, options: Sequence[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "fivenines", "serve", "--data", str(directory), "--port", "0", "--json"]
    with log_path.open("ab") as log:
        return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=log, start_new_session=True)


@contextlib.contextmanager
def run_server(directory: Path, *options: str) -> Iterator["Api"]:
    """Run a server for a `with` block, and give an `Api` for it."""
    with Server(directory, *options) as server, Api(server) as api:
        yield api


class Api:
    """Plain HTTP to a server, with what every answer must have checked at each."""

    _numbers = itertools.count(1)

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Make a request; every answer names the position that it shows."""
        response = self.http.request(method, path, **options)
        assert response.headers["Ledger-Position"].isdigit(), (method, path, response.headers)
        if response.status_code >= 400:
            check_problem(response)
        return response

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.request("POST", path, json=body, **options)

    def patch(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.request("PATCH", path, json=body, **options)

    def asset(self, name: str = "EUR/2") -> str:
        response = self.post("/v1/assets", {"asset": name})
        assert response.status_code == 200, response.text
        return name

    def account(self, asset: str = "EUR/2", prefix: str = "a", **fields: Any) -> str:
        """Open an account that no other test has, and return its id. It may overdraw unless told otherwise."""
        self.asset(asset)
        account = f"{prefix}:{next(self._numbers)}"
        response = self.post("/v1/accounts", {"id": account, "asset": asset, "min_balance": None, **fields})
        assert response.status_code == 200, response.text
        return account

    def move(self, source: str, destination: str, amount: int | str, **fields: Any) -> httpx.Response:
        """Post one transaction of one posting, with an id unless `fields` has one."""
        posting = {"source": source, "destination": destination, "amount": amount}
        return self.post("/v1/transactions", {"id": new_id(), "postings": [posting], **fields})

    def balance(self, account: str) -> int:
        return int(self.get(f"/v1/accounts/{account}").json()["balance"])

    def history(self, account: str, limit: int = 1_000) -> list[dict[str, Any]]:
        """Read all pages of an account's history."""
        found: list[dict[str, Any]] = []
        before: int | None = 2**62
        while before is not None:
            page = self.get(f"/v1/accounts/{account}/history?before={before}&limit={limit}").json()
            found += page["transactions"]
            before = page["next"]
        return found

    @property
    def position(self) -> int:
        return int(self.get("/live").headers["Ledger-Position"])


def check_problem(response: httpx.Response) -> None:
    """Any answer from 400 on is a problem that says what it is."""
    assert response.headers["Content-Type"] == "application/problem+json", (response.status_code, response.text)
    if response.request.method == "HEAD":
        return
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"].startswith("/problems/")
    assert problem["title"]


def raw_exchange(port: int, *parts: bytes, pause_s: float = 0, shut: bool = False) -> bytes:
    """Send bytes as they are and return all that comes back until the server closes, or a second passes in silence."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
            if shut:
                connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
        return answer

"""What the tests of the feed share: a receiver of webhooks, a deliverer that can be killed, and what must hold."""

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx

from fivenines.historian.feed import signing
from fivenines.ids import new_ids
from tests.e2e.serving import Api, Killable

__all__ = [
    "SECRET",
    "Child",
    "Got",
    "Receiver",
    "accounts_in",
    "all_events",
    "check_order",
    "mixed",
    "move_many",
    "open_accounts",
    "shown",
    "stepping",
    "subscribe",
    "until",
]

SECRET = b"a secret of more than sixteen bytes"
_DELIVERER = Path(__file__).with_name("deliverer.py")
_WAIT_S_MAX = 60

Got = dict[str, Any]


class Receiver:
    """A real HTTP server that keeps what it took, and checks who sent it.

    Args:
        judge: says what to answer to an event; 0 holds the answer back until `release` is set.
    """

    def __init__(self, judge: Callable[[Got], int] = lambda _event: 200) -> None:
        self.judge = judge
        self.taken: list[Got] = []
        """Events that were answered with 200, in the order of the answers."""
        self.asked: list[tuple[str, int]] = []
        """Ids of all events that came, and what was answered."""
        self.under_way: dict[str, int] = {}
        self.overlaps: list[str] = []
        """Accounts of which two events were here at the same time."""
        self.unsigned = 0
        self.release = threading.Event()
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.receive(dict(self.headers), body)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    if status == 503:
                        self.send_header("Retry-After", "0")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                pass  # a deliverer that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def receive(self, headers: Mapping[str, str], body: bytes) -> int:
        """Take an event, or not."""
        told = {name.lower(): value for name, value in headers.items()}
        event = json.loads(body)
        is_signed = signing.is_signed(
            SECRET,
            id=told["webhook-id"],
            timestamp=told["webhook-timestamp"],
            signature=told["webhook-signature"],
            body=body,
            now_s=time.time(),
        )
        with self.lock:
            self.unsigned += not is_signed or told["webhook-id"] != event["id"]
            for account in accounts_in(event):
                self.under_way[account] = self.under_way.get(account, 0) + 1
                if self.under_way[account] > 1:
                    self.overlaps.append(account)
        status = self.judge(event)
        if status == 0:
            self.release.wait(_WAIT_S_MAX)
            status = 200
        with self.lock:
            for account in accounts_in(event):
                self.under_way[account] -= 1
            self.asked.append((event["id"], status))
            if status == 200:
                self.taken.append(event)
        return status

    def was_asked(self, times: int) -> bool:
        return len(self.asked) >= times

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Child(Killable):
    """A process that says when it is ready, and may be killed."""

    def __init__(self, log: Path, *command: str, environment: dict[str, str] | None = None) -> None:
        self.log_path = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command], stdout=subprocess.PIPE, stderr=file, env=environment, start_new_session=True
            )
        assert self.process.stdout is not None
        watchdog = threading.Timer(_WAIT_S_MAX, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        self.ready: dict[str, Any] = json.loads(line) if line else {}
        if not line:
            self.kill()
            raise AssertionError(log.read_text())

    @classmethod
    def deliverer(
        cls,
        folder: Path,
        *events: str,
        database: str = "",
        owner: str = "deliverer",
        tries: int = 1_000,
        timeout_s: float = 30,
        waiting_max: int = 10_000,
    ) -> "Child":
        """Start one that delivers the webhooks of a database, one in a folder unless told otherwise."""
        (folder / "secrets").mkdir(parents=True, exist_ok=True)
        (folder / "secrets" / "test").write_bytes(SECRET)
        options = {
            "folder": str(folder),
            "events": events,
            "database": database or f"sqlite:///{folder / 'feed.sqlite'}",
            "owner": owner,
            "tries": tries,
            "timeout_s": timeout_s,
            "waiting_max": waiting_max,
        }
        return cls(folder / f"{owner}.log", str(_DELIVERER), json.dumps(options))

    @property
    def url(self) -> str:
        return str(self.ready["url"])


def open_accounts(api: Api, count: int, prefix: str = "customers") -> list[str]:
    """Open accounts that may overdraw."""
    return [api.account(prefix=prefix) for _ in range(count)]


def move_many(api: Api, pairs: list[tuple[str, str]], amount: int = 1, per_request: int = 1) -> list[str]:
    """Post a transaction for each pair, and return their ids."""
    ids = new_ids(len(pairs))
    items = [
        {"id": id, "postings": [{"source": source, "destination": destination, "amount": amount}]}
        for id, (source, destination) in zip(ids, pairs, strict=True)
    ]
    for start in range(0, len(items), per_request):
        response = api.post("/v1/transactions", items[start : start + per_request])
        assert response.status_code == 200, response.text
    return ids


def subscribe(child: Child, url: str, **fields: Any) -> str:
    """Subscribe a URL, and return the subscription's id."""
    response = httpx.post(f"{child.url}/v1/webhooks", json={"url": url, "secret": "test", **fields})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def shown(child: Child, id: str) -> dict[str, Any]:
    response = httpx.get(f"{child.url}/v1/webhooks/{id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def mixed(accounts: list[str], count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return pairs of two different accounts."""
    chance = random.Random(seed)
    return [tuple(chance.sample(accounts, 2)) for _ in range(count)]  # type: ignore[misc]


def all_events(url: str, after: int = 0) -> list[Got]:
    """Read all events that there are."""
    found: list[Got] = []
    while True:
        page = httpx.get(f"{url}/v1/events?after={after}&limit=1000", timeout=60).json()
        if page["position"] == after:
            return found
        found += page["events"]
        after = page["position"]


def accounts_in(event: Got) -> set[str]:
    """Return the accounts that an event is about."""
    postings = event["data"].get("postings", [])
    named = {posting[side] for posting in postings for side in ("source", "destination")}
    return named | set(filter(None, event.get("accounts", "").split(",")))


def check_order(told: list[Got], taken: list[Got]) -> None:
    """Check that all that was told was taken, and that what an account had first came first."""
    place = {event["id"]: number for number, event in enumerate(told)}
    assert {event["id"] for event in taken} == place.keys()
    first: dict[str, list[int]] = {}
    seen: set[str] = set()
    for event in taken:
        if event["id"] not in seen:
            seen.add(event["id"])
            for account in accounts_in(event):
                first.setdefault(account, []).append(place[event["id"]])
    for account, places in first.items():
        assert places == sorted(places), account


@contextlib.contextmanager
def stepping(work: Callable[[], None]) -> Iterator[None]:
    """Do work in a thread beside a block."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    end_s = time.monotonic() + _WAIT_S_MAX
    while not condition():
        assert time.monotonic() < end_s, "it did not come to be so"
        time.sleep(0.01)

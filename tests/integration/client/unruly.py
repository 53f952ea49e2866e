"""A small ledger on a real socket that misbehaves on demand, and keeps an idempotent book of its own.

What it does with a request is the next word of its script; after the script it serves properly. Each word says when the
work is done, if it is, and what the client gets to see of it.
"""

import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Iterable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Literal, Self, get_args

import msgspec

Word = Literal[
    "serve",
    "busy",  # 503 with Retry-After, as a node sheds
    "bad_gateway",  # 502, as an edge answers whose node died: the work was done
    "cut_before",  # closes the connection before the work is done
    "cut_after",  # closes it after the work is done, without an answer
    "reset_after",  # the same, with a TCP reset
    "half",  # does the work, and closes in the middle of the answer
    "noise",  # does the work, and answers what is no HTTP
    "page",  # a 200 with a web page, as a captive portal would
    "hang_before",  # keeps the connection and never answers; the work is not done
    "hang_after",  # the same, with the work done
    "drip",  # does the work, and answers a byte at a time, for ever
]
WORDS: Final[tuple[Word, ...]] = get_args(Word)
WITHOUT_WORK: Final = {"busy", "cut_before", "page", "hang_before"}
SLOW: Final = {"hang_before", "hang_after", "drip"}
"""The words after which a client has to wait for its own patience to end."""
SURELY_NOT_DONE: Final = {"busy"}
"""The words after which a client can know that nothing was done."""


class UnrulyLedger:
    """A context manager; `url` says where it is.

    Attributes:
        book: each id with what it was done for; an id is entered once.
        done: how often the work of each id was really done: 1, unless the book is broken.
        seen: how often each id arrived.
        paths: the path and query of each request.
        headers: those of each request.
        arrived: set when there was a request.
        closing: set to let go of what hangs.
        hung_up: set when a connection has ended.
    """

    def __init__(self, script: Iterable[Word] = (), *, address: str = "127.0.0.1", port: int = 0) -> None:
        self.script: deque[Word] = deque(script)
        self.book: dict[str, Any] = {}
        self.done: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.paths: list[str] = []
        self.headers: list[Message] = []
        self.arrived = threading.Event()
        self.closing = threading.Event()
        self.hung_up = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._http = _Server((address, port), _Handler)
        self._http.ledger = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), name="unruly")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._http.server_address[0]!s}:{self.port}"

    @property
    def port(self) -> int:
        """Of its address."""
        return int(self._http.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        with self._lock:
            for connection in self._connections:
                hang_up(connection)
        self._http.server_close()
        self._thread.join()

    def next_word(self) -> Word:
        """Return what to do with this request."""
        with self._lock:
            return self.script.popleft() if self.script else "serve"

    def connected(self, connection: socket.socket) -> None:
        """Remember a connection, to hang up at the end."""
        with self._lock:
            self._connections.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._connections.discard(connection)
            self.hung_up.set()

    def arrive(self, path: str, headers: Message, content: Any) -> None:
        """Count what arrived, whether or not it will be done."""
        with self._lock:
            self.headers.append(headers)
            self.paths.append(path)
            self.arrived.set()
            self.seen.update(_key(item) for item in _items(content))

    def work(self, method: str, path: str, content: Any) -> tuple[int, Any]:
        """Do what a request asks for, once for each id, and return status and answer."""
        with self._lock:
            if method == "GET":
                id = path.partition("?")[0].rpartition("/")[2]
                if id not in self.book:
                    return 404, {"type": "/problems/not_found", "title": "No such thing.", "status": 404}
                return 200, {
                    "id": id,
                    "kind": "post",
                    "outcome": "posted",
                    "position": 1,
                    "time": "2026-11-23T00:00:00Z",
                }
            outcomes = [self._decide(item) for item in _items(content)]
            return 200, outcomes if isinstance(content, list) else outcomes[0]

    def _decide(self, item: Any) -> dict[str, Any]:
        key = _key(item)
        if key not in self.book:
            self.book[key] = item
            self.done[key] += 1
        same = self.book[key] == item
        id = item[0] if isinstance(item, list) else key
        return {"id": id, "outcome": "posted" if same else "id_reused", "position": len(self.book)}


def _items(content: Any) -> list[Any]:
    if content is None:
        return []
    return content if isinstance(content, list) else [content]


def _key(item: Any) -> str:
    if isinstance(item, list):
        id: bytes = item[0]
        return id.hex()
    return str(item["id"] if "id" in item else item["asset"])


def hang_up(connection: socket.socket) -> None:
    """End a connection; whoever reads from it wakes up."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    ledger: UnrulyLedger

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of this server hang up all the time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.ledger.connected(self.connection)

    def finish(self) -> None:
        self.server.ledger.disconnected(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        ledger = self.server.ledger
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        packed = "msgpack" in self.headers.get("Content-Type", "")
        content = (msgspec.msgpack if packed else msgspec.json).decode(body) if body else None
        word = ledger.next_word()
        ledger.arrive(self.path, self.headers, content)
        status, answer = (0, None) if word in WITHOUT_WORK else ledger.work(self.command, self.path, content)
        encoded = (msgspec.msgpack if packed else msgspec.json).encode(answer)
        media_type = "application/msgpack" if packed else "application/json"
        self.close_connection = word != "serve"
        match word:
            case "serve":
                self._answer(status, encoded, media_type, position=7)
            case "busy":
                problem = {"type": "/problems/overloaded", "title": "Busy.", "status": 503}
                self._answer(503, msgspec.json.encode(problem), "application/problem+json", position=7, retry_after="0")
            case "bad_gateway":
                self._answer(502, b"<h1>502</h1>", "text/html", position=None)
            case "page":
                self._answer(200, b"<h1>Welcome to the hotel</h1>", "text/html", position=None)
            case "cut_before" | "cut_after":
                hang_up(self.connection)
            case "reset_after":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            case "half":
                self._head(status, len(encoded) + 100, media_type, position=7)
                self.wfile.write(encoded)
            case "noise":
                self.wfile.write(b"\x15\x03\x01\x00\x02\x02\x16 what is this?\r\n\r\n")
            case "hang_before" | "hang_after":
                ledger.closing.wait()
            case "drip":
                self._head(status, 10_000, media_type, position=7)
                while not ledger.closing.wait(0.02):
                    self.wfile.write(b" ")

    def _answer(
        self, status: int, body: bytes, media_type: str, *, position: int | None, retry_after: str | None = None
    ) -> None:
        self._head(status, len(body), media_type, position=position, retry_after=retry_after)
        self.wfile.write(body)

    def _head(
        self, status: int, length: int, media_type: str, *, position: int | None, retry_after: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", media_type)
        if position is not None:
            self.send_header("Ledger-Position", str(position))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()

"""What both shells share: httpx asked for nothing but to send a request and give back what came, as data.

httpx takes a fifth of a second to import, more than the rest of this package together, so it is imported by the first
client that is made and not before.
"""

import os
import ssl
from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, get_args
from urllib.parse import urlsplit

from fivenines import __version__
from fivenines.client.retry import Limits, Servers, Session, Try
from fivenines.client.wire import JSON, Failure, Reply

if TYPE_CHECKING:
    import httpx

__all__ = [
    "DEFAULT_URL",
    "Connections",
    "Inbox",
    "answer_of",
    "busy_here",
    "failure",
    "http_request",
    "item_of",
    "make_session",
    "present",
    "transport_options",
]

DEFAULT_URL: Final = "http://127.0.0.1:9959"
URL_VARIABLE: Final = "FIVENINES_URL"
USER_AGENT: Final = f"fivenines/{__version__}"
KEEP_IDLE_S: Final = 30.0
"""How long an idle connection is trusted to be open still: less than the 75 s of a node, or the 60 s of most edges."""

Transport = TypeVar("Transport")


def base_urls(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the base URLs: those given, or of FIVENINES_URL (separated by commas), or the default.

    Raises:
        ValueError: one of them is no http or https URL of a server.
    """
    texts = given or tuple(filter(None, os.environ.get(URL_VARIABLE, "").split(","))) or (DEFAULT_URL,)
    urls = []
    for text in texts:
        parts = urlsplit(text.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{text!r} is no URL of a ledger: it should look like {DEFAULT_URL}")
        urls.append(text.strip().rstrip("/"))
    return tuple(dict.fromkeys(urls))


def make_session(
    urls: tuple[str, ...],
    *,
    deadline_s: float,
    limits: Limits,
    reads_own_writes: bool,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Session:
    """Make what the calls of one client share."""
    return Session(
        servers=Servers(base_urls(urls)),
        deadline_s=deadline_s,
        limits=limits,
        reads_own_writes=reads_own_writes,
        clock=clock,
        random=random,
    )


class Connections(Generic[Transport]):
    """Transports of one connection each; whoever sends a request takes one for as long as that lasts.

    A pool of httpx looks through all its connections for each request and again for each answer: with 64 requests at
    once that takes five times as long as all the rest. Here the one that was given back last is taken first, so few
    stay warm under little load. Threads may share it.

    Args:
        make: opens a transport.
        shared: used for all requests at once, in the place of those that are made.
    """

    def __init__(self, make: Callable[[], Transport], *, shared: Transport | None) -> None:
        self._make = make
        self._shared = shared
        self._idle: list[Transport] = []
        self._all: list[Transport] = [] if shared is None else [shared]
        self._is_closed = False

    def take(self) -> Transport:
        """Return a transport that nobody else has."""
        if self._is_closed:
            raise RuntimeError("this ledger client is closed")
        if self._shared is not None:
            return self._shared
        try:
            return self._idle.pop()
        except IndexError:
            made = self._make()
            self._all.append(made)
            return made

    def give_back(self, transport: Transport) -> None:
        """Let somebody else have it."""
        if self._shared is None:
            self._idle.append(transport)

    def end(self) -> list[Transport]:
        """Lend no more, and return all that are to be closed."""
        self._is_closed = True
        every, self._all = self._all, []
        return every


def transport_options(session: Session, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """Return the arguments of a httpx transport for one connection.

    Certificates are judged by the system's own store, where private ones are installed. Without an https URL no store
    is read, which saves time; nothing is sent over TLS then, for redirects are not followed. Proxies are not used: a
    ledger is reached directly or not at all.
    """
    import httpx

    is_secure = any(url.startswith("https:") for url in session.servers.urls)
    return {
        "verify": (tls or ssl.create_default_context()) if is_secure else False,
        "trust_env": False,
        "limits": httpx.Limits(max_connections=1, keepalive_expiry=KEEP_IDLE_S),
    }


def http_request(step: Try) -> "httpx.Request":
    """Make what httpx sends for one try."""
    import httpx

    request = step.request
    headers = {
        "Accept": request.media_type if request.media_type == JSON else f"{request.media_type}, {JSON};q=0.5",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
    }
    if request.body:
        headers["Content-Type"] = request.media_type
    timeout = httpx.Timeout(step.timeout_s, connect=step.connect_timeout_s)
    return httpx.Request(
        request.method,
        step.url + request.path,
        headers=headers,
        content=request.body or None,
        extensions={"timeout": timeout.as_dict()},
    )


def busy_here(step: Try) -> Failure:
    """Say that as many requests are under way as may be."""
    return Failure("busy_here", f"no free connection within {step.timeout_s:.3g} s: raise Limits.connections_max")


def present(method: Callable[..., Any], operation: Callable[..., Any], *, owner: str, returns: Any) -> None:
    """Let `help` show a method as its caller knows it: with the arguments of the operation, and what it answers."""
    method.__name__, method.__doc__ = operation.__name__, operation.__doc__
    method.__qualname__ = f"{owner}.{operation.__name__}"
    method.__signature__ = signature(operation).replace(return_annotation=returns)  # type: ignore[attr-defined]


def answer_of(operation: Callable[..., Any]) -> Any:
    """Return the type of the answer, given an operation that returns `Call[answer]`."""
    return get_args(operation.__annotations__["return"])[-1]


def item_of(operation: Callable[..., Any]) -> Any:
    """Return the type of the items, given an operation that returns `Pages[item]`."""
    call = get_args(operation.__annotations__["return"])[-1]
    return get_args(get_args(call)[-1])[0]


class Inbox:
    """Collects an answer's body, within the time and the size that one try may take.

    httpx bounds each wait for bytes, not their sum: a server that sends a byte a second would hold a call for ever.
    """

    def __init__(self, step: Try, session: Session) -> None:
        self._clock = session.clock
        self._end = session.clock() + step.timeout_s
        self._timeout_s = step.timeout_s
        self._room = session.limits.answer_bytes_max
        self._chunks: list[bytes] = []

    def take(self, chunk: bytes) -> Failure | None:
        """Take what arrived; return what is wrong with going on."""
        self._chunks.append(chunk)
        self._room -= len(chunk)
        if self._room < 0:
            return Failure("garbled", "an answer that does not end")
        if self._clock() > self._end:
            return Failure("timed_out", f"no whole answer within {self._timeout_s:.3g} s")
        return None

    def reply(self, response: "httpx.Response") -> Reply:
        """Make a whole answer of it."""
        headers = response.headers
        position = headers.get("Ledger-Position", "")
        return Reply(
            status=response.status_code,
            media_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            body=b"".join(self._chunks),
            position=int(position) if position.isascii() and position.isdecimal() and len(position) < 20 else None,
            retry_after=headers.get("Retry-After"),
            date=headers.get("Date"),
        )


def failure(error: "httpx.RequestError", step: Try) -> Failure:
    """Say as data what kept httpx from an answer."""
    import httpx

    said = f": {error}" if str(error) else ""
    match error:
        case httpx.ConnectTimeout():
            return Failure("unreached", f"no connection to {step.url} within {step.connect_timeout_s:.3g} s")
        case httpx.ConnectError() | httpx.ProxyError():
            return Failure("unreached", f"no connection to {step.url}{said}")
        case httpx.TimeoutException():
            return Failure("timed_out", f"no answer from {step.url} within {step.timeout_s:.3g} s")
        case httpx.DecodingError():
            return Failure("garbled", f"an answer of {step.url} that cannot be read{said}")
        case _:
            return Failure("cut_off", f"the connection to {step.url} broke{said}")

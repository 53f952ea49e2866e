"""What both shells share: httpx asked for nothing but to send a request and give back what came, as data.

httpx takes a fifth of a second to import, more than the rest of this package together, so it is imported by the first
client that is made and not before.
"""

import contextlib
import functools
import os
import ssl
import time
from collections.abc import Callable, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, get_args
from urllib.parse import urlsplit

from fivenines import __version__
from fivenines.client.resolving import Resolver, nameservers_of
from fivenines.client.retry import Limits, Session, Try
from fivenines.client.servers import Servers
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
    "tls_of",
    "transport_options",
    "unused_tls",
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
    nameservers: Sequence[str] | None,
    has_transport: bool,
) -> tuple[Session, Resolver]:
    """Make what the calls of one client share, and what looks up the names of its servers.

    A transport of the user's own may know names that nobody else does, so it is given them as they are, unless
    nameservers are given as well.
    """
    resolver = Resolver(() if has_transport and nameservers is None else nameservers_of(nameservers))
    session = Session(
        servers=Servers(base_urls(urls), asked=None if has_transport and not nameservers else resolver.asked),
        deadline_s=deadline_s,
        limits=limits,
        reads_own_writes=reads_own_writes,
        clock=clock,
        random=random,
    )
    return session, resolver


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
        self._idle: dict[str, list[tuple[Transport, float]]] = {}
        self._all: dict[Transport, None] = {} if shared is None else {shared: None}
        self._tidy_at = time.monotonic() + KEEP_IDLE_S
        self._is_closed = False

    def take(self, server: str = "") -> Transport:
        """Return a transport that nobody else has, where there is one with a connection to that server."""
        if self._is_closed:
            raise RuntimeError("this ledger client is closed")
        if self._shared is not None:
            return self._shared
        try:
            return self._idle[server].pop()[0]
        except (KeyError, IndexError):
            made = self._make()
            self._all[made] = None
            return made

    def give_back(self, transport: Transport, server: str = "") -> None:
        """Let somebody else have it."""
        if self._shared is None:
            self._idle.setdefault(server, []).append((transport, time.monotonic()))

    def discard(self, transport: Transport) -> bool:
        """Forget one that nobody should have again; return whether its taker is to close it."""
        if self._shared is not None:
            return False
        self._all.pop(transport, None)
        return True

    def take_stale(self) -> list[Transport]:
        """Return what nobody has wanted for so long that it is to be closed; nearly always nothing, at once."""
        now = time.monotonic()
        if now < self._tidy_at or self._is_closed:
            return []
        self._tidy_at = now + KEEP_IDLE_S
        stale = []
        for idle in list(self._idle.values()):
            # The first is the stalest. Another thread may take the last meanwhile, which may be the first.
            with contextlib.suppress(IndexError):
                while idle[0][1] + KEEP_IDLE_S < now:
                    stale.append(idle.pop(0)[0])
        for transport in stale:
            self._all.pop(transport, None)
        return stale

    def end(self) -> list[Transport]:
        """Lend no more, and return all that are to be closed."""
        self._is_closed = True
        every, self._all = self._all, {}
        return list(every)


@functools.cache
def unused_tls() -> ssl.SSLContext:
    """Return what httpx wants to have for TLS, for those who speak plain HTTP, made once.

    Without it each of its clients and transports makes one of its own, though none is used: 3 ms of work, and 20 where
    it reads the system's store too. A crowd of new connections would keep a core busy for nothing.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def tls_of(session: Session, tls: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """Return how certificates are judged: as the user says, or by the system's own store, where private ones are.

    None without an https URL: no store is read then, which saves time. Nothing is sent over TLS, for redirects are not
    followed.
    """
    is_secure = any(url.startswith("https:") for url in session.servers.urls)
    return (tls or ssl.create_default_context()) if is_secure else None


def transport_options(session: Session, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """Return the arguments of a httpx transport for one connection.

    Proxies are not used: a ledger is reached directly or not at all.
    """
    import httpx

    return {
        "verify": tls_of(session, tls) or unused_tls(),
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
        "Ledger-Retry": "safe",  # each carries its ids, or is a read: whoever passes it on may do so twice
        "User-Agent": USER_AGENT,
    }
    extensions: dict[str, Any] = {
        "timeout": {
            "connect": step.connect_timeout_s,
            "read": step.timeout_s,
            "write": step.timeout_s,
            "pool": step.timeout_s,
        }
    }
    server = step.server
    if server.host is not None:
        headers["Host"] = server.host
        extensions["sni_hostname"] = server.name
    if request.body:
        headers["Content-Type"] = request.media_type
    return httpx.Request(
        request.method,
        server.origin + request.path,
        headers=headers,
        content=request.body or None,
        extensions=extensions,
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
            return Failure("unreached", f"no connection to {step.server.label} within {step.connect_timeout_s:.3g} s")
        case httpx.ConnectError() | httpx.ProxyError():
            return Failure("unreached", f"no connection to {step.server.label}{said}")
        case httpx.TimeoutException():
            return Failure("timed_out", f"no answer from {step.server.label} within {step.timeout_s:.3g} s")
        case httpx.DecodingError():
            return Failure("garbled", f"an answer of {step.server.label} that cannot be read{said}")
        case _:
            return Failure("cut_off", f"the connection to {step.server.label} broke{said}")

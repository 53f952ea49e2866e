"""One call through its tries: where each goes, how long it may take, and when to stop. Nothing here does I/O.

A call is a generator. It yields `Try` and is sent the `Reply` or the `Failure` that came of it; it yields `Sleep` and
is sent None when the time has passed; it returns the answer or raises a `LedgerError`. Whoever drives it, with threads
or with an event loop, decides nothing.

Every request of this client is safe to repeat, because ids are made before the first try. So a call is tried until its
deadline: at once on the next server where one is left, else after a random wait whose bound doubles (full jitter, so
that clients that were cut off together do not come back together), and never before the time that a server asked for.
"""

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from fivenines.client.errors import MaybeDoneError, NotDoneError
from fivenines.client.wire import Answer, Failure, NoAnswer, Reader, Reply, Request, judge
from fivenines.ids import as_text

__all__ = ["Call", "Limits", "Servers", "Session", "Sleep", "Try", "call"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client takes upon itself; seconds where a name ends in _s."""

    try_timeout_s: float = 6.0
    """How long one try may wait for its answer. More than the 5 s for which a node lets a read wait for `at_least`. It
    doubles with each try that timed out, so that a slow ledger is not asked ever more often."""
    try_timeout_s_min: float = 0.1
    """With less time left than this no further try is begun: it might end in doubt where now is certainty."""
    connect_timeout_s: float = 1.0
    """How long one try may wait for a connection: two lost packets."""
    backoff_s_min: float = 0.05
    """The bound of the first wait."""
    backoff_s_max: float = 2.0
    """The bound of any wait."""
    avoid_s: float = 10.0
    """How long a server that failed is left alone while there is another."""
    batch_max: int = 8_000
    """Commands in one request; longer arrays are sent in several. A node takes 10,000."""
    body_bytes_max: int = 8 * 1024 * 1024
    """Bytes in one request with several commands, as a node takes: a longer array is sent in several."""
    page: int = 1_000
    """Items in one page of a listing."""
    connections_max: int = 100
    """Requests under way at once; a further one waits."""
    answer_bytes_max: int = 64 * 1024 * 1024
    """A longer answer is none of a ledger."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Try:
    """Send the request to this server now."""

    url: str
    request: Request
    timeout_s: float
    connect_timeout_s: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


Call = Generator[Try | Sleep, Reply | Failure | None, T]


class Servers:
    """The base URLs of one ledger, and which of them are to be left alone for a while.

    One that works is kept, so a client stays in its region until that fails. Threads may share it: each step reads or
    writes one value.
    """

    def __init__(self, urls: tuple[str, ...]) -> None:
        assert urls
        self.urls: Final = urls
        self._current = 0
        self._avoid_until = dict.fromkeys(urls, float("-inf"))

    def pick(self, now: float) -> str:
        """Return the current server, or the next one that is not avoided; if all are, the one avoided since longest."""
        in_turn = self.urls[self._current :] + self.urls[: self._current]
        for url in in_turn:
            if self._avoid_until[url] <= now:
                return url
        return min(in_turn, key=self._avoid_until.__getitem__)

    def worked(self, url: str) -> None:
        """Stay with this server."""
        self._current = self.urls.index(url)
        self._avoid_until[url] = float("-inf")

    def failed(self, url: str, *, until: float) -> None:
        """Leave this server alone until then, if there is another."""
        self._avoid_until[url] = until


@dataclass(slots=True, kw_only=True)
class Session:
    """What the calls of one client share."""

    servers: Servers
    deadline_s: float
    limits: Limits
    reads_own_writes: bool
    clock: Callable[[], float]
    """Seconds that only go forward."""
    random: Callable[[], float]
    """At least 0, below 1."""
    position: int = 0
    """The highest that any answer carried."""
    batch_max: int = field(init=False)
    """What a server was seen to take at once; it may be less than the limit."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        if self.deadline_s <= 0:
            raise ValueError(f"deadline_s must be above 0, not {self.deadline_s}")
        self.batch_max = self.limits.batch_max

    def saw(self, position: int) -> None:
        """Take note of an answer's position."""
        with self._lock:
            self.position = max(self.position, position)


def call(session: Session, request: Request, read: Reader[T]) -> Call[T]:
    """Carry one request through its tries.

    Raises:
        NotDoneError, MaybeDoneError: no answer by the deadline, or none to be hoped for.
        LedgerError: the server's final word.
    """
    limits, servers, clock = session.limits, session.servers, session.clock
    now = clock()
    deadline = now + session.deadline_s
    latest = deadline - limits.try_timeout_s_min
    not_before: dict[str, float] = {}
    tries = timeouts = cuts = waits = 0
    maybe_done = False
    while True:
        url = servers.pick(now)
        timeout_s = min(limits.try_timeout_s * 2 ** min(timeouts, 30), deadline - now)
        came = yield Try(url, request, timeout_s, min(limits.connect_timeout_s, timeout_s))
        assert came is not None, "a try was answered with nothing"
        tries += 1
        if isinstance(came, Reply) and came.position is not None:
            session.saw(came.position)
            if came.status < 429:  # also a refusal: that it is one is the answer of a server that works
                servers.worked(url)
        verdict = judge(request, came, read)
        if isinstance(verdict, Answer):
            return verdict.value

        now = clock()
        wait_s = 0.0
        maybe_done |= verdict.maybe_done
        timeouts += isinstance(came, Failure) and came.kind == "timed_out"
        cuts += verdict.url == "keep_once"
        # The first cut is most likely an idle connection that the server had closed: a new one will do, at once.
        if verdict.url != "keep_once" or cuts > 1:
            not_before[url] = now + verdict.not_before_s
            if verdict.url != "keep":
                servers.failed(url, until=now + max(limits.avoid_s, verdict.not_before_s))
            next_url = servers.pick(now)
            if next_url in not_before:
                bound = min(limits.backoff_s_max, limits.backoff_s_min * 2 ** min(waits, 30))
                waits += 1
                wait_s = max(0.0, not_before[next_url] - now) + session.random() * bound
        error = _gave_up(request, verdict, tries=tries, maybe_done=maybe_done)
        if verdict.is_final or now + wait_s >= latest:
            raise error
        if wait_s > 0:
            yield Sleep(wait_s)
            now = clock()
            if now >= latest:
                raise error


def _gave_up(request: Request, last: NoAnswer, *, tries: int, maybe_done: bool) -> NotDoneError | MaybeDoneError:
    ids = tuple(as_text(id) if isinstance(id, bytes) else id for id in request.ids)
    if maybe_done and ids:
        return MaybeDoneError(ids=ids, tries=tries, reason=last.reason)
    return NotDoneError(ids=ids, tries=tries, reason=last.reason)

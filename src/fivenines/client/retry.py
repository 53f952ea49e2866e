"""One call through its tries: where each goes, how long it may take, and when to stop. Nothing here does I/O.

A call is a generator. It yields a step, and is sent what came of it:

    Try        send the request to a server. Is sent what `Came` of it; or None, when it has taken so long that another
               server may be asked as well. The try goes on then.
    Wait       for the first of the tries under way. Is sent the same.
    Sleep      Is sent None when the time has passed.
    Resolve    ask for the addresses of a name, and tell `Servers.heard` when they are there. Is sent None.

It returns the answer or raises a `LedgerError`; tries that are still under way are let go then, and if one of them is
answered shortly after, `Session.answered_late` wants to know. Whoever drives it, with threads or with an event loop,
decides nothing.

Every request of this client is safe to repeat, because ids are made before the first try. So a call is tried until its
deadline: at once on the next server where one is left, else after a random wait whose bound doubles (full jitter, so
that clients that were cut off together do not come back together), and never before the time that a server asked for.
And so two servers may be asked at once: where the first hangs, the second answers (`fivenines.client.hedging`).
"""

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from fivenines.client.errors import MaybeDoneError, NotDoneError
from fivenines.client.hedging import Hedging
from fivenines.client.servers import Server, Servers
from fivenines.client.wire import Answer, Failure, NoAnswer, Reader, Reply, Request, judge
from fivenines.ids import as_text

__all__ = ["Call", "Came", "Limits", "Resolve", "Session", "Sleep", "Step", "Try", "Wait", "call"]

T = TypeVar("T")

_TRIES_AT_ONCE: Final = 3
"""As many as a platform usually has regions: where two of them hang, the third is still asked."""
_FORGIVEN: Final = 0.25
"""Of the hedge delay: a server that answers so soon after it was overtaken was slow because all were."""


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
    hedge_s: float = 0.5
    """How long a try is waited for before a second server is asked as well, where there is one. Longer where answers
    usually take longer. `math.inf`: never."""
    hedge_share: float = 0.1
    """How many second requests there may be for each request, so that they never double the load of a slow ledger."""
    hedge_burst: float = 10.0
    """How many more there may be at once after quiet times."""
    lookup_timeout_s: float = 2.0
    """How long a request waits for the addresses of a name that has none yet, before it looks further."""
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

    server: Server
    request: Request
    timeout_s: float
    connect_timeout_s: float
    patience_s: float | None = None
    """How long to wait before saying that nothing came yet; None: until something comes."""

    @property
    def url(self) -> str:
        """The server's base URL."""
        return self.server.url


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for the tries under way."""

    patience_s: float | None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask for the addresses of a name."""

    host: str
    wait_s: float
    """How long to wait for the answer; 0: not at all. What comes later counts as well."""


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a try."""

    step: Try
    what: Reply | Failure


Step = Try | Wait | Sleep | Resolve
Call = Generator[Step, Came | None, T]


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
    hedging: Hedging = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        if self.deadline_s <= 0:
            raise ValueError(f"deadline_s must be above 0, not {self.deadline_s}")
        limits = self.limits
        self.batch_max = limits.batch_max
        self.hedging = Hedging(
            delay_s=limits.hedge_s,
            delay_s_max=limits.try_timeout_s / 2,
            share=limits.hedge_share,
            burst=limits.hedge_burst,
        )

    @property
    def grace_s(self) -> float:
        """How long a try that was overtaken is listened to."""
        return min(self.limits.hedge_s, self.limits.try_timeout_s) * _FORGIVEN

    def saw(self, position: int) -> None:
        """Take note of an answer's position."""
        with self._lock:
            self.position = max(self.position, position)

    def answered_late(self, came: Came) -> None:
        """Take note of what came of a try after its call had its answer from another."""
        if is_of_a_working_node(came.what):
            self.servers.forgive(came.step.server, now=self.clock(), within_s=self.grace_s)


def is_of_a_working_node(what: Reply | Failure) -> bool:
    """Tell whether a server works that answers this. That it refuses is an answer too."""
    return isinstance(what, Reply) and what.position is not None and what.status < 429


def call(session: Session, request: Request, read: Reader[T]) -> Call[T]:
    """Carry one request through its tries.

    Raises:
        NotDoneError, MaybeDoneError: no answer by the deadline, or none to be hoped for.
        LedgerError: the server's final word.
    """
    return _Course(session, request, read).run()


class _Course(Generic[T]):
    """The course of one call: what came of its tries so far, and what follows from it."""

    def __init__(self, session: Session, request: Request, read: Reader[T]) -> None:
        self.session, self.request, self.read = session, request, read
        self.now = session.clock()
        self.deadline = self.now + session.deadline_s
        self.latest = self.deadline - session.limits.try_timeout_s_min
        self.not_before: dict[Server, float] = {}
        self.under_way: dict[Server, float] = {}
        """The servers that are asked, and since when."""
        self.tries = self.timeouts = self.cuts = self.waits = 0
        self.is_maybe_done = self.is_at_once = False
        session.hedging.earn()

    def run(self) -> Call[T]:
        """Try until there is an answer, or the deadline has come."""
        servers = self.session.servers
        while True:
            if self.now >= servers.ask_at:
                yield from self._ask_for_names()
            server = servers.pick(self.now) if self.now < self.deadline else None
            if server is None:
                self.tries += 1
                self.is_at_once = False
                verdict: Answer[T] | NoAnswer = NoAnswer(reason=servers.reason, maybe_done=False)
            else:
                verdict = yield from self._ask(server)
            if isinstance(verdict, Answer):
                return verdict.value
            wait_s = self._wait_s()
            error = self._gave_up(verdict)
            if verdict.is_final or self.now + wait_s >= self.latest:
                raise error
            if wait_s > 0:
                yield Sleep(wait_s)
                self.now = self.session.clock()
                if self.now >= self.latest:
                    raise error

    def _ask_for_names(self) -> Call[None]:
        for host, is_waited_for in self.session.servers.due(self.now):
            if not is_waited_for:
                yield Resolve(host, 0.0)
                continue
            left_s = max(0.0, self.deadline - self.now)
            yield Resolve(host, min(self.session.limits.lookup_timeout_s, max(left_s / 2, self.latest - self.now)))
            self.session.servers.waited(host)
            self.now = self.session.clock()

    def _ask(self, server: Server) -> Call[Answer[T] | NoAnswer]:
        """Ask this server, and others where it takes long, until one has answered or all have failed."""
        step: Step = self._try(server)
        final: NoAnswer | None = None
        while True:
            came = yield step
            self.now = self.session.clock()
            if came is None:
                assert not isinstance(step, Try) or step.patience_s is not None, "a try was answered with nothing"
                step = self._try_another() or Wait(self._patience_s())
                continue
            began = self.under_way.pop(came.step.server)
            self.tries += 1
            self._learn(came, began)
            verdict = judge(self.request, came.what, self.read)
            if isinstance(verdict, Answer):
                return verdict
            self._failed(came, verdict)
            final = verdict if verdict.is_final else final
            if not self.under_way:
                return final or verdict
            step = Wait(self._patience_s())

    def _try(self, server: Server) -> Try:
        limits = self.session.limits
        self.under_way[server] = self.now
        timeout_s = min(limits.try_timeout_s * 2 ** min(self.timeouts, 30), self.deadline - self.now)
        patience_s = self._patience_s()
        return Try(
            server,
            self.request,
            timeout_s,
            min(limits.connect_timeout_s, timeout_s),
            patience_s if patience_s is not None and patience_s < timeout_s else None,
        )

    def _patience_s(self) -> float | None:
        """Return how long to wait before another server is asked; None where there is none, or enough are asked."""
        if len(self.under_way) >= min(_TRIES_AT_ONCE, len(self.session.servers)):
            return None
        delay_s = self.session.hedging.delay_s
        return delay_s if delay_s < self.deadline - self.now else None

    def _try_another(self) -> Try | None:
        """Return a try of another server, beside those under way, where there is one and the budget has room.

        Where those under way have failed others meanwhile, this is no second request but the next one.
        """
        servers, now = self.session.servers, self.now
        if now >= self.latest:
            return None
        other = servers.pick_other(now, without=tuple(self.under_way))
        if other is None or self.not_before.get(other, now) > now:
            return None
        is_moving = all(servers.is_avoided(server, now) for server in self.under_way)
        if (is_moving and not servers.is_avoided(other, now)) or self.session.hedging.spend():
            return self._try(other)
        return None

    def _learn(self, came: Came, began: float) -> None:
        """Take note of what an answer tells about the servers."""
        session, server, now = self.session, came.step.server, self.now
        if isinstance(came.what, Reply) and came.what.position is not None:
            session.saw(came.what.position)
        if not is_of_a_working_node(came.what):
            return
        session.servers.worked(server)
        session.hedging.took(now - began)
        for slow, slow_began in self.under_way.items():
            if slow_began < began:
                session.servers.overtaken(slow, by=server, now=now, until=now + session.limits.avoid_s)

    def _failed(self, came: Came, verdict: NoAnswer) -> None:
        server = came.step.server
        self.is_maybe_done |= verdict.maybe_done
        self.timeouts += isinstance(came.what, Failure) and came.what.kind == "timed_out"
        self.cuts += verdict.url == "keep_once"
        # The first cut is most likely an idle connection that the server had closed: a new one will do, at once.
        self.is_at_once = verdict.url == "keep_once" and self.cuts == 1
        if self.is_at_once:
            return
        self.not_before[server] = self.now + verdict.not_before_s
        if verdict.url != "keep":
            until = self.now + max(self.session.limits.avoid_s, verdict.not_before_s)
            self.session.servers.failed(server, until=until)

    def _wait_s(self) -> float:
        """Return how long to wait before the next try: not at all where a server is left that was not tried yet."""
        if self.is_at_once:
            return 0.0
        server = self.session.servers.pick(self.now)
        if server is not None and server not in self.not_before:
            return 0.0
        limits = self.session.limits
        bound = min(limits.backoff_s_max, limits.backoff_s_min * 2.0 ** min(self.waits, 30))
        self.waits += 1
        asked_s = 0.0 if server is None else max(0.0, self.not_before[server] - self.now)
        return asked_s + self.session.random() * bound

    def _gave_up(self, last: NoAnswer) -> NotDoneError | MaybeDoneError:
        ids = tuple(as_text(id) if isinstance(id, bytes) else id for id in self.request.ids)
        if self.is_maybe_done and ids:
            return MaybeDoneError(ids=ids, tries=self.tries, reason=last.reason)
        return NotDoneError(ids=ids, tries=self.tries, reason=last.reason)

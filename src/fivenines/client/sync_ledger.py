"""`Ledger`: the operations for code that waits, with threads or without."""

import random as chance
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Self, TypeVar

from fivenines.client.operations import Operations, Pages
from fivenines.client.racing import Line, Race
from fivenines.client.retry import Call, Came, Limits, Resolve, Sleep, Try, Wait
from fivenines.client.shell import (
    Connections,
    Inbox,
    answer_of,
    busy_here,
    failure,
    http_request,
    item_of,
    make_session,
    present,
    transport_options,
)
from fivenines.client.wire import Failure, Reply
from fivenines.client.workers import Workers

if TYPE_CHECKING:
    import httpx

__all__ = ["Ledger"]

P = ParamSpec("P")
T = TypeVar("T")

_CLOSE_S_MAX: Final = 1.0
"""How long `close` waits for threads whose connections it has ended."""


def _waits(operation: Callable[Concatenate[Operations, P], Call[T]]) -> "Callable[Concatenate[Ledger, P], T]":
    """Make a method that returns when the call is answered."""

    def method(ledger: "Ledger", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return ledger.run(operation(ledger.operations, *args, **kwargs))

    present(method, operation, owner="Ledger", returns=answer_of(operation))
    return method


def _iterates(
    operation: Callable[Concatenate[Operations, P], Pages[T]],
) -> "Callable[Concatenate[Ledger, P], Iterator[T]]":
    """Make a method that iterates, fetching a page when the one before is used up."""

    def method(ledger: "Ledger", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        fetch = operation(ledger.operations, *args, **kwargs)
        page = ledger.run(fetch(None))
        yield from page.items
        while page.next is not None:
            page = ledger.run(fetch(page.next))
            yield from page.items

    present(method, operation, owner="Ledger", returns=Iterator[item_of(operation)])  # type: ignore[misc]  # known at run time
    return method


class Ledger:
    """A ledger, reached over HTTP. A context manager; threads may share it.

        with Ledger("http://eu.example:9959", "http://us.example:9959") as ledger:
            ledger.post(source="customers:alice", destination="customers:bob", amount=1_250)

    What each method does stands in `fivenines.client.operations`, what it raises in `fivenines.client.errors`.

    Args:
        urls: base URLs of servers of one ledger, the nearest first; without any, those in the environment's
            FIVENINES_URL, separated by commas; without that, `http://127.0.0.1:9959`. A host that is a name stands for
            all its addresses: the client begins with the first, stays with the one that works while the name has it,
            and goes to another when it fails.
        deadline_s: how long a request is tried before `UnavailableError`.
        limits: how, and how much at a time.
        reads_own_writes: whether a read waits for a server that has applied all that this client has seen, on
            whichever server that was.
        nameservers: whom to ask for the addresses of names, such as `("127.0.1.1:5353", "127.0.2.1:5353")`; without
            any, those in the environment's FIVENINES_NAMESERVERS, separated by commas; without that, the system
            resolves. Where none answers the addresses known last go on being used.
        tls: judges the servers' certificates, in the place of the system's own store.
        transport: carries the requests, in the place of sockets. It is given names as they are, unless nameservers
            are given too.
        clock, sleep, random: time and chance, for tests.
    """

    def __init__(
        self,
        *urls: str,
        deadline_s: float = 30.0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        reads_own_writes: bool = True,
        nameservers: Sequence[str] | None = None,
        tls: ssl.SSLContext | None = None,
        transport: "httpx.BaseTransport | None" = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = chance.random,
    ) -> None:
        import httpx

        session, self._resolver = make_session(
            urls,
            deadline_s=deadline_s,
            limits=limits,
            reads_own_writes=reads_own_writes,
            clock=clock,
            random=random,
            nameservers=nameservers,
            has_transport=transport is not None,
        )
        self.operations = Operations(session)
        self._sleep = sleep
        options = transport_options(session, tls) if transport is None else {}
        self._connections: Connections[httpx.BaseTransport] = Connections(
            lambda: httpx.HTTPTransport(**options), shared=transport
        )
        self._places = threading.Semaphore(limits.connections_max)
        self._request_errors = httpx.RequestError
        self._workers = Workers()
        self._lock = threading.Lock()
        self._races: dict[Race, None] = {}
        """Under way, or still listening to those that lost."""
        self._streams: dict[httpx.BaseTransport, object] = {}
        """The connection of each transport, to be ended from outside."""
        self._lookups: dict[str, threading.Event] = {}

    create_asset = _waits(Operations.create_asset)
    open_account = _waits(Operations.open_account)
    open_accounts = _waits(Operations.open_accounts)
    change_account = _waits(Operations.change_account)
    freeze = _waits(Operations.freeze)
    unfreeze = _waits(Operations.unfreeze)
    close_account = _waits(Operations.close_account)
    post = _waits(Operations.post)
    transact = _waits(Operations.transact)
    hold = _waits(Operations.hold)
    settle = _waits(Operations.settle)
    release = _waits(Operations.release)
    submit = _waits(Operations.submit)
    submit_rows = _waits(Operations.submit_rows)
    account = _waits(Operations.account)
    accounts = _iterates(Operations.accounts)
    accounts_of = _waits(Operations.accounts_of)
    history = _iterates(Operations.history)
    transaction = _waits(Operations.transaction)
    platform = _waits(Operations.platform)
    activate_rules = _waits(Operations.activate_rules)

    @property
    def position(self) -> int:
        """The highest position that any answer carried; 0 before the first."""
        return self.operations.session.position

    def close(self) -> None:
        """Close the connections. Closing twice does nothing."""
        ended = self._connections.end()
        with self._lock:
            races = list(self._races)
        for race in races:
            race.hang_up()
        self._workers.close(_CLOSE_S_MAX)
        for transport in ended:
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, call: Call[T]) -> T:
        """Carry out a call: send what it wants sent, wait as long as it wants to wait.

        A try that no other may overtake is made by the thread of the caller, and those that race by threads of ours.
        """
        came: Came | None = None
        race: Race | None = None
        try:
            while True:
                try:
                    step = call.send(came)
                except StopIteration as end:
                    answer: T = end.value
                    return answer
                match step:
                    case Try():
                        if race is None and step.patience_s is None:
                            came = Came(step, self._try(step))
                            continue
                        if race is None:
                            race = self._race()
                        came = self._join(race, step)
                    case Wait(patience_s):
                        assert race is not None, "waiting for nothing"
                        came = race.first(patience_s)
                    case Sleep(seconds):
                        self._sleep(seconds)
                        came = None
                    case Resolve():
                        self._resolve(step)
                        came = None
        finally:
            if race is not None:
                self._end(race)

    def _try(self, step: Try) -> Reply | Failure:
        if not self._places.acquire(timeout=step.timeout_s):
            return busy_here(step)
        try:
            return self._exchange(step)
        finally:
            self._places.release()

    def _exchange(self, step: Try, line: Line | None = None) -> Reply | Failure:
        inbox = Inbox(step, self.operations.session)
        server = step.server.label
        for stale in self._connections.take_stale():
            self._streams.pop(stale, None)
            stale.close()
        transport = self._connections.take(server)
        try:
            request = http_request(step)
            if line is not None:
                line.begin(transport, self._streams)
                request.extensions["trace"] = line.trace
            response = transport.handle_request(request)
            try:
                for chunk in response.iter_raw():
                    if (trouble := inbox.take(chunk)) is not None:
                        return trouble
            finally:
                response.close()
        except self._request_errors as error:
            return failure(error, step)
        finally:
            if line is not None:
                line.end()
            self._connections.give_back(transport, server)
        return inbox.reply(response)

    # --- tries that race

    def _race(self) -> Race:
        race = Race(self.operations.session)
        with self._lock:
            self._races[race] = None
        return race

    def _join(self, race: Race, step: Try) -> Came | None:
        """Begin a try beside those under way, and return what comes first."""
        if not (self._places.acquire(blocking=False) if race.lines else self._places.acquire(timeout=step.timeout_s)):
            return Came(step, busy_here(step))
        line = race.begin(step)
        try:
            self._workers.start(partial(self._run_in, race, line))
        except BaseException:
            race.arrived(line, None)
            self._places.release()
            raise
        return race.first(step.patience_s)

    def _run_in(self, race: Race, line: Line) -> None:
        what: Reply | Failure | BaseException | None = None
        try:
            what = self._exchange(line.step, line)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread of the caller
            what = error
        finally:
            self._places.release()
            race.arrived(line, what)

    def _end(self, race: Race) -> None:
        """Let go of the tries that lost, when they have had the time to show that they were not far behind."""
        race.end()
        if not race.lines:
            self._forget(race)
            return
        try:
            self._workers.start(partial(self._let_go, race))
        except RuntimeError:  # closed meanwhile
            race.hang_up()
            self._forget(race)

    def _let_go(self, race: Race) -> None:
        race.wait_for_all(self.operations.session.grace_s)
        race.hang_up()
        self._forget(race)

    def _forget(self, race: Race) -> None:
        with self._lock:
            del self._races[race]

    # --- names

    def _resolve(self, step: Resolve) -> None:
        with self._lock:
            done = self._lookups.get(step.host)
            if done is None:
                done = self._lookups[step.host] = threading.Event()
                self._workers.start(partial(self._look_up, step.host, done))
        if step.wait_s > 0:
            done.wait(step.wait_s)

    def _look_up(self, host: str, done: threading.Event) -> None:
        try:
            came = self._resolver.look_up(host)
            session = self.operations.session
            session.servers.heard(host, came, session.clock())
        finally:
            with self._lock:
                del self._lookups[host]
            done.set()

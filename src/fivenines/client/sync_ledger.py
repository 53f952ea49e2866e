"""`Ledger`: the operations for code that waits, with threads or without."""

import random as chance
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

from fivenines.client.operations import Operations, Pages
from fivenines.client.retry import Call, Limits, Sleep, Try
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

if TYPE_CHECKING:
    import httpx

__all__ = ["Ledger"]

P = ParamSpec("P")
T = TypeVar("T")


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
            FIVENINES_URL, separated by commas; without that, `http://127.0.0.1:9959`.
        deadline_s: how long a request is tried before `UnavailableError`.
        limits: how, and how much at a time.
        reads_own_writes: whether a read waits for a server that has applied all that this client has seen, on
            whichever server that was.
        tls: judges the servers' certificates, in the place of the system's own store.
        transport: carries the requests, in the place of sockets.
        clock, sleep, random: time and chance, for tests.
    """

    def __init__(
        self,
        *urls: str,
        deadline_s: float = 30.0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        reads_own_writes: bool = True,
        tls: ssl.SSLContext | None = None,
        transport: "httpx.BaseTransport | None" = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = chance.random,
    ) -> None:
        import httpx

        session = make_session(
            urls, deadline_s=deadline_s, limits=limits, reads_own_writes=reads_own_writes, clock=clock, random=random
        )
        self.operations = Operations(session)
        self._sleep = sleep
        options = transport_options(session, tls) if transport is None else {}
        self._connections: Connections[httpx.BaseTransport] = Connections(
            lambda: httpx.HTTPTransport(**options), shared=transport
        )
        self._places = threading.Semaphore(limits.connections_max)
        self._request_errors = httpx.RequestError

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
        for transport in self._connections.end():
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, call: Call[T]) -> T:
        """Carry out a call: send what it wants sent, wait as long as it wants to wait."""
        came: Reply | Failure | None = None
        while True:
            try:
                step = call.send(came)
            except StopIteration as end:
                answer: T = end.value
                return answer
            match step:
                case Try():
                    came = self._try(step)
                case Sleep(seconds):
                    self._sleep(seconds)
                    came = None

    def _try(self, step: Try) -> Reply | Failure:
        if not self._places.acquire(timeout=step.timeout_s):
            return busy_here(step)
        try:
            return self._exchange(step)
        finally:
            self._places.release()

    def _exchange(self, step: Try) -> Reply | Failure:
        inbox = Inbox(step, self.operations.session)
        transport = self._connections.take()
        try:
            response = transport.handle_request(http_request(step))
            try:
                for chunk in response.iter_raw():
                    if (trouble := inbox.take(chunk)) is not None:
                        return trouble
            finally:
                response.close()
        except self._request_errors as error:
            return failure(error, step)
        finally:
            self._connections.give_back(transport)
        return inbox.reply(response)

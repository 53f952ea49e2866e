"""`AsyncLedger`: the operations for code that awaits. The same as `Ledger`, with `await` and `async for`."""

import asyncio
import random as chance
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from fivenines.client.connection import Connection
from fivenines.client.operations import Operations, Pages
from fivenines.client.retry import Call, Came, Limits, Resolve, Session, Sleep, Try, Wait
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
    tls_of,
)
from fivenines.client.wire import Failure, Reply

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncLedger"]

P = ParamSpec("P")
T = TypeVar("T")


def _awaits(
    operation: Callable[Concatenate[Operations, P], Call[T]],
) -> "Callable[Concatenate[AsyncLedger, P], Coroutine[Any, Any, T]]":
    """Make a method that returns when the call is answered."""

    async def method(ledger: "AsyncLedger", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await ledger.run(operation(ledger.operations, *args, **kwargs))

    present(method, operation, owner="AsyncLedger", returns=answer_of(operation))
    return method


def _iterates(
    operation: Callable[Concatenate[Operations, P], Pages[T]],
) -> "Callable[Concatenate[AsyncLedger, P], AsyncIterator[T]]":
    """Make a method that iterates, fetching a page when the one before is used up."""

    async def method(ledger: "AsyncLedger", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        fetch = operation(ledger.operations, *args, **kwargs)
        page = await ledger.run(fetch(None))
        for item in page.items:
            yield item
        while page.next is not None:
            page = await ledger.run(fetch(page.next))
            for item in page.items:
                yield item

    present(method, operation, owner="AsyncLedger", returns=AsyncIterator[item_of(operation)])  # type: ignore[misc]  # known at run time
    return method


class AsyncLedger:
    """A ledger, reached over HTTP, for asyncio. An asynchronous context manager; tasks may share it.

        async with AsyncLedger() as ledger:
            await ledger.post(source="customers:alice", destination="customers:bob", amount=1_250)

    The arguments are those of `fivenines.client.Ledger`, with an asynchronous `transport` and `sleep`. A call that is
    cancelled may have been done, like one that met its deadline.
    """

    def __init__(
        self,
        *urls: str,
        deadline_s: float = 30.0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        reads_own_writes: bool = True,
        nameservers: Sequence[str] | None = None,
        tls: ssl.SSLContext | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = chance.random,
    ) -> None:
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
        judged_by = tls_of(session, tls) if transport is None else None
        self._connections: Connections[Connection | _OverHttpx] = Connections(
            lambda: Connection(session, judged_by), shared=_OverHttpx(transport, session) if transport else None
        )
        self._places = asyncio.Semaphore(limits.connections_max)
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._overtaken: dict[asyncio.Task[None], None] = {}
        """Those who listen a little longer to tries that lost."""

    create_asset = _awaits(Operations.create_asset)
    open_account = _awaits(Operations.open_account)
    open_accounts = _awaits(Operations.open_accounts)
    change_account = _awaits(Operations.change_account)
    freeze = _awaits(Operations.freeze)
    unfreeze = _awaits(Operations.unfreeze)
    close_account = _awaits(Operations.close_account)
    post = _awaits(Operations.post)
    transact = _awaits(Operations.transact)
    hold = _awaits(Operations.hold)
    settle = _awaits(Operations.settle)
    release = _awaits(Operations.release)
    submit = _awaits(Operations.submit)
    submit_rows = _awaits(Operations.submit_rows)
    account = _awaits(Operations.account)
    accounts = _iterates(Operations.accounts)
    accounts_of = _awaits(Operations.accounts_of)
    history = _iterates(Operations.history)
    transaction = _awaits(Operations.transaction)
    platform = _awaits(Operations.platform)
    activate_rules = _awaits(Operations.activate_rules)

    @property
    def position(self) -> int:
        """The highest position that any answer carried; 0 before the first."""
        return self.operations.session.position

    async def close(self) -> None:
        """Close the connections. Closing twice does nothing."""
        ended = self._connections.end()
        beside = [*self._lookups.values(), *self._overtaken]
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        for transport in ended:
            await transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, call: Call[T]) -> T:
        """Carry out a call: send what it wants sent, wait as long as it wants to wait.

        A try that no other may overtake is made by the task of the caller, and those that race by tasks of their own.
        """
        came: Came | None = None
        race: dict[asyncio.Task[Reply | Failure], Try] = {}
        try:
            while True:
                try:
                    step = call.send(came)
                except StopIteration as end:
                    answer: T = end.value
                    return answer
                match step:
                    case Try():
                        if not race and step.patience_s is None:
                            came = Came(step, await self._try(step))
                            continue
                        race[asyncio.create_task(self._try(step, beside=bool(race)))] = step
                        came = await _first(race, step.patience_s)
                    case Wait(patience_s):
                        came = await _first(race, patience_s)
                    case Sleep(seconds):
                        await self._sleep(seconds)
                        came = None
                    case Resolve():
                        await self._resolve(step)
                        came = None
        except asyncio.CancelledError:
            tasks = list(race)
            race.clear()
            await _cancel(tasks)
            raise
        finally:
            for task, step in race.items():
                watcher = asyncio.create_task(self._listen(task, step))
                self._overtaken[watcher] = None
                watcher.add_done_callback(self._overtaken.pop)

    async def _try(self, step: Try, *, beside: bool = False) -> Reply | Failure:
        if self._places.locked():
            if beside:
                return busy_here(step)
            try:
                async with asyncio.timeout(step.timeout_s):
                    await self._places.acquire()
            except TimeoutError:
                return busy_here(step)
        else:
            await self._places.acquire()  # there is one, so this does not wait
        try:
            return await self._exchange(step)
        finally:
            self._places.release()

    async def _exchange(self, step: Try) -> Reply | Failure:
        server = step.server.label
        for stale in self._connections.take_stale():
            await stale.aclose()
        connection = self._connections.take(server)
        try:
            came = await connection.exchange(step)
        except BaseException:
            # Cancelled, because another server was first: what comes over it now belongs to nobody.
            if self._connections.discard(connection):
                await connection.aclose()
            raise
        self._connections.give_back(connection, server)
        return came

    async def _listen(self, task: asyncio.Task[Reply | Failure], step: Try) -> None:
        """Let go of a try that lost, when it has had the time to show that it was not far behind."""
        session = self.operations.session
        try:
            await asyncio.wait({task}, timeout=session.grace_s)
            if task.done() and not task.cancelled() and task.exception() is None:
                session.answered_late(Came(step, task.result()))
        finally:
            await _cancel([task])

    async def _resolve(self, step: Resolve) -> None:
        task = self._lookups.get(step.host)
        if task is None:
            task = self._lookups[step.host] = asyncio.create_task(self._look_up(step.host))
        if step.wait_s > 0:
            await asyncio.wait({task}, timeout=step.wait_s)

    async def _look_up(self, host: str) -> None:
        try:
            came = await self._resolver.look_up_async(host)
            session = self.operations.session
            session.servers.heard(host, came, session.clock())
        finally:
            self._lookups.pop(host, None)


class _OverHttpx:
    """A transport of httpx that a user has brought along: it carries all requests at once."""

    def __init__(self, transport: "httpx.AsyncBaseTransport", session: Session) -> None:
        import httpx

        self._transport, self._session = transport, session
        self._request_errors = httpx.RequestError

    async def exchange(self, step: Try) -> Reply | Failure:
        """Send a request and return what came of it."""
        inbox = Inbox(step, self._session)
        try:
            response = await self._transport.handle_async_request(http_request(step))
            try:
                async for chunk in response.aiter_raw():
                    if (trouble := inbox.take(chunk)) is not None:
                        return trouble
            finally:
                await response.aclose()
        except self._request_errors as error:
            return failure(error, step)
        except (OSError, AttributeError) as error:
            # A server that dies just as the connection is made: anyio asks the socket for its address, and there is no
            # socket any more. httpcore knows neither of these errors and lets them through.
            return Failure("cut_off", f"the connection to {step.server.label} broke as it was made ({error})")
        return inbox.reply(response)

    async def aclose(self) -> None:
        """Close it."""
        await self._transport.aclose()


async def _first(race: dict[asyncio.Task[Reply | Failure], Try], patience_s: float | None) -> Came | None:
    """Return what came first of the tries under way; None when nothing came within the patience."""
    done, _ = await asyncio.wait(race, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    for task in race:  # in the order they were begun, so that a simulation goes the same way again
        if task in done:
            return Came(race.pop(task), task.result())
    return None


async def _cancel(tasks: list[asyncio.Task[Reply | Failure]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)

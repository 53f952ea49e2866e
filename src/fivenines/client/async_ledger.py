"""`AsyncLedger`: the operations for code that awaits. The same as `Ledger`, with `await` and `async for`."""

import asyncio
import random as chance
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

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
        tls: ssl.SSLContext | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = chance.random,
    ) -> None:
        import httpx

        session = make_session(
            urls, deadline_s=deadline_s, limits=limits, reads_own_writes=reads_own_writes, clock=clock, random=random
        )
        self.operations = Operations(session)
        self._sleep = sleep
        options = transport_options(session, tls) if transport is None else {}
        self._connections: Connections[httpx.AsyncBaseTransport] = Connections(
            lambda: httpx.AsyncHTTPTransport(**options), shared=transport
        )
        self._places = asyncio.Semaphore(limits.connections_max)
        self._request_errors = httpx.RequestError

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
        for transport in self._connections.end():
            await transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, call: Call[T]) -> T:
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
                    came = await self._try(step)
                case Sleep(seconds):
                    await self._sleep(seconds)
                    came = None

    async def _try(self, step: Try) -> Reply | Failure:
        try:
            async with asyncio.timeout(step.timeout_s):
                await self._places.acquire()
        except TimeoutError:
            return busy_here(step)
        try:
            return await self._exchange(step)
        finally:
            self._places.release()

    async def _exchange(self, step: Try) -> Reply | Failure:
        inbox = Inbox(step, self.operations.session)
        transport = self._connections.take()
        try:
            response = await transport.handle_async_request(http_request(step))
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
            return Failure("cut_off", f"the connection to {step.url} broke as it was made ({error})")
        finally:
            self._connections.give_back(transport)
        return inbox.reply(response)

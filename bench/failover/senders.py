"""How one transfer reaches each of the two, with all that a good client does to have it acknowledged.

`Library` is our client library, as everybody uses it: it asks the platform's nameservers, tries again, and asks a
second server where the first is slow.

`Database` is what a team writes around psycopg. A transfer takes a connection that is idle, or a new one; when that
fails, whatever is idle is thrown away, as it most likely broke too, and the transfer is tried again with the same id
once the database takes connections again. One prober finds that out for all who wait, twenty times a second: a thousand
clients that each try would take the machine that the database needs. `post_one` inserts with ON CONFLICT DO NOTHING, so
that an id that is known already changes nothing.

A try that takes too long is cut by shutting its socket, and never cancelled: PostgreSQL answers to a cancelled wait for
its standby that the transaction is committed here only, and whoever tries again then is told that the id is known,
before any standby has it.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, Protocol

import psycopg

from bench.failover.load import ACCOUNTS, DEADLINE_S, Plan, account
from fivenines.api import NewAccount
from fivenines.client import AsyncLedger, LedgerError, Limits
from fivenines.client.answers import ItemResult
from fivenines.client.retry import Call, Came, Step, Try
from fivenines.client.wire import Reply

__all__ = ["GaveUpError", "Sender", "sending"]

_ASSET: Final = "EUR/2"
_LIMITS: Final = Limits(connections_max=16)
_CONNECTIONS_MAX: Final = 32
_TRY_S_MAX: Final = 6.0
"""The same as that of our library."""
_PROBE_S: Final = 0.05
_DEFINITE: Final = (psycopg.ProgrammingError, psycopg.DataError, psycopg.IntegrityError)


class GaveUpError(Exception):
    """A transfer was not acknowledged; the sentence says why."""


class Sender(Protocol):
    """Where transfers go."""

    async def transfer(self, id: str, source: str, destination: str, amount: int, *, deadline: float) -> bool:
        """Have one acknowledged, and return whether it took more than its first try.

        Args:
            id: of the transaction.
            source: the account that pays.
            destination: the account that is paid.
            amount: in the smallest unit.
            deadline: when to give up, on the monotonic clock.

        Raises:
            GaveUpError: it was refused, or not acknowledged by then.
        """
        ...


@asynccontextmanager
async def sending(plan: Plan) -> AsyncIterator[Sender]:
    """Make ready what a plan describes, for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        if plan.kind == "patroni":
            database = Database(plan.dsn)
            stack.push_async_callback(database.close)
            yield database
            return
        ledgers = [
            await stack.enter_async_context(
                AsyncLedger(plan.url, nameservers=each, deadline_s=DEADLINE_S, limits=_LIMITS)
            )
            for each in plan.nameservers
        ]
        await ledgers[0].create_asset(_ASSET)
        accounts = [NewAccount(account(number), _ASSET, min_balance=None) for number in range(ACCOUNTS)]
        await ledgers[0].open_accounts(accounts)
        yield Library(ledgers)


class Library:
    """Our ledger, by its client library.

    Args:
        ledgers: the clients, which take turns.
    """

    def __init__(self, ledgers: list[AsyncLedger]) -> None:
        self._ledgers, self._turn = ledgers, 0

    async def transfer(self, id: str, source: str, destination: str, amount: int, *, deadline: float) -> bool:
        """See `Sender`. The library counts its deadline from now: a request goes out when it is due."""
        ledger = self._ledgers[self._turn]
        self._turn = (self._turn + 1) % len(self._ledgers)
        first: list[bool] = []
        post = ledger.operations.post(id=id, source=source, destination=destination, amount=amount)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                result = await ledger.run(watched(post, first))
        except LedgerError as error:
            raise GaveUpError(str(error)) from error
        except TimeoutError:
            raise GaveUpError("no answer by the deadline") from None
        if result.outcome != "posted":
            raise GaveUpError(f"the ledger says {result.outcome}")
        return not (first and first[0])


def watched(call: Call[ItemResult], first: list[bool]) -> Call[ItemResult]:
    """Carry a call through its steps unchanged, and note whether its first try was answered, and before any other."""
    came: Came | None = None
    step: Step
    tried: Try | None = None
    while True:
        try:
            step = call.send(came)
        except StopIteration as end:
            answer: ItemResult = end.value
            return answer
        if isinstance(step, Try) and tried is None:
            tried = step
        came = yield step
        if came is not None:
            first.append(came.step is tried and isinstance(came.what, Reply) and came.what.status < 300)


class Database:
    """PostgreSQL, wherever its primary is.

    Args:
        dsn: where to connect to.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._idle: list[psycopg.AsyncConnection] = []
        self._places = asyncio.Semaphore(_CONNECTIONS_MAX)
        self._back = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None

    async def transfer(self, id: str, source: str, destination: str, amount: int, *, deadline: float) -> bool:
        """See `Sender`."""
        tries, why = 0, "no connection was free by the deadline"
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._places.acquire()
            except TimeoutError:
                break
            tries += 1
            try:
                await self._try((id, source, destination, amount), min(_TRY_S_MAX, deadline - time.monotonic()))
            except _DEFINITE as error:
                raise GaveUpError(f"PostgreSQL refuses: {error}") from error
            except (psycopg.Error, OSError) as error:
                why = " ".join(str(error).split())
                await self._forget_idle()
            else:
                return tries > 1
            finally:
                self._places.release()
            await self._until_back(deadline)
        raise GaveUpError(f"no answer by the deadline ({tries} tries; last: {why})")

    async def close(self) -> None:
        """Close all connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._forget_idle()

    async def _try(self, values: tuple[str, str, str, int], seconds: float) -> None:
        connection = self._idle.pop() if self._idle else await self._connect()
        cutting = asyncio.get_running_loop().call_later(max(0.1, seconds), _cut, connection)
        try:
            await connection.execute("select post_one(%s::uuid, %s, %s, %s)", values)
        except BaseException:
            await connection.close()
            raise
        finally:
            cutting.cancel()
        self._idle.append(connection)

    async def _connect(self) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)

    async def _forget_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _until_back(self, deadline: float) -> None:
        """Wait until the database takes connections."""
        if self._probing is None or self._probing.done():
            self._back.clear()
            self._probing = asyncio.create_task(self._probe(), name="probing")
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._back.wait()

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_S)
            try:
                self._idle.append(await self._connect())
            except (psycopg.Error, OSError):
                continue
            self._back.set()
            return


def _cut(connection: psycopg.AsyncConnection) -> None:
    """End a connection as a lost network does: whoever reads from it is told at once, and nothing is cancelled."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)

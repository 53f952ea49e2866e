"""Carry books into a ledger over HTTP, many requests at a time, while it is killed and started again.

The importer's runner works through the books day by day in a thread of its own; what it posts is cut into small
requests here, which the client library sends and retries. Rows of one account stay in one request, in their order, so
each account's history is in the order of its day; accounts of these books have no limits, so the order between accounts
decides nothing.

A **keeper** starts again what was killed. If anything ends by itself, the replay fails.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import chain, cycle
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from fivenines.api import Account, ItemResult, NewAccount, NewTransaction
from fivenines.client import AsyncLedger, LedgerError, Limits, NotFoundError
from fivenines.client.shell import unused_tls
from fivenines.drill.place import Place
from fivenines.drill.record import Kill, Killer, Record, Recorder
from fivenines.drill.supervise import LedgerFailedError
from fivenines.importers import Import, ImportingError, Report, run_import
from fivenines.importers.run import Progress

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["DEADLINE_S", "Call", "Replay", "replay", "requests_of"]

DEADLINE_S = 60.0
"""How long the client goes on with one request: far longer than a start takes on a busy machine."""
ITEMS_MAX = 10
"""Transactions in one request: small, so that a kill hits many."""
_REQUESTS_MAX = 16
_READ_MAX = 200
_LOOK_S = 0.05
_BACKOFF_S_MAX = 0.25
"""The client's longest wait between two tries: there is one client here, not a crowd that has to spread out."""

T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """A request as the importer made it: the tries and kills in between are in the `Record`."""

    due: float
    """When it should have gone out, on the machine's monotonic clock."""
    ended: float = math.inf
    error: str = ""
    """Why the client gave up."""

    @property
    def latency_s(self) -> float:
        """From when it should have gone out to its answer."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How a replay went."""

    began: float
    ended: float
    record: Record
    kills: Sequence[Kill]
    failed_requests: int
    """Requests that the client library gave up on."""
    asked: Sequence[Call]
    """Every request as the importer made it, with when it was due and when it ended."""
    whole_after_s: Sequence[float]
    """For each kill that was got over: how long it took until everything was back."""
    rate_per_s: float
    """Requests a second, at most."""
    report: Report | None
    """What the importer says; None when the replay did not come to its end."""
    error: str
    """Why it did not; empty when it did."""


class _Books:
    """The ledger as the importer sees it. Called from the importer's thread; the requests run on the event loop.

    There is a client for each region, and they take turns. What one of them has seen, all read at least.
    """

    def __init__(
        self,
        ledgers: Sequence[AsyncLedger],
        loop: asyncio.AbstractEventLoop,
        *,
        is_customer: Callable[[str], bool],
        rate_per_s: float,
    ) -> None:
        self._ledgers, self._turns = ledgers, cycle(ledgers)
        self._loop, self._is_customer = loop, is_customer
        self._gap_s, self._next = 1 / rate_per_s, 0.0
        self.asked: list[Call] = []
        self._slots = asyncio.Semaphore(_REQUESTS_MAX)
        self._current: Future[Any] | None = None
        self._ended = False
        self.failed_requests = 0

    @property
    def _ledger(self) -> AsyncLedger:
        """The client whose turn it is."""
        return next(self._turns)

    def end(self) -> None:
        """Answer no more calls, so that the importer's thread comes to its end; called on the event loop."""
        self._ended = True
        if self._current is not None:
            self._current.cancel()

    def position(self) -> int:
        return self._run(self._ledger.platform()).position

    def create_assets(self, assets: Sequence[str]) -> None:
        for asset in assets:
            self._run(self._ledger.create_asset(asset))

    def open_accounts(self, accounts: Sequence[NewAccount]) -> Sequence[ItemResult]:
        return self._run(self._ledger.open_accounts(accounts))

    def post(self, transactions: Sequence[NewTransaction]) -> Sequence[ItemResult]:
        requests = requests_of(transactions, self._is_customer)
        return list(chain.from_iterable(self._run_all([self._ledger.submit(each) for each in requests])))

    def balances(self, accounts: Sequence[str]) -> Mapping[str, int]:
        parts = [accounts[start : start + _READ_MAX] for start in range(0, len(accounts), _READ_MAX)]
        found = self._run_all([self._ledger.accounts_of(part) for part in parts])
        return {account.id: account.balance for account in chain.from_iterable(found)}

    def account(self, account_id: str) -> Account | None:
        try:
            return self._run(self._ledger.account(account_id))
        except NotFoundError:
            return None

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._run_all([call])[0]

    def _run_all(self, calls: Sequence[Coroutine[Any, Any, T]]) -> Sequence[T]:
        current = self._current = asyncio.run_coroutine_threadsafe(self._gather(calls), self._loop)
        if self._ended:
            current.cancel()
        results: Sequence[T] = current.result()
        return results

    async def _gather(self, calls: Sequence[Coroutine[Any, Any, T]]) -> Sequence[T]:
        results = await asyncio.gather(*map(self._limited, calls), return_exceptions=True)
        sessions = [ledger.operations.session for ledger in self._ledgers]
        newest = max(session.position for session in sessions)
        for session in sessions:
            session.saw(newest)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results  # type: ignore[return-value]  # those that are no results were raised

    async def _limited(self, call: Coroutine[Any, Any, T]) -> T:
        async with self._slots:
            now = time.monotonic()
            self._next = max(self._next + self._gap_s, now)
            asked = Call(self._next)
            if self._next > now:
                await asyncio.sleep(self._next - now)
            try:
                return await call
            except NotFoundError:
                raise
            except LedgerError as error:
                asked.error = str(error)
                self.failed_requests += 1
                raise
            finally:
                asked.ended = time.monotonic()
                self.asked.append(asked)


def requests_of(
    transactions: Sequence[NewTransaction], is_customer: Callable[[str], bool]
) -> Iterator[Sequence[NewTransaction]]:
    """Cut transactions into requests of about `ITEMS_MAX`, never between two neighbours that share a customer."""
    request: list[NewTransaction] = []
    customers: set[str] = set()
    for transaction in transactions:
        named = {end for each in transaction.postings for end in (each.source, each.destination)}
        if len(request) >= ITEMS_MAX and not any(map(is_customer, named & customers)):
            yield request
            request = []
        request.append(transaction)
        customers = named
    if request:
        yield request


async def replay(
    source: Import,
    place: Place,
    *,
    importer: str,
    is_customer: Callable[[str], bool],
    kill_at: Sequence[int],
    patience: int,
    rate_per_s: float,
    now_ms: int,
    progress: Callable[[Progress], None],
    told: Callable[[str], None],
) -> Replay:
    """Replay books into a ledger, with kills on the way.

    Args:
        source: the books.
        place: where the ledger is, started.
        importer: the importer's name.
        is_customer: whether an account's own order of transactions is to be kept.
        kill_at: the numbers of acknowledged transactions at which to kill.
        patience: see `Killer`.
        rate_per_s: requests a second, at most.
        now_ms: unix time, for the ids.
        progress: is called from another thread.
        told: is told of kills and starts.

    Raises:
        LedgerFailedError: the ledger ended by itself, or did not start again.
    """
    clock = time.monotonic
    recorder = Recorder(
        lambda: httpx.AsyncHTTPTransport(verify=unused_tls(), trust_env=False, limits=httpx.Limits(max_connections=1)),
        clock=clock,
    )
    killer = recorder.killer = Killer(
        kill_at, patience=patience, wanted=place.requests_wanted, is_hit=place.is_hit, kill=place.kill
    )
    limits = Limits(backoff_s_max=_BACKOFF_S_MAX)
    async with AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(
                AsyncLedger(
                    *way.urls,
                    nameservers=way.nameservers,
                    deadline_s=DEADLINE_S,
                    limits=limits,
                    transport=recorder,
                    clock=clock,
                )
            )
            for way in place.ways()
        ]
        books = _Books(ledgers, asyncio.get_running_loop(), is_customer=is_customer, rate_per_s=rate_per_s)
        began = clock()
        work = asyncio.create_task(
            asyncio.to_thread(run_import, importer, source, books, now_ms=now_ms, progress=progress), name="import"
        )
        keeper = asyncio.create_task(_keep_up(place, killer, told), name="keeper")
        report, error = None, ""
        try:
            await asyncio.wait({work, keeper}, return_when=asyncio.FIRST_COMPLETED)
            if keeper.done():
                await keeper  # raises
            report = await work
            whole = asyncio.create_task(place.wait_whole(), name="waiting for what was killed")
            await asyncio.wait({whole, keeper}, return_when=asyncio.FIRST_COMPLETED)
            whole.cancel()
            if keeper.done():
                await keeper  # raises
        except (LedgerError, ImportingError) as failed:
            error = str(failed)
        finally:
            books.end()
            keeper.cancel()
            with suppress(asyncio.CancelledError, LedgerFailedError):
                await keeper
    for kill in killer.kills:
        _complete(kill, recorder.record)
    return Replay(
        began=began,
        ended=clock(),
        record=recorder.record,
        kills=killer.kills,
        failed_requests=books.failed_requests,
        asked=books.asked,
        whole_after_s=list(place.whole_after_s),
        rate_per_s=rate_per_s,
        report=report,
        error=error,
    )


async def _keep_up(place: Place, killer: Killer, told: Callable[[str], None]) -> None:
    telling = asyncio.create_task(_tell_kills(killer, told), name="telling of kills")
    try:
        await place.keep_up(told)
    finally:
        telling.cancel()


async def _tell_kills(killer: Killer, told: Callable[[str], None]) -> None:
    known = 0
    while True:
        for kill in killer.kills[known:]:
            known += 1
            told(f"SIGKILL: {kill.what}, after {kill.after:,} transactions, with {kill.requests} requests under way")
        await asyncio.sleep(_LOOK_S)


def _complete(kill: Kill, record: Record) -> None:
    """Find out, once all is answered, which of the requests under way a kill has cut off."""
    kill.cut_off = sum(each.out_at <= kill.at <= each.ended for each in record.cut_off)

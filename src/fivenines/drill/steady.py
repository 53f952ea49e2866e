"""A steady load: so many requests a second, whatever becomes of those before, from clients that ask DNS.

The load is open: a request goes out when its time has come, not when the one before was answered. So a pause cannot
hide behind requests that were never made, and a latency counts from the time at which its request should have gone out.

Three of four requests post a transaction of their own, with an id that was made before; the fourth reads an account,
and wants to see all that its client has seen. Everything that was meant and everything that was answered is kept.
"""

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from fivenines.client import AsyncLedger, LedgerError, Limits
from fivenines.drill.disk import OnDisk
from fivenines.drill.record import id_bytes
from fivenines.ids import as_text, new_id

__all__ = ["Asked", "Steady", "Stretch", "Verdict", "judge_steady", "stretch"]

ASSET = "EUR/2"
BANK = "steady:bank"
DEADLINE_S = 30.0
"""How long a client goes on with one request."""
_READ_EVERY = 4
_ACCOUNTS = 50
_POSTED = "posted"


@dataclass(slots=True, eq=False)
class Asked:
    """One request."""

    due: float
    """When it should have gone out, on the monotonic clock."""
    client: int
    id: bytes = b""
    """Of the transaction; empty for a read."""
    account: str = ""
    amount: int = 0
    ended: float = math.inf
    outcome: str = ""
    """What the ledger said; empty while nothing was heard."""
    position: int = 0
    error: str = ""
    """Why the client gave up."""

    @property
    def latency_s(self) -> float:
        """From when it should have gone out to its answer."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What clients noticed between two moments."""

    requests: int
    failed: int
    longest_pause_s: float
    """The longest that any request waited."""
    p99_ms: float
    budget_s: float
    """Seconds of the error budget: of the requests of each second the part that failed, or waited for longer than
    `SLOW_S`, summed up."""
    errors: tuple[str, ...]


SLOW_S = 2.0
"""Who waits for longer than this has noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with the whole of a load: nothing, if all is well."""

    acknowledged: int
    failed: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    reordered: tuple[str, ...]
    wrong_balances: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong, and there was anything to look at."""
        return self.acknowledged > 0 and not (self.lost or self.doubled or self.reordered or self.wrong_balances)


@dataclass(slots=True)
class Steady:
    """Clients that ask steadily.

    Args:
        url: of the ledger, by its name.
        nameservers: of each client, host:port, the nearest first; there are as many clients as entries.
        rate_per_s: requests a second, of all clients together.
    """

    url: str
    nameservers: Sequence[Sequence[str]]
    rate_per_s: float = 300.0
    limits: Limits = field(default_factory=Limits)
    asked: list[Asked] = field(default_factory=list)
    _is_ending: bool = False

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Ask until `end`, then wait for what is under way. Raises `LedgerError` when accounts cannot be opened."""
        async with AsyncExitStack() as stack:
            ledgers = [
                await stack.enter_async_context(
                    AsyncLedger(self.url, nameservers=tuple(each), deadline_s=DEADLINE_S, limits=self.limits)
                )
                for each in self.nameservers
            ]
            await ledgers[0].create_asset(ASSET)
            await ledgers[0].open_account(BANK, asset=ASSET, min_balance=None)
            for number in range(_ACCOUNTS):
                await ledgers[0].open_account(_account(number), asset=ASSET)
            on_ready()
            began, sent = time.monotonic(), 0
            async with asyncio.TaskGroup() as tasks:
                while not self._is_ending:
                    while began + sent / self.rate_per_s <= time.monotonic():
                        due = began + sent / self.rate_per_s
                        asked = Asked(due, sent % len(ledgers), account=_account(sent % _ACCOUNTS))
                        if sent % _READ_EVERY:
                            asked.id, asked.amount = id_bytes(new_id()), 1 + sent % 100
                        self.asked.append(asked)
                        tasks.create_task(_ask(ledgers[asked.client], asked))
                        sent += 1
                    await asyncio.sleep(max(0.0, began + sent / self.rate_per_s - time.monotonic()))

    def end(self) -> None:
        """Ask nothing more."""
        self._is_ending = True


def _account(number: int) -> str:
    return f"steady:{number:03d}"


async def _ask(ledger: AsyncLedger, asked: Asked) -> None:
    try:
        if asked.id:
            result = await ledger.post(
                id=as_text(asked.id), source=BANK, destination=asked.account, amount=asked.amount
            )
            asked.outcome, asked.position = result.outcome, result.position or 0
        else:
            await ledger.account(asked.account)
            asked.outcome = "read"
    except LedgerError as error:
        asked.error = str(error)
    asked.ended = time.monotonic()


def stretch(asked: Sequence[Asked], began: float, ended: float, *, rate_per_s: float) -> Stretch:
    """Sum up the requests that were due between two moments of the monotonic clock."""
    here = [each for each in asked if began <= each.due < ended]
    failed = [each for each in here if each.error]
    latencies = sorted(each.latency_s for each in here)
    bad = len(failed) + sum(not each.error and each.latency_s > SLOW_S for each in here)
    return Stretch(
        requests=len(here),
        failed=len(failed),
        longest_pause_s=latencies[-1] if latencies else 0.0,
        p99_ms=1_000 * latencies[int(0.99 * (len(latencies) - 1))] if latencies else 0.0,
        budget_s=bad / rate_per_s,
        errors=tuple(dict.fromkeys(each.error for each in failed))[:5],
    )


def judge_steady(asked: Sequence[Asked], disk: OnDisk) -> Verdict:
    """Hold everything that was answered against what the journal comes to.

    Lost: acknowledged, and not in the journal. Doubled: decided at two positions. Reordered: sent after another was
    answered, and decided before it. The balances of all accounts must be what was acknowledged, and nothing else but
    what nobody got an answer about.
    """
    posts = [each for each in asked if each.id]
    done = [each for each in posts if each.outcome == _POSTED]
    lost = [as_text(each.id) for each in done if each.id not in disk.carried_out]
    doubled = [
        f"{as_text(each.id)}: answered {each.position}, in the journal at {disk.carried_out[each.id]}"
        for each in done
        if each.id in disk.carried_out and each.position != disk.carried_out[each.id]
    ]
    doubled += [as_text(each) for each in disk.reused]
    wrong = []
    known = {each.id for each in posts}
    expected: dict[str, int] = {}
    for each in posts:
        if each.id in disk.carried_out:
            expected[each.account] = expected.get(each.account, 0) + each.amount
            if each.outcome not in {_POSTED, ""}:
                wrong.append(f"{as_text(each.id)}: answered {each.outcome}, and carried out")
    for account, amount in expected.items():
        if disk.accounts[account].balance != amount:
            wrong.append(f"{account}: {disk.accounts[account].balance} in the place of {amount}")
    wrong += [f"{as_text(each)}: nobody asked for it" for each in disk.carried_out if each not in known]
    return Verdict(
        acknowledged=len(done),
        failed=sum(bool(each.error) for each in asked),
        lost=tuple(lost),
        doubled=tuple(doubled),
        reordered=tuple(_reordered(done)),
        wrong_balances=tuple(wrong),
    )


def _reordered(done: Sequence[Asked]) -> list[str]:
    """Find those that were decided before one that had been answered when they were due."""
    by_end = sorted(done, key=lambda each: each.ended)
    ends = [each.ended for each in by_end]
    highest, so_far = [0], 0
    for each in by_end:
        so_far = max(so_far, each.position)
        highest.append(so_far)
    return [
        f"{as_text(each.id)}: decided at {each.position}, after {before} was answered"
        for each in done
        if each.position < (before := highest[bisect_left(ends, each.due)])
    ]

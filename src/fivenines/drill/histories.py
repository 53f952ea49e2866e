"""Concurrent clients who move money between a few accounts and write down what they were told, and when.

Each has a client library of its own and a node of its own that it prefers; the others are where it goes when that one
fails. Balances are small and may not fall below zero, so many transfers are refused, and what is refused depends on all
that went before. Reads are linearizable, of one account or of several at once. What comes of it is a history that
`linearizability.check` can judge, and the answers by which each transaction can be asked for again.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from fivenines.client import (
    AsyncLedger,
    ItemResult,
    MaybeDoneError,
    NewTransaction,
    Posting,
    RefusedError,
    UnavailableError,
    new_id,
)
from fivenines.drill.account_model import POSTED, REFUSED, AccountOperation, Accounts, Read, Transfer
from fivenines.drill.linearizability import Violation, check

__all__ = ["Clients", "Sent"]

_ASSET = "EUR/2"
_MINT = "mint"


@dataclass(frozen=True, slots=True)
class Sent:
    """One transfer, and what its client was told."""

    id: str
    transfer: Transfer
    outcome: str | None
    """None: nothing, so it may have been done."""
    position: int | None
    """Of the frame that decided it."""
    operation: int
    """Where it is in the history."""


class Clients:
    """Clients of the nodes at `urls`, who work from `open` on whenever `working` is entered.

    Args:
        urls: where the nodes are.
        count: how many clients.
        accounts: how many accounts they share.
        balance: what each account has in the beginning.
        pause_s: how long a client thinks between two operations, at most.
        deadline_s: how long an operation may take.
        linearizable: whether reads ask to be; if not, any node's own state will do, and the judge finds out.
        seed: what they choose is drawn from it; what they meet is not.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        count: int = 9,
        accounts: int = 6,
        balance: int = 50,
        pause_s: float = 0.02,
        deadline_s: float = 30.0,
        linearizable: bool = True,
        seed: int = 0,
    ) -> None:
        self._urls = list(urls)
        self._count = count
        self._names = [f"shared:{number}" for number in range(accounts)]
        self._balance = balance
        self._pause_s = pause_s
        self._deadline_s = deadline_s
        self._linearizable = linearizable
        self._chance = random.Random(seed)
        self.operations: list[AccountOperation] = []
        """What was asked and answered so far."""
        self.sent: list[Sent] = []
        """The transfers so far, but for those that surely were not done."""
        self.failed: list[UnavailableError] = []
        """What came to nothing within its deadline."""
        self._is_working = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def model(self) -> Accounts:
        """The accounts as they are in the beginning."""
        return Accounts(dict.fromkeys(self._names, self._balance), dict.fromkeys(self._names, 0))

    async def open(self) -> None:
        """Open the accounts and fill them."""
        async with AsyncLedger(*self._urls, deadline_s=self._deadline_s) as ledger:
            await ledger.create_asset(_ASSET)
            await ledger.open_account(_MINT, asset=_ASSET, min_balance=None)
            for name in self._names:
                await ledger.open_account(name, asset=_ASSET)
                await ledger.post(source=_MINT, destination=name, amount=self._balance)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Let them work for as long as the block takes, and then finish what they are at."""
        assert not self._tasks, "they work already"
        self._is_working = True
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._count):
                    self._tasks.add(group.create_task(self._work(number), name=f"client {number}"))
                try:
                    yield
                finally:
                    self._is_working = False
        finally:
            self._tasks.clear()

    async def wait_answered(self, more: int) -> None:
        """Wait until so many more operations are answered."""
        wanted = len(self.operations) + more
        while len(self.operations) < wanted:
            assert self._is_working, "nobody works"
            await asyncio.sleep(0.01)

    def violation(self) -> Violation[Transfer | Read, str | tuple[int, ...]] | None:
        """Judge what was taken down. Takes a second for thousands of operations."""
        return check(self.model, self.operations)

    async def ask_again(self) -> None:
        """Ask about every transfer that nobody was told of, as a client should: by sending it again under its id.

        The answer says what became of it, and in which frame. That frame lies between those of others, so it was made
        after these had asked for theirs, or before they were told: which leaves it a short interval, where many
        long ones would keep the judge for ever. This trusts the ledger's positions, but only to say more than it need
        have said: what is found right under narrower intervals is right.
        """
        unknown = [number for number, sent in enumerate(self.sent) if sent.outcome is None]
        results = await self._submit([self.sent[number] for number in unknown])
        decided = [
            (sent.position, operation.invoked, operation.returned)
            for sent in self.sent
            if sent.position is not None and (operation := self.operations[sent.operation]).returned is not None
        ]
        now = time.monotonic()
        for number, result in zip(unknown, results, strict=True):
            sent, position = self.sent[number], result.position
            assert position is not None, result
            operation = self.operations[sent.operation]
            before = (invoked for earlier, invoked, _ in decided if earlier < position)
            after = (returned for later, _, returned in decided if later >= position)
            self.sent[number] = replace(sent, outcome=result.outcome, position=position)
            self.operations[sent.operation] = replace(
                operation,
                invoked=max((operation.invoked, *before)),
                returned=min((now, *after)),
                output=result.outcome,
            )

    async def send_again(self) -> list[str]:
        """Send every transfer once more under its id, and tell which were answered otherwise than the first time."""
        results = await self._submit(self.sent)
        return [
            f"{sent.id}: {sent.outcome} at {sent.position}, and now {result.outcome} at {result.position}"
            for sent, result in zip(self.sent, results, strict=True)
            if sent.outcome is not None and (result.outcome, result.position) != (sent.outcome, sent.position)
        ]

    async def _submit(self, sent: Sequence[Sent]) -> list[ItemResult]:
        again = [NewTransaction(id=each.id, postings=[_posting(each.transfer)]) for each in sent]
        async with AsyncLedger(*self._urls, deadline_s=60.0) as ledger:
            return await ledger.submit(again)

    # --- one client

    async def _work(self, number: int) -> None:
        chance = random.Random(self._chance.random())
        first = number % len(self._urls)
        urls = self._urls[first:] + self._urls[:first]
        async with AsyncLedger(*urls, deadline_s=self._deadline_s, reads_own_writes=self._linearizable) as ledger:
            while self._is_working:
                await asyncio.sleep(chance.random() * self._pause_s)
                try:
                    if chance.random() < 0.5:
                        await self._read(ledger, number, chance)
                    else:
                        await self._transfer(ledger, number, chance)
                except UnavailableError as error:
                    self.failed.append(error)

    async def _read(self, ledger: AsyncLedger, number: int, chance: random.Random) -> None:
        names = tuple(chance.sample(self._names, chance.choice([1, 1, 2, 3])))
        invoked = time.monotonic()
        if len(names) == 1:
            found = [await ledger.account(names[0], linearizable=self._linearizable)]
        else:
            found = await ledger.accounts_of(names, linearizable=self._linearizable)
        balances = {account.id: account.balance for account in found}
        self._take(number, invoked, Read(names), tuple(balances[name] for name in names))

    async def _transfer(self, ledger: AsyncLedger, number: int, chance: random.Random) -> None:
        source, destination = chance.sample(self._names, 2)
        transfer = Transfer(source, destination, chance.randint(1, self._balance))
        id, invoked = new_id(), time.monotonic()
        try:
            outcome, position = await _post(ledger, id, transfer)
        except MaybeDoneError:
            self.sent.append(Sent(id, transfer, None, None, len(self.operations)))
            self._take(number, invoked, transfer, None)
            raise
        self.sent.append(Sent(id, transfer, outcome, position, len(self.operations)))
        self._take(number, invoked, transfer, outcome)

    def _take(self, number: int, invoked: float, asked: Transfer | Read, output: str | tuple[int, ...] | None) -> None:
        """Take down an operation that is over for its client: for the ledger, one without an answer may not be."""
        returned = None if output is None else time.monotonic()
        self.operations.append(
            AccountOperation(client=number, invoked=invoked, returned=returned, input=asked, output=output)
        )


async def _post(ledger: AsyncLedger, id: str, transfer: Transfer) -> tuple[str, int | None]:
    try:
        result = await ledger.transact([_posting(transfer)], id=id)
    except RefusedError as error:
        if error.outcome != REFUSED:
            raise
        return REFUSED, error.position
    assert result.outcome == POSTED, result
    return POSTED, result.position


def _posting(transfer: Transfer) -> Posting:
    assert transfer.source is not None
    assert transfer.destination is not None
    return Posting(transfer.source, transfer.destination, transfer.amount)

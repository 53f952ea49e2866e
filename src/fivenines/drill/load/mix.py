"""What the clients of a drill do: chosen so that whatever a ledger can do wrong would show.

Money moves between three kinds of account, and each kind is there for what it can show:

- a **bank** without a limit, and many customers who start with nothing: nothing between them is ever refused, so what
  is lost or doubled shows in a balance at once;
- **purses** that hold little and may not hold more than a maximum: from the bank into a purse and back, both limits
  refuse again and again, and which of two requests was refused tells in which order they were decided;
- the **test accounts**: a closed set with a little money, which they move among themselves and may not overdraw. Their
  sum never changes, whatever was refused; so a `total`, all of their balances in one linearizable request, must always
  come to the same.

Beside that, customers' money is held, and holds are settled in full, in part, part by part, a second time on purpose
(which must be refused), or released. Reads want to see all that their client has seen, and
some of them all that anybody has.

What is asked is drawn from a seed. Ids are not, for they carry the time; and which hold a settlement is about depends
on which were answered by then. An `Asked` that this made is looked at again later: whoever carries it out fills in its
answer in place.
"""

import random
from collections import deque
from typing import Final

from fivenines.api import NewAccount
from fivenines.client import AsyncLedger
from fivenines.drill.load.asked import Asked
from fivenines.ids import new_ids16

__all__ = [
    "ASSET",
    "CUSTOMERS",
    "PURSES",
    "PURSE_MAX",
    "TEST_ACCOUNTS",
    "TEST_BALANCE",
    "Mix",
    "MixFailedError",
    "prefix_of",
]

ASSET: Final = "EUR/2"
CUSTOMERS: Final = 100
PURSES: Final = 8
PURSE_MAX: Final = 500
TEST_ACCOUNTS: Final = 6
TEST_BALANCE: Final = 100

_SHARES: Final = {
    "customer": 32,
    "purse": 8,
    "test": 16,
    "hold": 8,
    "end": 8,
    "read": 22,
    "total": 6,
}
"""Of a hundred requests."""
_AGAIN: Final = 0.2
"""How often a hold that was brought to an end is to be brought to an end once more."""
_LINEARIZABLE: Final = 0.25
"""How many of the reads of one account are: each goes through the journal, as a write does."""
_ENDED_KEPT: Final = 50
_OPEN_KEPT: Final = 1_000
_HOLDS_LOOKED_AT: Final = 8


class MixFailedError(Exception):
    """The accounts of a load could not be opened; the sentence says which, and what the ledger said."""


def prefix_of(name: str) -> str:
    """Return what the names of all accounts of a load begin with."""
    return f"load:{name}:"


class Mix:
    """What the clients of one load do.

    Args:
        seed: what they choose is drawn from it.
        clients: how many there are.
        name: of the load; its accounts are its own.
    """

    def __init__(self, seed: int, clients: int, name: str = "1") -> None:
        if clients < 1:
            raise ValueError(f"clients must be at least 1, not {clients}")
        self.clients = clients
        self.prefix = prefix_of(name)
        self.bank = f"{self.prefix}bank"
        self.customers = tuple(f"{self.prefix}customer:{number:03d}" for number in range(CUSTOMERS))
        self.purses = tuple(f"{self.prefix}purse:{number}" for number in range(PURSES))
        self.test_accounts = tuple(f"{self.prefix}test:{number}" for number in range(TEST_ACCOUNTS))
        self._chance = random.Random(seed)
        self._holds: deque[Asked] = deque(maxlen=_OPEN_KEPT)
        """Holds that nobody has brought to an end yet, the oldest first."""
        self._ended: deque[Asked] = deque(maxlen=_ENDED_KEPT)

    async def setup(self, ledger: AsyncLedger) -> None:
        """Open the accounts, and fill the test accounts. Doing it again opens nothing twice.

        Raises:
            MixFailedError: an account is there with other content.
            LedgerError: the ledger did not answer.
        """
        await ledger.create_asset(ASSET)
        accounts = [NewAccount(self.bank, ASSET, min_balance=None)]
        accounts += [NewAccount(each, ASSET) for each in self.customers]
        accounts += [NewAccount(each, ASSET, max_balance=PURSE_MAX) for each in self.purses]
        accounts += [NewAccount(each, ASSET) for each in self.test_accounts]
        for result in await ledger.open_accounts(accounts):
            if result.is_refusal:
                raise MixFailedError(f"{result.id} could not be opened: {result.outcome}")
        for account in await ledger.accounts_of(self.test_accounts, linearizable=True):
            if not account.credits:
                await ledger.post(source=self.bank, destination=account.id, amount=TEST_BALANCE)

    def next(self, due: float, client: int) -> Asked:
        """Return what a client asks at a time of the monotonic clock."""
        chance = self._chance
        what = chance.choices(tuple(_SHARES), tuple(_SHARES.values()))[0]
        if what == "end":
            return self._end_of_a_hold(due, client) or self._hold(due, client)
        match what:
            case "customer":
                ends = self.bank, chance.choice(self.customers)
                return _post(due, client, ends, chance.randint(1, 100))
            case "purse":
                purse = chance.choice(self.purses)
                ends = (self.bank, purse) if chance.random() < 0.6 else (purse, self.bank)
                return _post(due, client, ends, chance.randint(1, PURSE_MAX // 2))
            case "test":
                source, destination = chance.sample(self.test_accounts, 2)
                return _post(due, client, (source, destination), chance.randint(1, TEST_BALANCE))
            case "hold":
                return self._hold(due, client)
            case "total":
                return Asked(due=due, client=client, kind="total", accounts=self.test_accounts)
            case _:
                every = (self.customers, self.customers, self.purses, self.test_accounts)
                read = Asked(due=due, client=client, kind="read", destination=chance.choice(chance.choice(every)))
                read.is_linearizable = chance.random() < _LINEARIZABLE
                return read

    def _hold(self, due: float, client: int) -> Asked:
        chance = self._chance
        source, destination = self.bank, chance.choice(self.customers)
        if chance.random() < 0.3:
            source, destination = destination, source
        made = Asked(
            due=due,
            client=client,
            kind="hold",
            id=new_ids16(1)[0],
            source=source,
            destination=destination,
            amount=chance.randint(1, 100),
        )
        self._holds.append(made)
        return made

    def _end_of_a_hold(self, due: float, client: int) -> Asked | None:
        """Settle or release a hold of which something is known: that it is held, or that nobody knows."""
        chance = self._chance
        if self._ended and chance.random() < _AGAIN:
            hold, is_last = chance.choice(self._ended), False
        else:
            found = self._take_hold()
            if found is None:
                return None
            hold, is_last = found, True
        made = Asked(due=due, client=client, kind="settle", id=new_ids16(1)[0], hold=hold.id)
        way = chance.choices(("full", "partial", "in parts", "release"), (4, 3, 2, 2))[0]
        if way == "release":
            made.kind = "release"
        elif way != "full":
            made.source, made.destination = hold.source, hold.destination
            made.amount = chance.randint(1, hold.amount)
            made.is_final = way == "partial"
        if is_last:
            (self._ended if made.is_final else self._holds).append(hold)
        return made

    def _take_hold(self) -> Asked | None:
        for _ in range(min(len(self._holds), _HOLDS_LOOKED_AT)):
            hold = self._holds.popleft()
            if hold.outcome == "held" or (hold.error and not hold.is_undone):
                return hold
            if not hold.outcome and not hold.error:
                self._holds.append(hold)  # not answered yet
        return None


def _post(due: float, client: int, ends: tuple[str, str], amount: int) -> Asked:
    source, destination = ends
    return Asked(
        due=due,
        client=client,
        kind="post",
        id=new_ids16(1)[0],
        source=source,
        destination=destination,
        amount=amount,
    )

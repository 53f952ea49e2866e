"""Accounts as one copy would keep them: what `linearizability` compares the histories of real clients with.

Only what a history of transfers and reads needs: each account has a balance and a floor, a transfer is posted if it
leaves its source at the floor or above, and else refused. It shares no code with the ledger that it judges.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fivenines.drill.linearizability import Operation

__all__ = ["POSTED", "REFUSED", "AccountOperation", "Accounts", "Read", "Transfer"]

POSTED: Final = "posted"
REFUSED: Final = "insufficient_funds"

_ONE_BY_ONE_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Transfer:
    """Move an amount. The output is `POSTED` or `REFUSED`."""

    source: str | None
    """None: an account that nobody looks at."""
    destination: str | None
    amount: int
    asks_floor: bool = True
    """Whether it says that its source had enough, or only that it was posted."""

    def __str__(self) -> str:
        return f"move {self.amount} from {self.source or 'elsewhere'} to {self.destination or 'elsewhere'}"


@dataclass(frozen=True, slots=True)
class Read:
    """Read balances, all at one moment. The output is the balances, in this order."""

    accounts: tuple[str, ...]

    def __str__(self) -> str:
        return f"read {', '.join(self.accounts)}"


AccountOperation = Operation[Transfer | Read, str | tuple[int, ...]]
Balances = tuple[int, ...]


class Accounts:
    """A model of accounts for `linearizability.check`.

    Args:
        balances: of each account in the beginning.
        floors: the lowest balance of accounts that have one.
    """

    def __init__(self, balances: Mapping[str, int], floors: Mapping[str, int]) -> None:
        self.balances = dict(balances)
        self.floors = dict(floors)
        self._index = {account: number for number, account in enumerate(self.balances)}

    def __str__(self) -> str:
        return ", ".join(f"{balance} in {account}" for account, balance in self.balances.items())

    @property
    def initial(self) -> Balances:
        """The balances in the beginning."""
        return tuple(self.balances.values())

    def step(self, state: Balances, operation: AccountOperation) -> Balances | None:
        """Return the balances after an operation, None when its output could not come from these.

        A transfer of unknown outcome that would be refused is as if it never took effect: no way worth going.
        """
        match operation.input:
            case Read(accounts):
                fits = tuple(state[self._index[account]] for account in accounts) == operation.output
                return state if fits else None
            case Transfer() as transfer:
                if self._is_covered(state, transfer) != (operation.output != REFUSED):
                    return None
                return state if operation.output == REFUSED else self._moved(state, transfer)

    def is_read(self, operation: AccountOperation) -> bool:
        """Say whether it moves nothing: what was refused is a read of its source, too."""
        return isinstance(operation.input, Read) or operation.output == REFUSED

    def parts(self, operations: Sequence[AccountOperation]) -> list[tuple["Accounts", list[AccountOperation]]]:
        """Part the accounts into groups that no operation joins. Reads without an answer say nothing and are left out.

        What was refused is about its source only: it moved nothing into its destination.
        """
        group = {account: account for account in self.balances}

        def root(account: str) -> str:
            while group[account] != account:
                group[account] = account = group[group[account]]
            return account

        telling = [each for each in operations if each.output is not None or not isinstance(each.input, Read)]
        for each in telling:
            one, *others = self._touched(each)
            for other in others:
                group[root(other)] = root(one)
        members: dict[str, list[AccountOperation]] = {}
        for each in telling:
            members.setdefault(root(self._touched(each)[0]), []).append(each)
        accounts: dict[str, set[str]] = {}
        for account in self.balances:
            accounts.setdefault(root(account), set()).add(account)
        return [(self._of(accounts[name]), found) for name, found in members.items()]

    def weaker(self, operations: Sequence[AccountOperation]) -> Iterator[tuple["Accounts", list[AccountOperation]]]:
        """Yield histories of fewer accounts, then with fewer floors that matter, then with a later beginning."""
        if len(self.balances) > 1:
            for kept in ([account] for account in self.balances):
                yield self._projected(kept, operations)
            for dropped in self.balances if len(self.balances) > 2 else ():
                yield self._projected([account for account in self.balances if account != dropped], operations)
        yield from self._with_fewer_floors(operations)
        yield from self._with_later_beginning(operations)
        if len(operations) <= _ONE_BY_ONE_MAX:
            yield from self._with_shorter_reads(operations)

    # --- how

    def _is_covered(self, state: Balances, transfer: Transfer) -> bool:
        source = transfer.source
        if source is None or source not in self.floors or not transfer.asks_floor:
            return True
        return state[self._index[source]] - transfer.amount >= self.floors[source]

    def _moved(self, state: Balances, transfer: Transfer) -> Balances:
        balances = list(state)
        if transfer.source is not None:
            balances[self._index[transfer.source]] -= transfer.amount
        if transfer.destination is not None:
            balances[self._index[transfer.destination]] += transfer.amount
        return tuple(balances)

    def _touched(self, operation: AccountOperation) -> tuple[str, ...]:
        match operation.input:
            case Read(accounts):
                return accounts
            case Transfer(source, destination):
                ends = (source,) if operation.output == REFUSED else (source, destination)
                return tuple(account for account in ends if account is not None)

    def _of(self, accounts: set[str]) -> "Accounts":
        """Return the same without the other accounts."""
        return Accounts(
            {account: balance for account, balance in self.balances.items() if account in accounts},
            {account: floor for account, floor in self.floors.items() if account in accounts},
        )

    def _projected(
        self, kept: Sequence[str], operations: Sequence[AccountOperation]
    ) -> tuple["Accounts", list[AccountOperation]]:
        """Look at some of the accounts only; whether others had enough is forgotten."""
        accounts = set(kept)
        found = []
        for each in operations:
            match each.input:
                case Read(asked):
                    assert isinstance(each.output, tuple)
                    told = [pair for pair in zip(asked, each.output, strict=True) if pair[0] in accounts]
                    if len(told) == len(asked):
                        found.append(each)
                    elif told:
                        read = Read(tuple(account for account, _ in told))
                        found.append(replace(each, input=read, output=tuple(balance for _, balance in told)))
                case Transfer(source, destination):
                    source = source if source in accounts else None
                    destination = destination if destination in accounts else None
                    if source is None and (destination is None or each.output == REFUSED):
                        continue
                    if (source, destination) == (each.input.source, each.input.destination):
                        found.append(each)
                    else:
                        found.append(replace(each, input=replace(each.input, source=source, destination=destination)))
        return self._of(accounts), found

    def _with_fewer_floors(
        self, operations: Sequence[AccountOperation]
    ) -> Iterator[tuple["Accounts", list[AccountOperation]]]:
        """Forget of transfers that their sources must have had enough: of all of them, of half of them, ..."""
        asking = [number for number, each in enumerate(operations) if self._asks_floor(each)]
        length = len(asking)
        while length:
            for begin in range(0, len(asking), length):
                chosen = set(asking[begin : begin + length])
                yield (
                    self,
                    [_without_floor(each) if number in chosen else each for number, each in enumerate(operations)],
                )
            length //= 2

    def _asks_floor(self, operation: AccountOperation) -> bool:
        transfer = operation.input
        return (
            isinstance(transfer, Transfer)
            and operation.output != REFUSED
            and transfer.asks_floor
            and transfer.source in self.floors
        )

    def _with_later_beginning(
        self, operations: Sequence[AccountOperation]
    ) -> Iterator[tuple["Accounts", list[AccountOperation]]]:
        """Begin with the balances after all transfers that were over before anything was asked of the balances.

        In which order they were posted does not matter then: a sum does not know in which order it was added up.
        """
        moves = [each for each in operations if not self.is_read(each) and not self._asks_floor(each)]
        asking = {id(each) for each in operations} - {id(each) for each in moves}
        asked = min((each.invoked for each in operations if id(each) in asking), default=0.0)
        over = [each for each in moves if each.returned is not None and each.returned < asked]
        if over:
            state = self.initial
            for each in over:
                assert isinstance(each.input, Transfer)
                state = self._moved(state, each.input)
            gone = set(map(id, over))
            begun = Accounts(dict(zip(self.balances, state, strict=True)), self.floors)
            yield begun, [each for each in operations if id(each) not in gone]

    def _with_shorter_reads(
        self, operations: Sequence[AccountOperation]
    ) -> Iterator[tuple["Accounts", list[AccountOperation]]]:
        """Forget one balance of one read."""
        for number, each in enumerate(operations):
            if not isinstance(each.input, Read) or len(each.input.accounts) == 1:
                continue
            assert isinstance(each.output, tuple)
            for place in range(len(each.output)):
                accounts = each.input.accounts[:place] + each.input.accounts[place + 1 :]
                output = each.output[:place] + each.output[place + 1 :]
                shorter = replace(each, input=Read(accounts), output=output)
                yield self, [*operations[:number], shorter, *operations[number + 1 :]]


def _without_floor(operation: AccountOperation) -> AccountOperation:
    assert isinstance(operation.input, Transfer)
    return replace(operation, input=replace(operation.input, asks_floor=False))

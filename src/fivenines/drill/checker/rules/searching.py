"""Strict serializability without the journal: is there any order at all that explains what clients saw?

The other rules take the journal's order for a witness, and check it in one pass. This one does not believe that there
is such an order. It searches for one with `linearizability`, for which it needs no position, no frame and no node, only
what was asked, what was answered, and when. That takes time which grows fast with what happens at once, so it is done
for a beginning of each history: of each single account that no hold touches and each group of accounts that are read at
once, such as those of the bank test, the first `OPERATIONS_MAX` operations.

A beginning of a history says less than the whole: what was not over by its end has no end in it.

It is not a rule like the others: the search is made once, since both its findings and how much it decided are told.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from fivenines.drill.account_model import POSTED, REFUSED, AccountOperation, Accounts, Read, Transfer
from fivenines.drill.checker.case import READ, Case
from fivenines.drill.checker.telling import ends_of
from fivenines.drill.linearizability import TooManyConfigurationsError, Violation, check
from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Finding

__all__ = ["Searched", "no_order", "search"]

NO_ORDER = "no order explains it"
OPERATIONS_MAX: Final = 400
CONFIGURATIONS_MAX: Final = 20_000
"""For each group: a second at most."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What became of the search for an order in one history."""

    operations: int
    is_given_up: bool = False
    """Whether it was too large: nobody knows whether there is an order."""
    violation: Violation[Any, Any] | None = None
    """Why there is none."""


def search(case: Case) -> tuple[Searched, ...]:
    """Search for an order in the history of each group of accounts."""
    return tuple(_searched(model, operations) for model, operations in _histories(case))


def _searched(model: Accounts, operations: list[AccountOperation]) -> Searched:
    try:
        violation = check(model, operations, configurations_max=CONFIGURATIONS_MAX)
    except TooManyConfigurationsError:
        return Searched(len(operations), is_given_up=True)
    return Searched(len(operations), violation=violation)


def no_order(searched: Iterable[Searched]) -> Iterator[Finding]:
    """Find histories that no single copy of the accounts could have given."""
    for each in searched:
        if each.violation is not None:
            first, *lines = str(each.violation).split("\n")
            yield Finding(
                kind=NO_ORDER,
                guarantee="strictly serializable",
                what=first.removesuffix(":"),
                history=tuple(line.strip() for line in lines),
            )


def _histories(case: Case) -> Iterator[tuple[Accounts, list[AccountOperation]]]:
    """Yield the histories of accounts that can be told apart, each with a model of them, as they began."""
    start = _start(case)
    accounts = _looked_at(case, start)
    group: dict[str, tuple[str, ...]] = {account: (account,) for account in accounts}
    for each in case.reads:
        if each.kind == "total" and all(account in accounts for account in each.accounts):
            group.update(dict.fromkeys(each.accounts, each.accounts))
    members: dict[tuple[str, ...], list[AccountOperation]] = defaultdict(list)
    for each in sorted(case.asked, key=lambda each: each.sent):
        for names in {group[name] for name in _touched(each) if name in group}:
            if len(members[names]) < OPERATIONS_MAX and (operation := _operation(each, names)) is not None:
                members[names].append(operation)
    for names, operations in members.items():
        if not any(isinstance(each.input, Read) for each in operations):
            continue
        balances, floors = {}, {}
        for name in names:
            totals = case.course.totals_at(name, start)
            balances[name] = totals.balance if totals else 0
            low, _ = case.course.accounts[name].limits_at(start)
            if low is not None:
                floors[name] = low
        yield Accounts(balances, floors), _beginning(operations)


def _start(case: Case) -> int:
    """The last position before anything that is searched took its effect: where the accounts are what they begin as."""
    found = [case.position_of(each) - 1 for each in case.writes if case.position_of(each)]
    found += [each.position for each in case.reads if each.outcome == READ and _is_barrier(each)]
    return min(found, default=0)


def _is_barrier(asked: Asked) -> bool:
    return asked.kind == "total" or asked.is_linearizable


def _looked_at(case: Case, start: int) -> set[str]:
    """The accounts that our clients alone have to do with from then on, and of which nothing was ever held."""
    read = {name for each in case.reads for name in (*each.accounts, each.destination)}
    held = {name for each in case.writes if each.kind == "hold" for name in (each.source, each.destination)}
    others = {
        name
        for each in case.course.decisions.values()
        if each.position > start and each.is_done and each.id not in case.by_id
        for ends in ends_of(each)
        for name in ends
    }
    return {name for name in read - held - others if name in case.course.accounts}


def _touched(asked: Asked) -> Iterable[str]:
    return asked.accounts if asked.kind == "total" else (asked.source, asked.destination)


def _operation(asked: Asked, names: tuple[str, ...]) -> AccountOperation | None:
    """Return what a request is for a group of accounts; None: it says nothing of them."""
    returned = asked.ended if asked.outcome else None
    if asked.kind in {"total", "read"}:
        if asked.outcome != READ or not _is_barrier(asked):
            return None
        wanted = asked.accounts if asked.kind == "total" else (asked.destination,)
        read = Read(wanted)
        output = tuple(asked.balances.get(name, 0) for name in wanted)
        return AccountOperation(client=asked.client, invoked=asked.sent, returned=returned, input=read, output=output)
    if asked.kind != "post" or asked.is_undone or (asked.outcome and asked.outcome not in {POSTED, REFUSED}):
        return None
    source = asked.source if asked.source in names else None
    destination = asked.destination if asked.destination in names else None
    if asked.outcome == REFUSED and source is None:
        return None
    return AccountOperation(
        client=asked.client,
        invoked=asked.sent,
        returned=returned,
        input=Transfer(source, destination, asked.amount),
        output=asked.outcome or None,
    )


def _beginning(operations: list[AccountOperation]) -> list[AccountOperation]:
    """Where it was cut, what was not over yet has no end."""
    if len(operations) < OPERATIONS_MAX:
        return operations
    cut = operations.pop().invoked
    return [
        each
        if each.returned is not None and each.returned < cut
        else AccountOperation(
            client=each.client, invoked=each.invoked, returned=None, input=each.input, output=each.output
        )
        for each in operations
        if (each.returned is not None and each.returned < cut) or isinstance(each.input, Transfer)
    ]

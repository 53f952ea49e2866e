"""The accounts, as nodes and histories in SQL have them: equal to the journal's, within limits, and in all nothing.

What nodes said is looked at for each of their samples: those taken while the load ran, and the last one of every node.
History in SQL keeps the totals of accounts after every frame, so it is looked at after every frame. Three questions are
put to each, and the latter two do not ask the journal for balances:

- `differing_books`: the totals are those that the journal comes to at that position, and the chain over all outcomes is
  the one that we work out;
- `unbalanced_books`: the balances of all accounts in one asset come to nothing;
- `beyond_limits`: no account is below its least balance or above its highest.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from fivenines.drill.checker.case import READ, Case
from fivenines.drill.checker.course import Totals
from fivenines.drill.checker.telling import at, history
from fivenines.drill.results import Finding, Guarantee

__all__ = ["beyond_limits", "differing_books", "unbalanced_books"]

DIFFERS = "books differ"
UNBALANCED = "money made or lost"
BEYOND = "beyond a limit"


def differing_books(case: Case) -> Iterator[Finding]:
    """Find totals that are not those of the journal."""
    course = case.course
    for said in case.evidence.nodes:
        if said.position > course.position:
            what = f"node {said.node} is at position {said.position}, and the journal ends at {course.position}"
            yield Finding(kind=DIFFERS, guarantee="acknowledged is durable", what=what)
            continue
        yield from _differing(case, f"node {said.node}", said.position, said.accounts, is_all=said.is_all)
        for account in said.wrong_in_themselves:
            yield _differs(f"node {said.node} says a balance of {account} that is not its credits less its debits")
        expected = course.outcomes[min(said.outcomes_position, course.position)]
        if said.outcomes and said.outcomes != expected:
            yield _differs(
                f"node {said.node} has decided something else than the journal comes to, by position "
                f"{said.outcomes_position}",
                f"node {said.node}: outcomes {said.outcomes.hex()}",
                f"journal: outcomes {expected.hex()}",
            )
    for name, sql in case.evidence.sql.items():
        yield from _differing(case, name, min(sql.position, course.position), sql.accounts, is_all=True)
        if sql.balances is not None:
            yield from _differing_rows(case, name, sql.position, sql.balances)


def _differing(
    case: Case, by: str, position: int, accounts: Mapping[str, Totals], *, is_all: bool
) -> Iterator[Finding]:
    for account, totals in accounts.items():
        expected = case.course.totals_at(account, position)
        if totals != expected:
            yield _differs(
                f"{by} has {totals.balance} in {account} after frame {position}",
                f"{by}, frame {position}: {account} {_words(totals)}",
                f"journal, frame {position}: {account} {_words(expected)}",
                at(case.course, account, position),
            )
    if is_all:
        for account, known in case.course.accounts.items():
            if known.opened <= position and account not in accounts:
                yield _differs(f"{by} does not have {account} after frame {position}, opened in {known.opened}")


def _differing_rows(case: Case, by: str, until: int, rows: Iterable[tuple[int, str, Totals]]) -> Iterator[Finding]:
    missing = {
        (position, account): totals
        for account, known in case.course.accounts.items()
        for position, totals in zip(known.positions, known.totals, strict=True)
        if position <= until
    }
    for position, account, totals in rows:
        expected = missing.pop((position, account), None)
        if expected is None:
            expected = case.course.totals_at(account, position)
        if totals != expected:
            yield _differs(
                f"{by} has {totals.balance} in {account} after frame {position}",
                f"{by}, frame {position}: {account} {_words(totals)}",
                f"journal, frame {position}: {account} {_words(expected)}",
            )
    for (position, account), totals in missing.items():
        yield _differs(
            f"{by} knows nothing of what frame {position} changed in {account}",
            f"journal, frame {position}: {account} {_words(totals)}",
        )


def _differs(what: str, *lines: str) -> Finding:
    return Finding(kind=DIFFERS, guarantee="strictly serializable", what=what, history=lines)


def _words(totals: Totals | None) -> str:
    if totals is None:
        return "is not there"
    held = f", held {totals.held_debits} out and {totals.held_credits} in"
    return f"has {totals.balance} ({totals.credits} in, {totals.debits} out{held})"


def unbalanced_books(case: Case) -> Iterator[Finding]:
    """Find places where the balances of all accounts do not come to nothing."""
    for said in case.evidence.nodes:
        if said.is_all:
            yield from _unbalanced(case, f"node {said.node}", said.position, said.accounts)
    for name, sql in case.evidence.sql.items():
        yield from _unbalanced(case, name, sql.position, sql.accounts)
        if sql.balances is not None:
            yield from _unbalanced_rows(case, name, sql.balances)


def _unbalanced(case: Case, by: str, position: int, accounts: Mapping[str, Totals]) -> Iterator[Finding]:
    sums: dict[str, int] = defaultdict(int)
    held: dict[str, int] = defaultdict(int)
    for account, totals in accounts.items():
        asset = _asset(case, account)
        sums[asset] += totals.balance
        held[asset] += totals.held_credits - totals.held_debits
    for what, found in (("all balances", sums), ("all that is held", held)):
        for asset, total in found.items():
            if total:
                yield _made(by, position, asset, total, what)


def _unbalanced_rows(case: Case, by: str, rows: Iterable[tuple[int, str, Totals]]) -> Iterator[Finding]:
    balances: dict[str, int] = defaultdict(int)
    sums: dict[str, int] = defaultdict(int)
    last = 0
    for position, account, totals in rows:
        if position != last:
            yield from (_made(by, last, asset, total, "all balances") for asset, total in sums.items() if total)
            if any(sums.values()):
                return  # whatever comes after would say the same again
            last = position
        sums[_asset(case, account)] += totals.balance - balances[account]
        balances[account] = totals.balance
    yield from (_made(by, last, asset, total, "all balances") for asset, total in sums.items() if total)


def _made(by: str, position: int, asset: str, total: int, what: str) -> Finding:
    return Finding(
        kind=UNBALANCED,
        guarantee="strictly serializable",
        what=f"by {by}, after frame {position}, {what} in {asset} come to {total}, and not to nothing",
    )


def _asset(case: Case, account: str) -> str:
    known = case.course.accounts.get(account)
    return "" if known is None else known.asset


def beyond_limits(case: Case) -> Iterator[Finding]:
    """Find balances that no account may have."""
    for said in case.evidence.nodes:
        for account, totals in said.accounts.items():
            yield from _beyond(case, f"node {said.node}", said.position, account, totals)
    for name, sql in case.evidence.sql.items():
        for position, account, totals in sql.balances or ():
            yield from _beyond(case, name, position, account, totals)
    for each in case.reads:
        if each.outcome == READ:
            for account, balance in each.balances.items():
                # What is held is not told: the balance is no less than what is available.
                for found in _beyond(case, "a read", each.position, account, Totals(0, balance)):
                    yield Finding(kind=found.kind, guarantee=found.guarantee, what=found.what, history=history([each]))


def _beyond(case: Case, by: str, position: int, account: str, totals: Totals) -> Iterator[Finding]:
    known = case.course.accounts.get(account)
    if known is None:
        return
    low, high = known.limits_at(position)
    guarantee: Guarantee = "strictly serializable"
    if low is not None and totals.available < low:
        what = f"{by} has {totals.available} available in {account} after frame {position}, and {low} is the least"
        yield Finding(kind=BEYOND, guarantee=guarantee, what=what, history=(at(case.course, account, position),))
    coming = totals.balance + totals.held_credits
    if high is not None and coming > high:
        what = f"{by} has {coming} in {account} or held for it after frame {position}, and {high} is the most"
        yield Finding(kind=BEYOND, guarantee=guarantee, what=what, history=(at(case.course, account, position),))

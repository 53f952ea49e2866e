"""Import the books of a Czech bank, published for PKDD'99 and known as Berka; docs/importers.md tells what is in them.

Accounts, all in CZK/2 and without a lower limit (overdrafts do occur, and the other sides go below zero):

    berka:account:ID    a customer's account
    berka:cash          the tills                       berka:card       withdrawals by card
    berka:interest      interest paid to customers      berka:fees       paid for statements
    berka:penalty       interest taken on overdrafts    berka:bank:XX    each other bank
    berka:other         movements that say nothing      berka:rounding   what the publisher's rounding took or gave
    berka:opening       balances before the first row   berka:suspense   what the books leave unexplained

A row is a transaction of one posting: its id comes from its trans_id, its effective date is its date, its reference is
its trans_id. The rows of a date are a step, and after it the ledger's balance of each account that had a row must be
the closing balance that the rows state, found by `day_chain`:

- a day that adds up is **exact**;
- a day that is off by up to 0.10 CZK is **rounded**: the difference is a transaction of its own against
  `berka:rounding`, so no account drifts away;
- anything else is **contradictory** and reported with its rows. Where the next day goes on from what the rows come to,
  the stated balance was wrong and nothing is booked. Otherwise the books go on from the stated balance, and the
  difference is booked against `berka:suspense`, where nobody can overlook it. Either way one day is contradictory, and
  not every day after it.
"""

import datetime
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fivenines.api import NewAccount, NewTransaction, Posting
from fivenines.importers.berka_file import (
    AccountFacts,
    Transactions,
    facts_as_metadata,
    read_accounts,
    read_transactions,
    transaction_files,
)
from fivenines.importers.day_chain import Chain, chain_day
from fivenines.importers.ids import row_id
from fivenines.importers.money import show_minor
from fivenines.importers.port import BooksDifferError, Check, Facts, Step, Verdict

__all__ = ["ASSET", "ROUNDING_MAX", "BerkaImport", "BerkaImporter", "importer"]

ASSET = "CZK/2"
ROUNDING_MAX = 10
"""Hellers: amounts and balances were printed to 0.1 CZK, so a day may be off by so much."""

_FIRST_DAY = datetime.date(1969, 1, 1).toordinal()
_ACCOUNT_BITS = 20
"""Ids ascend by date and then by the lowest bits of the account: together they fit the 36 bits of a sequence."""


@dataclass(slots=True)
class _Days:
    """One entry for each day of each account, as columns."""

    account: "array[int]" = field(default_factory=lambda: array("q"))
    day: "array[int]" = field(default_factory=lambda: array("l"))
    first: "array[int]" = field(default_factory=lambda: array("l"))
    """Where the day's rows begin in `BerkaImport.order`."""
    count: "array[int]" = field(default_factory=lambda: array("l"))
    closing: "array[int]" = field(default_factory=lambda: array("q"))
    """The balance that the ledger must have after the day."""
    correction: "array[int]" = field(default_factory=lambda: array("q"))
    """What is booked beside the rows so that it has."""
    against: "list[str]" = field(default_factory=list)
    """The account that the correction is booked against; empty for none."""
    contradictions: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """The stories of the days that are contradictory."""


class BerkaImport:
    """Books that were read: their rows in order, day by day, and what each day comes to."""

    books = "books"

    def __init__(self, transactions: Transactions, facts: Mapping[int, AccountFacts]) -> None:
        self._rows = transactions
        self._facts = facts
        account, day = transactions.account, transactions.day
        self._order = array("l", sorted(range(len(transactions)), key=lambda row: (account[row], day[row])))
        self._days = _Days()
        self._plan()

    @property
    def rows(self) -> int:
        """How many rows there are, each once."""
        return len(self._rows)

    def summary(self) -> dict[str, Any]:
        """What the files hold."""
        days = self._rows.day
        return {
            "files": [file.name for file in self._rows.files],
            "accounts": len(set(self._rows.account)),
            "account_days": len(self._days.account),
            "rows_repeated_in_files": self._rows.repeated,
            "rows_of_amount_zero": self._rows.amount.count(0),
            "first_date": datetime.date.fromordinal(min(days)).isoformat() if days else None,
            "last_date": datetime.date.fromordinal(max(days)).isoformat() if days else None,
        }

    def assets(self) -> Sequence[str]:
        """Czech crowns."""
        return (ASSET,)

    def accounts(self) -> Iterator[NewAccount]:
        """The other sides first, then the customers' accounts in order."""
        offsets = {kind.offset for kind in self._rows.kinds} | {against for against in self._days.against if against}
        for offset in sorted(offsets):
            yield NewAccount(id=f"berka:{offset}", asset=ASSET, min_balance=None)
        for number in sorted(set(self._rows.account)):
            metadata = facts_as_metadata(self._facts, number)
            yield NewAccount(id=_account_id(number), asset=ASSET, min_balance=None, metadata=metadata)

    def prior(self) -> Sequence[str]:
        """The customers' accounts."""
        return [_account_id(number) for number in sorted(set(self._rows.account))]

    def decide(self, balances: Mapping[str, int]) -> Mapping[str, Any]:
        """Refuse to book onto accounts that carry money already: the balances would never agree."""
        for account, balance in balances.items():
            if balance:
                raise BooksDifferError(
                    f"account {account} has a balance of {balance} already, from something other than this import"
                )
        return {}

    def steps(self, facts: Facts) -> Iterator[Step]:
        """A step for each date."""
        days = self._days
        by_date = sorted(range(len(days.account)), key=days.day.__getitem__)  # stable: accounts ascend within a date
        start = 0
        while start < len(by_date):
            date = days.day[by_date[start]]
            stop = start
            while stop < len(by_date) and days.day[by_date[stop]] == date:
                stop += 1
            yield self._step(by_date[start:stop], facts.base_time_ms)
            start = stop

    def _step(self, entries: Sequence[int], base_time_ms: int) -> Step:
        days = self._days
        transactions: list[NewTransaction] = []
        checks: list[Check] = []
        rows = 0
        date = datetime.date.fromordinal(days.day[entries[0]])
        for entry in entries:
            number = days.account[entry]
            for row in self._order[days.first[entry] : days.first[entry] + days.count[entry]]:
                rows += 1
                if self._rows.amount[row]:
                    transactions.append(self._transaction(row, date, base_time_ms))
            if days.correction[entry]:
                transactions.append(self._correction(entry, date, base_time_ms))
            story = days.contradictions.get(entry, ())
            verdict = Verdict.rounded if days.against[entry] == "rounding" else Verdict.exact
            checks.append(
                Check(
                    account=_account_id(number),
                    balance=days.closing[entry],
                    verdict=Verdict.contradictory if story else verdict,
                    label=f"account {number} on {date}",
                    story=story,
                )
            )
        return Step(transactions=transactions, rows=rows, checks=checks, label=date.isoformat())

    def _transaction(self, row: int, date: datetime.date, base_time_ms: int) -> NewTransaction:
        rows = self._rows
        number, kind = rows.account[row], rows.kinds[rows.kind[row]]
        metadata: dict[str, Any] = {}
        if kind.k_symbol:
            metadata["k_symbol"] = kind.k_symbol[:64]
        if counterparty := rows.counterparties[rows.counterparty[row]]:
            metadata["counterparty_account"] = counterparty[:64]
        return NewTransaction(
            id=_id(f"trans:{rows.trans_id[row]}", number, rows.day[row], base_time_ms),
            postings=[_posting(number, kind.offset, rows.amount[row])],
            effective_date=date,
            reference=str(rows.trans_id[row]),
            metadata=metadata,
        )

    def _correction(self, entry: int, date: datetime.date, base_time_ms: int) -> NewTransaction:
        days = self._days
        number, against = days.account[entry], days.against[entry]
        return NewTransaction(
            id=_id(f"{against}:{number}:{date}", number, days.day[entry], base_time_ms),
            postings=[_posting(number, against, days.correction[entry])],
            effective_date=date,
            reference=f"{against} of account {number} on {date}",
            metadata={"correction": against},
        )

    def _plan(self) -> None:
        """Go through each account's days, find each day's order and closing balance, and what must be booked for it."""
        account, day, order = self._rows.account, self._rows.day, self._order
        start = 0
        previous: int | None = None
        balance = 0
        while start < len(order):
            stop = self._end_of_day(start)
            number = account[order[start]]
            is_first = number != previous
            opening = 0 if is_first else balance
            chain = self._chain(opening, start, stop)
            self._order[start:stop] = array("l", [order[start + index] for index in chain.order])
            days = self._days
            days.account.append(number)
            days.day.append(day[order[start]])
            days.first.append(start)
            days.count.append(stop - start)
            balance, correction, against, story = self._settle(chain, opening, start, stop, is_first=is_first)
            days.closing.append(balance)
            days.correction.append(correction)
            days.against.append(against)
            if story:
                days.contradictions[len(days.account) - 1] = story
            previous, start = number, stop

    def _settle(
        self, chain: Chain, opening: int, start: int, stop: int, *, is_first: bool
    ) -> tuple[int, int, str, tuple[str, ...]]:
        """Decide what a day's closing balance is: that, the correction to book, against what, and the story if any."""
        own = chain.closing - chain.difference
        if chain.consistent and abs(chain.difference) <= ROUNDING_MAX:
            return chain.closing, chain.difference, "rounding" if chain.difference else "", ()
        goes_on_from_own = self._next_day_fits(own, start, stop) and not self._next_day_fits(chain.closing, start, stop)
        if is_first and not goes_on_from_own and self._implied_opening(chain, start, stop):
            return chain.closing, chain.difference, "opening", ()
        rows = tuple(self._rows.describe(row) for row in self._order[start:stop])
        stated, came_to = show_minor(chain.closing), show_minor(own)
        found = f"opening {show_minor(opening)}, the rows come to {came_to}, they state {stated}"
        if chain.difference == 0:
            return own, 0, "", (f"{found}, but in no order does each balance follow from the one before", *rows)
        if goes_on_from_own:
            return own, 0, "", (f"{found}; the next day goes on from {came_to}: kept that", *rows)
        booked = show_minor(chain.difference, sign=True)
        return chain.closing, chain.difference, "suspense", (f"{found}; booked {booked} against berka:suspense", *rows)

    def _implied_opening(self, chain: Chain, start: int, stop: int) -> bool:
        """Whether an account's first day adds up from a balance other than zero."""
        order = self._order[start:stop]
        opening = self._rows.balance[order[0]] - self._rows.amount[order[0]]
        again = self._chain(opening, start, stop)
        return again.consistent and again.difference == 0 and again.closing == chain.closing

    def _next_day_fits(self, opening: int, start: int, stop: int) -> bool:
        """Whether the account has a later day that adds up from this balance."""
        order, account = self._order, self._rows.account
        if stop >= len(order) or account[order[stop]] != account[order[start]]:
            return False
        chain = self._chain(opening, stop, self._end_of_day(stop))
        return chain.consistent and abs(chain.difference) <= ROUNDING_MAX

    def _end_of_day(self, start: int) -> int:
        order, account, day = self._order, self._rows.account, self._rows.day
        number, date = account[order[start]], day[order[start]]
        stop = start + 1
        while stop < len(order) and day[order[stop]] == date and account[order[stop]] == number:
            stop += 1
        return stop

    def _chain(self, opening: int, start: int, stop: int) -> Chain:
        amount, balance = self._rows.amount, self._rows.balance
        rows = [(amount[row], balance[row]) for row in self._order[start:stop]]
        return chain_day(opening, rows, tolerance=ROUNDING_MAX)


class BerkaImporter:
    """Opens folders of Berka's format."""

    name = "berka"

    def open(self, path: Path) -> BerkaImport:
        """Read a folder with trans*.csv and perhaps account.csv, or one transaction file."""
        files = transaction_files(path)
        accounts = path / "account.csv"
        facts = read_accounts(accounts) if path.is_dir() and accounts.is_file() else {}
        return BerkaImport(read_transactions(files), facts)


importer = BerkaImporter()


def _account_id(number: int) -> str:
    return f"berka:account:{number}"


def _posting(number: int, offset: str, amount: int) -> Posting:
    customer, other = _account_id(number), f"berka:{offset}"
    if amount > 0:
        return Posting(source=other, destination=customer, amount=amount)
    return Posting(source=customer, destination=other, amount=-amount)


def _id(identity: str, number: int, day: int, base_time_ms: int) -> str:
    sequence = (day - _FIRST_DAY) << _ACCOUNT_BITS | number & ((1 << _ACCOUNT_BITS) - 1)
    return row_id(importer="berka", identity=identity, sequence=sequence, base_time_ms=base_time_ms)

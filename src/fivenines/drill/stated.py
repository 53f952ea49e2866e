"""What books in Berka's format state by themselves, before any ledger has seen them.

The importer finds the order of a day's rows, and with it the balance that must stand after the day. The judge does not
take its word for it: such a balance must be one that a row of that account and day states. Days that contradict
themselves are the exception, and are told one by one.
"""

import datetime
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from fivenines.importers import Facts, Import, Verdict
from fivenines.importers.berka_file import read_transactions, transaction_files

__all__ = ["CUSTOMER_PREFIX", "Stated", "stated_by"]

CUSTOMER_PREFIX = "berka:account:"
"""How the importer names the accounts of customers: this, and the number in the books."""


@dataclass(slots=True)
class Stated:
    """The balances that must be."""

    transactions: int = 0
    """How many transactions the books come to, bookings of the importer's own making included."""
    last: dict[str, int] = field(default_factory=dict)
    """The last balance of each account, in smallest units."""
    by_date: dict[tuple[str, str], int] = field(default_factory=dict)
    """The balance of each account after each date on which it moved (ISO 8601)."""
    unfounded: list[str] = field(default_factory=list)
    """Balances that the importer wants, and no row states."""


def stated_by(source: Import, path: Path) -> Stated:
    """Work out what the books at a path state; `source` is how the importer understood them."""
    found = Stated()
    in_rows = _in_rows(path)
    for step in source.steps(Facts(base_time_ms=0, notes={})):
        found.transactions += len(step.transactions)
        for check in step.checks:
            day = check.account, step.label
            found.last[check.account] = found.by_date[day] = check.balance
            if check.verdict is not Verdict.contradictory and check.balance not in in_rows[day]:
                found.unfounded.append(f"{check.label}: the importer wants {check.balance}, no row states it")
    return found


def _in_rows(path: Path) -> dict[tuple[str, str], set[int]]:
    rows = read_transactions(transaction_files(path))
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for account, day, balance in zip(rows.account, rows.day, rows.balance, strict=True):
        found[f"{CUSTOMER_PREFIX}{account}", datetime.date.fromordinal(day).isoformat()].add(balance)
    return found

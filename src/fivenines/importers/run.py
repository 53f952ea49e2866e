"""Carry an import into a ledger: idempotent, interruptible, and checked against the ledger's own balances.

1. Find the anchor, the account `import:IMPORTER:BOOKS`, or open it: its metadata keeps the facts of the first run. It
   is opened before anything else, so a run that is cut off at any point makes the same ids when it is repeated.
2. Register the assets and open the accounts. An account that exists with other limits or metadata is used as it is.
3. For each step: post it, read the balances of the accounts it names from the ledger, and compare.
4. At the end, compare every account once more with the last balance that was expected of it.

**Repeating.** A row that was carried out before is answered with its old outcome and an old position; it counts as
`repeated` and changes nothing. The balances after a step of such rows cannot be read any more, since the ledger has
gone on: they were read in the run that posted them, or are covered by the comparison at the end, for a balance that was
ever wrong stays wrong. From the first step with a new row on, each step is checked.

**Too old.** Past the ledger's retention window every id of these books is refused as `id_expired`: nothing can be
changed then, and the run stops posting, with `expired` set. The comparison at the end still tells whether the books are
there.

**Moved since.** A run that had nothing new to do may find balances at the end that are not what these books came to:
later books, or somebody, moved the accounts since. That is told, and is no mismatch.

**Two at once.** Where another run of the same import is ahead of this one, the balances after a step are those after a
later one. So a difference after a step is kept in mind until the end. It is no mismatch if the account is right then,
*and* it was seen that the next rows had been decided by somebody else: without that a ledger that states a wrong
balance for a while would go unnoticed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import msgspec

from fivenines.api import ItemResult, NewAccount
from fivenines.importers.port import Books, BooksDifferError, Check, Facts, Import, Step, Verdict
from fivenines.ledger.outcomes import Outcome

__all__ = ["Progress", "Report", "run_import"]

ITEMS_MAX = 1_000
"""Accounts or transactions in one call: the usual limit of a batch stays far off, and progress stays smooth."""
STORIES_MAX = 1_000
"""Contradictions, and mismatches, that a report tells in full; all are counted."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    phase: str
    """`accounts`, `transactions` or `checking`."""
    done: int
    total: int
    label: str = ""


@dataclass(slots=True)
class Report:
    """What an import did and found."""

    importer: str
    anchor: str
    summary: dict[str, Any]
    rows: int = 0
    """Rows of the source that were sent."""
    new: int = 0
    """Transactions that this run carried out, bookings of our own making included."""
    repeated: int = 0
    """Transactions that an earlier run had carried out."""
    exact: int = 0
    rounded: int = 0
    contradictory: int = 0
    checked: int = 0
    """Balances that were read from the ledger right after their step and compared."""
    mismatched: int = 0
    """Balances that were not what they must be, after a step or at the end: an error of the ledger or of ours."""
    compared_last: int = 0
    """Accounts that were compared at the end."""
    moved_since: int = 0
    """Accounts that were not as these books left them, at the end of a run that had nothing new to do."""
    moved_meanwhile: int = 0
    """Balances that another run of the same import, at work at the same time, had moved on; right at the end."""
    expired: bool = False
    """The books are past the ledger's retention window: nothing was changed from there on."""
    contradictions: list[tuple[str, ...]] = field(default_factory=list)
    """Label, what was found and done, and the rows, of each contradictory check."""
    mismatches: list[str] = field(default_factory=list)
    """What must be and what was found, of each balance that was mismatched or moved since."""
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether the ledger agrees with the books, as far as this run touched them."""
        return self.mismatched == 0

    def to_json(self) -> dict[str, Any]:
        """The report as one object of JSON values."""
        told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return told | {"is_good": self.is_good}


def run_import(
    importer: str,
    source: Import,
    books: Books,
    *,
    now_ms: int,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Carry an import out, or go on with one, or find that nothing is left to be done.

    Args:
        importer: the importer's name.
        source: what `Importer.open` gave.
        books: the ledger.
        now_ms: unix time: that of the ids, if this is the first run.
        progress: is told how far the run is, after each call to the ledger that takes long. It may raise to stop.

    Raises:
        BooksDifferError: the ledger refuses something, or is not as the import needs it. What was posted stays, and the
            import can be run again.
    """
    started = time.monotonic()
    report = Report(importer=importer, anchor=f"import:{importer}:{source.books}", summary=dict(source.summary()))
    before = books.position()
    books.create_assets(source.assets())
    facts, is_checking = _facts(report.anchor, source, books, now_ms)
    _open_accounts(source, books, progress)
    last: dict[str, Check] = {}
    doubts = _Doubts()
    for step in source.steps(facts):
        if not report.expired:
            now = books.position() if doubts.differences else before
            doubts.is_other_run_seen |= _carry_out(step, books, report, before, now)
            is_checking |= report.new > 0
            if is_checking:
                _check(step.checks, books, report, doubts)
            progress(Progress("transactions", report.rows, source.rows, step.label))
        for check in step.checks:
            _count(check, report)
            last[check.account] = check
    _compare_last(last, books, report, doubts, progress)
    report.seconds = round(time.monotonic() - started, 3)
    return report


@dataclass(slots=True)
class _Doubts:
    """Differences after a step, of which only the end tells what they are."""

    differences: list[tuple[str, str]] = field(default_factory=list)
    """Account and sentence."""
    is_other_run_seen: bool = False


def _facts(anchor: str, source: Import, books: Books, now_ms: int) -> tuple[Facts, bool]:
    """Read what the first run fixed; if this is the first one, fix it. Whether it is."""
    found = books.account(anchor)
    is_first = found is None
    if found is None:
        decided = source.decide(books.balances(source.prior()))
        metadata = {"base_time_ms": now_ms, "notes": dict(decided)}
        opened = NewAccount(id=anchor, asset=source.assets()[0], min_balance=0, max_balance=0, metadata=metadata)
        books.open_accounts([opened])
        found = books.account(anchor)  # another run may have been quicker: what stands in the ledger counts
        if found is None:
            raise BooksDifferError(f"the ledger did not open account {anchor}")
    base_time_ms, notes = found.metadata.get("base_time_ms"), found.metadata.get("notes")
    if not isinstance(base_time_ms, int) or not isinstance(notes, dict):
        raise BooksDifferError(f"account {anchor} exists, but its metadata lacks base_time_ms or notes of an import")
    return Facts(base_time_ms=base_time_ms, notes=notes), is_first and base_time_ms == now_ms


def _open_accounts(source: Import, books: Books, progress: Callable[[Progress], None]) -> None:
    done = 0
    for accounts in _chunks(source.accounts()):
        for account, result in zip(accounts, books.open_accounts(accounts), strict=True):
            if result.outcome == Outcome.account_exists.name:
                _accept_existing(account, books)
            elif result.outcome != Outcome.done.name:
                raise BooksDifferError(f"the ledger refused to open account {account.id}: {result.outcome}")
        done += len(accounts)
        progress(Progress("accounts", done, done))


def _accept_existing(account: NewAccount, books: Books) -> None:
    existing = books.account(account.id)
    if existing is None or existing.asset != account.asset:
        kept_in = "none" if existing is None else existing.asset
        raise BooksDifferError(f"account {account.id} must be kept in {account.asset}, but is kept in {kept_in}")


def _carry_out(step: Step, books: Books, report: Report, before: int, now: int) -> bool:
    """Post a step, or find that the ledger no longer knows ids as old as these.

    Returns whether somebody else decided some of it after the position `before`, where this run began, and up to `now`,
    where the ledger stood just before the step.
    """
    is_other_run_seen = False
    for transactions in _chunks(iter(step.transactions)):
        for transaction, result in zip(transactions, books.post(transactions), strict=True):
            if result.outcome == Outcome.id_expired.name:
                report.expired = True
                return is_other_run_seen
            if result.outcome != Outcome.posted.name:
                told = f"{transaction.reference} ({transaction.id}) of {step.label}"
                raise BooksDifferError(f"the ledger refused transaction {told}: {result.outcome}")
            is_other_run_seen |= result.position is not None and before < result.position <= now
            if _was_known(result, now):
                report.repeated += 1
            else:
                report.new += 1
    report.rows += step.rows
    return is_other_run_seen


def _check(checks: Sequence[Check], books: Books, report: Report, doubts: _Doubts) -> None:
    """Compare the balances that a step states with those of the ledger."""
    if not checks:
        return
    balances = books.balances([check.account for check in checks])
    report.checked += len(checks)
    for check in checks:
        if difference := _difference(check, balances.get(check.account), "after its step"):
            doubts.differences.append((check.account, difference))


def _was_known(result: ItemResult, before: int) -> bool:
    return result.position is None or result.position <= before


def _count(check: Check, report: Report) -> None:
    match check.verdict:
        case Verdict.exact:
            report.exact += 1
        case Verdict.rounded:
            report.rounded += 1
        case Verdict.contradictory:
            report.contradictory += 1
            if len(report.contradictions) < STORIES_MAX:
                report.contradictions.append((check.label, *check.story))


def _difference(check: Check, balance: int | None, when: str) -> str:
    if balance == check.balance:
        return ""
    found = "there is no such account" if balance is None else f"the ledger has {balance}"
    return f"{check.label}, {check.account} {when}: must be {check.balance}, {found}"


def _tell(difference: str, report: Report) -> None:
    if len(report.mismatches) < STORIES_MAX:
        report.mismatches.append(difference)


def _compare_last(
    last: dict[str, Check], books: Books, report: Report, doubts: _Doubts, progress: Callable[[Progress], None]
) -> None:
    wrong: dict[str, str] = {}
    for checks in _chunks(iter(last.values())):
        balances = books.balances([check.account for check in checks])
        for check in checks:
            if difference := _difference(check, balances.get(check.account), "at the end"):
                wrong[check.account] = difference
        report.compared_last += len(checks)
        progress(Progress("checking", report.compared_last, len(last)))
    for account, difference in doubts.differences:
        if doubts.is_other_run_seen and account not in wrong:
            report.moved_meanwhile += 1
        else:
            report.mismatched += 1
            _tell(difference, report)
    for difference in wrong.values():
        report.mismatched += report.new > 0
        report.moved_since += report.new == 0
        _tell(difference, report)


def _chunks(items: Iterator[_T]) -> Iterator[Sequence[_T]]:
    while chunk := list(islice(items, ITEMS_MAX)):
        yield chunk

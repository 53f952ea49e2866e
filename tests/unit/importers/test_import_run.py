from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from fivenines.api import ItemResult, NewAccount, NewTransaction, Posting
from fivenines.importers import (
    BooksDifferError,
    Check,
    Facts,
    Importer,
    ImportingError,
    Progress,
    Step,
    Verdict,
    find,
    names,
    run_import,
)
from fivenines.importers.ids import row_id
from tests.unit.importers.ledger_books import LedgerBooks

NOW_MS = 1_764_000_000_000


class Small:
    """Two steps that move 5 and then 3 from a to b."""

    books = "small"
    rows = 2

    def __init__(self, *, asset: str = "EUR/2", min_balance: int | None = None) -> None:
        self.asset = asset
        self.min_balance = min_balance

    def summary(self) -> Mapping[str, Any]:
        return {"of": "nothing"}

    def assets(self) -> Sequence[str]:
        return (self.asset,)

    def accounts(self) -> Iterator[NewAccount]:
        for name in ("a", "b"):
            yield NewAccount(id=name, asset=self.asset, min_balance=self.min_balance)

    def prior(self) -> Sequence[str]:
        return ("a", "b")

    def decide(self, balances: Mapping[str, int]) -> Mapping[str, Any]:
        return {"seen": dict(balances)}

    def steps(self, facts: Facts) -> Iterator[Step]:
        total = 0
        for number, amount in enumerate((5, 3)):
            total += amount
            id = row_id(importer="small", identity=str(number), sequence=number, base_time_ms=facts.base_time_ms)
            transaction = NewTransaction(id=id, postings=[Posting(source="a", destination="b", amount=amount)])
            verdict = Verdict.contradictory if number else Verdict.rounded
            story = ("it is odd", "row 2") if number else ()
            check = Check("b", total, verdict=verdict, label=f"b after {number}", story=story)
            yield Step([transaction], rows=1, checks=[check], label=str(number))


class Thief(LedgerBooks):
    """A ledger that answers as it should, and moves a unit more than it was told."""

    def post(self, transactions: Sequence[NewTransaction]) -> list[ItemResult]:
        results = super().post(transactions)
        self.state.accounts["a"].credits -= 1
        self.state.accounts["b"].credits += 1
        return results


def test_a_run_counts_verdicts_and_tells_contradictions() -> None:
    report = run_import("small", Small(), LedgerBooks(now_ms=NOW_MS), now_ms=NOW_MS)
    assert (report.exact, report.rounded, report.contradictory) == (0, 1, 1)
    assert report.contradictions == [("b after 1", "it is odd", "row 2")]
    assert report.anchor == "import:small:small"
    told = report.to_json()
    assert (told["is_good"], told["summary"], told["contradictions"]) == (
        True,
        {"of": "nothing"},
        [["b after 1", "it is odd", "row 2"]],
    )


def test_a_ledger_whose_balances_are_wrong_is_found_out() -> None:
    report = run_import("small", Small(), Thief(now_ms=NOW_MS), now_ms=NOW_MS)
    assert (report.checked, report.mismatched, report.is_good) == (2, 3, False)
    assert report.mismatches[0] == "b after 0, b after its step: must be 5, the ledger has 6"
    assert report.mismatches[-1] == "b after 1, b at the end: must be 8, the ledger has 10"


def test_the_facts_of_the_first_run_hold_for_every_later_one() -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    run_import("small", Small(), books, now_ms=NOW_MS)
    anchor = books.account("import:small:small")
    assert anchor is not None
    assert anchor.metadata == {"base_time_ms": NOW_MS, "notes": {"seen": {}}}
    books.now_ms += 5_000
    report = run_import("small", Small(), books, now_ms=NOW_MS + 5_000)
    assert (report.new, report.repeated) == (0, 2)
    assert books.account("import:small:small") == anchor


def test_what_moved_the_accounts_since_is_told_and_is_no_mismatch() -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    run_import("small", Small(), books, now_ms=NOW_MS)
    id = row_id(importer="other", identity="x", sequence=0, base_time_ms=NOW_MS)
    books.post([NewTransaction(id=id, postings=[Posting(source="b", destination="a", amount=1)])])
    report = run_import("small", Small(), books, now_ms=NOW_MS)
    assert (report.mismatched, report.moved_since, report.is_good) == (0, 1, True)


class Overtaken(LedgerBooks):
    """A ledger in which another run of the same import does everything between two calls of this one."""

    is_first = True

    def post(self, transactions: Sequence[NewTransaction]) -> list[ItemResult]:
        results = super().post(transactions)
        if self.is_first:
            self.is_first = False
            other = run_import("small", Small(), self, now_ms=NOW_MS + 1)
            assert (other.is_good, other.new) == (True, 1)
        return results


def test_two_imports_of_the_same_books_at_once_are_both_right() -> None:
    report = run_import("small", Small(), Overtaken(now_ms=NOW_MS), now_ms=NOW_MS)
    assert (report.mismatched, report.moved_meanwhile, report.is_good) == (0, 1, True)
    assert (report.new, report.repeated) == (1, 1)
    assert report.mismatches == []


def test_what_is_wrong_at_the_end_was_wrong_whoever_else_was_at_work() -> None:
    class Twice(Overtaken):
        def balances(self, accounts: Sequence[str]) -> Mapping[str, int]:
            return {id: balance + 1 for id, balance in super().balances(accounts).items()}

        def post(self, transactions: Sequence[NewTransaction]) -> list[ItemResult]:
            results = LedgerBooks.post(self, transactions)
            if self.is_first:
                self.is_first = False
                assert not run_import("small", Small(), self, now_ms=NOW_MS + 1).is_good
            return results

    report = run_import("small", Small(), Twice(now_ms=NOW_MS), now_ms=NOW_MS)
    assert (report.mismatched, report.moved_meanwhile) == (3, 0)


def test_progress_goes_through_the_phases_to_the_end() -> None:
    told: list[Progress] = []
    run_import("small", Small(), LedgerBooks(now_ms=NOW_MS), now_ms=NOW_MS, progress=told.append)
    assert [(step.phase, step.done, step.total) for step in told] == [
        ("accounts", 2, 2),
        ("transactions", 1, 2),
        ("transactions", 2, 2),
        ("checking", 1, 1),
    ]


def test_an_account_that_exists_is_used_as_it_is_if_its_asset_fits() -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    books.create_assets(["EUR/2", "USD/2"])
    books.open_accounts([NewAccount(id="a", asset="EUR/2", min_balance=-100, metadata={"mine": True})])
    assert run_import("small", Small(), books, now_ms=NOW_MS).is_good
    with pytest.raises(BooksDifferError, match="account a must be kept in USD/2, but is kept in EUR/2"):
        run_import("other", Small(asset="USD/2"), books, now_ms=NOW_MS)


def test_a_refused_transaction_stops_the_run_by_name() -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    with pytest.raises(BooksDifferError, match=r"of 0: insufficient_funds"):
        run_import("small", Small(min_balance=0), books, now_ms=NOW_MS)


def test_an_account_of_the_anchors_name_that_is_no_anchor_is_refused() -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    books.create_assets(["EUR/2"])
    books.open_accounts([NewAccount(id="import:small:small", asset="EUR/2")])
    with pytest.raises(BooksDifferError, match="lacks base_time_ms"):
        run_import("small", Small(), books, now_ms=NOW_MS)


def test_importers_are_found_by_their_entry_points() -> None:
    assert {"berka", "iso20022"} <= set(names())
    for name in ("berka", "iso20022"):
        found = find(name)
        assert isinstance(found, Importer)
        assert found.name == name
    with pytest.raises(ImportingError, match="there is no importer 'mt940'; installed are: berka, iso20022"):
        find("mt940")

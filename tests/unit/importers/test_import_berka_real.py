"""The books of the real bank, counted beforehand by other means: see docs/importers.md."""

import csv
import itertools
from pathlib import Path

import pytest

from fivenines.importers import Report, run_import
from fivenines.importers.berka import importer
from tests.unit.importers.ledger_books import LedgerBooks

NOW_MS = 1_764_000_000_000


@pytest.fixture(scope="module")
def berka(data_dir: Path) -> Path:
    folder = data_dir / "berka"
    if not folder.is_dir():
        pytest.skip(f"no real books: {folder} is missing")
    return folder


@pytest.fixture(scope="module")
def imported(berka: Path) -> tuple[LedgerBooks, Report]:
    books = LedgerBooks(now_ms=NOW_MS)
    return books, run_import("berka", importer.open(berka), books, now_ms=NOW_MS)


def test_every_account_day_is_as_the_bank_says_but_for_thirty(imported: tuple[LedgerBooks, Report]) -> None:
    books, report = imported
    assert (report.rows, report.summary["accounts"], report.summary["account_days"]) == (79_302, 1_583, 63_399)
    assert (report.exact, report.rounded, report.contradictory) == (59_955, 3_414, 30)
    assert (report.checked, report.mismatched) == (63_399, 0)
    labels = [story[0] for story in report.contradictions]
    cut_off = [label for label in labels if label.endswith("1994-03-31")]
    assert len(cut_off) == 28
    assert sorted(set(labels) - set(cut_off)) == ["account 8132 on 1993-12-31", "account 8957 on 1994-02-28"]
    assert books.state.imbalances() == {}


def test_closing_balances_are_those_that_the_files_state_after_days_of_a_single_row(
    berka: Path, imported: tuple[LedgerBooks, Report]
) -> None:
    """Independent of our search for an order: the last day of two accounts in three has one row, which says it all."""
    balances = imported[0].all_balances()
    compared = 0
    for path in sorted(berka.glob("trans*.csv")):
        with path.open(newline="") as file:
            rows = sorted(csv.DictReader(file, delimiter=";"), key=lambda row: (row["account_id"], row["date"]))
        for account, of_account in itertools.groupby(rows, key=lambda row: row["account_id"]):
            last = list(of_account)[-2:]
            if len(last) == 1 or last[0]["date"] != last[1]["date"]:
                compared += 1
                assert balances[f"berka:account:{account}"] == int(last[-1]["balance"].replace(".", ""))
    assert compared > 500

"""Small books of any kind, with slips and planted errors: what the ledger holds is always what the import says."""

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.importers import Report, run_import
from fivenines.importers.berka import importer
from fivenines.importers.money import show_minor
from tests.unit.importers.ledger_books import LedgerBooks

NOW_MS = 1_764_000_000_000
HEADER = "trans_id;account_id;date;type;operation;amount;balance;k_symbol;bank;account\n"


@st.composite
def account_days(draw: st.DrawFn, *, planted: bool) -> tuple[list[str], int]:
    """The rows of one account over some days, each day's in any order, and how many stated balances are made up."""
    account = draw(st.integers(1, 3))
    balance, rows, plants = 0, [], 0
    for day in range(1, draw(st.integers(1, 8)) + 1):
        of_day = []
        for amount in draw(st.lists(st.integers(-50_000, 50_000), min_size=1, max_size=4)):
            balance += amount
            is_planted = planted and day > 1 and draw(st.integers(0, 9)) == 0
            plants += is_planted
            stated = balance + (draw(st.integers(100, 10_000)) if is_planted else 0)
            of_day.append((amount, stated))
        if draw(st.booleans()):  # the books go on from what was rounded on the last row of the day
            slip = draw(st.integers(-10, 10))
            balance += slip
            of_day[-1] = of_day[-1][0], of_day[-1][1] + slip
        for amount, stated in draw(st.permutations(of_day)):
            kind = "PRIJEM" if amount > 0 else "VYDAJ"
            fields = account, f"9601{day:02d}", kind, "VKLAD", show_minor(abs(amount)), show_minor(stated)
            rows.append(";".join(map(str, fields)) + ";;;")
    return rows, plants


def run(lists: list[list[str]]) -> tuple[Report, LedgerBooks]:
    books = LedgerBooks(now_ms=NOW_MS)
    numbered = (f"{number};{row}\n" for number, row in enumerate(itertools.chain(*lists), 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trans.csv"
        path.write_text(HEADER + "".join(numbered))
        report = run_import("berka", importer.open(path), books, now_ms=NOW_MS)
    assert books.state.imbalances() == {}
    return report, books


@settings(max_examples=150)
@given(account_days(planted=False))
def test_books_without_errors_have_no_contradiction(books_of_one: tuple[list[str], int]) -> None:
    rows, _ = books_of_one
    report, _ = run([rows])
    assert (report.contradictory, report.mismatched) == (0, 0)
    assert report.checked == report.exact + report.rounded
    assert report.new >= report.rows - report.summary["rows_of_amount_zero"]


@settings(max_examples=150)
@given(account_days(planted=True))
def test_a_planted_error_makes_a_day_or_two_contradictory_and_no_more(books_of_one: tuple[list[str], int]) -> None:
    rows, plants = books_of_one
    report, books = run([rows])
    assert report.mismatched == 0
    assert report.contradictory <= 2 * plants
    assert len(report.contradictions) == report.contradictory
    booked = sum(books.all_balances().get(f"berka:{name}", 0) for name in ("rounding", "suspense", "opening", "cash"))
    customers = sum(value for id, value in books.all_balances().items() if id.startswith("berka:account:"))
    assert booked == -customers

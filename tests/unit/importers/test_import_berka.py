import datetime
from collections import Counter
from pathlib import Path

import pytest

from fivenines.importers import BooksDifferError, ImportRefusedError, Report, Verdict, run_import
from fivenines.importers.bank import generate_bank
from fivenines.importers.berka import ASSET, importer
from fivenines.importers.port import Facts
from tests.unit.importers.ledger_books import CutOffError, LedgerBooks

NOW_MS = 1_764_000_000_000
HEADER = "trans_id;account_id;date;type;operation;amount;balance;k_symbol;bank;account\n"


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bank")
    generate_bank(directory, customers=40, days=70, seed=5)
    return directory


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


def run(path: Path, books: LedgerBooks) -> Report:
    report = run_import("berka", importer.open(path), books, now_ms=books.now_ms)
    assert books.state.imbalances() == {}
    return report


def stated_balances(trans: Path) -> dict[str, int]:
    """The last balance that the file states for each account, read without any code of ours."""
    last: dict[str, int] = {}
    for line in trans.read_text().splitlines()[1:]:
        fields = line.split(";")
        last[f"berka:account:{fields[1]}"] = int(fields[6].replace(".", ""))
    return last


def customers_of(books: LedgerBooks) -> dict[str, int]:
    return {id: balance for id, balance in books.all_balances().items() if id.startswith("berka:account:")}


def test_a_generated_bank_comes_in_without_a_contradiction(bank: Path) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    report = run(bank, books)
    assert report.is_good
    assert (report.rounded, report.contradictory, report.mismatched) == (0, 0, 0)
    assert report.checked == report.exact == report.summary["account_days"] > 500
    assert report.rows == report.new == len((bank / "trans.csv").read_text().splitlines()) - 1
    assert customers_of(books) == stated_balances(bank / "trans.csv")
    assert "berka:rounding" not in books.all_balances()


def test_it_comes_in_the_same_when_the_rows_of_each_day_are_in_reverse(bank: Path, tmp_path: Path) -> None:
    header, *rows = (bank / "trans.csv").read_text().splitlines(keepends=True)
    rows.sort(key=lambda row: (row.split(";")[2], -int(row.split(";")[0])))
    write(tmp_path / "trans.csv", *(row.rstrip() for row in rows), header=header)
    books = LedgerBooks(now_ms=NOW_MS)
    assert run(tmp_path, books).contradictory == 0
    assert customers_of(books) == stated_balances(bank / "trans.csv")


def test_importing_twice_changes_nothing(bank: Path) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    first = run(bank, books)
    balances = books.all_balances()
    books.now_ms += 3_600_000
    second = run(bank, books)
    assert (second.new, second.repeated) == (0, first.new)
    assert (second.exact, second.checked, second.mismatched, second.moved_since) == (first.exact, 0, 0, 0)
    assert books.all_balances() == balances


def test_rows_of_later_days_are_carried_out_by_the_next_import(bank: Path, tmp_path: Path) -> None:
    header, *rows = (bank / "trans.csv").read_text().splitlines()
    early = [row for row in rows if row.split(";")[2] < "230215"]
    write(tmp_path / "trans_1.csv", *early, header=f"{header}\n")
    books = LedgerBooks(now_ms=NOW_MS)
    assert run(tmp_path, books).new == len(early)
    write(tmp_path / "trans_2.csv", *rows[len(early) :], header=f"{header}\n")
    report = run(tmp_path, books)
    assert (report.repeated, report.new, report.mismatched) == (len(early), len(rows) - len(early), 0)
    assert customers_of(books) == stated_balances(bank / "trans.csv")


@pytest.mark.parametrize("cut_after", [0, 1, 7, 69])
def test_an_interrupted_import_goes_on_and_ends_the_same(bank: Path, cut_after: int) -> None:
    whole = LedgerBooks(now_ms=NOW_MS)
    run(bank, whole)
    books = LedgerBooks(now_ms=NOW_MS, cut_after=cut_after)
    with pytest.raises(CutOffError):
        run(bank, books)
    books.cut_after = None
    books.now_ms += 60_000
    report = run(bank, books)
    assert report.is_good
    assert report.new > 0
    assert report.new + report.repeated == report.rows
    assert books.all_balances() == whole.all_balances()


def test_past_the_retention_window_nothing_is_changed_and_the_books_are_still_compared(bank: Path) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    run(bank, books)
    balances = books.all_balances()
    books.now_ms += 31 * 24 * 3_600_000
    books.create_assets([ASSET])  # a frame, so that the ledger's time has come this far
    report = run(bank, books)
    assert report.expired
    assert (report.new, report.repeated, report.mismatched, report.moved_since) == (0, 0, 0, 0)
    assert report.compared_last == 40
    assert books.all_balances() == balances


def test_a_difference_of_seven_hellers_is_booked_to_rounding_and_stays_there(tmp_path: Path) -> None:
    write(
        tmp_path / "trans.csv",
        "1;25;960728;PRIJEM;VKLAD;900.00;900.00;;;",
        "2;25;960801;PRIJEM;VKLAD;100.00;1000.07;;;",
        "3;25;960802;VYDAJ;VYBER;500.00;500.07;;;",
    )
    books = LedgerBooks(now_ms=NOW_MS)
    report = run(tmp_path, books)
    assert (report.exact, report.rounded, report.contradictory, report.mismatched) == (2, 1, 0, 0)
    assert report.new == report.rows + 1
    assert books.all_balances()["berka:rounding"] == -7
    assert books.all_balances()["berka:account:25"] == 500_07


def test_a_planted_wrong_balance_is_reported_with_its_row_and_does_not_spread(bank: Path, tmp_path: Path) -> None:
    header, *rows = (bank / "trans.csv").read_text().splitlines()
    per_day = Counter(tuple(row.split(";")[1:3]) for row in rows)
    place = next(
        place
        for place, row in enumerate(rows)
        if place > 500 and per_day[tuple(row.split(";")[1:3])] == 1 and row.split(";")[1] in rows[-1]
    )
    fields = rows[place].split(";")
    fields[6] = f"{int(fields[6][:-3]) + 4321}{fields[6][-3:]}"
    rows[place] = ";".join(fields)
    write(tmp_path / "trans.csv", *rows, header=f"{header}\n")
    books = LedgerBooks(now_ms=NOW_MS)
    report = run(tmp_path, books)
    assert (report.contradictory, report.rounded, report.mismatched) == (1, 0, 0)
    ((label, told, row),) = report.contradictions
    assert label.startswith(f"account {fields[1]} on ")
    assert "the next day goes on from" in told
    assert f"trans_id {fields[0]} " in row
    assert customers_of(books) == stated_balances(bank / "trans.csv")
    assert "berka:suspense" not in books.all_balances()


def test_a_missing_row_is_reported_once_and_the_difference_stands_in_suspense(tmp_path: Path) -> None:
    write(
        tmp_path / "trans.csv",
        "1;25;960728;PRIJEM;VKLAD;900.00;900.00;;;",
        "3;25;960802;VYDAJ;VYBER;500.00;650.00;;;",
        "4;25;960803;PRIJEM;VKLAD;10.00;660.00;;;",
        "5;25;960804;PRIJEM;VKLAD;10.00;670.00;;;",
    )
    books = LedgerBooks(now_ms=NOW_MS)
    report = run(tmp_path, books)
    assert (report.exact, report.contradictory, report.mismatched) == (3, 1, 0)
    assert "booked +250.00 against berka:suspense" in report.contradictions[0][1]
    assert books.all_balances()["berka:suspense"] == -250_00
    assert books.all_balances()["berka:account:25"] == 670_00


def test_a_day_that_closes_right_but_whose_rows_fit_in_no_order_is_contradictory(tmp_path: Path) -> None:
    write(
        tmp_path / "trans.csv",
        "1;25;960728;PRIJEM;VKLAD;1000.00;1000.00;;;",
        "2;25;960802;PRIJEM;VKLAD;100.00;1900.00;;;",
        "3;25;960802;VYDAJ;VYBER;50.00;1050.00;;;",
    )
    books = LedgerBooks(now_ms=NOW_MS)
    report = run(tmp_path, books)
    assert (report.exact, report.contradictory, report.new) == (1, 1, 3)
    assert "in no order" in report.contradictions[0][1]
    assert books.all_balances()["berka:account:25"] == 1_050_00


def test_a_first_row_that_implies_a_balance_opens_with_it(tmp_path: Path) -> None:
    write(
        tmp_path / "trans.csv",
        "1;25;960728;PRIJEM;VKLAD;900.00;5900.00;;;",
        "2;25;960729;VYDAJ;VYBER;100.00;5800.00;;;",
    )
    books = LedgerBooks(now_ms=NOW_MS)
    report = run(tmp_path, books)
    assert (report.exact, report.contradictory, report.new) == (2, 0, 3)
    assert books.all_balances()["berka:opening"] == -5_000_00


def test_each_kind_of_row_goes_against_its_own_account(tmp_path: Path) -> None:
    kinds = [
        ("PRIJEM", "VKLAD", "", "", "cash"),
        ("credit", "credit in cash", "", "", "cash"),
        ("VYDAJ", "VYBER", " ", "", "cash"),
        ("withdrawal in cash", "withdrawal in cash", "", "", "cash"),
        ("VYDAJ", "VYBER", "SIPO", "", "cash"),
        ("VYDAJ", "VYBER", "SLUZBY", "", "fees"),
        ("withdrawal", "withdrawal in cash", "payment for statement", "", "fees"),
        ("VYDAJ", "VYBER", "SANKC. UROK", "", "penalty"),
        ("PRIJEM", "", "UROK", "", "interest"),
        ("credit", "", "interest credited", "", "interest"),
        ("PRIJEM", "PREVOD Z UCTU", "DUCHOD", "YZ", "bank:YZ"),
        ("withdrawal", "remittance to another bank", "household", "AB", "bank:AB"),
        ("VYDAJ", "PREVOD NA UCET", "", "", "bank:unknown"),
        ("VYDAJ", "VYBER KARTOU", "", "", "card"),
        ("withdrawal", "credit card withdrawal", "", "", "card"),
        ("PRIJEM", "", "", "", "other"),
    ]
    balance, rows, expected = 0, [], Counter[str]()
    for number, (type_, operation, k_symbol, bank, other) in enumerate(kinds, 1):
        sign = 1 if type_ in ("PRIJEM", "credit") else -1
        balance += sign * number
        expected[f"berka:{other}"] -= sign * number * 100
        rows.append(f"{number};9;960728;{type_};{operation};{number}.00;{balance}.00;{k_symbol};{bank};777")
    write(tmp_path / "trans.csv", *rows)
    books = LedgerBooks(now_ms=NOW_MS)
    run(tmp_path, books)
    found = {id: amount for id, amount in books.all_balances().items() if not id.startswith("berka:account:")}
    assert found == dict(expected) | {"import:berka:books": 0}


def test_a_transaction_carries_what_the_row_says(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "695247;2378;930105;VYDAJ;PREVOD NA UCET;33.20;-33.20;SIPO;YZ;87144583")
    (step,) = importer.open(tmp_path / "t.csv").steps(Facts(base_time_ms=NOW_MS, notes={}))
    (transaction,) = step.transactions
    (posting,) = transaction.postings
    assert (posting.source, posting.destination, posting.amount) == ("berka:account:2378", "berka:bank:YZ", 33_20)
    assert transaction.effective_date == datetime.date(1993, 1, 5)
    assert transaction.reference == "695247"
    assert transaction.metadata == {"k_symbol": "SIPO", "counterparty_account": "87144583"}
    (check,) = step.checks
    assert (check.account, check.balance, check.verdict) == ("berka:account:2378", -33_20, Verdict.exact)


def test_ids_do_not_depend_on_which_other_rows_are_in_the_files(bank: Path, tmp_path: Path) -> None:
    header, *rows = (bank / "trans.csv").read_text().splitlines()
    kept = [row for row in rows if int(row.split(";")[1]) % 3 == 0]
    write(tmp_path / "trans.csv", *kept, header=f"{header}\n")
    facts = Facts(base_time_ms=NOW_MS, notes={})

    def ids(path: Path) -> dict[str | None, str | None]:
        return {t.reference: t.id for step in importer.open(path).steps(facts) for t in step.transactions}

    everything, some = ids(bank), ids(tmp_path)
    assert some == {reference: id for reference, id in everything.items() if reference in some}
    assert len(set(everything.values())) == len(rows)


def test_rows_of_amount_zero_are_counted_and_not_booked(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "1;9;960728;PRIJEM;VKLAD;5.00;5.00;;;", "2;9;960728;PRIJEM;;0.00;5.00;UROK;;")
    report = run(tmp_path / "t.csv", LedgerBooks(now_ms=NOW_MS))
    assert (report.rows, report.new, report.exact, report.summary["rows_of_amount_zero"]) == (2, 1, 1, 1)


def test_the_same_row_in_two_files_is_one_row(tmp_path: Path) -> None:
    row = "1;9;960728;PRIJEM;VKLAD;5.00;5.00;;;"
    write(tmp_path / "trans_a.csv", row)
    write(tmp_path / "trans_b.csv", row, "2;9;960729;PRIJEM;VKLAD;5.00;10.00;;;")
    report = run(tmp_path, LedgerBooks(now_ms=NOW_MS))
    assert (report.rows, report.new, report.summary["rows_repeated_in_files"]) == (2, 2, 1)


def test_accounts_say_what_account_csv_says(bank: Path) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    run(bank, books)
    account = books.account("berka:account:1")
    assert account is not None
    assert account.min_balance is None
    assert account.metadata.keys() == {"district", "frequency", "opened"}


def test_accounts_that_carry_other_money_are_refused_before_anything_is_booked(bank: Path, tmp_path: Path) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    write(tmp_path / "t.csv", "999999;3;960728;PRIJEM;VKLAD;5.00;5.00;;;")
    run(tmp_path / "t.csv", books)
    del books.state.accounts["import:berka:books"]  # as if somebody else had booked it
    balances = books.all_balances()
    with pytest.raises(BooksDifferError, match="berka:account:3 has a balance"):
        run(bank, books)
    assert books.all_balances() == balances


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ("x;9;960728;PRIJEM;VKLAD;5.00;5.00;;;", "trans_id", "'x' is not a number"),
        ("1;-9;960728;PRIJEM;VKLAD;5.00;5.00;;;", "account_id", "'-9' is not a number"),
        ("1;9;961328;PRIJEM;VKLAD;5.00;5.00;;;", "date", "'961328' is not a date"),
        ("1;9;1996-07-28;PRIJEM;VKLAD;5.00;5.00;;;", "date", "'1996-07-28' is not a date"),
        ("1;9;960728;GIFT;VKLAD;5.00;5.00;;;", "type", "'GIFT' is not one of"),
        ("1;9;960728;PRIJEM;WIRE;5.00;5.00;;;", "operation", "'WIRE' is not one of"),
        ("1;9;960728;PRIJEM;VKLAD;five;5.00;;;", "amount", "'five' is not a decimal number"),
        ("1;9;960728;PRIJEM;VKLAD;-5.00;5.00;;;", "amount", "-5.00 is negative"),
        ("1;9;960728;PRIJEM;VKLAD;5.001;5.00;;;", "amount", "'5.001' has more than 2 decimals"),
        ("1;9;960728;PRIJEM;VKLAD;99999999999999.00;5.00;;;", "amount", "larger than these books"),
        ("1;9;960728;PRIJEM;VKLAD;5.00;NaN;;;", "balance", "'NaN' is not a decimal number"),
        ("1;9;960728;PRIJEM;PREVOD Z UCTU;5.00;5.00;;A/B;", "bank", "'A/B' is not a bank's code"),
        ("1;9;960728;PRIJEM;VKLAD;5.00;5.00;;", "", "9 fields where the header has 10"),
        ("7;9;960728;PRIJEM;VKLAD;6.00;6.00;;;", "trans_id", "7 stands in t.csv, line 2 too"),
    ],
)
def test_a_wrong_row_refuses_the_file_with_its_line_and_column(
    tmp_path: Path, row: str, field: str, reason: str
) -> None:
    write(tmp_path / "t.csv", "7;9;960728;PRIJEM;VKLAD;5.00;5.00;;;", row)
    with pytest.raises(ImportRefusedError) as refused:
        importer.open(tmp_path / "t.csv")
    assert (refused.value.where, refused.value.field) == ("line 3", field)
    assert reason in refused.value.reason


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "head.csv", header="trans_id;date\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + "1;9;960728;PRIJEM;Vkład;5;5;;;".encode("cp1250"))
    (tmp_path / "quote.csv").write_text(HEADER + '1;"9;960728\n')
    for name, reason in {
        "head.csv": "this column is missing",
        "empty.csv": "this column is missing",
        "latin.csv": "not UTF-8",
        "quote.csv": "not CSV",
        "none.csv": "no such file",
        ".": r"no trans\*\.csv",
    }.items():
        with pytest.raises(ImportRefusedError, match=reason):
            importer.open(tmp_path / name)


def test_columns_may_stand_in_any_order_and_others_beside_them(tmp_path: Path) -> None:
    header = "note;balance;trans_id;account_id;date;type;operation;amount;k_symbol;bank;account\n"
    write(tmp_path / "t.csv", "hello;5.00;1;9;960728;PRIJEM;VKLAD;5.00;;;", header=header)
    books = LedgerBooks(now_ms=NOW_MS)
    assert run(tmp_path / "t.csv", books).exact == 1

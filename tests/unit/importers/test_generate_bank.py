import csv
import datetime
from collections import Counter
from pathlib import Path

import pytest

from fivenines.importers.bank import START, generate_bank


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


def minor(text: str) -> int:
    assert text[-3] == "."
    return int(text.replace(".", ""))


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bank")
    generate_bank(directory, customers=60, days=120, seed=7)
    return directory


def test_the_same_seed_makes_the_same_bytes_and_another_one_others(tmp_path: Path, bank: Path) -> None:
    for name, seed in (("same", 7), ("other", 8)):
        generate_bank(tmp_path / name, customers=60, days=120, seed=seed)
    for file in ("account.csv", "trans.csv"):
        assert (tmp_path / "same" / file).read_bytes() == (bank / file).read_bytes()
        assert (tmp_path / "other" / file).read_bytes() != (bank / file).read_bytes()


def test_its_header_is_that_of_the_real_books(bank: Path, data_dir: Path) -> None:
    for ours, theirs in (("trans.csv", "trans_1993_to_1994q1.csv"), ("account.csv", "account.csv")):
        with (bank / ours).open() as mine, (data_dir / "berka" / theirs).open() as real:
            assert mine.readline() == real.readline()


def test_running_balances_add_up_row_by_row(bank: Path) -> None:
    balances: Counter[str] = Counter()
    for row in read(bank / "trans.csv"):
        amount = minor(row["amount"])
        assert amount > 0
        balances[row["account_id"]] += amount if row["type"] == "PRIJEM" else -amount
        assert minor(row["balance"]) == balances[row["account_id"]]


def test_rows_are_sorted_by_date_and_numbered_once(bank: Path) -> None:
    rows = read(bank / "trans.csv")
    assert [row["date"] for row in rows] == sorted(row["date"] for row in rows)
    assert [int(row["trans_id"]) for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["date"] == f"{START:%y%m%d}"


def test_it_has_the_life_of_a_bank(bank: Path) -> None:
    rows = read(bank / "trans.csv")
    kinds = Counter((row["operation"], row["k_symbol"]) for row in rows)
    for kind in (
        ("PREVOD Z UCTU", ""),
        ("PREVOD Z UCTU", "DUCHOD"),
        ("PREVOD NA UCET", "SIPO"),
        ("PREVOD NA UCET", "POJISTNE"),
        ("VYBER KARTOU", ""),
        ("VYBER", ""),
        ("VYBER", "SLUZBY"),
        ("VYBER", "SANKC. UROK"),
        ("VKLAD", ""),
        ("", "UROK"),
    ):
        assert kinds[kind] > 0, kind
    assert any(row["balance"].startswith("-") for row in rows)
    assert {row["account_id"] for row in rows} == {row["account_id"] for row in read(bank / "account.csv")}


def test_pay_days_are_working_days_and_cards_are_used_more_before_the_weekend(tmp_path: Path) -> None:
    generate_bank(tmp_path, customers=200, days=182, seed=3)
    cards: Counter[int] = Counter()
    for row in read(tmp_path / "trans.csv"):
        weekday = datetime.datetime.strptime(row["date"], "%y%m%d").replace(tzinfo=datetime.UTC).weekday()
        if row["operation"] == "PREVOD Z UCTU":
            assert weekday < 5
        elif row["operation"] == "VYBER KARTOU":
            cards[weekday] += 1
    assert cards[4] + cards[5] > 1.3 * (cards[0] + cards[1])


def test_fees_and_interest_come_once_at_the_end_of_a_month(bank: Path) -> None:
    fees = Counter(
        (row["account_id"], row["date"]) for row in read(bank / "trans.csv") if row["k_symbol"] in ("SLUZBY", "UROK")
    )
    assert max(fees.values()) == 2
    assert {date for _, date in fees} == {"230131", "230228", "230331", "230430"}


def test_progress_is_told_and_the_answer_counts(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    made = generate_bank(tmp_path, customers=3, days=4, seed=1, progress=lambda *step: told.append(step))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert made.transactions == len(read(tmp_path / "trans.csv"))
    assert (made.first_date, made.last_date) == (START, START + datetime.timedelta(days=3))


def test_it_refuses_to_mix_with_other_books_and_to_make_nothing(tmp_path: Path) -> None:
    (tmp_path / "trans_1993.csv").touch()
    with pytest.raises(FileExistsError, match=r"trans_1993\.csv"):
        generate_bank(tmp_path, customers=1, days=1)
    for customers, days in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least one"):
            generate_bank(tmp_path / "new", customers=customers, days=days)

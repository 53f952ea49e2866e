"""What books state is read from their rows; what an importer makes of them is not taken on trust."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fivenines.drill.checker.books import judge
from fivenines.drill.stated import stated_by
from fivenines.importers import Facts, Import, Step, find
from tests.unit.drill.books import sound_world

ROWS = """\
trans_id;account_id;date;type;operation;amount;balance;k_symbol;bank;account
1;1;230101;PRIJEM;VKLAD;100.00;100.00;;;
2;1;230102;PRIJEM;VKLAD;50.00;150.10;;;
3;2;230102;PRIJEM;VKLAD;7.00;7.00;;;
4;1;230103;PRIJEM;VKLAD;50.00;999.00;;;
"""


class Mistaken:
    """The real importer's view of the books, but for a heller more on each day."""

    def __init__(self, source: Import) -> None:
        self._source = source

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def steps(self, facts: Facts) -> Iterator[Step]:
        for step in self._source.steps(facts):
            yield replace(step, checks=[replace(check, balance=check.balance + 1) for check in step.checks])


@pytest.fixture
def books(tmp_path: Path) -> Path:
    (tmp_path / "trans.csv").write_text(ROWS)
    return tmp_path


def test_the_last_balance_and_that_of_each_day_are_those_of_the_rows(books: Path) -> None:
    stated = stated_by(find("berka").open(books), books)
    assert stated.by_date == {
        ("berka:account:1", "2023-01-01"): 100_00,
        ("berka:account:1", "2023-01-02"): 150_10,
        ("berka:account:2", "2023-01-02"): 7_00,
        ("berka:account:1", "2023-01-03"): 999_00,
    }
    assert stated.last == {"berka:account:1": 999_00, "berka:account:2": 7_00}
    assert stated.transactions == 6  # one for the rounding, and one for what the last row leaves unexplained
    assert stated.unfounded == []


def test_an_importer_that_is_mistaken_is_found_out_on_days_that_do_not_contradict_themselves(books: Path) -> None:
    mistaken: Import = Mistaken(find("berka").open(books))  # type: ignore[assignment]  # the rest is passed on
    unfounded = stated_by(mistaken, books).unfounded
    assert unfounded == [
        "account 1 on 2023-01-01: the importer wants 10001, no row states it",
        "account 1 on 2023-01-02: the importer wants 15011, no row states it",
        "account 2 on 2023-01-02: the importer wants 701, no row states it",
    ]
    evidence = replace(sound_world().evidence(), unfounded=unfounded)
    assert judge(evidence)["wrong_days"].wrong == 3

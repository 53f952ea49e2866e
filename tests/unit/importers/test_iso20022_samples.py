"""What each of the sample files says, as read by a person: which are right, and what is wrong with the others."""

from pathlib import Path

import pytest

from fivenines.importers import ImportRefusedError, run_import
from fivenines.importers.iso20022 import importer
from tests.unit.importers.ledger_books import LedgerBooks

NOW_MS = 1_764_000_000_000

MOOV = "moov-io__iso20022"
PROWIDE = "prowide__prowide-iso20022"
PAIN001 = "sebastienrousseau__pain001"

RIGHT: dict[str, tuple[int, dict[str, str]]] = {
    # pain.001: declared count and sum are those of the payments
    f"{MOOV}/International_payment_RUB_naujas_1.xml": (1, {"RUB": "1000.00"}),
    f"{MOOV}/International_payment_USD_naujas_1.xml": (1, {"USD": "111.11"}),
    f"{MOOV}/sepa_payment_naujas_1.xml": (1, {"EUR": "99.99"}),
    # its control sum of 11500000 runs over three currencies
    f"{MOOV}/gistfile1.xml": (3, {"EUR": "500000.00", "JPY": "10000000", "USD": "1000000.00"}),
    # camt.053: 10000.00 + 23075.00 - 9430.17 = 23644.83, and 10 entries, as declared
    f"{MOOV}/FI_camt_053_sample.xml.xml": (10, {"EUR": "32505.17"}),
    # 2768.08 - 1.64 - 2734.58 - 30.16 - 1.70 = 0.00; it states available balances alone
    f"{MOOV}/statement_1.xml": (4, {"EUR": "2768.08"}),
    # camt.054: no sums are declared, and the details make up the entries
    f"{MOOV}/200519_camt.054-Credit_P_CH2909000000250094239_1110092691_0_2019042421291293.xml": (1, {"CHF": "1500.00"}),
    f"{MOOV}/200519_camt.054-Debit_P_CH2909000000250094239_1110092692_0_2019042401501580.xml": (1, {"CHF": "913.00"}),
    f"{MOOV}/200519_camt.054_P_CH2909000000250094239_1111091335_0_2020061900081727.xml": (1, {"CHF": "1692.22"}),
    f"{MOOV}/200924_camt.054_P_CH2909000000250094239_1111091335_0_2020061900081727.xml": (1, {"CHF": "1692.22"}),
    f"{MOOV}/200924_camt.054_P_CH2909000000250094239_1110092703_0_2019042423412214.xml": (1, {"CHF": "1500.00"}),
    f"{MOOV}/200519_camt054-ESR-ASR_P_CH2909000000250094239_1110092704_0_2019042500372179.xml": (2, {"CHF": "1684.00"}),
    f"{MOOV}/200519_camt054-chdd_p_ch2909000000250094239_1110097484_0_20190520700381159.xml": (1, {"CHF": "4.50"}),
    f"{MOOV}/200519_camt054-epo_p_ch5109000000250092291_1110097605_0_2019052003522556.xml": (1, {"CHF": "750.00"}),
    f"{MOOV}/200519_camt054-epo_p_ch5109000000250092291_1110097605_0_2019052103322231.xml": (1, {"CHF": "750.00"}),
    f"{MOOV}/200519_camt054-returns_p_ch2909000000250094239_1109800798_0_2019052023472022.xml": (1, {"CHF": "400.00"}),
    f"{MOOV}/camt054-returns_p_ch5109000000250092291_1110097606_0_2020112500512470.xml": (1, {"CHF": "500.00"}),
}

WRONG: dict[str, str] = {
    # declared counts that are not those of the payments
    f"{MOOV}/musterfile_pain.001_Nov2020.xml": "NbOfTxs: declared are 7 transactions, found 8",  # the sum is right
    f"{PAIN001}/pain.001.001.03.xml": "NbOfTxs: declared are 2 transactions, found 4",
    f"{PAIN001}/pain.001.001.04.xml": "NbOfTxs: declared are 2 transactions, found 1",
    f"{PAIN001}/pain.001.001.05.xml": "NbOfTxs: declared are 3 transactions, found 1",  # nor is its sum right
    f"{PAIN001}/pain.001.001.08.xml": "NbOfTxs: declared are 3 transactions, found 1",  # nor is its sum right
    f"{PAIN001}/pain.001.001.09.xml": "NbOfTxs: declared are 2 transactions, found 5",
    f"{PAIN001}/pain.001.001.03.tests-data.xml": "NbOfTxs: declared are 2 transactions, found 1",  # in its first PmtInf
    # the closing balance leaves out 1537.00, booked on that day but valued on the next
    f"{MOOV}/camt.053_P_CH2909000000250094239_1110092698_0_2020112503071366.xml": (
        "make 216649.21 CHF; the declared closing balance is 215112.21 CHF"
    ),
    # the net amount takes a credit of 100.00 off, a reversal that is not booked, instead of adding it
    f"{MOOV}/FI_camt_054_sample.xml.xml": "TtlNetNtryAmt: declared is a sum of 169.95, found 369.95",
    f"{PROWIDE}/camt.053.001.07.xml": "no pair of opening and closing balance",
    # other messages
    f"{MOOV}/200519_camt.052_P_CH2909000000250094239_1110092686_0_2019042416072347.xml": "it is a camt.052, version 04",
    f"{MOOV}/FI_camt_052_sample.xml.xml": "it is a camt.052, version 02",
    f"{MOOV}/pain002-chdd-cor1_p_ch2909000000250094239_1110097483_0_2018031317221082.xml": "it is a pain.002",
    f"{MOOV}/pain002-epo_p_0_0_0_2018031510491259.xml": "it is a pain.002",
    f"{MOOV}/pain002-epo_p_0_0_0_2018032614401842.xml": "it is a pain.002",
    f"{MOOV}/pain002-epo_p_ch2909000000250094239_1109800799_0_2018032612092784.xml": "it is a pain.002",
    f"{MOOV}/pain002-epo_p_ch5109000000250092291_1110097605_0_2018031511252307.xml": "it is a pain.002",
    f"{MOOV}/pain008-musterfile.xml": "it is a pain.008, version 02",
    f"{MOOV}/valid_camt_v09.xml": "it is a camt.055, version 09",
    f"{MOOV}/valid_pacs_v11.xml": "it is a pacs.002, version 11",
    f"{MOOV}/valid_pain_v11.xml": "it is a pain.002, version 11",
    f"{PROWIDE}/camt.003.001.04.xml": "it is a camt.003, version 04",
    f"{PROWIDE}/mx_sample_request_wrapper.xml": "it is a camt.003, version 04",
    f"{PROWIDE}/pacs.002-CDATA-namespace-noprefix.xml": "it is a pacs.002, version 03",
    f"{PROWIDE}/pacs.002-CDATA-with-header.xml": "it is a pacs.002, version 03",
    f"{PROWIDE}/pacs.002-CDATA.xml": "it is a pacs.002, version 03",
    f"{PROWIDE}/pacs.008.001.07.xml": "it is a pacs.008, version 07",
    f"{PROWIDE}/pacs.009.001.07.xml": "it is a pacs.009, version 07",
    # no message at all
    f"{MOOV}/invalid_pain_v11.xml": "it has no namespace",
    f"{PROWIDE}/pacs.002-CDATA-nonamespace.xml": "it has no namespace",
    f"{PROWIDE}/mx_sample_bah.xml": "it must hold one Document, and holds 0",
}


@pytest.fixture(scope="session")
def samples(data_dir: Path) -> Path:
    folder = data_dir / "iso20022"
    if not folder.is_dir():
        pytest.skip(f"no samples: {folder} is missing")
    return folder


def test_every_sample_is_classified(samples: Path) -> None:
    assert {str(path.relative_to(samples)) for path in samples.rglob("*.xml")} == RIGHT.keys() | WRONG.keys()


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_sample_comes_in_once_and_twice_changes_nothing(samples: Path, name: str) -> None:
    movements, totals = RIGHT[name]
    source = importer.open(samples / name)
    books = LedgerBooks(now_ms=NOW_MS)
    report = run_import("iso20022", source, books, now_ms=NOW_MS)
    assert (report.rows, report.summary["totals"]) == (movements, totals)
    assert report.is_good
    balances = books.all_balances()
    again = run_import("iso20022", importer.open(samples / name), books, now_ms=NOW_MS + 1_000)
    assert (again.new, again.repeated, again.mismatched, again.moved_since) == (0, report.new, 0, 0)
    assert books.all_balances() == balances


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_sample_is_refused_whole_with_the_reason(samples: Path, name: str) -> None:
    with pytest.raises(ImportRefusedError) as refused:
        importer.open(samples / name)
    assert WRONG[name] in str(refused.value)


def test_the_closing_balance_of_a_statement_is_that_of_the_ledger(samples: Path) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    report = run_import("iso20022", importer.open(samples / MOOV / "FI_camt_053_sample.xml.xml"), books, now_ms=NOW_MS)
    assert (report.exact, report.checked) == (1, 1)
    balances = books.all_balances()
    assert balances["iban:FI7433010001222090:EUR"] == 23_644_83
    assert balances["iso20022:opening:EUR"] == -10_000_00
    # the details of the third entry name two accounts
    assert balances["counterparty:acct:29501800020582:EUR"] == 3_000_03
    assert balances["counterparty:acct:29501800020574:EUR"] == 1_230_02


def test_one_account_may_be_kept_in_several_currencies(samples: Path) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    for name in ("International_payment_RUB_naujas_1.xml", "International_payment_USD_naujas_1.xml"):
        run_import("iso20022", importer.open(samples / MOOV / name), books, now_ms=NOW_MS)
    run_import("iso20022", importer.open(samples / MOOV / "sepa_payment_naujas_1.xml"), books, now_ms=NOW_MS)
    iban = "iban:LT007180000000000000"
    balances = books.all_balances()
    assert [balances[f"{iban}:{currency}"] for currency in ("RUB", "USD", "EUR")] == [-100_000, -11_111, -9_999]


def test_the_same_notification_under_another_file_name_is_the_same(samples: Path) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    name = "camt.054_P_CH2909000000250094239_1111091335_0_2020061900081727.xml"
    first, second = (
        run_import("iso20022", importer.open(samples / MOOV / f"{year}_{name}"), books, now_ms=NOW_MS)
        for year in ("200519", "200924")
    )
    assert (first.new, second.new, second.repeated) == (1, 0, 1)

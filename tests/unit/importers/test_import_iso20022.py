"""Messages made for the test: each rule of the importer by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fivenines.importers import BooksDifferError, ImportRefusedError, Report, run_import
from fivenines.importers.iso20022 import importer, xml
from tests.unit.importers.ledger_books import CutOffError, LedgerBooks

NOW_MS = 1_764_000_000_000
URN = "urn:iso:std:iso:20022:tech:xsd:"

Save = Callable[[str], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(text: str) -> Path:
        path = tmp_path / f"message_{len(list(tmp_path.iterdir()))}.xml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def payment(amount: str, *, currency: str = "EUR", creditor: str = "DE02", end_to_end: str = "e1") -> str:
    return (
        f"<CdtTrfTxInf><PmtId><EndToEndId>{end_to_end}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="{currency}">{amount}</InstdAmt></Amt><Cdtr><Nm>Ünal &amp; Söhne</Nm></Cdtr>'
        f"<CdtrAcct><Id><IBAN>{creditor}</IBAN></Id></CdtrAcct><RmtInf><Ustrd>invoice 7</Ustrd></RmtInf></CdtTrfTxInf>"
    )


def pain001(*payments: str, header: str = "", part: str = "", date: str = "2024-05-31", namespace: str = "") -> str:
    namespace = namespace or f"{URN}pain.001.001.09"
    header = header or f"<NbOfTxs>{len(payments)}</NbOfTxs>"
    return (
        f'<?xml version="1.0"?><Document xmlns="{namespace}"><CstmrCdtTrfInitn>'
        f"<GrpHdr><MsgId>M1</MsgId><CreDtTm>2024-05-30T10:00:00</CreDtTm>{header}</GrpHdr>"
        f"<PmtInf><PmtInfId>P1</PmtInfId>{part}<ReqdExctnDt>{date}</ReqdExctnDt>"
        f"<DbtrAcct><Id><IBAN>DE01</IBAN></Id></DbtrAcct>{''.join(payments)}</PmtInf></CstmrCdtTrfInitn></Document>"
    )


def entry(amount: str, direction: str, *, status: str = "BOOK", details: str = "", currency: str = "EUR") -> str:
    return (
        f'<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd><Sts>{status}</Sts>'
        f"<BookgDt><Dt>2024-05-31</Dt></BookgDt><AcctSvcrRef>r{amount}</AcctSvcrRef>{details}</Ntry>"
    )


def balance(code: str, amount: str, direction: str = "CRDT") -> str:
    return (
        f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>"
        f'<Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd></Bal>'
    )


def statement(*parts: str, iban: str = "DE01") -> str:
    return f"<Stmt><Id>S</Id><Acct><Id><IBAN>{iban}</IBAN></Id></Acct>{''.join(parts)}</Stmt>"


def camt053(*statements: str, id: str = "B1", version: str = "08") -> str:
    return (
        f'<Document xmlns="{URN}camt.053.001.{version}"><BkToCstmrStmt>'
        f"<GrpHdr><MsgId>{id}</MsgId><CreDtTm>2024-06-01T00:00:00</CreDtTm></GrpHdr>"
        f"{''.join(statements)}</BkToCstmrStmt></Document>"
    )


def run(path: Path, books: LedgerBooks) -> Report:
    report = run_import("iso20022", importer.open(path), books, now_ms=books.now_ms)
    assert books.state.imbalances() == {}
    return report


def refusal(path: Path) -> ImportRefusedError:
    with pytest.raises(ImportRefusedError) as refused:
        importer.open(path)
    return refused.value


def test_a_payment_moves_from_debtor_to_creditor(save: Save) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    report = run(save(pain001(payment("10.50"), payment("2", creditor="DE03"))), books)
    assert (report.rows, report.new, report.is_good) == (2, 2, True)
    assert books.all_balances() == {
        "iban:DE01:EUR": -12_50,
        "iban:DE02:EUR": 10_50,
        "iban:DE03:EUR": 2_00,
        "import:iso20022:" + importer.open(save(pain001(payment("1")))).books: 0,
    }


@pytest.mark.parametrize(
    "namespace",
    [
        *(f"{URN}pain.001.001.{version:02d}" for version in range(2, 13)),
        "http://www.six-interbank-clearing.com/de/pain.001.001.03.ch.02.xsd",
        "urn:swift:xsd:pain.001.001.09",
    ],
)
def test_every_version_and_variant_is_read_by_its_namespace(save: Save, namespace: str) -> None:
    assert importer.open(save(pain001(payment("1"), namespace=namespace))).rows == 1


@pytest.mark.parametrize(
    ("amount", "currency", "units"),
    [("12", "JPY", 12), ("1.234", "KWD", 1_234), ("1.2", "EUR", 120), (" 3\n", "USD", 300)],
)
def test_amounts_have_the_scale_of_their_currency(save: Save, amount: str, currency: str, units: int) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    run(save(pain001(payment(amount, currency=currency))), books)
    assert books.all_balances()[f"iban:DE02:{currency}"] == units


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (pain001(payment("1.5", currency="JPY")), "'1.5' has more than 0 decimals"),
        (pain001(payment("1.005")), "'1.005' has more than 2 decimals"),
        (pain001(payment("1", currency="XTS")), "'XTS' is not a currency"),
        (pain001(payment("1", currency="")), "'' is not a currency"),
        (pain001(payment("-1")), "-1 is negative"),
        (pain001(payment("9" * 17)), "more than the 18 digits"),
        (pain001(payment("1e3")), "'1e3' is not a decimal number"),
        (pain001(payment("NaN")), "'NaN' is not a decimal number"),
        (pain001(payment("1", creditor="DE/../1")), "is not an IBAN"),
        (pain001(payment("1"), date="31.05.2024"), "'31.05.2024' is not a date"),
        (pain001(payment("1"), header="<NbOfTxs>2</NbOfTxs>"), "declared are 2 transactions, found 1"),
        (pain001(payment("1"), header="<NbOfTxs>one</NbOfTxs>"), "'one' is not a count"),
        (pain001(payment("1"), header="<InitgPty/>"), "NbOfTxs: this element is missing"),
        (
            pain001(payment("1.10"), payment("2"), header="<NbOfTxs>2</NbOfTxs><CtrlSum>3</CtrlSum>"),
            "declared is a sum of 3, found 3.10",
        ),
        (pain001(payment("1"), part="<NbOfTxs>4</NbOfTxs>"), "PmtInf[1], NbOfTxs: declared are 4"),
        (
            pain001(payment("1"), part="<CtrlSum>4.00</CtrlSum>"),
            "PmtInf[1], CtrlSum: declared is a sum of 4.00, found 1",
        ),
        (pain001(), "it holds no payment"),
        (pain001(payment("1"), namespace="urn:example:pain"), "names no message"),
        (camt053(statement(balance("OPBD", "1"))), "no pair of opening and closing balance"),
        (camt053(statement(balance("OPBD", "1"), balance("CLBD", "2"))), "declared closing balance is 2.00 EUR"),
        (
            camt053(statement(balance("OPBD", "1"), balance("CLBD", "2"), entry("1", "CRDT", currency="USD"))),
            "it is in USD, while the account is kept in EUR",
        ),
        (
            camt053(statement(balance("OPBD", "1"), balance("CLBD", "2"), entry("1", "PLUS"))),
            "'PLUS' is neither CRDT nor DBIT",
        ),
        (
            camt053(
                statement(balance("OPBD", "1"), balance("CLBD", "2"), entry("1", "CRDT")),
                statement(balance("OPBD", "3"), balance("CLBD", "3")),
            ),
            "it opens with 3.00 EUR, the one before it closes with 2.00 EUR",
        ),
    ],
)
def test_a_wrong_message_is_refused_whole(save: Save, message: str, reason: str) -> None:
    assert reason in str(refusal(save(message)))


@pytest.mark.parametrize(
    ("summary", "is_right"),
    [
        ("<TtlNtries><NbOfNtries>2</NbOfNtries><Sum>9.00</Sum></TtlNtries>", True),
        ("<TtlNtries><NbOfNtries>3</NbOfNtries></TtlNtries>", False),
        ("<TtlNtries><Sum>5.00</Sum></TtlNtries>", False),
        ("<TtlNtries><TtlNetNtryAmt>5</TtlNetNtryAmt><CdtDbtInd>CRDT</CdtDbtInd></TtlNtries>", True),
        ("<TtlNtries><TtlNetNtry><Amt>5</Amt><CdtDbtInd>DBIT</CdtDbtInd></TtlNetNtry></TtlNtries>", False),
        ("<TtlCdtNtries><NbOfNtries>1</NbOfNtries><Sum>7</Sum></TtlCdtNtries>", True),
        ("<TtlCdtNtries><Sum>7.01</Sum></TtlCdtNtries>", False),
        ("<TtlDbtNtries><NbOfNtries>1</NbOfNtries><Sum>2</Sum></TtlDbtNtries>", True),
        ("<TtlDbtNtries><NbOfNtries>0</NbOfNtries></TtlDbtNtries>", False),
    ],
)
def test_the_summary_of_a_statement_is_checked(save: Save, summary: str, is_right: bool) -> None:
    parts = balance("OPBD", "1"), balance("CLBD", "6"), f"<TxsSummry>{summary}</TxsSummry>"
    path = save(camt053(statement(*parts, entry("7", "CRDT"), entry("2", "DBIT"))))
    if is_right:
        assert importer.open(path).rows == 2
    else:
        assert "TxsSummry" in refusal(path).where


def test_only_booked_entries_are_booked(save: Save) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    entries = entry("7", "CRDT"), entry("100", "CRDT", status="PDNG"), entry("3", "DBIT", status="<Cd>BOOK</Cd>")
    report = run(save(camt053(statement(balance("OPBD", "1"), balance("CLBD", "5"), *entries))), books)
    assert (report.rows, report.summary["entries_not_booked"], report.exact) == (2, 1, 1)
    assert books.all_balances()["iban:DE01:EUR"] == 5_00


def test_statements_follow_one_another_and_a_gap_is_refused(save: Save) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    first = camt053(statement(balance("OPBD", "1"), balance("CLBD", "8"), entry("7", "CRDT")), id="B1")
    second = camt053(statement(balance("PRCD", "8"), balance("CLBD", "2"), entry("6", "DBIT")), id="B2")
    gap = camt053(statement(balance("OPBD", "5"), balance("CLBD", "6"), entry("1", "CRDT")), id="B4")
    assert run(save(first), books).new == 2  # with the opening balance
    assert run(save(second), books).new == 1
    again = run(save(first), books)
    assert (again.new, again.mismatched, again.moved_since) == (0, 0, 1)
    balances = books.all_balances()
    with pytest.raises(BooksDifferError, match=r"opens with 5\.00 EUR, but the ledger has 2\.00 EUR"):
        run(save(gap), books)
    assert books.all_balances() == balances


def test_overdrawn_balances_are_negative(save: Save) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    message = camt053(statement(balance("OPBD", "3", "DBIT"), balance("CLBD", "5", "DBIT"), entry("2", "DBIT")))
    assert run(save(message), books).exact == 1
    assert books.all_balances()["iban:DE01:EUR"] == -5_00


def test_an_entry_goes_by_its_details_where_they_make_it_up(save: Save) -> None:
    def details(*amounts: str) -> str:
        return "".join(
            f'<NtryDtls><TxDtls><Amt Ccy="EUR">{amount}</Amt><RltdPties><DbtrAcct><Id><IBAN>FR0{number}</IBAN></Id>'
            f"</DbtrAcct></RltdPties></TxDtls></NtryDtls>"
            for number, amount in enumerate(amounts)
        )

    balances = balance("OPBD", "0"), balance("CLBD", "20")
    books = LedgerBooks(now_ms=NOW_MS)
    entries = entry("10", "CRDT", details=details("4", "6")), entry("10", "CRDT", details=details("4", "5"))
    assert run(save(camt053(statement(*balances, *entries))), books).new == 2
    found = books.all_balances()
    assert (found["counterparty:iban:FR00:EUR"], found["counterparty:iban:FR01:EUR"]) == (-4_00, -6_00)
    assert found["iso20022:external:EUR"] == -10_00


def test_an_entry_of_very_many_details_is_still_one_transaction(save: Save) -> None:
    details = "".join(
        f'<TxDtls><Amt Ccy="EUR">1</Amt><RltdPties><DbtrAcct><Id><Othr><Id>a{number}</Id></Othr></Id></DbtrAcct>'
        f"</RltdPties></TxDtls>"
        for number in range(1_001)
    )
    balances = balance("OPBD", "0"), balance("CLBD", "1001")
    message = camt053(statement(*balances, entry("1001", "CRDT", details=f"<NtryDtls>{details}</NtryDtls>")))
    books = LedgerBooks(now_ms=NOW_MS)
    assert run(save(message), books).new == 1
    assert books.all_balances()["iso20022:external:EUR"] == -1_001_00


def test_a_payment_to_itself_is_counted_and_not_booked(save: Save) -> None:
    report = run(save(pain001(payment("1", creditor="DE01"), payment("2"))), LedgerBooks(now_ms=NOW_MS))
    assert (report.rows, report.new, report.summary["to_itself"]) == (2, 1, 1)


def test_account_ids_of_any_characters_become_ids_of_ours_and_stay_apart(save: Save) -> None:
    def to(other: str) -> str:
        return payment("1").replace("<IBAN>DE02</IBAN>", f"<Othr><Id>{other}</Id></Othr>")

    books = LedgerBooks(now_ms=NOW_MS)
    run(save(pain001(to("12/34:5 6"), to("12_34_5_6"), to("12 34 5 6"))), books)
    found = [id for id in books.all_balances() if id.startswith("acct:")]
    assert len(found) == 3
    assert "acct:12_34_5_6:EUR" in found


def test_another_message_of_the_same_identity_is_refused(save: Save) -> None:
    books = LedgerBooks(now_ms=NOW_MS)
    run(save(pain001(payment("1"))), books)
    balances = books.all_balances()
    with pytest.raises(BooksDifferError, match="imported before, with other content"):
        run(save(pain001(payment("2"))), books)
    assert books.all_balances() == balances


def test_an_interrupted_message_goes_on(save: Save) -> None:
    entries = [entry(str(number), "CRDT") for number in range(1, 21)]
    path = save(camt053(statement(balance("OPBD", "5"), balance("CLBD", "215"), *entries)))
    books = LedgerBooks(now_ms=NOW_MS, cut_after=0)
    with pytest.raises(CutOffError):
        run(path, books)
    books.cut_after = None
    report = run(path, books)
    assert (report.new, report.repeated, report.mismatched) == (11, 10, 0)
    assert books.all_balances()["iban:DE01:EUR"] == 215_00


def test_an_equivalent_amount_is_taken_where_no_amount_is_instructed(save: Save) -> None:
    message = pain001(payment("9")).replace(
        '<InstdAmt Ccy="EUR">9</InstdAmt>', '<EqvtAmt><Amt Ccy="CHF">9</Amt></EqvtAmt>'
    )
    books = LedgerBooks(now_ms=NOW_MS)
    run(save(message), books)
    assert books.all_balances()["iban:DE01:CHF"] == -9_00


BILLION = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'<!DOCTYPE d [<!ENTITY l0 "lol">{BILLION}]><d>&l9;</d>', "document type definition"),
        ('<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/hostname">]><d>&x;</d>', "document type definition"),
        ('<!DOCTYPE d SYSTEM "http://127.0.0.1:9/x.dtd"><d/>', "document type definition"),
        ("<!DOCTYPE d><d/>", "document type definition"),
        ("<d>&nbsp;</d>", "not well-formed"),
        ("<d", "not well-formed"),
        ("", "not well-formed"),
        ("not xml at all", "not well-formed"),
        ("<a>" * 65 + "</a>" * 65, "nested more than 64 deep"),
        ('<?xml version="1.0" encoding="EBCDIC-9"?><d/>', ""),
        ("<d/>", "it must hold one Document"),
    ],
)
def test_hostile_or_broken_xml_is_refused(save: Save, text: str, reason: str) -> None:
    assert reason in refusal(save(text)).reason


def test_a_document_may_stand_in_an_envelope_with_an_entity_that_xml_itself_has(save: Save) -> None:
    message = pain001(payment("1")).removeprefix('<?xml version="1.0"?>')
    assert importer.open(save(f'<env:message xmlns:env="x"><Header>a &lt; b</Header>{message}</env:message>')).rows == 1


def test_a_message_within_supplementary_data_is_not_read(save: Save) -> None:
    other = pain001(payment("1000"), payment("1000")).removeprefix('<?xml version="1.0"?>')
    message = pain001(payment("1")).replace(
        "</CdtTrfTxInf>", f"<SplmtryData><Envlp>{other}</Envlp></SplmtryData></CdtTrfTxInf>"
    )
    assert importer.open(save(message)).summary()["totals"] == {"EUR": "1.00"}


def test_size_and_number_of_elements_are_bounded(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(pain001(*[payment("1")] * 100))
    monkeypatch.setattr(xml, "ELEMENTS_MAX", 500)
    assert "more than 500 elements" in refusal(path).reason
    monkeypatch.undo()
    monkeypatch.setattr(xml, "BYTES_MAX", 1_000)
    assert "larger than 1000 bytes" in refusal(path).reason


@pytest.mark.parametrize("unfinished", ['<a y="', "<a ", "<!-- ", "<?x "])
def test_a_tag_without_an_end_is_given_up_early(save: Save, unfinished: str) -> None:
    assert "is longer than 1048576 bytes" in refusal(save(f"<d>{unfinished}{'x' * 2_000_000}")).reason


def test_a_long_text_is_no_long_tag(save: Save) -> None:
    text = "x " * 1_000_000
    assert importer.open(save(pain001(payment("1").replace("invoice 7", text)))).rows == 1


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.xml"):
        assert refusal(path).where == "file"

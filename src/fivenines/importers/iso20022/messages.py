"""What the messages say, once it has been checked: data that the importer turns into bookings.

Counts and sums that a message declares are checked here, against what it holds, before anything is given out: in
pain.001 those of the group header and of each payment information; in camt the summary of each statement, and in
camt.053 that the opening balance and the booked entries make the closing balance. The first that is wrong refuses the
whole file.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fivenines.importers.iso20022.xml import Element, read_document
from fivenines.importers.money import CURRENCY_SCALES, minor_units, show_minor

__all__ = ["Detail", "Group", "Message", "Money", "Movement", "read_message"]

READABLE = ("pain.001", "camt.053", "camt.054")
SUM_SCALE = 18
"""Control sums run over currencies of different scales: ISO 20022 gives them up to 17 decimals."""
BOOKED = "BOOK"
AMOUNT_MAX = 10**18 - 1
"""Smallest units: amounts have at most 18 digits."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of a currency, in its smallest units."""

    amount: int
    currency: str

    def __str__(self) -> str:
        return f"{show_minor(self.amount, CURRENCY_SCALES[self.currency])} {self.currency}"


@dataclass(frozen=True, slots=True)
class Detail:
    """A part of a movement, with the account on the other side."""

    amount: int
    counterparty: str
    """`iban:...` or `acct:...`; empty when the message does not name it."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A payment, or an entry in a statement."""

    money: Money
    is_credit: bool
    """Whether the account of the group receives it."""
    details: tuple[Detail, ...]
    """At least one; their amounts make up `money`."""
    date: datetime.date | None
    reference: str
    name: str
    """Of the other party."""
    remittance: str


@dataclass(frozen=True, slots=True)
class Group:
    """The movements of one account that belong together: a payment information, a statement or a notification."""

    id: str
    account: str
    movements: tuple[Movement, ...]
    opening: Money | None = None
    closing: Money | None = None
    left_out: int = 0
    """Entries that are not booked: pending, or for information."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is sound."""

    type: str
    version: int
    id: str
    created: str
    groups: tuple[Group, ...]


def read_message(path: Path) -> Message:
    """Read a file and check it.

    Raises:
        ImportRefusedError: it is not readable, of another type, or its counts, sums or balances are wrong.
    """
    document, type_, version = read_document(path)
    if type_ not in READABLE:
        raise document.refused("", f"it is a {type_}, version {version:02d}; read are {', '.join(READABLE)}")
    body = document.only_child()
    header = body.need("GrpHdr")
    groups = _payments(body, header) if type_ == "pain.001" else _reports(body, type_)
    if not any(group.movements or group.opening for group in groups):
        raise body.refused("", "it holds no payment, no booked entry and no balance")
    return Message(type_, version, header.need("MsgId").text, header.need("CreDtTm").text, groups)


def _payments(body: Element, header: Element) -> tuple[Group, ...]:
    """The payment informations of a pain.001."""
    groups: list[Group] = []
    total_count = total_sum = 0
    for part in body.all("PmtInf"):
        movements: list[Movement] = []
        part_sum = 0
        date = part.date("ReqdExctnDt")
        for payment in part.all("CdtTrfTxInf"):
            instructed = payment.first("Amt/InstdAmt") or payment.first("Amt/EqvtAmt/Amt")
            if instructed is None:
                raise payment.refused("Amt", "neither an instructed nor an equivalent amount stands here")
            money = _money(instructed)
            part_sum += minor_units(instructed.text, SUM_SCALE)
            movements.append(
                Movement(
                    money=money,
                    is_credit=False,
                    details=(Detail(money.amount, _account(payment.first("CdtrAcct"))),),
                    date=date,
                    reference=payment.value("PmtId/EndToEndId") or payment.value("PmtId/InstrId"),
                    name=payment.value("Cdtr/Nm"),
                    remittance=_remittance(payment),
                )
            )
        _check_count(part, "NbOfTxs", len(movements))
        _check_sum(part, "CtrlSum", part_sum)
        total_count += len(movements)
        total_sum += part_sum
        account = _account(part.need("DbtrAcct"))
        if not account:
            raise part.refused("DbtrAcct/Id", "the debtor's account is not named")
        groups.append(Group(part.value("PmtInfId"), account, tuple(movements)))
    header.need("NbOfTxs")
    _check_count(header, "NbOfTxs", total_count)
    _check_sum(header, "CtrlSum", total_sum)
    return tuple(groups)


def _reports(body: Element, type_: str) -> tuple[Group, ...]:
    """The statements of a camt.053, or the notifications of a camt.054."""
    groups: list[Group] = []
    closings: dict[tuple[str, str], Money] = {}
    for report in body.all("Stmt" if type_ == "camt.053" else "Ntfctn"):
        group = _report(report, has_balances=type_ == "camt.053")
        if group.opening and group.closing:
            account = group.account, group.opening.currency
            before = closings.get(account)
            if before is not None and before != group.opening:
                raise report.refused("Bal", f"it opens with {group.opening}, the one before it closes with {before}")
            closings[account] = group.closing
        groups.append(group)
    return tuple(groups)


def _report(report: Element, *, has_balances: bool) -> Group:
    account = _account(report.need("Acct"))
    if not account:
        raise report.refused("Acct/Id", "the account is not named")
    opening, closing = _balances(report) if has_balances else (None, None)
    currency = opening.currency if opening else ""
    movements: list[Movement] = []
    count = {True: 0, False: 0}
    total = {True: 0, False: 0}
    left_out = 0
    for entry in report.all("Ntry"):
        money = _money(entry.need("Amt"))
        currency = currency or money.currency
        if money.currency != currency:
            raise entry.refused("Amt", f"it is in {money.currency}, while the account is kept in {currency}")
        is_credit = _is_credit(entry)
        count[is_credit] += 1
        total[is_credit] += money.amount
        status = entry.value("Sts/Cd") or entry.need("Sts").text
        if status != BOOKED:
            left_out += 1
            continue
        movements.append(_entry(entry, money, account, is_credit=is_credit))
    if (summary := report.first("TxsSummry")) is not None:
        _check_summary(summary, count, total, currency)
    if opening and closing:
        booked = sum(movement.money.amount * (1 if movement.is_credit else -1) for movement in movements)
        found = Money(opening.amount + booked, opening.currency)
        if found != closing:
            reason = f"opening {opening} and booked entries of {Money(booked, opening.currency)} make {found}"
            raise report.refused("Bal", f"{reason}; the declared closing balance is {closing}")
    return Group(report.value("Id"), account, tuple(movements), opening, closing, left_out)


def _balances(report: Element) -> tuple[Money, Money]:
    """The opening and closing balance, booked where they are given, else available."""
    by_code: dict[str, Money] = {}
    for balance in report.all("Bal"):
        money = _money(balance.need("Amt"))
        signed = money if _is_credit(balance) else Money(-money.amount, money.currency)
        by_code.setdefault(balance.value("Tp/CdOrPrtry/Cd"), signed)
    for openings, closing in ((("OPBD", "PRCD"), "CLBD"), (("OPAV",), "CLAV")):
        opening = next((by_code[code] for code in openings if code in by_code), None)
        if opening and closing in by_code:
            if opening.currency != by_code[closing].currency:
                raise report.refused("Bal", f"opens in {opening.currency}, closes in {by_code[closing].currency}")
            return opening, by_code[closing]
    found = ", ".join(sorted(by_code)) or "none"
    raise report.refused("Bal", f"no pair of opening and closing balance to check the entries against; found {found}")


def _entry(entry: Element, money: Money, account: str, *, is_credit: bool) -> Movement:
    """An entry, by its details where they name amounts that make up the entry, else as a lump sum."""
    parts = [part for details in entry.all("NtryDtls") for part in details.all("TxDtls")]
    details = [
        Detail(amount, "" if (other := _counterparty(part, is_credit=is_credit)) == account else other)
        for part in parts
        if (amount := _detail_amount(part, money.currency)) > 0
    ]
    if sum(detail.amount for detail in details) != money.amount:
        only = details[0].counterparty if len(parts) == 1 and details else ""
        details = [Detail(money.amount, only)]
    first = parts[0] if parts else None
    party = "Dbtr" if is_credit else "Cdtr"
    reference = entry.value("AcctSvcrRef") or entry.value("NtryRef")
    if first is not None and not reference:
        reference = first.value("Refs/AcctSvcrRef") or first.value("Refs/EndToEndId") or first.value("Refs/TxId")
    name = remittance = ""
    if first is not None and len(parts) == 1:
        name = first.value(f"RltdPties/{party}/Nm") or first.value(f"RltdPties/{party}/Pty/Nm")
        remittance = _remittance(first)
    return Movement(
        money=money,
        is_credit=is_credit,
        details=tuple(details),
        date=entry.date("BookgDt", "ValDt"),
        reference=reference,
        name=name,
        remittance=remittance or entry.value("AddtlNtryInf"),
    )


def _detail_amount(part: Element, currency: str) -> int:
    """The amount of a detail in the account's currency, or 0 where it gives none."""
    for path in ("Amt", "AmtDtls/TxAmt/Amt"):
        amount = part.first(path)
        if amount is not None and amount.attribute("Ccy") == currency:
            return _money(amount).amount
    return 0


def _counterparty(part: Element, *, is_credit: bool) -> str:
    return _account(part.first("RltdPties/DbtrAcct" if is_credit else "RltdPties/CdtrAcct"))


def _account(element: Element | None) -> str:
    """`iban:...` or `acct:...` from the Id of an account, or an empty string."""
    if element is None:
        return ""
    if iban := "".join(element.value("Id/IBAN").split()).upper():
        if not (iban.isascii() and iban.isalnum() and len(iban) <= 34):
            raise element.refused("Id/IBAN", f"{iban[:40]!r} is not an IBAN")
        return f"iban:{iban}"
    other = element.value("Id/Othr/Id") or element.value("Id/BBAN") or element.value("Id/PrtryAcct/Id")
    return f"acct:{other}" if other else ""


def _money(element: Element) -> Money:
    currency = element.attribute("Ccy")
    if currency not in CURRENCY_SCALES:
        raise element.refused("Ccy", f"{currency[:12]!r} is not a currency of ISO 4217")
    try:
        amount = minor_units(element.text, CURRENCY_SCALES[currency])
    except ValueError as error:
        raise element.refused("", f"{error}, {currency}") from error
    if amount < 0:
        raise element.refused("", f"{element.text} is negative")
    if amount > AMOUNT_MAX:
        raise element.refused("", f"{element.text} has more than the 18 digits that ISO 20022 allows")
    return Money(amount, currency)


def _is_credit(element: Element) -> bool:
    indicator = element.need("CdtDbtInd")
    if indicator.text not in ("CRDT", "DBIT"):
        raise indicator.refused("", f"{indicator.text[:12]!r} is neither CRDT nor DBIT")
    return indicator.text == "CRDT"


def _remittance(element: Element) -> str:
    info = element.first("RmtInf")
    if info is None:
        return ""
    return " ".join(text.text for text in info.all("Ustrd")) or info.value("Strd/CdtrRefInf/Ref")


def _check_count(element: Element, path: str, found: int) -> None:
    declared = element.first(path)
    if declared is None:
        return
    if not (declared.text.isascii() and declared.text.isdigit() and len(declared.text) <= 15):
        raise element.refused(path, f"{declared.text[:40]!r} is not a count")
    if int(declared.text) != found:
        raise element.refused(path, f"declared are {int(declared.text)} transactions, found {found}")


def _check_sum(element: Element, path: str, found: int, scale: int = SUM_SCALE) -> None:
    declared = element.first(path)
    if declared is None:
        return
    try:
        value = minor_units(declared.text, scale)
    except ValueError as error:
        raise element.refused(path, str(error)) from error
    if value != found:
        raise element.refused(path, f"declared is a sum of {declared.text}, found {_short(found, scale)}")


def _check_summary(summary: Element, count: dict[bool, int], total: dict[bool, int], currency: str) -> None:
    """Check what TxsSummry declares: all entries, the credits, the debits, and the net of them."""
    scale = CURRENCY_SCALES.get(currency, 2)
    _check_count(summary, "TtlNtries/NbOfNtries", sum(count.values()))
    _check_sum(summary, "TtlNtries/Sum", sum(total.values()), scale)
    for name, is_credit in (("TtlCdtNtries", True), ("TtlDbtNtries", False)):
        _check_count(summary, f"{name}/NbOfNtries", count[is_credit])
        _check_sum(summary, f"{name}/Sum", total[is_credit], scale)
    net = total[True] - total[False]
    for amount, direction in (  # versions up to 02 first, then from 03 on
        ("TtlNtries/TtlNetNtryAmt", "TtlNtries/CdtDbtInd"),
        ("TtlNtries/TtlNetNtry/Amt", "TtlNtries/TtlNetNtry/CdtDbtInd"),
    ):
        _check_sum(summary, amount, -net if _any_debit(summary, direction) else net, scale)


def _any_debit(summary: Element, path: str) -> bool:
    return summary.value(path) == "DBIT"


def _short(value: int, scale: int) -> str:
    whole, _, decimals = show_minor(value, scale).partition(".")
    decimals = decimals.rstrip("0")
    return f"{whole}.{decimals.ljust(2, '0')}" if decimals else whole


def total_by_currency(movements: Iterable[Movement]) -> dict[str, str]:
    """What movements add up to, whatever their direction, for a report."""
    sums: dict[str, int] = {}
    for movement in movements:
        sums[movement.money.currency] = sums.get(movement.money.currency, 0) + movement.money.amount
    return {currency: show_minor(amount, CURRENCY_SCALES[currency]) for currency, amount in sorted(sums.items())}

"""Read the files of the Berka books into columns.

A folder holds one or more `trans*.csv`, in Czech or English codes, and perhaps an `account.csv`; a single file will do
too. Every row is read and checked before anything is booked, so wrong files are refused whole. A million rows have to
fit, so they are kept as columns of machine integers, some 60 bytes a row, never as objects.
"""

import csv
import datetime
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fivenines.importers.money import parse_minor, show_minor
from fivenines.importers.port import ImportRefusedError

__all__ = [
    "COLUMNS",
    "AccountFacts",
    "Kind",
    "Transactions",
    "facts_as_metadata",
    "read_accounts",
    "read_transactions",
    "transaction_files",
]

COLUMNS = ("trans_id", "account_id", "date", "type", "operation", "amount", "balance", "k_symbol", "bank", "account")
ACCOUNT_COLUMNS = ("account_id", "district_id", "frequency", "date")

SIGNS = {"PRIJEM": 1, "VYDAJ": -1, "VYBER": -1, "credit": 1, "withdrawal": -1, "withdrawal in cash": -1}
OPERATIONS = {
    "": "bank",
    "VKLAD": "cash",
    "credit in cash": "cash",
    "VYBER": "cash",
    "withdrawal in cash": "cash",
    "PREVOD Z UCTU": "transfer",
    "collection from another bank": "transfer",
    "PREVOD NA UCET": "transfer",
    "remittance to another bank": "transfer",
    "VYBER KARTOU": "card",
    "credit card withdrawal": "card",
}
PURPOSES = {
    "UROK": "interest",
    "interest credited": "interest",
    "SLUZBY": "fees",
    "payment for statement": "fees",
    "SANKC. UROK": "penalty",
    "sanction interest if negative balance": "penalty",
}

AMOUNT_MAX = 10**15 - 1
"""Hellers: a sum of 9,000 such amounts still fits a column of 64-bit integers."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a row is about: rows share few of these."""

    offset: str
    """The account on the other side, below `berka:`."""
    k_symbol: str


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """A row of account.csv."""

    district: str
    frequency: str
    opened: datetime.date


@dataclass(slots=True)
class Transactions:
    """The rows of all files, as columns of equal length."""

    trans_id: "array[int]" = field(default_factory=lambda: array("q"))
    account: "array[int]" = field(default_factory=lambda: array("q"))
    day: "array[int]" = field(default_factory=lambda: array("l"))
    """Proleptic ordinal, as of `datetime.date.toordinal`."""
    amount: "array[int]" = field(default_factory=lambda: array("q"))
    """Signed, in hellers: what the account's balance grows by."""
    balance: "array[int]" = field(default_factory=lambda: array("q"))
    """Stated by the row, in hellers."""
    kind: "array[int]" = field(default_factory=lambda: array("l"))
    counterparty: "array[int]" = field(default_factory=lambda: array("l"))
    file: "array[int]" = field(default_factory=lambda: array("l"))
    line: "array[int]" = field(default_factory=lambda: array("l"))
    kinds: list[Kind] = field(default_factory=list)
    counterparties: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    repeated: int = 0
    """Rows that stood in the files before, word for word."""

    def __len__(self) -> int:
        return len(self.trans_id)

    def describe(self, row: int) -> str:
        """The row for a report: where it stands and what it says."""
        date = datetime.date.fromordinal(self.day[row])
        kind = self.kinds[self.kind[row]]
        amount, balance = show_minor(self.amount[row], sign=True), show_minor(self.balance[row])
        place = f"{self.files[self.file[row]].name}:{self.line[row]}"
        about = f"{kind.offset} {kind.k_symbol}".rstrip()
        return f"{place} trans_id {self.trans_id[row]} {date} {amount} -> {balance} {about}"


def transaction_files(path: Path) -> list[Path]:
    """The transaction files at a path, sorted by name.

    Raises:
        ImportRefusedError: there are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ImportRefusedError(path, where="path", reason="there is no such file or folder")
    files = sorted(file for file in path.glob("trans*.csv") if file.is_file())
    if not files:
        raise ImportRefusedError(path, where="folder", reason="it holds no trans*.csv")
    return files


def read_accounts(path: Path) -> dict[int, AccountFacts]:
    """Read account.csv.

    Raises:
        ImportRefusedError: a row is wrong.
    """
    accounts: dict[int, AccountFacts] = {}
    days: dict[str, int] = {}
    for line, (account_id, district, frequency, opened) in _read(path, ACCOUNT_COLUMNS):
        number = _identifier(path, line, "account_id", account_id)
        if number in accounts:
            raise _refused(path, line, "account_id", f"account {number} stands in the file twice")
        day = _day(path, line, opened, days)
        accounts[number] = AccountFacts(district[:64], frequency[:64], datetime.date.fromordinal(day))
    return accounts


def read_transactions(files: list[Path]) -> Transactions:
    """Read and check every row of the files.

    Raises:
        ImportRefusedError: a row is wrong, or two rows of one trans_id differ.
    """
    rows = Transactions(files=files)
    kinds: dict[tuple[str, str, str], int] = {}
    counterparties: dict[str, int] = {}
    days: dict[str, int] = {}
    seen: dict[int, int] = {}
    for file_index, path in enumerate(files):
        for line, fields in _read(path, COLUMNS):
            trans_id, account_id, date, type_, operation, amount, balance, k_symbol, bank, counterparty = fields
            number = _identifier(path, line, "trans_id", trans_id)
            k_symbol = k_symbol.strip()
            kind_key = operation, k_symbol, bank
            kind = kinds.get(kind_key)
            if kind is None:
                kind = kinds[kind_key] = len(kinds)
                rows.kinds.append(Kind(_offset(path, line, operation, k_symbol, bank), k_symbol))
            sign = SIGNS.get(type_)
            if sign is None:
                raise _refused(path, line, "type", f"{type_!r} is not one of {', '.join(SIGNS)}")
            size = _money(path, line, "amount", amount)
            if size < 0:
                raise _refused(path, line, "amount", f"{amount} is negative: the type says the direction")
            row = (
                _identifier(path, line, "account_id", account_id),
                _day(path, line, date, days),
                sign * size,
                _money(path, line, "balance", balance),
                kind,
                counterparties.setdefault(counterparty, len(counterparties)),
            )
            earlier = seen.setdefault(number, len(rows))
            if earlier != len(rows):
                if row != tuple(column[earlier] for column in _content(rows)):
                    there = f"{files[rows.file[earlier]].name}, line {rows.line[earlier]}"
                    told = f"{number} stands in {there} too, with other content"
                    raise _refused(path, line, "trans_id", told)
                rows.repeated += 1
                continue
            rows.trans_id.append(number)
            for column, value in zip(_content(rows), row, strict=True):
                column.append(value)
            rows.file.append(file_index)
            rows.line.append(line)
    rows.counterparties = list(counterparties)
    return rows


def _content(rows: Transactions) -> "tuple[array[int], ...]":
    return rows.account, rows.day, rows.amount, rows.balance, rows.kind, rows.counterparty


def _read(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The lines of a file with the named columns, in the order of `columns`, whatever the order in the file."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=";", strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing:
                told = f"this column is missing; the columns are {', '.join(header) or 'none'}"
                raise _refused(path, 1, missing[0], told)
            places = [header.index(name) for name in columns]
            in_order = places == list(range(len(header)))
            for fields in reader:
                line = reader.line_num
                if len(fields) != len(header):
                    if not fields:
                        continue
                    reason = f"{len(fields)} fields where the header has {len(header)}"
                    raise _refused(path, line, "", reason)
                yield line, tuple(fields) if in_order else tuple(fields[place] for place in places)
    except UnicodeDecodeError as error:
        raise ImportRefusedError(path, where=f"byte {error.start}", reason="it is not UTF-8 text") from error
    except csv.Error as error:
        raise ImportRefusedError(path, where=f"after line {line}", reason=f"not CSV: {error}") from error
    except OSError as error:
        raise ImportRefusedError(path, where="file", reason=error.strerror or str(error)) from error


def _refused(path: Path, line: int, column: str, reason: str) -> ImportRefusedError:
    return ImportRefusedError(path, where=f"line {line}", field=column, reason=reason)


def _identifier(path: Path, line: int, column: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _refused(path, line, column, f"{text[:40]!r} is not a number of at most 18 digits")
    return int(text)


def _money(path: Path, line: int, column: str, text: str) -> int:
    try:
        value = parse_minor(text)
    except ValueError as error:
        raise _refused(path, line, column, str(error)) from error
    if abs(value) > AMOUNT_MAX:
        raise _refused(path, line, column, f"{text} is larger than these books can be")
    return value


def _day(path: Path, line: int, text: str, known: dict[str, int]) -> int:
    """YYMMDD; as POSIX has it, 69 to 99 are of the 20th century and 00 to 68 of the 21st."""
    day = known.get(text)
    if day is None:
        try:
            year = int(text[:2] if len(text) == 6 and text.isascii() and text.isdigit() else "")
            date = datetime.date(year + (1900 if year >= 69 else 2000), int(text[2:4]), int(text[4:]))
        except ValueError:
            raise _refused(path, line, "date", f"{text[:40]!r} is not a date of the form YYMMDD") from None
        day = known[text] = date.toordinal()
    return day


def _offset(path: Path, line: int, operation: str, k_symbol: str, bank: str) -> str:
    """The account on the other side: what the bank does with its own money first, then the way the money took."""
    way = OPERATIONS.get(operation)
    if way is None:
        told = f"{operation[:40]!r} is not one of {', '.join(filter(None, OPERATIONS))}"
        raise _refused(path, line, "operation", told)
    if purpose := PURPOSES.get(k_symbol):
        return purpose
    if way != "transfer":
        return "other" if way == "bank" else way
    if not bank:
        return "bank:unknown"
    if not (bank.isascii() and bank.isalnum() and len(bank) <= 16):
        raise _refused(path, line, "bank", f"{bank[:40]!r} is not a bank's code")
    return f"bank:{bank}"


def facts_as_metadata(facts: Mapping[int, AccountFacts], account: int) -> dict[str, str]:
    """What account.csv says of an account, as metadata of ours."""
    known = facts.get(account)
    if known is None:
        return {}
    return {"district": known.district, "frequency": known.frequency, "opened": known.opened.isoformat()}

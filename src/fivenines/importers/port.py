"""What an importer is, and what it sees of the ledger.

An **importer** is a plug-in that understands one kind of file. It is pure of network: `Importer.open` reads and checks
files, and gives an `Import`, which says as data what is to be done: assets, accounts, and steps of transactions, each
step with the balances that must stand after it. `fivenines.importers.run` carries that out through `Books`, the few
things an import needs of a ledger. The command line puts the HTTP client behind `Books`; a test may put a ledger of its
own there.

Another package adds an importer by an entry point in the group `fivenines.importers` that names an object with the
shape of `Importer`.

    ImportingError             an import stopped; its sentence is for a person
      ImportRefusedError       the files are wrong: where, which field, why; nothing was sent
      BooksDifferError         the ledger is not as the import needs it, or refused something

Repeating an import must change nothing, so everything that is sent depends on three things only: the files, the time at
which the books were first imported (`Facts.base_time_ms`), and what was decided then (`Facts.notes`). The runner keeps
both in the metadata of an account of the ledger itself, the *anchor* of the books.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fivenines.api import Account, ItemResult, NewAccount, NewTransaction

__all__ = [
    "Books",
    "BooksDifferError",
    "Check",
    "Facts",
    "Import",
    "ImportRefusedError",
    "Importer",
    "ImportingError",
    "Step",
    "Verdict",
]


class ImportingError(Exception):
    """An import stopped; the sentence says why."""


class ImportRefusedError(ImportingError):
    """The files are wrong, and are refused whole: nothing was sent.

    Attributes:
        path: the file.
        where: the place in it: a line ("line 17") or the path of an element.
        field: the column or element that is wrong; empty where the whole place is.
        reason: what is wrong with it, in a sentence, with the values that were found.
    """

    def __init__(self, path: Path, *, where: str, field: str = "", reason: str) -> None:
        place = f"{where}, {field}" if field else where
        super().__init__(f"{path.name}, {place}: {reason}")
        self.path, self.where, self.field, self.reason = path, where, field, reason


class BooksDifferError(ImportingError):
    """The ledger is not as the import needs it; the sentence names the account or the transaction."""


class Verdict(Enum):
    """What the books to be imported say about themselves in one check."""

    exact = "exact"
    """The stated balance follows from the stated amounts."""
    rounded = "rounded"
    """It follows but for a difference within the rounding of the source, which is booked as such."""
    contradictory = "contradictory"
    """It does not follow: `Check.story` tells."""


@dataclass(frozen=True, slots=True)
class Check:
    """A balance that must stand in the ledger when a step has been carried out."""

    account: str
    balance: int
    """Smallest units: what the ledger's balance must be then. Anything else is a mismatch: an error of ours."""
    verdict: Verdict = Verdict.exact
    label: str = ""
    """What is checked, for people: "account 25 on 1996-07-28"."""
    story: tuple[str, ...] = ()
    """Of a contradiction: a sentence on what was found and done, then the rows concerned."""


@dataclass(frozen=True, slots=True)
class Step:
    """Transactions to be carried out in this order, and what must be true after them."""

    transactions: Sequence[NewTransaction]
    rows: int
    """How many rows of the source the step stands for, for progress: bookings of our own making are none."""
    checks: Sequence[Check] = ()
    label: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was fixed when the books were first imported, and is the same in every later run."""

    base_time_ms: int
    """Unix time of the first run: the time in every transaction id."""
    notes: Mapping[str, Any]
    """What `Import.decide` answered then."""


class Import(Protocol):
    """Books that were read and found to be sound, ready to be carried out."""

    @property
    def books(self) -> str:
        """The name of these books, as part of an account id: another import of the same name is the same import."""
        ...

    @property
    def rows(self) -> int:
        """How many rows `steps` will cover in all."""
        ...

    def summary(self) -> Mapping[str, Any]:
        """A few facts about the files for the report (JSON values)."""
        ...

    def assets(self) -> Sequence[str]:
        """The assets that must be registered, such as `CZK/2`; the first one is that of the anchor."""
        ...

    def accounts(self) -> Iterator[NewAccount]:
        """The accounts that must be open before the first step."""
        ...

    def prior(self) -> Sequence[str]:
        """The accounts whose balances `decide` must know."""
        ...

    def decide(self, balances: Mapping[str, int]) -> Mapping[str, Any]:
        """What depends on the ledger as it stands before the first run, as small JSON.

        Args:
            balances: of those accounts of `prior` that exist, in smallest units.

        Raises:
            BooksDifferError: the ledger's balances do not go with these books.
        """
        ...

    def steps(self, facts: Facts) -> Iterator[Step]:
        """The steps, in their order: the same for the same facts, every time."""
        ...


@runtime_checkable
class Importer(Protocol):
    """A plug-in that reads one kind of books."""

    @property
    def name(self) -> str:
        """The name on the command line, and part of the anchor's account id."""
        ...

    def open(self, path: Path) -> Import:
        """Read and check the books at `path`.

        Raises:
            ImportRefusedError: they are not sound; nothing was sent.
        """
        ...


class Books(Protocol):
    """What an import needs of a ledger. Calls retry by themselves, and raise what the ledger's client raises."""

    def position(self) -> int:
        """The ledger's position now: what it decides later has a higher one."""
        ...

    def create_assets(self, assets: Sequence[str]) -> None:
        """Register assets; those that are registered already stay."""
        ...

    def open_accounts(self, accounts: Sequence[NewAccount]) -> Sequence[ItemResult]:
        """Open accounts, with an outcome for each, in order."""
        ...

    def post(self, transactions: Sequence[NewTransaction]) -> Sequence[ItemResult]:
        """Carry out transactions one after another, with an outcome for each, in order."""
        ...

    def balances(self, accounts: Sequence[str]) -> Mapping[str, int]:
        """The balances, in smallest units, of those of the accounts that exist; no older than the last answer."""
        ...

    def account(self, account_id: str) -> Account | None:
        """One account, or None when there is none of this id."""
        ...

"""Import real books: plug-ins that read files, and a runner that carries them into a ledger.

    port.py       what an importer and the ledger look like to each other
    run.py        carries an import out: idempotent, interruptible, checked against the ledger's own balances
    ids.py        transaction ids that a rerun makes again
    money.py      amounts in text to smallest units, and the currencies of ISO 4217
    day_chain.py  finds the order of a day's rows from their running balances
    berka.py      the books of a Czech bank (PKDD'99), and of `fivenines generate bank`
    iso20022/     payment orders and statements: pain.001, camt.053, camt.054
    bank.py       makes a believable bank in the format of berka.py

`find` gives an importer by its name, from the entry-point group `fivenines.importers`.
"""

from importlib.metadata import entry_points

from fivenines.importers.port import (
    Books,
    BooksDifferError,
    Check,
    Facts,
    Import,
    Importer,
    ImportingError,
    ImportRefusedError,
    Step,
    Verdict,
)
from fivenines.importers.run import Progress, Report, run_import

__all__ = [
    "Books",
    "BooksDifferError",
    "Check",
    "Facts",
    "Import",
    "ImportRefusedError",
    "Importer",
    "ImportingError",
    "Progress",
    "Report",
    "Step",
    "Verdict",
    "find",
    "names",
    "run_import",
]

_GROUP = "fivenines.importers"


def names() -> list[str]:
    """The names of the importers that are installed, sorted."""
    return sorted({point.name for point in entry_points(group=_GROUP)})


def find(name: str) -> Importer:
    """Load the importer of this name.

    Raises:
        ImportingError: there is none, or what its entry point names is no importer.
    """
    points = tuple(entry_points(group=_GROUP, name=name))
    if not points:
        raise ImportingError(f"there is no importer {name!r}; installed are: {', '.join(names()) or 'none'}")
    found = points[0].load()
    if not isinstance(found, Importer):
        raise ImportingError(f"{points[0].value}, which the importer {name!r} names, is no importer")
    return found

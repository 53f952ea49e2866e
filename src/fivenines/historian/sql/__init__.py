"""SQL history: what the journal's life has come to, in tables that anybody's tools can read.

A `Projector` writes the steps of a follower into SQL, exactly once, since the position is stored in the transaction
that stores the rows. `Queries` answers from the projection that is active, and `pages` serves the answers. A projection
has a version; `migration` builds the next one beside it, compares the two, and switches.

The way through the package: `schema` has the tables, `rows` turns steps into rows (with `books` as its memory),
`writing` brings rows into a database, `projector` does so exactly once, `reading` and `balances` bring them back,
`queries` and `pages` answer.
"""

from fivenines.historian.sql.answers import Balance, Cursor, Page, Statement, StatementLine
from fivenines.historian.sql.errors import (
    HistoryMovedError,
    HistoryUnavailableError,
    NotSwitchableError,
    SqlHistoryError,
)
from fivenines.historian.sql.migration import Comparison, build, compare, retire, switch
from fivenines.historian.sql.pages import pages
from fivenines.historian.sql.projector import Projector, project_all, projectors
from fivenines.historian.sql.queries import Queries
from fivenines.historian.sql.schema import LATEST, VERSIONS, Projection, install, open_engine, projections

__all__ = [
    "LATEST",
    "VERSIONS",
    "Balance",
    "Comparison",
    "Cursor",
    "HistoryMovedError",
    "HistoryUnavailableError",
    "NotSwitchableError",
    "Page",
    "Projection",
    "Projector",
    "Queries",
    "SqlHistoryError",
    "Statement",
    "StatementLine",
    "build",
    "compare",
    "install",
    "open_engine",
    "pages",
    "project_all",
    "projections",
    "projectors",
    "retire",
    "switch",
]

"""The projector: steps in, rows out, each exactly once.

A batch of steps is one SQL transaction: all of its rows, and the new position. The position moves by comparison: it
must be where this projector left it, or somebody else has written and nothing is done. So a projector may be killed at
any moment, or lose its database in the middle of a commit: what is stored is whole, and the position says where to go
on.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Engine, select, text, update

from fivenines.historian.follower import Step
from fivenines.historian.sql.books import Books
from fivenines.historian.sql.errors import HistoryMovedError, database_errors
from fivenines.historian.sql.rows import build_rows, needs_of
from fivenines.historian.sql.schema import LATEST, install, is_sqlite, projections, registry, tables_of
from fivenines.historian.sql.writing import read_books, write_rows

__all__ = ["Projector", "project_all", "projectors"]

_ACCOUNTS_KEPT_MAX = 500_000
_HOLDS_KEPT_MAX = 500_000


class Projector:
    """Writes one version of the history. It belongs to one thread at a time.

    Its tables are made where they are not there. To go on, bring steps from `position + 1`.

    Raises:
        HistoryUnavailableError: the database is away.
    """

    def __init__(self, engine: Engine, version: int = LATEST) -> None:
        self.version = version
        self._engine = engine.execution_options(writes=True)
        self._tables = tables_of(version)
        self._books = Books()
        installed = install(engine, version)
        self._stored: tuple[int, bytes] | None = installed.position, installed.frame_digest

    @property
    def position(self) -> int:
        """The position that is stored, and all rows with it. After a failure it is read anew."""
        return self._where()[0]

    @property
    def frame_digest(self) -> bytes:
        """The digest of the frame at `position`: the one that follows must be of the same journal."""
        return self._where()[1]

    def project(self, steps: Sequence[Step]) -> None:
        """Write the rows of `steps`, all or none; those that are stored already are passed over.

        Raises:
            HistoryMovedError: somebody else has written, or the steps do not follow on what is stored.
            HistoryUnavailableError: the database failed. The steps are stored whole or not at all; project them again.
        """
        position, digest = self._where()
        if any(step.frame.position == position and step.frame.digest != digest for step in steps):
            raise HistoryMovedError(f"version {self.version} has another frame at position {position}")
        steps = [step for step in steps if step.frame.position > position]
        if not steps:
            return
        if [step.frame.position for step in steps] != list(range(position + 1, position + 1 + len(steps))):
            raise HistoryMovedError(f"version {self.version} is at {position}; what follows is missing")
        last = steps[-1].frame
        try:
            with database_errors(), self._engine.begin() as connection:
                self._move(connection, position, digest, last.position, last.digest)
                needs = needs_of(steps)
                read_books(connection, self._tables, self._books, needs)
                rows = build_rows(self._books, steps, with_balances=self._tables.balances is not None)
                write_rows(connection, self._tables, rows)
        except BaseException:
            # The books may be ahead of what is stored, and whether the commit was done shows in the database.
            self._stored = None
            self._books.forget()
            raise
        self._stored = last.position, last.digest
        if len(self._books.accounts) > _ACCOUNTS_KEPT_MAX or len(self._books.holds) > _HOLDS_KEPT_MAX:
            self._books.forget()

    def _where(self) -> tuple[int, bytes]:
        if self._stored is None:
            with database_errors(), self._engine.connect() as connection:
                query = select(registry.c.position, registry.c.frame_digest).where(registry.c.version == self.version)
                row = connection.execute(query).one()
            self._stored = row.position, bytes.fromhex(row.frame_digest)
        return self._stored

    def _move(self, connection: Connection, position: int, digest: bytes, to: int, to_digest: bytes) -> None:
        """Move the stored position, first of all: from here on to the commit, nobody else can."""
        if not is_sqlite(connection):
            # A crash of the server may take back the last commits, position and rows together; none is half done.
            connection.execute(text("SET LOCAL synchronous_commit = off"))
        moved = connection.execute(
            update(registry)
            .where(
                registry.c.version == self.version,
                registry.c.position == position,
                registry.c.frame_digest == digest.hex(),
                registry.c.status != "retired",
            )
            .values(position=to, frame_digest=to_digest.hex())
        )
        if moved.rowcount != 1:
            raise HistoryMovedError(f"version {self.version} is no longer at position {position}")


def projectors(engine: Engine) -> list[Projector]:
    """Return a projector for each projection that is kept up: all but the retired."""
    return [Projector(engine, found.version) for found in projections(engine) if found.status != "retired"]


def project_all(projectors: Iterable[Projector], steps: Sequence[Step]) -> None:
    """Write the same steps to several projections, each from where it is. Raises as `Projector.project` does."""
    for projector in projectors:
        projector.project(steps)

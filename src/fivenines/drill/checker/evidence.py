"""What the witnesses said: all that the checker judges by. Plain values; `gathering` asks for them.

The clients' own notes and the journal's frames are always there. What else was heard is by the names of those who said
it. Positions count frames from 1; amounts are in the smallest unit of an asset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fivenines.drill.checker.course import Totals
from fivenines.drill.load.asked import Asked
from fivenines.journal import Frame
from fivenines.ledger import Posting

__all__ = ["ArchiveSaid", "Effected", "Evidence", "FeedSaid", "NodeSaid", "SqlSaid", "Told"]


class Effected(NamedTuple):
    """A posting in history in SQL, and what it did."""

    effect: str
    source: str
    destination: str
    amount: int


class Told(NamedTuple):
    """One transaction, as the event feed or history in SQL tells of it."""

    position: int
    item: int
    """Which of its frame, from 0."""
    id: bytes
    kind: str
    outcome: str
    hold: bytes = b""
    """Of a settlement or a release."""
    amount: int = 0
    """The sum of the postings that it asked for; 0: all that was held."""
    is_final: bool = True
    """False of a settlement that keeps the rest held."""
    postings: tuple[Posting, ...] | None = None
    """What it asked for, in that order; None: no more is known than the amount."""
    effects: tuple[Effected, ...] | None = None
    """What became of that and of the rest of its hold, sorted; None: a feed does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSaid:
    """The accounts of a node, all at one position, asked of it in one request."""

    node: str
    position: int
    accounts: Mapping[str, Totals]
    is_all: bool = True
    """Whether these are all that there were: then what they have comes to nothing."""
    outcomes: bytes = b""
    """The chain over all outcomes, at `outcomes_position`; empty: it was not asked for."""
    outcomes_position: int = 0
    wrong_in_themselves: tuple[str, ...] = ()
    """Accounts whose balance, as it was said, is not their credits less their debits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSaid:
    """The events of a node or of a historian."""

    position: int
    """Up to where it told."""
    events: Sequence[Told]
    """In the order in which they were told."""
    after: int = 0
    """From where on: a node's journal may begin later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlSaid:
    """What a database of history holds."""

    position: int
    transactions: Sequence[Told]
    """In the order of their keys."""
    accounts: Mapping[str, Totals]
    balances: Sequence[tuple[int, str, Totals]] | None = None
    """(position, account, totals after that frame), by position; None: this version of it keeps none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSaid:
    """The frames in an archive."""

    digests: Mapping[int, bytes]
    """By position."""
    damaged: tuple[str, ...] = ()
    """Objects that could not be read, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the witnesses said."""

    asked: Sequence[Asked]
    frames: Sequence[Frame]
    """From position 1 on."""
    until: int = 0
    """The position that everybody must have come to; 0: the journal's last."""
    nodes: Sequence[NodeSaid] = ()
    """What nodes said at the end, and the samples that were taken meanwhile."""
    feeds: Mapping[str, FeedSaid] = field(default_factory=dict)
    sql: Mapping[str, SqlSaid] = field(default_factory=dict)
    archives: Mapping[str, ArchiveSaid] = field(default_factory=dict)
    unheard: Mapping[str, str] = field(default_factory=dict)
    """Who did not say what was asked, and why: `node eu-1`, `sql ...`."""

"""What the rows of a step cannot be made without: the totals of the accounts it touches, and the holds that are open.

The projector keeps books of its own rather than look into the ledger's state: a step says what was asked and how it
was decided, but a settlement of all that is held names no amount, and a state that a follower has carried on no longer
tells what there was. Books are read from the projection itself as accounts and holds are met, so they are at its
position by construction, and they may be forgotten at any time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["AccountBook", "Books", "HoldBook"]


@dataclass(slots=True, eq=False)
class AccountBook:
    """An account, as it stands."""

    id: str
    asset: str
    opened_position: int
    status: str = "open"
    min_balance: int | None = None
    max_balance: int | None = None
    metadata: bytes | None = None
    debits: int = 0
    credits: int = 0
    held_debits: int = 0
    held_credits: int = 0


@dataclass(slots=True, eq=False)
class HoldBook:
    """A hold, as it stands."""

    id: bytes
    position: int
    item: int
    expires_us: int | None
    remaining: dict[tuple[str, str], int]
    """What is left to move, by (source, destination)."""
    state: str = "open"
    ended_position: int | None = None


@dataclass(slots=True)
class Books:
    """The accounts and open holds that were met so far."""

    accounts: dict[str, AccountBook] = field(default_factory=dict)
    holds: dict[bytes, HoldBook] = field(default_factory=dict)

    def unknown_accounts(self, ids: Iterable[str]) -> list[str]:
        """Return those of `ids` that are to be read first."""
        return [id for id in set(ids) if id not in self.accounts]

    def unknown_holds(self, ids: Iterable[bytes]) -> list[bytes]:
        """Return those of `ids` that are to be read first."""
        return [id for id in set(ids) if id not in self.holds]

    def forget(self) -> None:
        """Begin anew: what is needed is read again."""
        self.accounts.clear()
        self.holds.clear()

"""The things that the ledger's state is made of: assets, accounts and open holds.

They are plain mutable objects with slots, because there may be millions of accounts and each transaction touches two.
Only `fivenines.ledger.rules` changes them.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

from fivenines.ledger.commands import AMOUNT_MAX

__all__ = ["NO_FLOOR", "Account", "Asset", "HeldPosting", "OpenHold", "Status", "salt_of"]

NO_FLOOR = -(2**200)
"""The floor of an account without a min_balance: lower than any balance can be."""

_ORDINARY_TOTAL_MAX = 2**126


class Status(IntEnum):
    """Whether an account takes part in transactions."""

    open = 0
    frozen = 1
    closed = 2


@dataclass(frozen=True, slots=True, eq=False)
class Asset:
    """An asset: its code, and its scale, the number of decimals of its smallest unit."""

    name: str
    """Code and scale as users write them, such as `EUR/2`."""

    @property
    def code(self) -> str:
        """The part before the slash."""
        return self.name.partition("/")[0]

    @property
    def scale(self) -> int:
        """How many decimals the smallest unit has."""
        return int(self.name.partition("/")[2])


class Account:
    """An account and its totals, in the asset's smallest units."""

    __slots__ = (
        "asset",
        "ceiling",
        "credits",
        "debits",
        "floor",
        "held_credits",
        "held_debits",
        "id",
        "lane",
        "metadata",
        "opened_as",
        "salt",
        "status",
    )

    def __init__(self, id: str, asset: Asset, *, salt: int, opened_as: int) -> None:
        self.id = id
        self.asset = asset
        self.status = Status.open
        self.debits = 0
        self.credits = 0
        self.held_debits = 0
        self.held_credits = 0
        self.floor = 0
        """The lowest available balance, `NO_FLOOR` for none."""
        self.ceiling: int | None = None
        self.metadata: bytes | None = None
        self.salt = salt
        """A number that stands for the id in fingerprints."""
        self.opened_as = opened_as
        """The fingerprint of the content that the account was opened with."""
        self.lane: object = asset
        """Two accounts in the same lane may exchange money by the short way: it is the asset of an account that is open
        and whose totals are far from overflow, and the account itself, so equal to no other, where either is not so."""

    @property
    def balance(self) -> int:
        """What the account has."""
        return self.credits - self.debits

    @property
    def available(self) -> int:
        """What the account may spend: its balance less what is held."""
        return self.credits - self.debits - self.held_debits

    @property
    def min_balance(self) -> int | None:
        """The lowest available balance, None for no limit."""
        return None if self.floor == NO_FLOOR else self.floor

    def limit(self, min_balance: int | None, max_balance: int | None) -> None:
        """Set the limits, whatever the balance is."""
        self.floor = NO_FLOOR if min_balance is None else min_balance
        self.ceiling = max_balance

    @property
    def is_within_limits(self) -> bool:
        """Whether what the account has lies within its limits."""
        return self.available >= self.floor and (
            self.ceiling is None or self.balance + self.held_credits <= self.ceiling
        )

    @property
    def is_empty(self) -> bool:
        """Whether the account has nothing and nothing is held."""
        return self.credits == self.debits and not self.held_debits and not self.held_credits

    def settle_lane(self) -> None:
        """Choose the lane anew. To be called after each change but those of the short way, which cannot matter."""
        is_ordinary = (
            self.status == Status.open
            and self.debits + self.held_debits < _ORDINARY_TOTAL_MAX
            and self.credits + self.held_credits < _ORDINARY_TOTAL_MAX
        )
        self.lane = self.asset if is_ordinary else self


# From an ordinary total, 2^64 transactions of the short way would be needed to reach an overflow.
assert _ORDINARY_TOTAL_MAX + 2**64 * (2**62 - 1) <= AMOUNT_MAX


class HeldPosting:
    """What an open hold has left to move from one account to another, over all of its postings between the two."""

    __slots__ = ("destination", "remaining", "source")

    def __init__(self, source: Account, destination: Account, remaining: int) -> None:
        self.source = source
        self.destination = destination
        self.remaining = remaining


@dataclass(slots=True, eq=False)
class OpenHold:
    """A hold that is neither settled to the end, nor released, nor expired."""

    id: bytes
    postings: dict[tuple[str, str], HeldPosting]
    """By (source, destination), and only where something is left: what a settlement does not name costs it nothing."""
    expires_us: int | None
    """Journal time, microseconds since 1970."""


def salt_of(account_id: str) -> int:
    """Return a number of 60 bits that stands for an account id, the same in every process."""
    return int.from_bytes(blake2b(account_id.encode(errors="surrogatepass"), digest_size=8).digest(), "big") >> 4

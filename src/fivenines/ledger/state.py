"""The state of the ledger at a position of the journal.

`State` is data: `apply` in `fivenines.ledger.machine` is the one function that changes it, and `fivenines.ledger.image`
writes it down and reads it back. Everything in it follows from the frames alone.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from fivenines.ledger.accounts import Account, Asset, OpenHold
from fivenines.ledger.decided import Decided, DecidedIds

__all__ = ["RULES", "TIME_US_MAX", "Rules", "State", "id_floor", "id_time_ms"]


@dataclass(frozen=True, slots=True)
class Rules:
    """A version of the rules by which commands are decided. Every replica runs the same, from the same position on."""

    version: int
    schema: int = 2
    """What frames are written in while these rules are in force: every node that can run them can read it."""
    retention_ms: int = 30 * 24 * 3600 * 1000
    """How long a decided id is remembered; an older one is refused, since nobody can tell whether it was decided."""
    id_ahead_ms_max: int = 300_000
    """How far the time in an id may be ahead of the journal's. Five minutes bear a client whose clock is badly set."""
    expired_postings_per_frame_max: int = 10_000
    """Expiry stops in a frame once it has given back so many held postings, so that a great many holds at once do not
    stall it; the next frame goes on."""


RULES: dict[int, Rules] = {1: Rules(version=1)}
"""The rules that this release can run."""

TIME_US_MAX = 2**48 * 1000 - 1
"""The latest journal time that a frame can set, in the year 10889: the last that a UUIDv7 can carry."""

_NO_POSITION = 0
_CHAIN_START = bytes(32)


@dataclass(slots=True, eq=False)
class State:
    """Assets, accounts, holds and decided ids, at `position`."""

    rules: Rules = RULES[1]
    position: int = _NO_POSITION
    time_us: int = 0
    """The journal's time: microseconds since 1970. It rises with each frame."""
    horizon: bytes = bytes(16)
    """Ids below it have expired, for ever: what was decided about them may be forgotten. It never falls."""
    outcomes_digest: bytes = _CHAIN_START
    """A chain over the outcomes of all frames: two replicas that ever decided differently differ in it for ever."""
    assets: dict[str, Asset] = field(default_factory=dict)
    """By code."""
    accounts: dict[str, Account] = field(default_factory=dict)
    """By id, in the order in which they were opened."""
    holds: dict[bytes, OpenHold] = field(default_factory=dict)
    """The open ones, by id, in the order in which they were made."""
    decided: DecidedIds = field(default_factory=DecidedIds)
    ended_holds: DecidedIds = field(default_factory=DecidedIds)
    """How the holds of the retention window ended."""
    expiries: list[tuple[int, bytes]] = field(default_factory=list)
    """A heap of (time in microseconds, hold). An entry outlives its hold until the heap is rebuilt."""

    @property
    def next_expiry_us(self) -> int | None:
        """The journal time at which the next hold expires; a frame is due then. It may be of a hold that has ended."""
        return self.expiries[0][0] if self.expiries else None

    def decision(self, id: bytes) -> Decided | None:
        """Return how a transaction or change was decided, None if it was not or if that is no longer known."""
        return self.decided.find(id)

    def imbalances(self) -> dict[str, int]:
        """Return the sum of all balances for each asset where it is not zero: always empty, or money was made."""
        sums = dict.fromkeys((asset.name for asset in self.assets.values()), 0)
        for account in self.accounts.values():
            sums[account.asset.name] += account.balance
        return {name: total for name, total in sums.items() if total}

    def schedule_expiry(self, hold: OpenHold) -> None:
        """Note when `hold` expires, if it does."""
        if hold.expires_us is not None:
            heapq.heappush(self.expiries, (hold.expires_us, hold.id))

    def rebuild_expiries(self, holds: Iterable[OpenHold]) -> None:
        """Make the heap anew from the holds that are open."""
        self.expiries = [(hold.expires_us, hold.id) for hold in holds if hold.expires_us is not None]
        heapq.heapify(self.expiries)


def id_time_ms(id: bytes) -> int:
    """Return the time that a UUIDv7 carries: milliseconds since 1970."""
    return int.from_bytes(id[:6], "big")


def id_floor(time_ms: int) -> bytes:
    """Return the lowest id of a time; all ids of earlier times are below it."""
    return max(0, min(time_ms, 2**48 - 1)).to_bytes(6, "big") + bytes(10)

"""What a client of a drill asked, and what it was told: the whole of the evidence that a judge gets from it."""

import math
from typing import Literal

from msgspec import Struct

__all__ = ["SLOW_S", "Asked", "Kind"]

SLOW_S = 2.0
"""Who waits for longer than this has noticed: an answer after it counts against the error budget."""

Kind = Literal["post", "hold", "settle", "release", "read", "total"]
"""post      a transaction of one posting, from `source` to `destination`
hold      the same amount is reserved only
settle    of `hold`, `amount` is posted, or all that is left where it is 0; a final one lets go of the rest
release   of `hold`, all is let go
read      the balance of one account, at least as new as all that this client has seen
total     the balances of several accounts in one request, linearizable: their sum never changes
"""


class Asked(Struct, array_like=True, eq=False, kw_only=True):
    """One request. Times are seconds on the machine's monotonic clock, amounts in the asset's smallest unit."""

    due: float
    """When it should have gone out, by the plan of the load."""
    client: int
    kind: Kind
    id: bytes = b""
    """Of the transaction, 16 bytes; empty for what only reads."""
    source: str = ""
    destination: str = ""
    """The account that is read, for `read`."""
    amount: int = 0
    hold: bytes = b""
    """The id of the hold that a `settle` or `release` is about."""
    at_least: int = 0
    """The highest position that this client had seen when it asked."""
    sent: float = math.inf
    """When it did go out."""
    ended: float = math.inf
    """When the client had its answer, or gave up."""
    outcome: str = ""
    """What the ledger said of a transaction, in its own words, or `read`; empty while nothing definite was heard."""
    position: int = 0
    """Of the frame that decided it, or of the state that was read."""
    balances: dict[str, int] = {}
    """What was read, by account."""
    error: str = ""
    """Why the client gave up; empty when it was answered."""
    is_refused: bool = False
    """Given up with an answer that said that nothing was done, and nothing will be: shed, or turned away."""
    is_final: bool = True
    """Of a settlement: whether it lets go of what it leaves of the hold."""
    is_undone: bool = False
    """Given up in the knowledge that nothing was done: no server took it in, or the answer said so. A `post`, `hold`,
    `settle` or `release` with an `error` and without this may have been done, or may be done later."""
    accounts: tuple[str, ...] = ()
    """Of a `total`: what is to be read."""
    is_linearizable: bool = False
    """Of a `read`: whether it is to show all that was acknowledged to anybody before. A `total` always is."""
    tries: int = 0
    """How many answers and failures there were, before and with the last."""
    failed_tries: int = 0
    """How many of them were an answer of 500 or more, or none: what a client that does not try again would have met."""

    @property
    def latency_s(self) -> float:
        """From when it should have gone out to its answer: a pause cannot hide behind requests that went out late."""
        return self.ended - self.due

    @property
    def is_bad(self) -> bool:
        """Whether it counts against the error budget: it failed, or was answered too late."""
        return bool(self.error) or self.latency_s > SLOW_S

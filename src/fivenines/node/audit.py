"""The audit: nodes compare what they hold, at fixed positions, and a minority takes itself out of service.

Replicas that applied the same frames hold the same state. Should one not, by a broken machine or by a bug, nothing in
the frames would tell: so each node digests a part of its state at every position that `AUDIT_FRAMES` divides, and lets
the others know. The chain over all outcomes is in every digest, so whoever ever *decided* differently differs from
there on. Of the accounts each audit takes the next `AUDIT_ACCOUNTS`, in the order in which they were opened, and round
again: so all of them are looked at in turn, at a cost that does not grow with their number.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import islice

from fivenines.journal import Frame, Position
from fivenines.ledger import Account, Applied, Batch, State, image_of_accounts

__all__ = ["AUDIT_ACCOUNTS", "AUDIT_FRAMES", "Auditor", "dissent"]

AUDIT_FRAMES = 64
"""Positions that this divides are audited."""
AUDIT_ACCOUNTS = 512
"""Accounts that one audit looks at: half a millisecond's work."""
_KEPT = 32
"""Audits that a node remembers and tells: nodes need not be at the same position to have some in common."""
_DIGEST_CHARACTERS = 32


class Auditor:
    """The latest audits of one node."""

    def __init__(self, state: State) -> None:
        self.audits: dict[Position, str] = {}
        """Digests by position, the latest `_KEPT`, oldest first."""
        self._state = state
        self._accounts: list[Account] = list(state.accounts.values())

    def on_applied(self, _frame: Frame, _batch: Batch, applied: Applied) -> None:
        """Take an audit, if one is due at this position."""
        if applied.position % AUDIT_FRAMES == 0:
            self.audits[applied.position] = self._digest(applied.position)
            while len(self.audits) > _KEPT:
                del self.audits[next(iter(self.audits))]

    def _digest(self, position: Position) -> str:
        state, accounts = self._state, self._accounts
        # Accounts are never taken away, and new ones come last.
        opened = islice(reversed(state.accounts.values()), len(state.accounts) - len(accounts))
        accounts += reversed(list(opened))
        rounds = -(-len(accounts) // AUDIT_ACCOUNTS) or 1
        start = position // AUDIT_FRAMES % rounds * AUDIT_ACCOUNTS
        digest = sha256(state.outcomes_digest)
        digest.update(b"%d,%d,%d:" % (len(accounts), len(state.holds), start))
        digest.update(image_of_accounts(accounts[start : start + AUDIT_ACCOUNTS]))
        return digest.hexdigest()[:_DIGEST_CHARACTERS]


def dissent(own: Mapping[Position, str], others: Sequence[Mapping[Position, str]]) -> Position | None:
    """Return the first position at which most nodes that know it agree on a digest that is not ours, None if none.

    Two nodes that differ cannot tell which of them is wrong: that takes a third.
    """
    for position, digest in sorted(own.items()):
        votes = Counter(audits[position] for audits in others if position in audits)
        votes[digest] += 1
        winner, count = votes.most_common(1)[0]
        if winner != digest and 2 * count > votes.total():
            return position
    return None

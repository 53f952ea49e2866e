"""What the ledger answers to a command: one named outcome, never an exception.

An outcome is part of the state of the ledger for ever: the number of a name is written into snapshots and into the
memory of decided ids, so a number is never reused and never changes its meaning. The names are what clients see.
"""

from enum import IntEnum

__all__ = ["Outcome"]


class Outcome(IntEnum):
    """The answer to one command. Below 8: it was carried out. From 8 on: it was refused and changed nothing."""

    posted = 0
    """The transaction moved the money."""
    held = 1
    """The transaction reserved the money."""
    settled = 2
    """The transaction moved money that was held."""
    released = 3
    """The transaction gave held money back."""
    done = 4
    """The account was opened or changed, the asset was registered, the rules were activated."""

    # identity
    id_reused = 8
    """The id was decided before, for other content."""
    id_expired = 9
    """The id's own time is older than the retention window: whether it was decided is no longer known."""
    id_in_future = 10
    """The id's own time is too far ahead of the journal's time."""

    # assets and accounts
    asset_unknown = 11
    """No asset of this code and scale is registered."""
    asset_exists = 12
    """The asset code is registered with another scale."""
    account_unknown = 13
    """A named account does not exist."""
    account_exists = 14
    """The account exists with other content."""
    account_frozen = 15
    """A named account is frozen."""
    account_closed = 16
    """A named account is closed."""
    account_not_empty = 17
    """An account with a balance or with money held cannot be closed."""

    # postings
    same_account = 18
    """A posting has the same account as source and destination."""
    asset_mismatch = 19
    """A posting's source and destination have different assets."""
    insufficient_funds = 20
    """The source's available balance would fall below its min_balance."""
    balance_limit_exceeded = 21
    """The destination's balance, with what is held for it, would rise above its max_balance."""
    total_overflow = 22
    """A total of an account would pass 2^127 - 1."""

    # holds
    hold_unknown = 23
    """No hold of this id is known."""
    hold_already_settled = 24
    """The hold was settled to the end."""
    hold_already_released = 25
    """The hold was released."""
    hold_expired = 26
    """The hold's timeout passed."""
    hold_exceeded = 27
    """The settlement asks for more than is held, or for a posting that the hold does not have."""

    # rules
    rules_not_newer = 28
    """The rules to be activated are not newer than those in force."""
    limits_conflict = 29
    """The limits exclude the balance that the account has, or each other."""

    malformed = 30
    """The command is none that a gateway lets through: no posting, an amount out of range, a name that is too long."""

    @property
    def is_refusal(self) -> bool:
        """Whether the command changed nothing."""
        return self >= 8

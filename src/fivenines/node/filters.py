"""Which events somebody asked for: by type, and by the accounts that they are about.

    type=transaction.posted      repeatable; fivenines.transaction.posted is the same, transaction.* is all of them
    account=customers:           repeatable; the beginning of the id of an account

Of several types, and of several accounts, any one will do; where both are given, one of each. An event is about the
accounts of its postings; one of a settlement or a release about those of its hold, which the event names.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import UNSET

from fivenines.api import Event
from fivenines.node.requests import InvalidRequestError

__all__ = ["ALL_EVENTS", "EVENT_TYPES", "EventFilter", "accounts_of"]

_PREFIX = "fivenines."
_ANY = "transaction.*"
_VALUES_MAX = 100
_ACCOUNT_CHARACTERS_MAX = 128

EVENT_TYPES = tuple(f"fivenines.transaction.{past}" for past in ("posted", "held", "settled", "released", "refused"))
"""All types of events that there are."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """A choice of events; what is left empty lets all pass."""

    types: tuple[str, ...] = ()
    """Full names, sorted."""
    account_prefixes: tuple[str, ...] = ()
    """Sorted."""

    @classmethod
    def of(
        cls, types: Iterable[str] = (), accounts: Iterable[str] = (), *, fields: tuple[str, str] = ("type", "account")
    ) -> "EventFilter":
        """Make a filter of what somebody wrote. Raises `InvalidRequestError` that names the one of the two `fields`."""
        given_types, given_accounts = list(types), list(accounts)
        for field, given in zip(fields, (given_types, given_accounts), strict=True):
            if len(given) > _VALUES_MAX:
                raise InvalidRequestError(field, f"has {len(given)} values; at most {_VALUES_MAX} are looked for")
        full: set[str] = set()
        for text in given_types:
            name = text.removeprefix(_PREFIX)
            if name == _ANY:
                full.update(EVENT_TYPES)
            elif _PREFIX + name in EVENT_TYPES:
                full.add(_PREFIX + name)
            else:
                known = ", ".join(each.removeprefix(_PREFIX) for each in EVENT_TYPES)
                raise InvalidRequestError(fields[0], f"{text[:64]!r} is no type of event; there are {known}, {_ANY}")
        for text in given_accounts:
            if not 1 <= len(text) <= _ACCOUNT_CHARACTERS_MAX:
                raise InvalidRequestError(fields[1], "is not the beginning of an account's id, such as customers:")
        return cls(
            () if full == set(EVENT_TYPES) else tuple(sorted(full)),
            tuple(sorted(set(given_accounts))),
        )

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return not self.types and not self.account_prefixes

    def matches(self, event: Event) -> bool:
        """Return whether an event was asked for."""
        if self.types and event.type not in self.types:
            return False
        return not self.account_prefixes or self.is_about(accounts_of(event))

    def takes(self, type: str, accounts: frozenset[str] | None) -> bool:
        """Return whether an event of this type, about these accounts, was asked for."""
        return (not self.types or type in self.types) and self.is_about(accounts)

    def is_about(self, accounts: frozenset[str] | None) -> bool:
        """Return whether one of the accounts was asked for; where they are not known, one of them may have been."""
        if not self.account_prefixes or accounts is None:
            return True
        return any(account.startswith(self.account_prefixes) for account in accounts)


ALL_EVENTS = EventFilter()


def accounts_of(event: Event) -> frozenset[str] | None:
    """Return the accounts that an event is about; None if nobody knows them any more.

    That is so where a hold was trimmed away before it was settled or released: whoever filters or orders by accounts
    must then reckon with any.
    """
    transaction = event.data
    accounts = {account for posting in transaction.postings for account in (posting.source, posting.destination)}
    if event.accounts is not UNSET:
        accounts.update(filter(None, event.accounts.split(",")))
    elif transaction.kind in {"settle", "release"} and not event.type.endswith(".refused"):
        return None
    return frozenset(accounts)

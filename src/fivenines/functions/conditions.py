"""Which events a function wants: by type, and by the conditions of its `where`. Pure."""

from collections.abc import Mapping
from typing import Any

from fivenines.api import Event
from fivenines.node.filters import EventFilter
from fivenines.node.requests import InvalidRequestError

__all__ = ["Conditions", "ConditionsError"]


class ConditionsError(Exception):
    """Conditions that cannot be meant; the message says which, and why."""


class Conditions:
    """What a function wants of events.

    Args:
        types: of events, as `fivenines.on` takes them.
        where: conditions, as they stand in `fivenines.functions.registry`.
    """

    def __init__(self, types: tuple[str, ...], where: Mapping[str, Any] | None = None) -> None:
        where = where or {}
        try:
            self._filter = EventFilter.of(types, _prefixes(where, "account"), fields=("types", "account"))
        except InvalidRequestError as error:
            raise ConditionsError(str(error)) from error
        self._sources, self._destinations = _prefixes(where, "source"), _prefixes(where, "destination")
        self._least = where.get("amount_at_least")
        if self._least is not None and (not isinstance(self._least, int) or isinstance(self._least, bool)):
            raise ConditionsError("amount_at_least: is no whole number of the smallest unit")
        self._kind, self._reference = where.get("kind"), where.get("reference")
        if self._kind not in {None, "post", "hold", "settle", "release"}:
            raise ConditionsError("kind: is none of post, hold, settle, release")

    def matches(self, event: Event) -> bool:
        """Return whether an event is wanted."""
        transaction = event.data
        if not self._filter.matches(event):
            return False
        if self._kind not in {None, transaction.kind} or self._reference not in {None, transaction.reference}:
            return False
        if not self._sources and not self._destinations and self._least is None:
            return True
        return any(
            (not self._sources or posting.source.startswith(self._sources))
            and (not self._destinations or posting.destination.startswith(self._destinations))
            and (self._least is None or int(posting.amount) >= self._least)
            for posting in transaction.postings
        )


def _prefixes(where: Mapping[str, Any], name: str) -> tuple[str, ...]:
    given = where.get(name, ())
    found = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(each, str) and each for each in found):
        raise ConditionsError(f"{name}: is the beginning of an account's id, or a list of them")
    return found

"""Which event may be delivered now: in order for each account, side by side for all others.

An event waits for every earlier one that shares an account with it, until that one is delivered or given up. One whose
accounts nobody knows may share any: it waits for all before it, and all after it wait for it. Pure: whoever asks brings
the time.

Events are added in the order in which they are to be kept. So an event that is replayed comes after those that wait
already.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fivenines.api import Event

__all__ = ["Key", "Order", "key_of"]


class Key(NamedTuple):
    """The place of an event: ascending, and the same on every node."""

    position: int
    item: int
    """Which of the events of its frame it is."""

    def __str__(self) -> str:
        return f"{self.position}-{self.item}"

    @classmethod
    def parse(cls, text: str) -> "Key | None":
        """Read the id of an event; None if it is none."""
        position, dash, item = text.partition("-")
        is_key = dash and all(part.isascii() and part.isdigit() and len(part) < 20 for part in (position, item))
        return cls(int(position), int(item)) if is_key else None


def key_of(event: Event) -> Key:
    """Return the place of an event."""
    key = Key.parse(event.id)
    if key is None:
        raise ValueError(f"{event.id[:64]!r} is no id of an event of a ledger")
    return key


@dataclass(slots=True)
class _Entry:
    accounts: frozenset[str] | None
    earlier: int = 0
    """How many that it has to wait for."""
    later: list[Key] = field(default_factory=list)
    """Who waits for it."""


class Order:
    """The events that are not done yet, and which of them may go."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._last: dict[str, Key] = {}  # of each account
        self._last_of_all: Key | None = None  # the last one whose accounts nobody knows
        self._free: list[tuple[float, int, Key]] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def add(self, key: Key, accounts: frozenset[str] | None) -> None:
        """Add an event, after all that are there."""
        assert key not in self._entries
        entry = _Entry(accounts)
        if accounts is None:
            before = set(self._entries)
            self._last.clear()
            self._last_of_all = key
        else:
            before = {self._last[account] for account in accounts if account in self._last}
            if self._last_of_all is not None:
                before.add(self._last_of_all)
            self._last.update(dict.fromkeys(accounts, key))
        for one in before:
            self._entries[one].later.append(key)
        entry.earlier = len(before)
        self._entries[key] = entry
        if not before:
            self._release(key, 0.0)

    def take(self, now_s: float) -> Key | None:
        """Return an event that may go now, and that nobody else is given; None if there is none."""
        if not self._free or self._free[0][0] > now_s:
            return None
        return heapq.heappop(self._free)[2]

    def due_s(self) -> float | None:
        """When the next one may go, None where that depends on others."""
        return self._free[0][0] if self._free else None

    def free(self, now_s: float) -> int:
        """How many may go now."""
        return sum(due_s <= now_s for due_s, _, _ in self._free)

    def put_off(self, key: Key, until_s: float) -> None:
        """Let an event that was taken go again, not before a time; those after it wait on."""
        assert key in self._entries
        self._release(key, until_s)

    def finish(self, key: Key) -> None:
        """Let go of an event that was taken: it is delivered, or given up."""
        entry = self._entries.pop(key)
        assert entry.earlier == 0
        for account in entry.accounts or ():
            if self._last.get(account) == key:
                del self._last[account]
        if self._last_of_all == key:
            self._last_of_all = None
        for one in entry.later:
            follower = self._entries[one]
            follower.earlier -= 1
            if follower.earlier == 0:
                self._release(one, 0.0)

    def _release(self, key: Key, due_s: float) -> None:
        self._added += 1
        heapq.heappush(self._free, (due_s, self._added, key))

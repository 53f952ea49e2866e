"""A store in memory, for tests and simulations: the same promises, for controllers of one process.

`MemoryStore` is what they share, `view` gives each controller its own door to it. A door can be shut: then nothing is
answered, as for a controller that is cut off. A lease is given up by hand (`die`): who needs one that runs out lets
the test decide when.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from fivenines.control.budget import Books
from fivenines.control.desired import Order
from fivenines.control.observed import MemberSeen, RegionState, Report
from fivenines.control.store import Shared, StoreRefusedError, StoreUnreachableError
from fivenines.control.timeline import EVENTS_KEPT, Event

__all__ = ["MemoryStore", "MemoryView"]


class MemoryStore:
    """What all share."""

    def __init__(self) -> None:
        self.revision = 0
        self.reports: dict[str, Report] = {}
        self.states: dict[str, RegionState] = {}
        self.orders: dict[tuple[str, str], Order] = {}
        self.leader = ""
        self.books = Books()
        self.books_revision = 0
        self.events: list[Event] = []
        self.journal_members: tuple[MemberSeen, ...] = ()
        self.members_changed: list[str] = []

    def view(self, here: str) -> "MemoryView":
        """Return the door of a region's controller."""
        return MemoryView(self, here)


class MemoryView:
    """A `Store`, for one controller."""

    def __init__(self, store: MemoryStore, here: str) -> None:
        self.store = store
        self.is_shut = False
        self._here = here

    def die(self) -> None:
        """Let what a lease would hold go away."""
        self.store.reports.pop(self._here, None)
        if self.store.leader == self._here:
            self.store.leader = ""

    async def exchange(self, report: Report) -> Shared:
        """See `Store`."""
        self._check()
        self.store.reports[self._here] = replace(report, age_s=0.0)
        return self._read()

    async def read_all(self) -> Shared:
        """See `Store`."""
        self._check()
        return self._read()

    async def campaign(self) -> bool:
        """See `Store`."""
        self._check()
        self.store.leader = self.store.leader or self._here
        return self.store.leader == self._here

    async def resign(self) -> None:
        """See `Store`."""
        self._check()
        self.die()

    async def put_state(self, state: RegionState, seen: Mapping[str, RegionState]) -> bool:
        """See `Store`."""
        self._check()
        for name in {*seen, state.name}:
            expected = seen[name].revision if name in seen else 0
            found = self.store.states.get(name)
            if (found.revision if found else 0) != expected:
                return False
        self.store.revision += 1
        self.store.states[state.name] = replace(state, revision=self.store.revision, age_s=0.0)
        return True

    async def put_order(self, order: Order) -> None:
        """See `Store`."""
        self._check()
        self.store.orders[order.kind, order.target] = order

    async def delete_order(self, kind: str, target: str) -> bool:
        """See `Store`."""
        self._check()
        return self.store.orders.pop((kind, target), None) is not None

    async def put_books(self, books: Books, seen_revision: int) -> bool:
        """See `Store`."""
        self._check()
        if self.store.books_revision != seen_revision:
            return self.store.books == books
        self.store.revision += 1
        self.store.books, self.store.books_revision = books, self.store.revision
        return True

    async def append(self, events: Sequence[Event]) -> None:
        """See `Store`."""
        self._check()
        self.store.events = [*self.store.events, *events][-EVENTS_KEPT:]

    async def timeline(self, limit: int = 100) -> list[Event]:
        """See `Store`."""
        self._check()
        return self.store.events[-limit:]

    async def members(self) -> tuple[MemberSeen, ...]:
        """See `Store`."""
        self._check()
        return self.store.journal_members

    async def remove_member(self, id: int) -> None:
        """See `Store`."""
        self._check_lead()
        self.store.members_changed.append(f"removed {id}")
        self.store.journal_members = tuple(m for m in self.store.journal_members if m.id != id)

    async def add_member(self, region: str) -> None:
        """See `Store`."""
        self._check_lead()
        self.store.members_changed.append(f"added {region}")
        number = 1 + max((member.id for member in self.store.journal_members), default=0)
        new = MemberSeen(id=number, name="", region=region, is_reachable=False)
        self.store.journal_members = (*self.store.journal_members, new)

    async def close(self) -> None:
        """See `Store`."""

    def _check(self) -> None:
        if self.is_shut:
            raise StoreUnreachableError("the door is shut")

    def _check_lead(self) -> None:
        self._check()
        if self.store.leader != self._here:
            raise StoreRefusedError("this controller does not lead")

    def _read(self) -> Shared:
        store = self.store
        return Shared(
            reports=dict(store.reports),
            states=dict(store.states),
            orders=tuple(store.orders.values()),
            leader=store.leader,
            is_leader=store.leader == self._here,
            books=store.books,
            books_revision=store.books_revision,
            revision=store.revision,
        )

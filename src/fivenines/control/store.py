"""The store: what the controllers of all regions share, behind a narrow port. `etcd_store` is the adapter to etcd.

Everything that decisions are made from is read at once, at one moment. A state of a region is written only if *no*
region's state was changed since that moment: so a decision that looked at all of them, "another one serves", still
holds when it is written, and two controllers that decide at the same time cannot take out the last two regions.

    StoreError
     +-- StoreUnreachableError   nobody answered, or without a majority; what was to be written may be written
     +-- StoreRefusedError       it will not be done, however often it is asked for
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from fivenines.control.budget import Books
from fivenines.control.desired import Order
from fivenines.control.observed import MemberSeen, RegionState, Report
from fivenines.control.timeline import Event

__all__ = ["Shared", "Store", "StoreError", "StoreRefusedError", "StoreUnreachableError"]


class StoreError(Exception):
    """The shared store could not do what was asked."""


class StoreUnreachableError(StoreError):
    """No answer, or none that a majority stands behind. What was to be written may be written or not."""


class StoreRefusedError(StoreError):
    """The store will not do it, however often it is asked."""


class Shared(Struct, frozen=True, kw_only=True):
    """What all controllers share, at one moment."""

    reports: Mapping[str, Report] = {}
    """By region, of controllers that live."""
    states: Mapping[str, RegionState] = {}
    orders: tuple[Order, ...] = ()
    leader: str = ""
    """The region whose controller leads; empty for none."""
    is_leader: bool = False
    """Whether that is the controller that asked."""
    books: Books = Books()
    books_revision: int = 0
    revision: int = 0
    """Of the store as a whole."""


class Store(Protocol):
    """What a controller needs of a store. Every method may raise `StoreError`."""

    async def exchange(self, report: Report) -> Shared:
        """Publish a report, which goes away when we die, and return what all share."""

    async def read_all(self) -> Shared:
        """Return what all share, having published nothing."""

    async def campaign(self) -> bool:
        """Try to lead; whether we do. Who leads and dies is followed within seconds."""

    async def resign(self) -> None:
        """Lead no more, and take the report back."""

    async def put_state(self, state: RegionState, seen: Mapping[str, RegionState]) -> bool:
        """Write a region's state if all states are what was `seen`; whether it was written."""

    async def put_order(self, order: Order) -> None:
        """Give an order, in the place of one of the same kind for the same target."""

    async def delete_order(self, kind: str, target: str) -> bool:
        """Take an order back; whether there was one."""

    async def put_books(self, books: Books, seen_revision: int) -> bool:
        """Write the error budget's books if nobody else did since; whether they are what is written."""

    async def append(self, events: Sequence[Event]) -> None:
        """Add to the timeline. The oldest are forgotten beyond `EVENTS_KEPT`."""

    async def timeline(self, limit: int = 100) -> list[Event]:
        """Return the newest events, in the order of their making."""

    async def members(self) -> tuple[MemberSeen, ...]:
        """Return the members of the journal's etcd; `away_s` is left for whoever watches."""

    async def remove_member(self, id: int) -> None:
        """Take a member out, if we lead. Harmless when it is repeated."""

    async def add_member(self, region: str) -> None:
        """Let a new member of a region in, if we lead. Harmless when it is repeated."""

    async def close(self) -> None:
        """Let go of connections."""

"""What a controller tells of all that it knows, as one value: for `fivenines status`, and for drills."""

from collections.abc import Mapping

from msgspec import Struct

from fivenines.control.budget import Books
from fivenines.control.desired import Order
from fivenines.control.observed import MemberSeen, RegionState, Report
from fivenines.traffic.table import SteeringTable

__all__ = ["View"]


class View(Struct, frozen=True, kw_only=True):
    """What a controller knows."""

    region: str
    is_leader: bool
    has_majority: bool
    states: Mapping[str, RegionState]
    reports: Mapping[str, Report]
    members: tuple[MemberSeen, ...]
    orders: tuple[Order, ...]
    books: Books
    table: SteeringTable | None
    """What its region's nameserver answers by."""

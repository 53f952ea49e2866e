"""All controllers, in one place, and what they decide together. Pure.

Each is asked, the rules of `safety` hold back what must not be, and what remains may be done. A controller that fails
is a bug of that one: it is told of, and the others go on deciding.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from fivenines.control.actions import Action
from fivenines.control.controllers import (
    clock,
    draining,
    health,
    journal_care,
    outliers,
    replacement,
    standby,
    traffic,
)
from fivenines.control.desired import Desired, Order
from fivenines.control.observed import Observed
from fivenines.control.safety import Refused, hold_back

__all__ = ["CONTROLLERS", "Controller", "Decision", "decide", "explain"]

Controller = Callable[[Desired, Observed, float], list[Action]]

CONTROLLERS: dict[str, Controller] = {
    "health": health.decide,
    "traffic": traffic.decide,
    "standby": standby.decide,
    "replacement": replacement.decide,
    "journal_care": journal_care.decide,
    "outliers": outliers.decide,
    "draining": draining.decide,
    "clock": clock.decide,
}


class Decision(Struct, frozen=True):
    """What is to be done, and what was decided and must not be done."""

    actions: tuple[Action, ...]
    refused: tuple[Refused, ...]
    failed: tuple[tuple[str, Exception], ...] = ()
    """Controllers that could not decide, and why."""


def decide(desired: Desired, observed: Observed, now: float) -> Decision:
    """Ask all controllers, and hold back what must not be done."""
    wanted: list[Action] = []
    failed: list[tuple[str, Exception]] = []
    for name, controller in CONTROLLERS.items():
        try:
            wanted += controller(desired, observed, now)
        except Exception as error:  # noqa: BLE001 - a bug in one must not keep the others from failing a region over
            failed.append((name, error))
    actions, refused = hold_back(wanted, desired, observed, now)
    return Decision(tuple(actions), tuple(refused), tuple(failed))


def explain(orders: Sequence[Order], desired: Desired, observed: Observed, now: float) -> Decision:
    """Return what orders would bring about at once, and what safety would refuse: nothing is done.

    What would be decided without these orders is left out.
    """
    targets = {(order.kind, order.target) for order in orders}
    kept = tuple(order for order in desired.orders if (order.kind, order.target) not in targets)
    with_orders = decide(replace(desired, orders=(*kept, *orders)), observed, now)
    without = decide(desired, observed, now)
    refused_anyway = {refused.action for refused in without.refused}
    return Decision(
        tuple(action for action in with_orders.actions if action not in without.actions),
        tuple(refused for refused in with_orders.refused if refused.action not in refused_anyway),
        with_orders.failed,
    )

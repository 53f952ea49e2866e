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

__all__ = ["CONTROLLERS", "Controller", "Decision", "decide", "explain", "explain_taken_back"]

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
    return _difference(desired, replace(desired, orders=(*_without(orders, desired), *orders)), observed, now)


def explain_taken_back(orders: Sequence[Order], desired: Desired, observed: Observed, now: float) -> Decision:
    """Return what it would bring about at once to take orders back: nothing is done."""
    return _difference(desired, replace(desired, orders=_without(orders, desired)), observed, now)


def _without(orders: Sequence[Order], desired: Desired) -> tuple[Order, ...]:
    targets = {(order.kind, order.target) for order in orders}
    return tuple(order for order in desired.orders if (order.kind, order.target) not in targets)


def _difference(before: Desired, after: Desired, observed: Observed, now: float) -> Decision:
    was, found = decide(before, observed, now), decide(after, observed, now)
    refused_anyway = {refused.action for refused in was.refused}
    return Decision(
        tuple(action for action in found.actions if action not in was.actions),
        tuple(refused for refused in found.refused if refused.action not in refused_anyway),
        found.failed,
    )

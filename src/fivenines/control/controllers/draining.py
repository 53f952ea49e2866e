"""Draining: nodes that an order `drain` names are taken out of their edge, and put back when it is taken back.

A node finishes what it has; nothing is refused. The last node of a pool stays (`safety`). Each region's controller sees
to its own nodes.
"""

from fivenines.control.actions import Action, DrainNode, UndrainNode
from fivenines.control.desired import Desired
from fivenines.control.judging import order_for
from fivenines.control.observed import Observed

__all__ = ["decide"]

_ROLES = frozenset({"node", "service"})


def decide(desired: Desired, observed: Observed, now: float) -> list[Action]:  # noqa: ARG001 - all controllers are alike
    """Say which nodes of this region are drained, and which are put back."""
    report = observed.reports.get(observed.here)
    actions: list[Action] = []
    for seen in report.workloads if report else ():
        if seen.role not in _ROLES or seen.name in observed.under_way:
            continue
        order = order_for("drain", seen.name, desired)
        if order is not None and not seen.is_drained:
            why = f"{order.by} ordered it{': ' + order.why if order.why else ''}"
            actions.append(DrainNode(reason=why, workload=seen.name))
        elif order is None and seen.is_drained:
            actions.append(UndrainNode(reason="the order to drain it was taken back", workload=seen.name))
    return actions

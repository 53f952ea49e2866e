"""The timeline: what was seen, decided, done and refused, why, how long it took and what it cost. For people.

Events are kept in the shared store, the last `EVENTS_KEPT` of them. Their ids are UUIDv7: in the order of their making.
"""

import datetime
from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from fivenines.control.actions import Action
from fivenines.ids import new_id

__all__ = ["EVENTS_KEPT", "Event", "EventKind", "action_name", "action_target", "describe", "event_of", "line"]

EVENTS_KEPT = 10_000

EventKind = Literal["seen", "decided", "done", "refused", "failed", "incident", "resolved", "order"]
"""seen        a state changed that others agreed on
decided     an action begins that takes a while
done        an action was carried out
refused     a rule of safety speaks against an action
failed      an action could not be carried out
incident    a disturbance began
resolved    it is over
order       an operator wants something, or no longer
"""


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry."""

    id: str
    at: float
    """Unix time, on the clock of whoever wrote it."""
    region: str
    """Whose controller wrote it, or where the operator was."""
    kind: EventKind
    what: str
    """In a few words."""
    why: str = ""
    target: str = ""
    """The region, node, workload or member that it is about."""
    took_s: float | None = None
    """From the decision until it was done, or from the incident until it was resolved."""
    budget_s: float | None = None
    """Of the error budget, in seconds, that an incident has used."""
    cost: float | None = None
    """What that cost, by the declared cost of downtime."""
    incident: str = ""
    """The id of the incident that it belongs to."""


def event_of(
    *,
    at: float,
    region: str,
    kind: EventKind,
    what: str,
    why: str = "",
    target: str = "",
    took_s: float | None = None,
    budget_s: float | None = None,
    cost: float | None = None,
    incident: str = "",
    make_id: Callable[[], str] = new_id,
) -> Event:
    """Make an event, with an id of its own."""
    return Event(
        id=make_id(),
        at=at,
        region=region,
        kind=kind,
        what=what,
        why=why,
        target=target,
        took_s=took_s,
        budget_s=budget_s,
        cost=cost,
        incident=incident,
    )


def action_name(action: Action) -> str:
    """Return the name of what an action does, such as `set_phase`."""
    return str(msgspec.to_builtins(action)["type"])


def action_target(action: Action) -> str:
    """Return what an action is about: a region, workload or member."""
    for field in ("region", "workload", "name", "target"):
        found = getattr(action, field, None)
        if isinstance(found, str):
            return found
    raise AssertionError(f"an action about nothing: {action}")


def describe(action: Action) -> str:
    """Say in a few words what an action does."""
    match msgspec.to_builtins(action):
        case {"type": "set_phase", "region": region, "phase": phase, "share": share, "promoted": promoted}:
            return f"{region} -> {phase}, {share:.0%} of its traffic{' (promoted)' if promoted else ''}"
        case {"type": "set_node_weight", "workload": workload, "percent": percent}:
            return f"weight of {workload} -> {percent} %"
        case {"type": "raise_incident", "kind": kind, "target": target}:
            return f"incident {kind}: {target}"
        case {"type": name}:
            return f"{str(name).replace('_', ' ')} {action_target(action)}"
        case other:
            raise AssertionError(f"no action: {other}")


def line(event: Event, *, currency: str = "") -> str:
    """Return an event as one line for people."""
    at = datetime.datetime.fromtimestamp(event.at, tz=datetime.UTC)
    when = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z"
    parts = [when, f"{event.region:<12}", f"{event.kind:<8}", event.what]
    if event.why:
        parts.append(f"({event.why})")
    if event.took_s is not None:
        parts.append(f"took {event.took_s:.3g} s")
    if event.budget_s is not None:
        parts.append(f"budget {event.budget_s:.3g} s")
    if event.cost is not None:
        parts.append(f"cost {event.cost:,.2f}{' ' + currency if currency else ''}")
    return "  ".join(parts)

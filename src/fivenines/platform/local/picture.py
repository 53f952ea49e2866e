"""What a platform looks like on a terminal: its parts, its regions, its error budget, its incidents.

For `fivenines up` while it starts, for `fivenines status`, and for a demo while it runs.
"""

import contextlib
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fivenines.control.budget import YEAR_S
from fivenines.control.observed import MemberSeen
from fivenines.control.timeline import Event
from fivenines.platform.local.agent_client import AgentError, Agents
from fivenines.platform.local.up import Seen, is_whole, look
from fivenines.platform.local.view import View
from fivenines.platform.topology import Topology

__all__ = ["Status", "is_well", "look_at", "parts_table", "status_picture"]

_EVENTS = 8
_SHARE_WIDTH = 10
_PHASES = {
    "serving": "green",
    "reads": "cyan",
    "few": "cyan",
    "down": "bold red",
    "evacuated": "yellow",
    "standby": "dim",
}
_SYMBOLS = {
    "ready": ("●", "green"),
    "unready": ("●", "yellow"),
    "draining": ("◐", "cyan"),
    "starting": ("○", "yellow"),
    "waiting": ("○", "dim"),
    "backoff": ("✗", "red"),
    "stopping": ("◌", "dim"),
    "stopped": ("◌", "dim"),
}


@dataclass(frozen=True, slots=True)
class Status:
    """What was found in one look."""

    seen: Seen
    view: View | None
    """What a controller knows that has a majority behind it; None where none has."""
    events: list[Event]


def parts_table(topology: Topology, seen: Seen, title: str) -> Table:
    """Draw what runs: a row for each region, a column for each kind of part."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    kinds = ("journal", "edge", "nameserver", "node", "controller", "historian", "service")
    has_services = any(place.services for place in topology.regions)
    columns = kinds if has_services else kinds[:-1]
    table.add_column("region")
    table.add_column("address", style="dim")
    for kind in columns:
        table.add_column(f"{kind}s" if kind in {"node", "service"} else kind)
    for place in topology.regions:
        cells = []
        for kind in columns:
            text = Text()
            for workload in place.workloads():
                if workload.role == kind:
                    found = seen.get(place.name, {}).get(workload.name)
                    text.append(*_SYMBOLS[found.state] if found else ("·", "dim"))
            cells.append(text)
        table.add_row(place.name, place.host, *cells)
    return table


async def look_at(topology: Topology, agents: Agents) -> Status:
    """Ask all agents, and the first controller that answers."""
    seen = await look(topology, agents)
    for place in topology.regions:
        with contextlib.suppress(AgentError):
            view = await agents.view(place.name)
            if view.has_majority:
                return Status(seen, view, await agents.timeline(place.name, limit=_EVENTS))
    return Status(seen, None, [])


def is_well(topology: Topology, found: Status) -> bool:
    """Whether everything runs, and no disturbance is open."""
    return is_whole(topology, found.seen) and found.view is not None and not found.view.books.open


def status_picture(topology: Topology, found: Status) -> Group:
    """Draw it all."""
    spec, view = topology.spec, found.view
    title = f"{spec.platform}, {time.strftime('%H:%M:%S')}"
    parts: list[Any] = [parts_table(topology, found.seen, title), Text()]
    if view is None:
        parts.append(
            Text("no controller answers with a majority behind it: nothing is steered, what serves goes on", "yellow")
        )
        return Group(*parts)
    parts += [_regions(topology, view), Text(), _budget(topology, view)]
    for kind, incident in view.books.open.items():
        parts.append(
            Text.assemble(
                ("✗ ", "bold red"),
                f"{kind} for {time.time() - incident.opened_at:.0f} s, {incident.lost_s:.2f} s of the budget",
            )
        )
    parts += [
        Text(f"ordered: {order.kind} {order.target} by {order.by}{f': {order.why}' if order.why else ''}", "yellow")
        for order in view.orders
    ]
    if found.events:
        parts += [Text(), _events(found.events)]
    return Group(*parts)


def _regions(topology: Topology, view: View) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("region")
    table.add_column("phase")
    table.add_column("share")
    for heading in ("requests/s", "failed/s", "p99", "position", "lag"):
        table.add_column(heading, justify="right")
    table.add_column("journal")
    table.add_column("seen by")
    newest = max((report.position for report in view.reports.values()), default=0)
    shares = {r.name: r.share * r.weight for r in view.table.regions} if view.table else {}
    total = sum(shares.values())
    members = {member.region: member for member in view.members}
    for place in topology.regions:
        name = place.name
        state, report, member = view.states.get(name), view.reports.get(name), members.get(name)
        share = shares.get(name, 0.0) / total if total else 0.0
        bar = "━" * round(share * _SHARE_WIDTH)
        observers = [each.probes[name].recent[-1:] for each in view.reports.values() if name in each.probes]
        up = sum(bool(recent and recent[-1]) for recent in observers)
        table.add_row(
            name,
            Text(state.phase, _PHASES[state.phase]) if state else Text("unknown", "dim"),
            Text.assemble((f"{bar:<{_SHARE_WIDTH}}", "blue"), f" {share:4.0%}"),
            f"{report.requests_per_s:,.0f}" if report else "–",
            f"{report.failed_per_s:,.1f}" if report else "–",
            f"≤ {report.p99_ms:,.0f} ms" if report and report.p99_ms is not None else "–",
            f"{report.position:,}" if report and report.position else "–",
            f"{newest - report.position:,}" if report and report.position else "–",
            _member(member),
            Text(f"{up} of {len(observers)}", "green" if observers and up == len(observers) else "red"),
        )
    return table


def _member(member: MemberSeen | None) -> Text:
    if member is None:
        return Text("–", "dim")
    if not member.is_reachable:
        return Text(f"away {member.away_s:.0f} s", "red")
    return Text("leads", "green") if member.is_leader else Text("follows", "dim")


def _budget(topology: Topology, view: View) -> Text:
    budget_s = (1 - topology.spec.slo) * YEAR_S
    spent = view.books.lost_s
    money = f", {view.books.cost:,.2f} {topology.spec.currency}" if view.books.cost else ""
    colour = "green" if spent < budget_s / 2 else "yellow" if spent < budget_s else "bold red"
    return Text.assemble("error budget of this year: ", (f"{spent:.2f} s", colour), f" of {budget_s:.1f} s used{money}")


def _events(events: list[Event]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    colours = {"incident": "red", "failed": "red", "refused": "yellow", "resolved": "green", "done": "green"}
    for event in events:
        took = f", {event.took_s:.2f} s" if event.took_s is not None else ""
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(event.at)),
            Text(event.kind, colours.get(event.kind, "")),
            Text.assemble(event.what, (f"  {event.why[:120]}{took}" if event.why else took, "dim")),
        )
    return table

"""`fivenines status`: how a platform is, at a glance, once or for as long as one watches."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from fivenines.cli.output import JSON, configure_logs, out, print_json, telling_errors
from fivenines.cli.up import FOLDER, FolderOption, read_folder

if TYPE_CHECKING:
    from fivenines.platform.local.picture import Status
    from fivenines.platform.topology import Topology

__all__ = ["register"]

_WATCH_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(status)


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")] = False,
    folder: FolderOption = FOLDER,
    json: JSON = False,
) -> None:
    """Show regions, their parts, positions, lag, shares of the traffic, latencies and incidents.

    Exit status 1 when something is not as it should be.
    """
    configure_logs(as_json=json)
    with telling_errors():
        topology = read_folder(folder)
        with contextlib.suppress(KeyboardInterrupt):
            is_well = asyncio.run(_show(topology, watch=watch, json=json))
            if not is_well:
                raise typer.Exit(1)


async def _show(topology: "Topology", *, watch: bool, json: bool) -> bool:
    from fivenines.platform.local.agent_client import Agents
    from fivenines.platform.local.picture import is_well, look_at, status_picture

    async with Agents(topology) as agents:
        if not watch:
            found = await look_at(topology, agents)
            if json:
                print_json(_facts(topology, found))
            else:
                out.print(status_picture(topology, found))
            return is_well(topology, found)
        with Live(console=out, auto_refresh=False, screen=out.is_terminal) as live:
            while True:
                found = await look_at(topology, agents)
                if json:
                    print_json(_facts(topology, found))
                else:
                    live.update(status_picture(topology, found), refresh=True)
                await asyncio.sleep(_WATCH_S)


def _facts(topology: "Topology", found: "Status") -> dict[str, Any]:
    from fivenines.platform.local.picture import is_well

    return {
        "platform": topology.spec.platform,
        "well": is_well(topology, found),
        "regions": {
            place.name: {
                "workloads": found.seen[place.name],
                "state": found.view.states.get(place.name) if found.view else None,
                "report": found.view.reports.get(place.name) if found.view else None,
            }
            for place in topology.regions
        },
        "members": found.view.members if found.view else [],
        "orders": found.view.orders if found.view else [],
        "books": found.view.books if found.view else None,
        "timeline": found.events,
    }

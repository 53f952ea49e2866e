"""`fivenines region`, `node` and `timeline`: what operators order, and what became of it; and `fivenines controller`.

An order is written to the store that all controllers share, and stays until it is taken back; the controllers carry it
out as soon as their rules allow. Before that the command says what will happen, and what speaks against it.
"""

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from fivenines.cli.output import JSON, CommandFailedError, configure_logs, errors, out, print_json, telling_errors
from fivenines.cli.up import FOLDER, FolderOption, read_folder, serve_part

if TYPE_CHECKING:
    from fivenines.control.deciding import Decision
    from fivenines.control.desired import Desired
    from fivenines.control.observed import Observed
    from fivenines.control.store import Store
    from fivenines.platform.topology import Topology

__all__ = ["register"]

OPERATOR = "operator"
"""Who stands in the timeline in the place of a region."""
_FOLLOW_S = 60.0
_LOOK_S = 0.3

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
WhyOption = Annotated[str, typer.Option("--why", help="For the timeline.")]
OverrideOption = Annotated[
    bool, typer.Option("--override", help="Do it although a safety rule speaks against it; the timeline says so.")
]
_REGION_EXAMPLES = """
[bold]Examples[/]

  fivenines region evacuate eu-west --dry-run      what would happen?

  fivenines region evacuate eu-west --why "power works on Sunday"

  fivenines region return eu-west                  reads first, then a few requests, then all
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    region = typer.Typer(
        help="Take regions out of traffic, bring them back, promote one on standby.", no_args_is_help=True
    )
    region.command(epilog=_REGION_EXAMPLES)(evacuate)
    region.command(name="return")(bring_back)
    region.command()(promote)
    app.add_typer(region, name="region")
    node = typer.Typer(help="Drain nodes, put them back, restart them without a failed request.", no_args_is_help=True)
    node.command()(drain)
    node.command()(undrain)
    node.command()(restart)
    app.add_typer(node, name="node")
    app.command()(timeline)
    app.command(hidden=True)(controller)


def evacuate(
    name: Annotated[str, typer.Argument(metavar="REGION")],
    why: WhyOption = "",
    dry_run: DryRunOption = False,
    override: OverrideOption = False,
    folder: FolderOption = FOLDER,
    json: JSON = False,
) -> None:
    """Take a region out of traffic: its requests go to the others, and nobody notices."""
    _order("evacuate", name, "evacuated", why=why, dry_run=dry_run, override=override, folder=folder, json=json)


def bring_back(
    name: Annotated[str, typer.Argument(metavar="REGION")],
    dry_run: DryRunOption = False,
    folder: FolderOption = FOLDER,
    json: JSON = False,
) -> None:
    """Bring an evacuated region back: reads first, then a few requests, then all. Takes a promotion back, too."""
    _take_back(("evacuate", "promote"), name, dry_run=dry_run, folder=folder, json=json)


def promote(
    name: Annotated[str, typer.Argument(metavar="REGION")],
    why: WhyOption = "",
    dry_run: DryRunOption = False,
    override: OverrideOption = False,
    folder: FolderOption = FOLDER,
    json: JSON = False,
) -> None:
    """Let a region on standby serve."""
    _order("promote", name, "serving", why=why, dry_run=dry_run, override=override, folder=folder, json=json)


def drain(
    name: Annotated[str, typer.Argument(metavar="NODE")],
    why: WhyOption = "",
    dry_run: DryRunOption = False,
    override: OverrideOption = False,
    folder: FolderOption = FOLDER,
    json: JSON = False,
) -> None:
    """Take a node or a copy of a service out of its edge; it finishes what it has, and stays as it is."""
    _order("drain", name, "", why=why, dry_run=dry_run, override=override, folder=folder, json=json)


def undrain(
    name: Annotated[str, typer.Argument(metavar="NODE")],
    dry_run: DryRunOption = False,
    folder: FolderOption = FOLDER,
    json: JSON = False,
) -> None:
    """Put a node back that was drained."""
    _take_back(("drain",), name, dry_run=dry_run, folder=folder, json=json)


def restart(
    name: Annotated[str | None, typer.Argument(metavar="NODE", help="Without it all nodes, with --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All nodes, one after the other.")] = False,
    folder: FolderOption = FOLDER,
    json: JSON = False,
) -> None:
    """Restart a node, or all of them in turn: out of the edge, finish, stop, start, back. No request fails."""
    configure_logs(as_json=json)
    with telling_errors():
        topology = read_folder(folder)
        nodes = {node: place.name for place in topology.regions for node in place.nodes}
        if (name is None) != every:
            raise CommandFailedError("name a node, or say --all", hint=f"nodes are: {', '.join(nodes)}")
        if name is not None and name not in nodes:
            raise CommandFailedError(f"{name!r} is no node of this platform", hint=f"nodes are: {', '.join(nodes)}")
        chosen = nodes if name is None else {name: nodes[name]}

        async def restart_all() -> None:
            from fivenines.platform.local.agent_client import AgentError, Agents

            async with Agents(topology) as agents:
                for node, region in chosen.items():
                    began = time.monotonic()
                    try:
                        await agents.change(region, node, "restart")
                    except AgentError as error:
                        raise CommandFailedError(f"{node}: {error}", hint="the others were left as they are") from error
                    took_s = time.monotonic() - began
                    if json:
                        print_json({"event": "restarted", "node": node, "took_s": round(took_s, 2)})
                    else:
                        out.print(f"[green]●[/] {node} is back after {took_s:.1f} s")

        asyncio.run(restart_all())


def timeline(
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, the newest ones.", min=1, max=10_000)] = 30,
    folder: FolderOption = FOLDER,
    json: JSON = False,
) -> None:
    """Show what was seen, decided and done: why, how long it took, and what it cost of the error budget."""
    configure_logs(as_json=json)
    with telling_errors():
        topology = read_folder(folder)

        async def show(store: "Store") -> None:
            from fivenines.control.timeline import line

            for event in await store.timeline(limit):
                if json:
                    print_json(event)
                else:
                    out.print(line(event, currency=topology.spec.currency), markup=False, soft_wrap=True)

        _with_store(topology, show)


def controller(
    folder: FolderOption,
    region: Annotated[str, typer.Option(help="Whose controller to run.")],
    json: JSON = False,
) -> None:
    """Run the controller of a region; its agent starts it."""
    from fivenines.platform.local.controlling import serve_controller

    serve_part(serve_controller, folder, region, json=json)


def _order(
    kind: str, target: str, until: str, *, why: str, dry_run: bool, override: bool, folder: "FolderOption", json: bool
) -> None:
    """Show what an order brings about; give it, unless that is all that was wanted; and follow it until it is done."""
    configure_logs(as_json=json)
    with telling_errors():
        topology = read_folder(folder)
        _check_target(topology, kind, target)
        from fivenines.control.deciding import explain
        from fivenines.control.desired import Order
        from fivenines.control.orders import give_order

        order = Order(kind=kind, target=target, at=time.time(), by=getpass.getuser(), why=why, override=override)  # type: ignore[arg-type]

        async def give(store: "Store") -> None:
            decision = explain((order,), *await _look(topology, store, target), time.time())
            _tell(decision, json=json)
            if decision.refused and not override:
                refused = decision.refused[0]
                raise CommandFailedError(
                    f"{target} stays as it is: {refused.reason}", hint="--override does it all the same, and is logged"
                )
            if dry_run:
                return
            await give_order(store, order, region=OPERATOR)
            if until:
                await _follow(store, target, until, json=json)
            elif not json:
                out.print(f"ordered: {kind} {target}")

        _with_store(topology, give)


def _take_back(kinds: tuple[str, ...], target: str, *, dry_run: bool, folder: "FolderOption", json: bool) -> None:
    configure_logs(as_json=json)
    with telling_errors():
        topology = read_folder(folder)
        _check_target(topology, kinds[0], target)

        async def take_back(store: "Store") -> None:
            from fivenines.control.deciding import explain_taken_back
            from fivenines.control.orders import take_back_order

            shared = await store.read_all()
            given = [order for order in shared.orders if order.kind in kinds and order.target == target]
            if not given:
                raise CommandFailedError(f"nobody has ordered anything of {target}", hint="'fivenines status' shows it")
            if dry_run:
                if not json:
                    for order in given:
                        out.print(f"would take back: {order.kind} {target}, ordered by {order.by}", markup=False)
                _tell(explain_taken_back(given, *await _look(topology, store, target), time.time()), json=json)
                return
            for order in given:
                await take_back_order(store, order.kind, target, at=time.time(), by=getpass.getuser(), region=OPERATOR)
            if kinds[0] == "evacuate" and given[0].kind == "evacuate":
                await _follow(store, target, "serving", json=json)
            elif not json:
                out.print(f"taken back: {', '.join(order.kind for order in given)} {target}")

        _with_store(topology, take_back)


async def _look(topology: "Topology", store: "Store", target: str) -> "tuple[Desired, Observed]":
    """Return what is wanted, and what a controller knows just now, of the target's own region if it answers."""
    from fivenines.control.observed import Observed
    from fivenines.platform.desires import to_desired
    from fivenines.platform.local.agent_client import AgentError, Agents

    workloads = tuple(workload for place in topology.regions for workload in place.workloads())
    region = next((each.region for each in workloads if each.name == target), target)
    places = [region, *(place.name for place in topology.regions if place.name != region)]
    async with Agents(topology) as agents:
        for name in places:
            try:
                view = await agents.view(name)
            except AgentError:
                continue
            break
        else:
            raise CommandFailedError("no controller answers", hint="'fivenines status' shows what runs")
    observed = Observed(
        here=view.region,
        reports=view.reports,
        states=view.states,
        members=view.members,
        is_leader=view.is_leader,
        has_majority=view.has_majority,
    )
    orders = (await store.read_all()).orders
    return to_desired(topology.spec, workloads=workloads, orders=orders), observed


def _tell(decision: "Decision", *, json: bool) -> None:
    from fivenines.control.timeline import describe

    if json:
        print_json(
            {
                "actions": decision.actions,
                "refused": [{"action": each.action, "reason": each.reason} for each in decision.refused],
            }
        )
        return
    for action in decision.actions:
        out.print(Text.assemble(("will  ", "green"), describe(action), (f"  {action.reason}", "dim")), soft_wrap=True)
    for refused in decision.refused:
        out.print(
            Text.assemble(("not   ", "red"), describe(refused.action), (f"  {refused.reason}", "dim")), soft_wrap=True
        )
    if not decision.actions and not decision.refused:
        out.print("nothing would change", style="dim")


async def _follow(store: "Store", region: str, phase: str, *, json: bool) -> None:
    """Tell each phase that a region goes through, up to the one that is waited for."""
    began, last = time.monotonic(), ""
    while time.monotonic() < began + _FOLLOW_S:
        state = (await store.read_all()).states.get(region)
        if state is not None and state.phase != last:
            last = state.phase
            if json:
                print_json({"event": "phase", "region": region, "phase": state.phase, "share": state.share})
            else:
                after = f"{time.monotonic() - began:5.1f} s"
                out.print(Text.assemble((after, "dim"), f"  {region}: {state.phase}, {state.share:.0%} of its traffic"))
        if last == phase:
            return
        await asyncio.sleep(_LOOK_S)
    errors.print(f"{region} is still {last or 'unknown'}; the order stands, and 'fivenines status' shows more")


def _check_target(topology: "Topology", kind: str, target: str) -> None:
    if kind == "drain":
        known = [w.name for place in topology.regions for w in place.workloads() if w.role in {"node", "service"}]
    else:
        known = [place.name for place in topology.regions]
    if target not in known:
        raise CommandFailedError(f"{target!r} is none of this platform", hint=f"there are: {', '.join(known)}")


def _with_store(topology: "Topology", work: Callable[["Store"], Awaitable[None]]) -> None:
    from fivenines.control.store import StoreError
    from fivenines.platform.local.controlling import make_store

    async def run() -> None:
        store = make_store(topology)
        try:
            await work(store)
        except StoreError as error:
            raise CommandFailedError(
                f"the shared store: {error}", hint="does the platform run? 'fivenines status'"
            ) from error
        finally:
            await store.close()

    asyncio.run(run())

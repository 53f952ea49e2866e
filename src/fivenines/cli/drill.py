"""`fivenines drill`: faults on purpose on a real platform under load, and proof of what clients noticed."""

import asyncio
import signal
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fivenines.cli.load import register as register_load
from fivenines.cli.output import (
    JSON,
    CommandFailedError,
    configure_logs,
    counted,
    errors,
    out,
    print_json,
    telling_errors,
)

if TYPE_CHECKING:
    from fivenines.drill.drills.days import Day, Standing
    from fivenines.drill.drills.reading import Drill
    from fivenines.drill.drills.runner import Terms
    from fivenines.drill.drills.session import Where
    from fivenines.drill.drills.soak import Round
    from fivenines.drill.results import DrillResult

__all__ = ["register"]

_RATE = 100.0
_OUT = Path("build")
_SCHEDULE = Path("game-days.yaml")

FileArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="DRILL", help="Files, or names of the catalogue.", show_default=False),
]
TagOption = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Only those with this tag.")]
ShortOption = Annotated[bool, typer.Option("--short", help="The short form: every guarantee, in the shortest time.")]
RateOption = Annotated[float, typer.Option(metavar="R", help="Requests a second, of all clients together.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Chooses what is hit, and what clients ask.")]
NetworkOption = Annotated[int, typer.Option(help="See 'fivenines up'.", min=0, max=255)]
NetnsOption = Annotated[
    bool | None,
    typer.Option(
        "--netns/--no-netns", help="Regions in networks of their own, that can be cut off; default: where possible."
    ),
]
PlaceOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="For the platform's data and logs; default: OUT/drills-data."),
]
PlatformOption = Annotated[
    Path | None, typer.Option("--platform", metavar="FILE", help="What to run: a platform.yaml.")
]
OnOption = Annotated[
    Path | None,
    typer.Option("--on", metavar="DIR", help="Drill the platform that runs from there; nothing is started or stopped."),
]
OverrideOption = Annotated[
    str, typer.Option("--override", metavar="REASON", help="Begin although something speaks against it; it is logged.")
]
ScheduleOption = Annotated[Path, typer.Option("--schedule", metavar="FILE", help="Which game days there are, in YAML.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="For the report.")]

_EXAMPLES = """
[bold]Examples[/]

  fivenines drill list                          the catalogue

  fivenines drill run node-killed               one of it

  fivenines drill run mine.yaml --rate 50       a drill of your own

  sudo fivenines drill run --all --short        every guarantee, in minutes; as root, regions are cut off, too

  fivenines drill soak --minutes 10 --seed 7    random faults, up to two at once
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    drill = typer.Typer(
        help="Faults on purpose under load: what did clients notice, and was every promise kept?", no_args_is_help=True
    )
    drill.command(epilog=_EXAMPLES)(run)
    drill.command(name="list")(show)
    drill.command()(check)
    drill.command()(soak)
    game_days = typer.Typer(help="Game days: what is due, and doing it.", invoke_without_command=True)
    game_days.callback()(days)
    game_days.command(name="run")(run_days)
    drill.add_typer(game_days, name="days")
    register_load(drill)
    app.add_typer(drill, name="drill")


def run(
    drills: FileArgument = None,
    every: Annotated[bool, typer.Option("--all", help="The whole catalogue.")] = False,
    short: ShortOption = False,
    tag: TagOption = None,
    rate: RateOption = _RATE,
    seed: SeedOption = 1,
    network: NetworkOption = 0,
    netns: NetnsOption = None,
    folder: PlaceOption = None,
    platform: PlatformOption = None,
    on: OnOption = None,
    override: OverrideOption = "",
    to: OutOption = _OUT,
    json: JSON = False,
) -> None:
    """Carry out drills on a platform, and report what came of them.

    Exit status: 0 if all passed that this machine can do, 1 if one did not, 2 if what was asked makes no sense.
    """
    from fivenines.drill.drills.choosing import catalogue, choose

    configure_logs(as_json=json)
    with telling_errors(), _telling_usage():
        if not drills and not every and not tag and not short:
            raise typer.BadParameter("name a drill, or say --all; 'fivenines drill list' shows the catalogue")
        chosen = _found(drills) if drills else choose(catalogue(), tags=tag or (), short=short)
        if not chosen:
            raise typer.BadParameter("no drill of the catalogue is tagged so")
        where = _where(network=network, netns=netns, folder=folder, platform=platform, on=on, to=to)
        what = " ".join(drills) if drills else "--all"
        command = f"fivenines drill run {what}{' --short' if short else ''} --seed {seed} --rate {rate:g}"
        results = _carry_out(chosen, where, rate=rate, seed=seed, override=override, to=to, json=json, command=command)
        _end(results, len(chosen))


def soak(
    minutes: Annotated[float, typer.Option(help="How long.", min=0.1)] = 10.0,
    at_once: Annotated[int, typer.Option(help="How many faults at most are in force at one time.", min=1, max=4)] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")] = False,
    rate: RateOption = _RATE,
    seed: SeedOption = 1,
    network: NetworkOption = 0,
    netns: NetnsOption = None,
    folder: PlaceOption = None,
    platform: PlatformOption = None,
    on: OnOption = None,
    override: OverrideOption = "",
    to: OutOption = _OUT,
    json: JSON = False,
) -> None:
    """Let random faults happen, one or several at once, which together never take more than one failure domain.

    The same seed gives the same plan. Exit status as of `run`.
    """
    from fivenines.cli.plan import read_declared
    from fivenines.cli.up import read_folder
    from fivenines.drill.drills.soak import RegionParts, plan_soak, soak_drill
    from fivenines.platform.topology import make_topology

    configure_logs(as_json=json)
    with telling_errors(), _telling_usage():
        where = _where(network=network, netns=netns, folder=folder, platform=platform, on=on, to=to)
        if on is not None:
            topology = read_folder(on)
        else:
            topology = make_topology(read_declared(platform).platform, where.folder, home=Path(), network=network)
        parts = [
            RegionParts(name=each.name, nodes=each.nodes, has_journal=each.has_journal) for each in topology.regions
        ]
        plan = plan_soak(parts, seconds=minutes * 60, seed=seed, at_once=at_once, is_apart=where.is_apart)
        if dry_run:
            _tell_plan(plan, json=json)
            return
        drill = soak_drill(plan, seconds=minutes * 60, seed=seed)
        command = f"fivenines drill soak --minutes {minutes:g} --seed {seed} --at-once {at_once} --rate {rate:g}"
        _end(_carry_out([drill], where, rate=rate, seed=seed, override=override, to=to, json=json, command=command), 1)


def _tell_plan(plan: "Sequence[Round]", *, json: bool) -> None:
    if json:
        print_json({"rounds": plan})
        return
    for number, each in enumerate(plan, start=1):
        for step in each.steps:
            how = "".join(f", {name} {value}" for name, value in step.arguments.items())
            out.print(
                f"round {number:>3}  {step.begins_s:5.1f} to {step.ends_s:5.1f} s  "
                f"{step.fault.replace('_', ' ')} {step.target}{how}",
                markup=False,
                soft_wrap=True,
            )


def days(
    context: typer.Context,
    schedule: ScheduleOption = _SCHEDULE,
    json: JSON = False,
) -> None:
    """Show which game days are due, which are overdue, and how well the cadence was kept. Status 1: one is overdue."""
    if context.invoked_subcommand is not None:
        return
    configure_logs(as_json=json)
    with telling_errors(), _telling_usage():
        found = _standing(schedule)
        if json:
            print_json({"days": found})
        else:
            from fivenines.drill.drills.showing import days_table

            out.print(days_table(found, out, now=time.time()))
        if any(each.state in {"overdue", "never held"} for each in found):
            raise typer.Exit(1)


def run_days(
    day: Annotated[list[str] | None, typer.Argument(metavar="DAY", help="Only these, due or not.")] = None,
    schedule: ScheduleOption = _SCHEDULE,
    rate: RateOption = _RATE,
    seed: SeedOption = 1,
    network: NetworkOption = 0,
    netns: NetnsOption = None,
    folder: PlaceOption = None,
    platform: PlatformOption = None,
    on: OnOption = None,
    override: OverrideOption = "",
    to: OutOption = _OUT,
    json: JSON = False,
) -> None:
    """Carry out the game days that are due, and write down those that were held. Exit status as of `run`."""
    from fivenines.drill.drills.days import add_held, history_file, why_not_held
    from fivenines.drill.drills.days import held as sum_up

    configure_logs(as_json=json)
    with telling_errors(), _telling_usage():
        found = _standing(schedule)
        if unknown := set(day or ()) - {each.day.name for each in found}:
            raise typer.BadParameter(f"{min(unknown)!r} is no day of {schedule}")
        wanted = [each.day for each in found if (each.day.name in day if day else each.state != "held")]
        if not wanted:
            if json:
                print_json({"good": True, "days": []})
            else:
                out.print("nothing is due", style="green")
            return
        where = _where(network=network, netns=netns, folder=folder, platform=platform, on=on, to=to)
        every: list[DrillResult] = []
        count = 0
        for each in wanted:
            drills = _drills_of(each, schedule)
            count += len(drills)
            if not json:
                out.print(f"[bold]{_escaped(each.name)}[/]: {counted(len(drills), 'drill')}")
            began = time.time()
            command = f"fivenines drill days run {each.name} --schedule {schedule} --seed {seed} --rate {rate:g}"
            into = to if len(wanted) == 1 else to / each.name
            results = _carry_out(
                drills, where, rate=rate, seed=seed, override=override, to=into, json=json, command=command
            )
            every += results
            if len(results) < len(drills):  # somebody stopped it: it was not held
                break
            if (why := why_not_held(results)) is not None:
                errors.print(f"{_escaped(each.name)} was not held, and stays due: {_escaped(why)}", style="yellow")
                continue
            add_held(history_file(schedule), sum_up(each, results, at=began, seed=seed))
        _end(every, count)


def _drills_of(day: "Day", schedule: Path) -> "list[Drill]":
    from fivenines.drill.drills.choosing import catalogue, choose

    if not day.drills:
        return choose(catalogue(), tags=day.tags, short=day.short)
    files = [str(schedule.parent / each) if each.endswith((".yaml", ".yml", ".json")) else each for each in day.drills]
    return choose(_found(files), tags=day.tags, short=day.short)


def _standing(schedule: Path) -> "list[Standing]":
    from fivenines.drill.drills.days import (
        HistoryUnreadableError,
        history_file,
        read_history,
        read_schedule,
        standing,
    )

    try:
        return standing(read_schedule(schedule), read_history(history_file(schedule)), time.time())
    except HistoryUnreadableError as error:
        raise CommandFailedError(str(error), hint="mend or move the file: nothing is written to it before") from error
    except OSError as error:
        raise CommandFailedError(
            f"{error.strerror}: {error.filename}", hint="a schedule is a file in YAML: see docs/drills.md"
        ) from error


def show(tag: TagOption = None, short: ShortOption = False, json: JSON = False) -> None:
    """Show the catalogue: what happens, for which guarantee, and what clients may notice at most."""
    from fivenines.drill.drills.choosing import catalogue, choose
    from fivenines.drill.drills.showing import catalogue_table

    configure_logs(as_json=json)
    with telling_errors(), _telling_usage():
        drills = choose(catalogue(), tags=tag or (), short=short)
        if json:
            said = [
                {
                    "name": each.name,
                    "title": each.said.title,
                    "guarantees": each.guarantees,
                    "bound": each.ours.bound,
                    "tags": each.said.tags,
                }
                for each in drills
            ]
            print_json({"drills": said})
            return
        out.print(catalogue_table(drills, out))
        out.print(f"{counted(len(drills), 'drill')}. 'fivenines drill run NAME' carries one out.", style="dim")


def check(
    drills: Annotated[list[str], typer.Argument(metavar="FILE", help="Drills in YAML.", show_default=False)],
    json: JSON = False,
) -> None:
    """Say everything that is wrong with drills, each with its line, field and reason; nothing is run."""
    configure_logs(as_json=json)
    with telling_errors(), _telling_usage():
        found = _found(drills)
        if json:
            print_json({"good": True, "drills": [each.name for each in found]})
            return
        for each in found:
            told = counted(len(each.said.method), "step")
            out.print(f"[green]●[/] {each.name}: {each.said.title}, {told}", soft_wrap=True)


def _found(names: Sequence[str]) -> "list[Drill]":
    """Find drills by their names or files. Raises what `_telling_usage` tells."""
    from fivenines.drill.drills.choosing import find
    from fivenines.drill.drills.reading import DrillFileError
    from fivenines.platform.loading import Problem

    found, problems = [], list[Problem]()
    for name in names:
        try:
            found.append(find(name))
        except DrillFileError as error:
            problems += error.problems
    if problems:
        raise DrillFileError(tuple(problems))
    return found


class _telling_usage:  # noqa: N801 - used like a function
    """Turn what is wrong with what was asked for into lines on stderr and exit status 2."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        from fivenines.drill.drills.choosing import UnknownDrillError
        from fivenines.drill.drills.reading import DrillFileError

        if isinstance(error, DrillFileError):
            for problem in error.problems:
                errors.print(f"[bold red]error:[/] {_escaped(str(problem))}", soft_wrap=True)
            raise typer.Exit(2) from error
        if isinstance(error, UnknownDrillError):
            errors.print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)
            raise typer.Exit(2) from error


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _where(
    *, network: int, netns: bool | None, folder: Path | None, platform: Path | None, on: Path | None, to: Path
) -> "Where":
    from fivenines.cli.up import read_folder
    from fivenines.drill.drills.session import Where
    from fivenines.platform.local.isolation import why_not

    if on is not None:
        if platform is not None or folder is not None or netns is not None:
            raise typer.BadParameter("--on takes the platform as it is: leave --platform, --folder and --netns out")
        is_apart = read_folder(on).isolation == "netns"
        return Where(folder=on, found=True, is_apart=is_apart)
    if platform is not None and not platform.exists():
        raise CommandFailedError(f"--platform: no such file: {platform}")
    if netns and (reason := why_not()) is not None:
        raise CommandFailedError(f"--netns: {reason}")
    is_apart = why_not() is None if netns is None else netns
    return Where(folder=folder or to / "drills-data", declared=platform, network=network, is_apart=is_apart)


def _carry_out(
    drills: "Sequence[Drill]",
    where: "Where",
    *,
    rate: float,
    seed: int,
    override: str,
    to: Path,
    json: bool,
    command: str,
) -> "list[DrillResult]":
    """Carry drills out, show how they go, and report. Returns what came of those that were begun."""
    from fivenines.drill.drills.runner import Terms
    from fivenines.drill.drills.session import carry_out_all
    from fivenines.drill.drills.showing import Shown, is_good
    from fivenines.drill.reporting import table, write

    began = time.monotonic()
    shown = Shown(errors, quiet=json)
    results: list[DrillResult] = []

    async def work() -> None:
        terms = Terms(rate_per_s=rate, seed=seed, override=override)
        _end_on_signal(terms)
        await carry_out_all(drills, where, terms, shown, keep=results.append)

    to.mkdir(parents=True, exist_ok=True)
    with shown.shown():
        trouble = _run(work())
    # What came of those that were over by then is told, whatever went wrong.
    written = write(results, to, commands=[command]) if results else []
    if json:
        print_json({"good": is_good(results), "took_s": round(time.monotonic() - began, 1), "drills": results})
    else:
        if results:
            out.print(table(results))
        told = ", ".join(map(str, written)) or "nothing was begun"
        out.print(f"{told}; after {time.monotonic() - began:.0f} s", style="dim", soft_wrap=True)
    if trouble is not None:
        raise CommandFailedError(f"it could not be carried out: {trouble}") from trouble
    return results


def _end(results: "Sequence[DrillResult]", count: int) -> None:
    """End with 1 if one of so many drills did not pass, or was not begun."""
    from fivenines.drill.drills.showing import is_good

    if not is_good(results) or len(results) < count:
        raise typer.Exit(1)


def _end_on_signal(terms: "Terms") -> None:
    """End the drill under way, undone, on the first signal, and everything at once on the second."""
    task = asyncio.current_task()
    assert task is not None

    def end() -> None:
        if terms.ending.is_set():
            task.cancel()
        else:
            errors.print("stopping: the drill under way is undone", style="yellow")
        terms.ending.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)


def _run(work: Coroutine[Any, Any, None]) -> Exception | None:
    """Run something to its end; returns what went wrong, if anything a user can mend did."""
    import httpx
    import uvloop

    from fivenines.drill.load.running import LoadFailedError
    from fivenines.drill.running import PlatformFailedError
    from fivenines.journal import JournalError
    from fivenines.platform.local.agent_client import AgentError

    try:
        uvloop.run(work)
    except asyncio.CancelledError:
        errors.print("stopped", style="yellow")
    except (PlatformFailedError, LoadFailedError, AgentError, JournalError, httpx.HTTPError, OSError) as error:
        return error
    return None

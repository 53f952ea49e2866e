"""`fivenines drill`: faults on purpose on a real platform under load, and proof of what clients noticed."""

import asyncio
import signal
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    from fivenines.drill.drills.reading import Drill
    from fivenines.drill.drills.runner import Terms
    from fivenines.drill.drills.session import Where
    from fivenines.drill.results import DrillResult

__all__ = ["register"]

_RATE = 100.0
_OUT = Path("build")

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
        _carry_out(chosen, where, rate=rate, seed=seed, override=override, to=to, json=json, command=command)


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
    """Carry drills out, show how they go, report, and end with 1 if one did not pass."""
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
        _run(work())
    written = write(results, to, commands=[command]) if results else []
    if json:
        print_json({"good": is_good(results), "took_s": round(time.monotonic() - began, 1), "drills": results})
    else:
        if results:
            out.print(table(results))
        told = ", ".join(map(str, written)) or "nothing was begun"
        out.print(f"{told}; after {time.monotonic() - began:.0f} s", style="dim", soft_wrap=True)
    if not is_good(results) or len(results) < len(drills):
        raise typer.Exit(1)
    return results


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


def _run(work: Coroutine[Any, Any, None]) -> None:
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
        raise CommandFailedError(f"it could not be carried out: {error}") from error

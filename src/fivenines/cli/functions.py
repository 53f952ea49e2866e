"""`fivenines functions`: run functions on events, see what they gave up, and have it done again."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

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
    from fivenines.historian.feed.ordering import Key
    from fivenines.historian.feed.store import Store

__all__ = ["register"]

_DEFAULT_URL = "http://127.0.0.1:9959"
_DEFAULT_DATA = "functions"
_RUN_EXAMPLES = """
[bold]Examples[/]

  fivenines functions run examples/low_balance.py
                                              call the functions of a file on events of the ledger on this machine

  fivenines functions run payments.events --events http://eu:9960,http://us:9960 --data /srv/functions --max-processes 8
                                              those of a module, on events of historians of two regions
"""
_DEAD_EXAMPLES = """
[bold]Examples[/]

  fivenines functions dead-letters --data /srv/functions
                                              what was given up, and why
"""
_REPLAY_EXAMPLES = """
[bold]Examples[/]

  fivenines functions replay notify_low_balance
                                              all that this function gave up

  fivenines functions replay notify_low_balance 4711-0 4712-3
                                              these events only
"""

DataOption = Annotated[
    str, typer.Option("--data", metavar="DIR", help="The folder that keeps how far each function is.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    functions = typer.Typer(help="Run functions on events, and see to what they gave up.", no_args_is_help=True)
    functions.command(epilog=_RUN_EXAMPLES)(run)
    functions.command(name="dead-letters", epilog=_DEAD_EXAMPLES)(dead_letters)
    functions.command(epilog=_REPLAY_EXAMPLES)(replay)
    app.add_typer(functions, name="functions")


def run(
    module: Annotated[str, typer.Argument(metavar="MODULE", help="A module, or the path of its file.")],
    events: Annotated[
        str,
        typer.Option(
            "--events",
            metavar="URL",
            help="Where events come from, a node or a historian; several, with commas, are tried in turn.",
            envvar="FIVENINES_URL",
        ),
    ] = _DEFAULT_URL,
    data: DataOption = _DEFAULT_DATA,
    after: Annotated[
        int | None,
        typer.Option(metavar="N", help="Where a function begins that is new here; default: now.", min=0),
    ] = None,
    max_processes: Annotated[int, typer.Option(metavar="N", help="Processes at most.", min=1, max=1_000)] = 4,
    idle_s: Annotated[
        float, typer.Option(metavar="SECONDS", help="A process with nothing to do for so long ends.", min=0)
    ] = 30.0,
    timeout_s: Annotated[
        float, typer.Option(metavar="SECONDS", help="A call that takes longer is ended, and has failed.", min=0.01)
    ] = 60.0,
    tries: Annotated[int, typer.Option(metavar="N", help="After so many an event is a dead letter.", min=1)] = 20,
    retry_s: Annotated[
        float, typer.Option(metavar="SECONDS", help="The pause after the first failure; it doubles.", min=0.001)
    ] = 0.5,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, logs too.")] = False,
) -> None:
    """Call the functions of a module on events, until Ctrl-C or SIGTERM.

    Processes are started when events wait, and end when none do. Each function gets its events at least once, and those
    of an account in their order.
    """
    configure_logs(as_json=json)
    with telling_errors():
        _check_extra()
        from fivenines.functions.runner import FunctionsError, RunnerSettings, run_functions
        from fivenines.functions.scaling import Scaling
        from fivenines.historian.feed.retrying import Retry
        from fivenines.historian.feed.store import StoreUnavailableError
        from fivenines.journal import JournalLockedError

        settings = RunnerSettings(
            module=module,
            urls=tuple(url for url in events.split(",") if url),
            directory=Path(data),
            after=after,
            scaling=Scaling(processes_max=max_processes),
            idle_s=idle_s,
            timeout_s=timeout_s,
            retry=Retry(first_s=retry_s, tries_max=tries),
        )

        def tell_ready(names: Any) -> None:
            if json:
                print_json({"event": "ready", "functions": list(names)})
            else:
                errors.print(
                    f"[bold green]fivenines[/] calls [bold]{', '.join(names)}[/] on events of {events}. "
                    "Ctrl-C stops it.",
                    soft_wrap=True,
                )

        try:
            asyncio.run(run_functions(settings, on_ready=tell_ready))
        except FunctionsError as error:
            raise CommandFailedError(str(error)) from error
        except JournalLockedError as error:
            raise CommandFailedError(f"another runner uses {data}", hint="give each its own --data") from error
        except (StoreUnavailableError, OSError, ValueError) as error:
            raise CommandFailedError(str(error)) from error


def dead_letters(
    data: DataOption = _DEFAULT_DATA,
    function: Annotated[str | None, typer.Argument(metavar="[FUNCTION]", help="Only those of this one.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most, of each.", min=1, max=100_000)] = 100,
    json: JSON = False,
) -> None:
    """List the events that functions gave up, the oldest first."""
    with telling_errors():
        store = _store(data)
        lanes = _lanes(store, function)
        found = {name: store.dead_letters(lane, limit=limit) for name, lane in lanes.items()}
        counts = store.count_dead()
    if json:
        rows = [
            {
                "function": name,
                "event": letter.event,
                "tries": letter.tries,
                "reason": letter.reason,
                "time_s": letter.dead_s,
                "is_waiting": letter.is_waiting,
            }
            for name, letters in found.items()
            for letter in letters
        ]
        print_json({"dead_letters": rows, "count": sum(counts.get(lane, 0) for lane in lanes.values())})
        return
    table = Table("function", "event", "transaction", "tries", "reason")
    for name, letters in found.items():
        for letter in letters:
            reason = f"(waits for a replay) {letter.reason}" if letter.is_waiting else letter.reason
            table.add_row(Text(name), letter.event.id, letter.event.subject, str(letter.tries), Text(reason))
    if table.row_count:
        out.print(table)
    out.print(counted(sum(counts.get(lane, 0) for lane in lanes.values()), "dead letter"))


def replay(
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="The name of the function.")],
    events: Annotated[
        list[str] | None, typer.Argument(metavar="[EVENT]...", help="Ids of events; none: all that it gave up.")
    ] = None,
    data: DataOption = _DEFAULT_DATA,
    json: JSON = False,
) -> None:
    """Have a function called again on events that it gave up; a runner does it, now or when it is started."""
    with telling_errors():
        store = _store(data)
        (lane,) = _lanes(store, function).values()
        count = store.replay(lane, [_key(text) for text in events] if events else None)
    if json:
        print_json({"replayed": count})
    else:
        out.print(f"{counted(count, 'event')} will be delivered again")


def _key(text: str) -> "Key":
    from fivenines.historian.feed.ordering import Key

    key = Key.parse(text)
    if key is None:
        raise CommandFailedError(f"{text!r} is no id of an event, such as 4711-0")
    return key


def _store(data: str) -> "Store":
    _check_extra()
    from fivenines.functions.runner import open_store
    from fivenines.historian.feed.store import StoreUnavailableError

    if not Path(data).is_dir():
        raise CommandFailedError(f"there is no folder {data}", hint="--data names that of 'fivenines functions run'")
    try:
        return open_store(Path(data))
    except StoreUnavailableError as error:
        raise CommandFailedError(str(error)) from error


def _lanes(store: "Store", function: str | None) -> dict[str, str]:
    """Return the lanes of functions, by the function's name."""
    from fivenines.functions.runner import lane_of

    prefix = lane_of("")
    found = {lane.removeprefix(prefix): lane for lane in sorted(store.cursors()) if lane.startswith(prefix)}
    if function is None:
        return found
    if function not in found:
        raise CommandFailedError(f"no function {function!r} was run here; there are: {', '.join(found) or 'none'}")
    return {function: found[function]}


def _check_extra() -> None:
    try:
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise CommandFailedError(
            "functions need what is not installed", hint="pip install 'fivenines[history]'"
        ) from error

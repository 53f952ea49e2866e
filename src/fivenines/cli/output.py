"""What all commands share: where output goes, how it looks, and how an error is told."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Annotated, Any, Literal, NoReturn

import msgspec
import structlog
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = [
    "DATA",
    "JSON",
    "URL",
    "CommandFailedError",
    "bar",
    "configure_logs",
    "counted",
    "errors",
    "fail",
    "figures_table",
    "out",
    "print_json",
    "telling_errors",
]

# Account ids are full of colons, `berka:bank:AB`, and none of them is a picture of a bank.
out = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)
_logs_are_json = False

DATA = Annotated[
    str,
    typer.Option(
        "--data", metavar="DIR", help="The folder of the node's journal and snapshots.", envvar="FIVENINES_DATA_DIR"
    ),
]
URL = Annotated[
    str,
    typer.Option(
        "--url", help="The ledger to talk to; several, with commas, are tried in turn.", envvar="FIVENINES_URL"
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


class CommandFailedError(Exception):
    """A command cannot do what was asked; the message says why, `hint` what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def print_json(content: Any) -> None:
    """Print one JSON object on one line."""
    sys.stdout.write(msgspec.json.encode(content).decode() + "\n")
    sys.stdout.flush()


def figures_table(title: str, width: int, *columns: str, wraps: bool = False) -> Table:
    """Make a table of which the first column is text and the others are numbers.

    Args:
        title: what stands above it.
        width: in characters, of all of it.
        columns: their headings.
        wraps: whether text that is too long for the first column goes on in the next line; else it is cut short.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        width=width,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for number, name in enumerate(columns):
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(name, justify=justify, no_wrap=number > 0 or not wraps, ratio=None if number else 1)
    return table


def fail(message: str, hint: str = "") -> NoReturn:
    """Tell an error, as a log event where logs are JSON, and end the process with status 1."""
    if _logs_are_json:
        structlog.get_logger("fivenines").error("failed", reason=message, hint=hint)
        raise typer.Exit(1)
    errors.print(Text.assemble(("error:", "bold red"), " ", message), soft_wrap=True)
    if hint:
        errors.print(Text.assemble(("hint:", "dim"), " ", hint), soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def telling_errors() -> Iterator[None]:
    """Turn `CommandFailedError` into a line on stderr and exit status 1."""
    try:
        yield
    except CommandFailedError as error:
        fail(str(error), error.hint)


@contextmanager
def bar(label: str, *, quiet: bool) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar with rate and time left, where stderr is a terminal.

    It is told what is being done, how much of it is, and of how much, or None where nobody knows.
    """
    shown = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        redirect_stdout=False,  # results go where they were sent, not to the terminal beside the bar
        disable=quiet or not errors.is_terminal,
    )
    task = shown.add_task(label, total=None, rate="")
    began = time.perf_counter()

    def advance(what: str, done: int, total: int | None) -> None:
        rate = done / max(0.001, time.perf_counter() - began)
        shown.update(task, description=what, completed=done, total=total, rate=f"{rate:,.0f}/s")

    with shown:
        yield advance


def counted(count: int, what: str) -> str:
    """Say how many of something there are: 1 frame, 1,200 frames."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def configure_logs(*, as_json: bool) -> None:
    """Send events to stderr: one JSON object a line for programs, aligned text for people.

    What libraries log, asyncio and uvicorn among them, what Python warns of and what nobody caught look the same, so a
    program that reads JSON finds nothing else. A name `logger` in an event is that of a library.
    """
    global _logs_are_json
    _logs_are_json = as_json
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        *([structlog.processors.format_exc_info] if as_json else []),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    if as_json:
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_in_thread
        sys.unraisablehook = _log_unraisable


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("fivenines").critical("uncaught", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    trouble = found.exc_value or found.exc_type()
    logging.getLogger("fivenines").critical(
        "uncaught in a thread", exc_info=(found.exc_type, trouble, found.exc_traceback)
    )


def _log_unraisable(found: "sys.UnraisableHookArgs") -> None:
    trouble = found.exc_value or found.exc_type()
    logging.getLogger("fivenines").error(
        found.err_msg or "uncaught where nothing can be raised", exc_info=(found.exc_type, trouble, found.exc_traceback)
    )

"""The command `fivenines`: reads what was asked, builds the parts, runs them, and tells a person what came of it.

One file for each group of commands; `output` holds what they share. Results go to stdout, as text for people or with
`--json` as one JSON object for programs; progress, logs and errors go to stderr. An error that a user can mend is one
line that says what is wrong and what to do, with exit status 1; wrong usage is exit status 2.
"""

import sys
from typing import Annotated

import typer

from fivenines import __version__
from fivenines.cli.archive import register as register_archive
from fivenines.cli.bench import register as register_bench
from fivenines.cli.books import register as register_books
from fivenines.cli.control import register as register_control
from fivenines.cli.data import register as register_data
from fivenines.cli.drill import register as register_drill
from fivenines.cli.functions import register as register_functions
from fivenines.cli.history import register as register_history
from fivenines.cli.names import register as register_names
from fivenines.cli.output import out
from fivenines.cli.plan import register as register_plan
from fivenines.cli.rules import register as register_rules
from fivenines.cli.serve import register as register_serve
from fivenines.cli.simulate import register as register_simulate
from fivenines.cli.status import register as register_status
from fivenines.cli.up import register as register_up

__all__ = ["app", "main"]

app = typer.Typer(
    name="fivenines",
    help="Money that never stops moving: a double-entry ledger, and the platform that keeps it up.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for register in (
    register_up,
    register_plan,
    register_simulate,
    register_status,
    register_control,
    register_names,
    register_serve,
    register_books,
    register_data,
    register_rules,
    register_archive,
    register_history,
    register_functions,
    register_bench,
    register_drill,
):
    register(app)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        out.print(f"fivenines {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """Begin any command."""


def main() -> None:
    """Run the command line."""
    if sys.flags.optimize:
        # Assertions are what stops a replica that has gone wrong; without them it would go on and serve.
        sys.exit("fivenines: refuses to run under python -O or PYTHONOPTIMIZE: its assertions are part of it")
    app()

"""`fivenines rules`: by which rules a ledger decides, and how newer ones come in force."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fivenines.cli.output import JSON, URL, CommandFailedError, out, print_json, telling_errors

__all__ = ["register"]

_DEFAULT_URL = "http://127.0.0.1:9959"
_ANSWER_S_MAX = 10.0
_SHOW_EXAMPLES = """
[bold]Examples[/]

  fivenines rules show                        which rules are in force, and which node can run which
"""
_ACTIVATE_EXAMPLES = """
[bold]Examples[/]

  fivenines rules activate 2                  when the last node is of the new release
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    rules = typer.Typer(help="Show the rules in force, and put newer ones in force.", no_args_is_help=True)
    rules.command(epilog=_SHOW_EXAMPLES)(show)
    rules.command(epilog=_ACTIVATE_EXAMPLES)(activate)
    app.add_typer(rules, name="rules")


def show(url: URL = _DEFAULT_URL, json: JSON = False) -> None:
    """Show which rules are in force, and which node can run which."""
    from fivenines.client import Ledger, LedgerError

    with telling_errors():
        try:
            with Ledger(*url.split(","), deadline_s=_ANSWER_S_MAX) as ledger:
                found = ledger.platform()
        except (LedgerError, ValueError) as error:
            raise CommandFailedError(str(error)) from error
    nodes = [(node.name, node.version, node.rules) for node in found.nodes]
    if not nodes:
        nodes = [(found.node or "the only node", found.version, found.runs_rules)]
    if json:
        rows = [{"node": name, "version": version, "runs": runs} for name, version, runs in nodes]
        print_json({"in_force": found.rules, "position": found.position, "nodes": rows})
        return
    out.print(f"rules [bold]{found.rules}[/] are in force, at position {found.position:,}")
    table = Table("node", "release", "can run rules")
    for name, version, runs in nodes:
        table.add_row(Text(name), version, ", ".join(map(str, runs)))
    out.print(table)


def activate(
    version: Annotated[int, typer.Argument(help="The version of the rules.", min=1)],
    url: URL = _DEFAULT_URL,
    json: JSON = False,
) -> None:
    """Put newer rules in force, from the next frame on, on all nodes at the same position.

    Refused while any node that was heard of lately cannot run them. There is no way back.
    """
    from fivenines.client import Ledger, LedgerError

    with telling_errors():
        try:
            with Ledger(*url.split(","), deadline_s=_ANSWER_S_MAX) as ledger:
                done = ledger.activate_rules(version)
        except (LedgerError, ValueError) as error:
            raise CommandFailedError(
                str(error), hint="'fivenines rules show' tells which node can run which"
            ) from error
    if json:
        print_json({"in_force": done.version, "position": done.position})
    else:
        out.print(f"rules [bold]{done.version}[/] are in force, since position {done.position:,} at the latest")

"""`fivenines history`: history in SQL moves to a new version of its tables, while the old one serves."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fivenines.cli.output import JSON, CommandFailedError, configure_logs, out, print_json, telling_errors

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["check_database", "register"]

_EXAMPLES = """
[bold]Examples[/]

  fivenines history versions --sql postgresql://books@db/history
  fivenines history build 2                   the historian fills version 2 beside version 1, which serves on
  fivenines history compare 1 2               rows, sums and samples, and every account's totals
  fivenines history switch 2                  at once, for all; 'switch 1' leads back
  fivenines history retire 1                  when nobody wants to go back any more
"""

SqlOption = Annotated[
    str, typer.Option("--sql", metavar="URL", help="The database of the history.", envvar="FIVENINES_SQL")
]
VersionArgument = Annotated[int, typer.Argument(help="A version of the tables.", min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    history = typer.Typer(help="Move history in SQL to new tables while it serves.", no_args_is_help=True)
    for command in (versions, build, compare, switch, retire):
        history.command(epilog=_EXAMPLES)(command)
    app.add_typer(history, name="history")


def versions(sql: SqlOption, json: JSON = False) -> None:
    """Show which versions there are, which one serves, and how far each is."""
    configure_logs(as_json=json)
    with telling_errors(), _telling() as open_engine:
        from fivenines.historian.sql import LATEST, projections

        found = projections(open_engine(sql))
    rows = [{"version": each.version, "status": each.status, "position": each.position} for each in found]
    if json:
        print_json({"versions": rows, "latest": LATEST})
        return
    table = Table("version", "status", "position")
    for each in found:
        table.add_row(str(each.version), each.status, f"{each.position:,}")
    out.print(table)
    out.print(f"this release knows versions up to {LATEST}")


def build(version: VersionArgument, sql: SqlOption, json: JSON = False) -> None:
    """Make the tables of a version. A running historian fills them, from the beginning of history on."""
    configure_logs(as_json=json)
    with telling_errors(), _telling() as open_engine:
        from fivenines.historian.sql import VERSIONS, install

        if version not in VERSIONS:
            raise CommandFailedError(f"this release has no version {version}: it knows {', '.join(map(str, VERSIONS))}")
        found = install(open_engine(sql), version)
    _tell({"version": found.version, "status": found.status, "position": found.position}, json=json)


def compare(old: VersionArgument, new: VersionArgument, sql: SqlOption, json: JSON = False) -> None:
    """Hold two versions against each other; the new one may be switched to when they agree. Exit status 1 if not."""
    configure_logs(as_json=json)
    with telling_errors(), _telling() as open_engine:
        from fivenines.historian.sql import compare as compare_versions

        found = compare_versions(open_engine(sql), old, new)
    facts: dict[str, Any] = {
        "equal": found.is_equal,
        "position": found.position,
        "rows": {name: list(both) for name, both in found.counts.items()},
        "moved": {asset: [str(each) for each in both] for asset, both in found.sums.items()},
        "accounts": found.accounts,
        "samples": found.samples,
        "differences": found.differences,
    }
    _tell(facts, json=json)
    if not found.is_equal:
        raise typer.Exit(1)


def switch(version: VersionArgument, sql: SqlOption, json: JSON = False) -> None:
    """Have a version answer from now on; the one before is kept up, so that the way back is open."""
    configure_logs(as_json=json)
    with telling_errors(), _telling() as open_engine:
        from fivenines.historian.sql import switch as switch_to

        switch_to(open_engine(sql), version)
    _tell({"active": version}, json=json)


def retire(version: VersionArgument, sql: SqlOption, json: JSON = False) -> None:
    """Drop the tables of a version that does not serve."""
    configure_logs(as_json=json)
    with telling_errors(), _telling() as open_engine:
        from fivenines.historian.sql import retire as retire_version

        retire_version(open_engine(sql), version)
    _tell({"retired": version}, json=json)


def _tell(facts: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        out.print(Text(f"{name:<12} {value}"), soft_wrap=True)


def check_database(url: str | None) -> None:
    """Refuse what `--sql` must not be. Raises `CommandFailedError`."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        is_known = make_url(url or "").get_backend_name() in {"sqlite", "postgresql"}
    except ArgumentError:
        is_known = False
    if not is_known:
        raise CommandFailedError(
            f"--sql: {url!r} names no database", hint="it looks like sqlite:///FILE or postgresql://USER@HOST/NAME"
        )


class _telling:  # noqa: N801 - it reads like `telling_errors`
    """Give what opens a database, and turn what goes wrong with it into `CommandFailedError`."""

    def __enter__(self) -> "Any":
        try:
            from fivenines.historian.sql import open_engine
        except ImportError as error:
            raise CommandFailedError(
                f"history needs what is not installed: {error.name}", hint="pip install 'fivenines[history]'"
            ) from error

        def opened(url: str) -> "Engine":
            check_database(url)
            return open_engine(url)

        return opened

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        from fivenines.historian.sql import SqlHistoryError

        if isinstance(error, SqlHistoryError):
            raise CommandFailedError(str(error)) from error

"""`python -m fivenines.drill.reporting drills-full.json --out DIR`: writes the report anew from its JSON."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from fivenines.drill.reporting import ReportUnreadableError, print_results, read, write_report

__all__ = ["main"]


def main(
    file: Annotated[Path, typer.Argument(help="What a drill wrote: drills-full.json.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("build"),
) -> None:
    """Write the report of some drills anew from its JSON. Exits with 1 where it cannot be read or written."""
    console = Console(stderr=True)
    try:
        report = read(file)
        paths = write_report(report, out)
    except (ReportUnreadableError, OSError) as error:
        console.print(Text(f"{file}: {error}"))
        raise typer.Exit(1) from None
    print_results(report.results)
    for path in paths:
        console.print(Text(str(path)))


if __name__ == "__main__":
    typer.run(main)

"""The command line: `python -m bench`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.catalogue import BENCHMARKS, FIGURES, RATIOS
from bench.harness import Benchmark, Summary, measure, ratios_of, runs_of, select
from bench.machine import describe_machine
from bench.processes import BenchError, leave_on_sigterm, work_folder
from bench.report import print_table, write_json

BUILD = Path(__file__).parents[1] / "build"
WIDTH_IN_FILES = 160
SECONDS = 5.0
SECONDS_QUICK = 1.0


def main(
    only: Annotated[list[str] | None, typer.Option(help="A benchmark or a figure; may be given several times.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each benchmark, of which the median counts.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="One short run of each: shows that it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead of a table.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List what there is, and measure nothing.")] = False,
    output: Annotated[Path, typer.Option(help="Where the figures are written.")] = BUILD / "bench.json",
) -> None:
    """Measure fivenines and its peers on this machine: medians, in one table.

    For instance: `python -m bench --only durable_per_s --only postgres_set_per_s --runs 3`
    """
    leave_on_sigterm()
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(stderr=as_json, width=WIDTH_IN_FILES)
    if show_list:
        for name, figure in FIGURES.items():
            console.print(f"[bold]{name}[/] [dim]({figure.unit})[/] {figure.meaning}", highlight=False, soft_wrap=True)
        return
    try:
        chosen = select(BENCHMARKS, only or [])
        with work_folder(BUILD) as work:
            machine = describe_machine(work)
            measured, failures = measure_all(chosen, runs=1 if quick else runs, quick=quick, work=work)
    except BenchError as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        raise typer.Exit(1) from error
    measured |= ratios_of(RATIOS, measured)
    write_json(output, machine, measured)
    if as_json:
        sys.stdout.buffer.write(output.read_bytes())
    else:
        print_table(console, machine, FIGURES, measured)
    for failure in failures:
        console.print(f"[red]{escape(failure)}[/]", highlight=False)
    if failures:
        raise typer.Exit(1)


def measure_all(chosen: list[Benchmark], *, runs: int, quick: bool, work: Path) -> tuple[dict[str, Summary], list[str]]:
    """Measure one benchmark after another, with progress on standard error; return figures and failures.

    A benchmark that fails gives no figures and leaves those of the others alone.
    """
    failures: list[str] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    measured: dict[str, Summary] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(runs_of(benchmark, runs) for benchmark in chosen))
        for benchmark in chosen:
            progress.update(task, description=benchmark.name)
            try:
                measured |= measure(
                    benchmark,
                    runs=runs,
                    work=work,
                    seconds=SECONDS_QUICK if quick else SECONDS,
                    quick=quick,
                    on_run=lambda: progress.advance(task),
                )
            except BenchError as error:
                failures.append(f"{benchmark.name}: {error}")
    return measured, failures


if __name__ == "__main__":
    typer.run(main)

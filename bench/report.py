"""How the figures are shown and kept."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.harness import Figure, Summary
from bench.machine import Machine

__all__ = ["machine_line", "print_table", "write_json"]


def print_table(
    console: Console, machine: Machine, figures: Mapping[str, Figure], measured: Mapping[str, Summary]
) -> None:
    """Print the machine and one row a figure."""
    console.print(machine_line(machine), highlight=False, emoji=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("figure", no_wrap=True)
    table.add_column("what")
    for heading in ("median", "min", "max", "runs", "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for name, summary in measured.items():
        figure = figures[name]
        style = {None: "", True: "green", False: "red"}[figure.is_met(summary.median)]
        values = [shown(value) for value in (summary.median, summary.min, summary.max)]
        values[0] = f"[{style or 'bold'}]{values[0]}[/]"
        table.add_row(name, Text(figure.meaning), *values, str(summary.runs), goal_of(figure), summary.unit)
    console.print(table)


def machine_line(machine: Machine) -> str:
    """Describe the machine, in rich's markup."""
    programs = f"{machine.python}, {machine.etcd}, {machine.postgres}, {machine.wrk}"
    return (
        f"\n[bold]{escape(machine.cpu)}[/], {machine.cores} cores, {machine.memory_gib} GiB, {escape(machine.kernel)},"
        f" {escape(machine.filesystem)} (64 KiB written and synced in {machine.sync_ms} ms), {escape(programs)};"
        f" load average before: {machine.load_average}"
    )


def shown(value: float) -> str:
    """Write a figure for people."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}"


def goal_of(figure: Figure) -> str:
    """Write a goal for people."""
    if figure.goal is None:
        return ""
    return f"{'<=' if figure.less_is_better else '>='} {shown(figure.goal)}"


def write_json(output: Path, machine: Machine, measured: Mapping[str, Summary]) -> None:
    """Write the figures to `output`, and the machine beside it: `bench.json` and `bench.machine.json`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    for path, content in ((output, measured), (output.with_suffix(".machine.json"), machine)):
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")

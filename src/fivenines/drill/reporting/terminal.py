"""Drills as a table for the terminal: a row for each, what is wrong below, and one line that sums up."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fivenines.drill.reporting import figures
from fivenines.drill.reporting.markup import shown
from fivenines.drill.reporting.summary import summarize
from fivenines.drill.results import DrillResult, Verdict

__all__ = ["print_results", "table"]

_LOOKS: dict[Verdict, tuple[str, str]] = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "stopped": ("■", "bold red"),
    "refused": ("–", "yellow"),
    "skipped": ("–", "dim"),
}


def table(results: Sequence[DrillResult]) -> Group:
    """Make the table. Texts of drills are never read as markup of the terminal."""
    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)
    rows.add_column("drill", overflow="fold", min_width=23)  # nothing of the catalogue is longer
    rows.add_column("verdict", no_wrap=True)
    for head in ("failed", "lost", "doubled", "pause", "recovery", "budget"):
        rows.add_column(head, justify="right", no_wrap=True)
    for each in results:
        sign, style = _LOOKS[each.verdict]
        recoveries = [one.recovery_s for one in each.recoveries if one.recovery_s is not None]
        rows.add_row(
            Text(shown(each.name)),
            Text(f"{sign} {each.verdict}", style),
            *(_wrong(value) for value in (each.failed_requests, each.lost, each.doubled)),
            figures.seconds(each.longest_pause_s),
            figures.seconds(max(recoveries, default=None)),
            figures.seconds(each.budget_s),
        )
    return Group(rows, *_troubles(results), _sum(results))


def print_results(results: Sequence[DrillResult], console: Console | None = None) -> None:
    """Print the table."""
    (console or Console()).print(table(results))


def _wrong(value: int) -> Text:
    return Text(f"{value:,}", "bold red" if value else "")


def _troubles(results: Sequence[DrillResult]) -> list[Padding | Text]:
    lines: list[Padding | Text] = []
    for each in results:
        if each.verdict == "passed" and not each.findings:
            continue
        lines.append(Text.assemble((shown(each.name), "bold"), f" {each.verdict}"))
        lines += [Padding(Text(shown(reason)), (0, 0, 0, 2)) for reason in each.reasons]
        for finding in each.findings:
            lines.append(Padding(Text(shown(f"{finding.kind}: {finding.what}"), "red"), (0, 0, 0, 2)))
            lines += [Padding(Text(shown(line), "dim"), (0, 0, 0, 4)) for line in finding.history]
    return [*lines, Text()] if lines else []


def _sum(results: Sequence[DrillResult]) -> Text:
    summary = summarize(results)
    kept = sum(each.state == "kept" for each in summary.guarantees)
    told = ", ".join(f"{number} {verdict}" for verdict, number in summary.verdicts.items() if number)
    style = {"passed": "bold green", "failed": "bold red", "incomplete": "bold yellow"}[summary.verdict]
    return Text.assemble(
        (summary.verdict, style),
        f": {figures.count(summary.drills, 'drill')}{f' ({told})' if told else ''}, ",
        f"{kept} of {len(summary.guarantees)} guarantees shown to be kept; ",
        f"{figures.count(summary.failed_requests)} failed of {figures.count(summary.requests, 'request')}, ",
        f"{summary.lost:,} lost, {summary.doubled:,} doubled, {summary.reordered:,} reordered; ",
        f"longest pause {figures.seconds(summary.longest_pause_s)}, budget {figures.seconds(summary.budget_s)}",
    )

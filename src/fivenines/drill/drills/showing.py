"""How drills look in a terminal: what goes on now, a line for each that has ended, and a table of all at the end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fivenines.drill.drills.choosing import SHORT
from fivenines.drill.drills.days import Standing
from fivenines.drill.drills.guarding import Harm
from fivenines.drill.drills.reading import Drill
from fivenines.drill.results import DrillResult, Verdict

__all__ = ["Shown", "catalogue_table", "days_table", "is_good", "span", "verdict_line"]

WIDTH = 100
"""Tables are no wider than this, nor than the terminal."""
_STYLES: dict[Verdict, str] = {
    "passed": "green",
    "failed": "bold red",
    "stopped": "bold red",
    "refused": "yellow",
    "skipped": "yellow",
}
_MARKS: dict[Verdict, str] = {"passed": "●", "failed": "✗", "stopped": "✗", "refused": "○", "skipped": "○"}
_REASONS_SHOWN = 4


class Shown:
    """Tells how drills go. Beside a live part in a terminal, all else is plain lines, for logs.

    Args:
        console: where to.
        quiet: whether nothing is told.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._drill: Drill | None = None
        self._place = ""
        self._step = ""
        self._began = time.monotonic()
        self._harm: Harm | None = None
        self._answered, self._worst_s = 0, 0.0
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it while a block runs."""
        if self._quiet or not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._picture, console=self._console, transient=True, refresh_per_second=8) as live:
            self._live = live
            yield
        self._live = None

    def begin(self, drill: Drill, number: int, count: int) -> None:
        """A drill begins."""
        self._drill, self._place = drill, f"{number} of {count}"
        self._began, self._harm, self._step = time.monotonic(), None, ""

    def step(self, text: str) -> None:
        """Something begins."""
        self._step = text
        if self._live is None and not self._quiet and self._drill is not None:
            after = f"{time.monotonic() - self._began:6.1f} s"
            self._console.print(Text.assemble((f"{after}  {self._drill.name}: {text}", "dim")), soft_wrap=True)

    def live(self, seen: Harm, answered: int, worst_s: float) -> None:
        """How clients fare so far."""
        self._harm, self._answered, self._worst_s = seen, answered, worst_s

    def end(self, result: DrillResult) -> None:
        """A drill has ended."""
        self._step, self._harm = "", None
        if not self._quiet:
            for line in verdict_line(result):
                self._console.print(line, soft_wrap=True)

    def _picture(self) -> RenderableType:
        if self._drill is None:
            return Text(self._step, style="dim")
        took = f"{time.monotonic() - self._began:5.1f} s"
        lines = [
            Text.assemble(("▶ ", "cyan"), (self._drill.said.title, "bold"), (f"  {self._place}", "dim")),
            Text.assemble("  ", (took, "dim"), "  ", (self._step, "cyan")),
        ]
        if (harm := self._harm) is not None:
            failed = (f"{harm.failed} failed", "bold red" if harm.failed else "green")
            lines.append(
                Text.assemble(
                    f"  {self._answered:,} answered, ",
                    failed,
                    f", longest {self._worst_s:.2f} s, budget used {harm.budget_s:.2f} s",
                )
            )
        return Group(*lines)


def is_good(results: Sequence[DrillResult]) -> bool:
    """Whether nothing has failed; a drill that this machine cannot do is no failure."""
    return all(each.verdict in {"passed", "skipped"} for each in results)


def verdict_line(result: DrillResult) -> Iterator[Text]:
    """Say what came of one drill."""
    style = _STYLES[result.verdict]
    line = Text.assemble((f"{_MARKS[result.verdict]} ", style), (f"{result.title}: ", ""), (result.verdict, style))
    if result.requests:
        line.append(
            f"  {result.requests:,} requests, {result.failed_requests} failed, {result.lost} lost, "
            f"longest {result.longest_pause_s:.2f} s",
            style="dim",
        )
    yield line
    style = "red" if result.verdict in {"failed", "stopped"} else "yellow"
    for reason in result.reasons[:_REASONS_SHOWN]:
        yield Text(f"    {reason}", style=style)
    if (more := len(result.reasons) - _REASONS_SHOWN) > 0:
        yield Text(f"    and {more} more", style=style)
    for finding in result.findings[:2]:
        for step in finding.history[:12]:
            yield Text(f"      {step}", style="dim")


def catalogue_table(drills: Sequence[Drill], console: Console) -> RenderableType:
    """Return a table of drills: what is done, and what for."""
    table = Table(box=box.SIMPLE_HEAD, width=min(WIDTH, console.width), pad_edge=False)
    table.add_column("drill", no_wrap=True)
    table.add_column("guarantees", ratio=1)
    table.add_column("bound", ratio=1)
    for each in drills:
        name = Text.assemble((each.name, "bold"), (" short" if SHORT in each.said.tags else "", "dim"))
        table.add_row(name, ", ".join(each.guarantees), each.ours.bound)
    return table


def days_table(standing: Sequence[Standing], console: Console, *, now: float) -> RenderableType:
    """Return a table of game days: when each was held, when it is due, and how well that was kept."""
    table = Table(box=box.SIMPLE_HEAD, width=min(WIDTH, console.width), pad_edge=False)
    for heading in ("game day", "every", "state", "held", "due", "kept", "last time"):
        table.add_column(heading, no_wrap=heading != "last time")
    styles = {"held": "green", "due": "yellow", "overdue": "bold red", "never held": "bold red"}
    for each in standing:
        counts = {verdict: each.verdicts.count(verdict) for verdict in dict.fromkeys(each.verdicts)}
        table.add_row(
            each.day.name,
            each.day.every,
            Text(each.state, style=styles[each.state]),
            f"{span(now - each.held_at)} ago" if each.held_at is not None else "",
            "now" if each.due_at is None else _when(each.due_at - now),
            "" if each.kept is None else f"{each.kept:.0%}",
            ", ".join(f"{count} {verdict}" for verdict, count in counts.items()),
        )
    return table


def _when(seconds: float) -> str:
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def span(seconds: float) -> str:
    """Say how long something is, in the largest unit that fits: 3 d, 5 h, 20 min."""
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"

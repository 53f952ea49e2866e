"""The journal's budget, for as long as asked: `python -m bench.budget --minutes 10`.

Frames of 64 KiB at full speed while the journal is trimmed, and each minute a row: what was written, how long it took,
what members take of memory and disk, and whether they elected a leader without need. It is a command of its own, since
nobody wants to wait for it in CI.
"""

import queue
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.harness import rounded
from bench.journal import FRAME_BYTES, MEMBER_MEMORY_MB_GOAL, frames_load, load_journal
from bench.load_journal import JournalPart
from bench.machine import Machine, describe_machine
from bench.members import cpu_s, database_mb, memory_mb, pids, raft_term, running_members
from bench.processes import BenchError, leave_on_sigterm, work_folder
from bench.report import machine_line
from fivenines.drill.members import Cluster

if TYPE_CHECKING:
    import subprocess

__all__ = ["Budget", "Minute", "judge"]

BUILD = Path(__file__).parents[1] / "build"
WARM_UP_S = 15.0
FRAMES_PER_S_GOAL = 500
LOOK_S = 0.5


class Minute(msgspec.Struct, frozen=True):
    """What came of a minute, or of another part of the time."""

    seconds: float
    frames_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    member_memory_mb: float
    """The most that a member had resident, looked at twice a second."""
    database_mb: float
    """The largest database file at the end."""
    elections: int
    """Raft terms that began: none is needed here."""
    failed: int
    """Appends that raised."""
    failure: str
    """What the last of them said."""
    members_cpu: float
    """Cores that the members took."""
    journal_cpu: float
    """Cores that the process with the journal took."""


class Goal(msgspec.Struct, frozen=True):
    """One line of the verdict."""

    what: str
    value: float
    goal: str
    is_met: bool


class Budget(msgspec.Struct, frozen=True):
    """All of it, as it is kept in `build/budget.json`."""

    machine: Machine
    frame_bytes: int
    heartbeat_ms: int
    election_ms: int
    minutes: list[Minute]
    verdict: list[Goal]


def judge(minutes: list[Minute]) -> list[Goal]:
    """Set what was measured against what the journal is to bear."""
    seconds = sum(minute.seconds for minute in minutes)
    frames_per_s = sum(minute.frames_per_s * minute.seconds for minute in minutes) / seconds
    memory = max(minute.member_memory_mb for minute in minutes)
    elections = sum(minute.elections for minute in minutes)
    failed = sum(minute.failed for minute in minutes)
    return [
        Goal(
            "frames a second, over all",
            rounded(frames_per_s),
            f">= {FRAMES_PER_S_GOAL}",
            frames_per_s >= FRAMES_PER_S_GOAL,
        ),
        Goal(
            "memory of a member at its most, MiB",
            rounded(memory),
            f"<= {MEMBER_MEMORY_MB_GOAL:,}",
            memory <= MEMBER_MEMORY_MB_GOAL,
        ),
        Goal("needless elections", elections, "0", elections == 0),
        Goal("failed appends", failed, "0", failed == 0),
    ]


@dataclass(slots=True)
class Watching:
    """What is looked at beside the load."""

    cluster: Cluster
    term: int
    members_cpu_s: float
    memory_mb: float = 0.0

    def look(self) -> None:
        """Look at the members' memory."""
        self.memory_mb = max(self.memory_mb, memory_mb(pids(self.cluster)))

    def close_minute(self, part: JournalPart) -> Minute:
        """Make a row, and begin the next one."""
        self.look()
        term, members_cpu_s = raft_term(self.cluster), cpu_s(pids(self.cluster))
        minute = Minute(
            seconds=round(part.seconds, 3),
            frames_per_s=rounded(part.per_s),
            p50_ms=rounded(part.p50_ms),
            p99_ms=rounded(part.p99_ms),
            max_ms=rounded(part.max_ms),
            member_memory_mb=rounded(self.memory_mb),
            database_mb=rounded(database_mb(self.cluster)),
            elections=term - self.term,
            failed=part.failed,
            failure=part.failure,
            members_cpu=rounded((members_cpu_s - self.members_cpu_s) / part.seconds),
            journal_cpu=rounded(part.cpu_s / part.seconds),
        )
        self.term, self.members_cpu_s, self.memory_mb = term, members_cpu_s, 0.0
        return minute


class Screen:
    """What people see: the rows so far, and how far it has come."""

    def __init__(self, minutes: float) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns)
        self._task = self._progress.add_task("warming up", total=minutes * 60)
        self._rows: list[Minute] = []

    def add(self, minute: Minute) -> None:
        """Show a row."""
        self._rows.append(minute)

    def advance(self, seconds: float) -> None:
        """Show how far it has come."""
        if seconds > 0:
            self._progress.update(self._task, completed=seconds, description="appending")

    def __rich__(self) -> RenderableType:
        return Group(table_of(self._rows), self._progress) if self._rows else self._progress


def measure(cluster: Cluster, *, minutes: float, parts: int, screen: Screen) -> list[Minute]:
    """Run the load, and make a row of each part of the time."""
    load = frames_load(cluster.endpoints, seconds=minutes * 60, parts=parts, warm_up_s=WARM_UP_S)
    came: queue.SimpleQueue[JournalPart] = queue.SimpleQueue()
    processes: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(1, "load") as threads:
        running = threads.submit(load_journal, load, on_start=processes.append, on_part=came.put)
        try:
            rows = follow(cluster, running, came, screen)
        finally:
            # An interrupted run must not leave the load behind; one that is over does not mind.
            for process in processes:
                process.terminate()
        running.result()
    return rows


def follow(
    cluster: Cluster, running: Future[list[JournalPart]], came: queue.SimpleQueue[JournalPart], screen: Screen
) -> list[Minute]:
    """Make rows as parts come, and look at the members meanwhile, until the load has ended."""
    begun = time.monotonic() + WARM_UP_S
    watching, rows = None, []
    while not running.done() or not came.empty():
        if watching is None and time.monotonic() >= begun:
            watching = Watching(cluster, raft_term(cluster), cpu_s(pids(cluster)))
        screen.advance(time.monotonic() - begun)
        try:
            part = came.get(timeout=LOOK_S)
        except queue.Empty:
            if watching is not None:
                watching.look()
            continue
        assert watching is not None
        rows.append(watching.close_minute(part))
        screen.add(rows[-1])
    return rows


def table_of(rows: list[Minute]) -> Table:
    """Lay the rows out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "minute",
        "frames/s",
        "MB/s",
        "p50 ms",
        "p99 ms",
        "worst ms",
        "member MiB",
        "database MiB",
        "elections",
        "failed",
        "cores: members",
        "journal",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    end_s = 0.0
    for row in rows:
        end_s += row.seconds
        table.add_row(
            f"{end_s / 60:.3g}",
            coloured(f"{row.frames_per_s:.0f}", is_good=row.frames_per_s >= FRAMES_PER_S_GOAL),
            f"{row.frames_per_s * FRAME_BYTES / 1e6:.1f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.max_ms:.0f}",
            coloured(f"{row.member_memory_mb:,.0f}", is_good=row.member_memory_mb <= MEMBER_MEMORY_MB_GOAL),
            f"{row.database_mb:.0f}",
            coloured(str(row.elections), is_good=row.elections == 0),
            coloured(str(row.failed), is_good=row.failed == 0),
            f"{row.members_cpu:.2f}",
            f"{row.journal_cpu:.2f}",
        )
    return table


def coloured(text: str, *, is_good: bool) -> str:
    """Mark a value that misses its goal."""
    return text if is_good else f"[red]{text}[/]"


def verdict_of(goals: list[Goal]) -> Table:
    """Lay the verdict out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for goal in goals:
        mark = "[green]met[/]" if goal.is_met else "[red]missed[/]"
        table.add_row(goal.what, f"[bold]{goal.value:,g}[/]", goal.goal, mark)
    return table


@contextmanager
def live(screen: Screen) -> Iterator[None]:
    """Show the screen on a terminal; elsewhere only the results are printed."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with Live(screen, console=console, transient=True, refresh_per_second=4):
        yield


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long; each minute is a row.")] = 10,
    heartbeat_ms: Annotated[int, typer.Option(min=1, help="The members' --heartbeat-interval.")] = 20,
    election_ms: Annotated[int, typer.Option(min=10, help="The members' --election-timeout.")] = 200,
    output: Annotated[Path, typer.Option(help="Where the figures are written.")] = BUILD / "budget.json",
) -> None:
    """Write frames of 64 KiB to a journal in etcd for minutes, and see whether it stays within its budget."""
    leave_on_sigterm()
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    screen = Screen(minutes)
    try:
        with work_folder(BUILD) as work:
            machine = describe_machine(work)
            with (
                running_members(work, heartbeat_ms=heartbeat_ms, election_ms=election_ms) as cluster,
                live(screen),
            ):
                rows = measure(cluster, minutes=minutes, parts=max(1, round(minutes)), screen=screen)
    except BenchError as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        raise typer.Exit(1) from error
    budget = Budget(machine, FRAME_BYTES, heartbeat_ms, election_ms, rows, judge(rows))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(budget), indent=2) + b"\n")
    console.print(machine_line(machine), highlight=False, emoji=False)
    console.print(table_of(rows), verdict_of(budget.verdict), sep="\n\n")


if __name__ == "__main__":
    typer.run(main)

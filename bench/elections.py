"""How heartbeat and election times were chosen: `python -m bench.elections`, a row for each pair.

Short times make the pause short when a leader dies; too short ones make members elect a leader although the old one is
well, whenever the machine has no time for it. So each pair is measured in both ways: the leader is killed, again and
again; and the journal is written at full speed, alone and beside processes that take all of the machine they can get.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from bench.journal import frames_load, load_journal
from bench.kills import kill_leaders
from bench.machine import describe_machine
from bench.members import raft_term, running_members
from bench.processes import BenchError, leave_on_sigterm, work_folder
from bench.report import machine_line
from fivenines.drill.members import Cluster

__all__ = ["Row"]

BUILD = Path(__file__).parents[1] / "build"
PAIRS = "15/150,20/200,25/250,30/300,50/500"
BURN = "while True: pass"


class Row(msgspec.Struct, frozen=True):
    """What came of a pair of times."""

    heartbeat_ms: int
    election_ms: int
    gap_median_s: float
    """Between two acknowledged writes, when the leader was killed."""
    gap_worst_s: float
    load_s: float
    """How long each load was."""
    elections_loaded: int
    """At full speed."""
    elections_starved: int
    """At full speed, beside others that want all of the machine."""
    failed: int
    """Appends that raised, in all."""


@contextmanager
def burning(count: int) -> Iterator[None]:
    """Run processes that take all they can get, for as long as the block lasts."""
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", BURN])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def measure(folder: Path, *, heartbeat_ms: int, election_ms: int, kills: int, seconds: float, burners: int) -> Row:
    """Measure a pair."""
    with running_members(folder, heartbeat_ms=heartbeat_ms, election_ms=election_ms) as cluster:
        killed = kill_leaders(cluster, kills=kills)
        loaded, failed_loaded = elections_under_load(cluster, seconds)
        with burning(burners):
            starved, failed_starved = elections_under_load(cluster, seconds)
    return Row(
        heartbeat_ms,
        election_ms,
        round(killed.median_s, 3),
        round(killed.worst_s, 3),
        seconds,
        loaded,
        starved,
        len(killed.failed) + failed_loaded + failed_starved,
    )


def elections_under_load(cluster: Cluster, seconds: float) -> tuple[int, int]:
    """Write at full speed; return how many terms began, and how many appends failed."""
    before = raft_term(cluster)
    parts = load_journal(frames_load(cluster.endpoints, seconds=seconds, parts=1, warm_up_s=1.0))
    return raft_term(cluster) - before, sum(part.failed for part in parts)


def table_of(rows: list[Row]) -> Table:
    """Lay the rows out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "heartbeat/election ms",
        "pause median s",
        "worst s",
        "load s",
        "elections loaded",
        "starved",
        "failed appends",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.heartbeat_ms}/{row.election_ms}",
            f"{row.gap_median_s:.2f}",
            f"{row.gap_worst_s:.2f}",
            f"{row.load_s:.0f}",
            str(row.elections_loaded),
            str(row.elections_starved),
            str(row.failed),
        )
    return table


def main(
    pairs: Annotated[str, typer.Option(help="Pairs of heartbeat and election times in milliseconds.")] = PAIRS,
    kills: Annotated[int, typer.Option(min=1, help="How often the leader is killed.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="How long each load is.")] = 60,
    burners: Annotated[int, typer.Option(min=0, help="Processes that starve the members.")] = 4,
    output: Annotated[Path, typer.Option(help="Where the figures are written.")] = BUILD / "elections.json",
) -> None:
    """Measure the pause when a leader dies against elections that nobody needed."""
    leave_on_sigterm()
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    rows: list[Row] = []
    try:
        with work_folder(BUILD) as work, Progress(console=Console(stderr=True), transient=True) as progress:
            machine = describe_machine(work)
            for pair in progress.track(pairs.split(","), description="measuring"):
                heartbeat_ms, election_ms = map(int, pair.split("/"))
                rows.append(
                    measure(
                        work / pair.replace("/", "-"),
                        heartbeat_ms=heartbeat_ms,
                        election_ms=election_ms,
                        kills=kills,
                        seconds=seconds,
                        burners=burners,
                    )
                )
    except BenchError as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        raise typer.Exit(1) from error
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows}), indent=2) + b"\n")
    console.print(machine_line(machine), highlight=False, emoji=False)
    console.print(table_of(rows))


if __name__ == "__main__":
    typer.run(main)

"""`make bench-failover`: our platform and PostgreSQL with Patroni, side by side, under the same load and faults."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.failover.figures import FAULTS, GOAL_RATIO, Fault, Report, Summary, ratio, troubles_of
from bench.failover.ours import Ours
from bench.failover.peer import Patroni, why_no_peer
from bench.failover.sweeping import swept
from bench.failover.trials import Candidate, Outcome, carry_out
from bench.machine import Machine, describe_machine
from bench.processes import BenchError, work_folder
from bench.report import machine_line
from fivenines.platform.local.isolation import why_not

__all__: list[str] = []

BUILD = Path(__file__).parents[2] / "build"
WIDTH_IN_FILES = 160
NETWORK = 71
PEER_NETWORK = 72
MEANING: dict[Fault, str] = {
    "process_killed": "process killed",
    "host_cut_off": "host cut off",
    "process_killed_failover": "process killed, failover",
    "node_killed": "node killed",
}


def report_of(outcomes: Mapping[str, Outcome], machine: Machine, *, rate_per_s: float) -> Report:
    """Put together what is written."""
    ours = outcomes["fivenines"].summaries if "fivenines" in outcomes else {}
    peers = outcomes["patroni"].summaries if "patroni" in outcomes else {}
    beside: dict[Fault, Fault] = {fault: fault for fault in FAULTS} | {"process_killed_failover": "process_killed"}
    ratios = {
        fault: ratio(ours[of_ours], peers[fault])
        for fault, of_ours in beside.items()
        if of_ours in ours and fault in peers
    }
    return Report(
        fivenines=ours,
        patroni=peers,
        ratios=ratios,
        troubles=troubles_of(ours, ratios),
        rate_per_s=rate_per_s,
        calm_p50_ms={name: each.calm_p50_ms for name, each in outcomes.items()},
        versions={key: value for each in outcomes.values() for key, value in each.versions.items()},
        settings={name: each.settings for name, each in outcomes.items()},
        machine=machine,
    )


def table_of(report: Report) -> Table:
    """Lay the figures out."""
    table = Table(title="failover: what clients noticed", title_justify="left", title_style="bold")
    table.add_column("what happened", no_wrap=True)
    table.add_column("to", no_wrap=True)
    for heading in (
        "trials",
        "longest pause: median",
        "min",
        "max",
        "times ours",
        "failed",
        "first tries failed",
        "lost",
    ):
        table.add_column(heading, justify="right")
    for fault, meaning in MEANING.items():
        for name, summaries in (("fivenines", report.fivenines), ("patroni", report.patroni)):
            if (summary := summaries.get(fault)) is not None:
                table.add_row(meaning, name, *_cells(summary, report.ratios.get(fault) if name == "patroni" else None))
    return table


def _cells(summary: Summary, times: float | None) -> list[str]:
    pause = summary.longest_pause_s
    style = "green" if times is not None and times >= GOAL_RATIO else "yellow"
    return [
        str(summary.trials),
        f"[bold]{pause.median:.2f} s[/]",
        f"{pause.min:.2f} s",
        f"{pause.max:.2f} s",
        "" if times is None else f"[{style}]{times:g}[/]",
        f"{summary.failed_requests} of {summary.requests:,}",
        f"{summary.first_tries_failed:,}",
        f"[red]{summary.lost}[/]" if summary.lost else "0",
    ]


async def measure(
    candidates: Sequence[Callable[[Path], Candidate]],
    faults: Sequence[Fault],
    *,
    trials: int,
    rate_per_s: float,
    seed: int,
    work: Path,
    told: Callable[[str], None],
) -> dict[str, Outcome]:
    """Measure one candidate after the other; the first SIGINT or SIGTERM ends it in order, others do nothing."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    asked: list[int] = []

    def end() -> None:
        asked.append(1)
        if task is not None and len(asked) == 1:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    outcomes = {}
    for make in candidates:
        candidate = make(work)
        outcomes[candidate.name] = await carry_out(
            candidate,
            faults,
            trials=trials,
            rate_per_s=rate_per_s,
            seed=seed,
            log=work / f"load-{candidate.name}.log",
            told=told,
        )
    return outcomes


def main(
    trials: Annotated[int, typer.Option(min=1, help="How often each fault happens to each.")] = 3,
    rate: Annotated[float, typer.Option(min=1, help="Transfers a second.")] = 50.0,
    seed: Annotated[int, typer.Option(help="Chooses when faults begin, and which node is killed.")] = 1,
    only: Annotated[str | None, typer.Option(help="Measure fivenines or patroni alone.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="One of the faults; may be given several times.")] = None,
    output: Annotated[Path, typer.Option(help="Where the figures are written.")] = BUILD / "failover.json",
) -> None:
    """Measure how long clients wait, and what fails or is lost, when a process is killed or a host is cut off.

    Exits with 1 if one of our requests failed or anything acknowledged was lost, and where it could not be carried out.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH_IN_FILES)
    began = time.monotonic()

    def told(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {escape(text)}", soft_wrap=True)

    faults = [each for each in MEANING if fault is None or each in fault]
    makers: dict[str, Callable[[Path], Candidate]] = {
        "fivenines": lambda work: Ours(work / "fivenines", network=NETWORK, seed=seed),
        "patroni": lambda work: Patroni(work / "patroni", network=PEER_NETWORK),
    }
    reason = why_no_peer() if only != "fivenines" else why_not()
    if unknown := set(fault or ()) - set(MEANING) or {only} - {None, *makers}:
        reason = f"nothing is called {unknown.pop()!r}: there are {', '.join([*MEANING, *makers])}"
    if reason is not None:
        console.print(reason, style="bold red", markup=False)
        raise typer.Exit(2)
    try:
        with work_folder(BUILD) as work, swept(work, (NETWORK, PEER_NETWORK)):
            machine = describe_machine(work)
            console.print(machine_line(machine), emoji=False)
            chosen = [make for name, make in makers.items() if only in {None, name}]
            outcomes = asyncio.run(
                measure(chosen, faults, trials=trials, rate_per_s=rate, seed=seed, work=work, told=told)
            )
    except BenchError as error:
        console.print(str(error), style="bold red", markup=False)
        raise typer.Exit(1) from error
    except asyncio.CancelledError:
        console.print("stopped; nothing is left behind", style="bold red")
        raise typer.Exit(130) from None
    report = report_of(outcomes, machine, rate_per_s=rate)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    console.print(table_of(report))
    for trouble in report.troubles:
        console.print(trouble, style="yellow", markup=False)
    told(f"written to {output}")
    if any(summary.failed_requests or summary.lost for summary in report.fivenines.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

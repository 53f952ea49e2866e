"""`make events`: everything of the catalogue happens to a running platform, under a steady load, and nobody notices.

A platform is started on this machine, clients ask it through DNS at a steady rate, and one after the other each
disturbance of `disturb.CATALOGUE` happens. After each the platform has to become whole again by itself. What clients
noticed in the stretch from its beginning until then is told: failed requests, the longest that any request waited, the
seconds of the error budget. In the end the checker holds everything that was answered against the journal, every
node and every history.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from fivenines.drill.checker import Judgement, Stretch, gather, judge, stretch
from fivenines.drill.checker.gathering import SOMETHING_WRONG
from fivenines.drill.disturb import CATALOGUE, Disturbance, Happening
from fivenines.drill.drills.clients import plan_for
from fivenines.drill.load.running import LoadFailedError, RunningLoad
from fivenines.drill.running import PlatformFailedError, RunningPlatform
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.local.isolation import IsolationError, why_not

__all__ = ["Met", "disturb", "main", "print_met"]

_TROUBLES = (
    *(PlatformFailedError, LoadFailedError, AgentError, IsolationError),
    *SOMETHING_WRONG,
)
_SETTLE_S = 1.0
"""What was due just before a platform is whole again belongs to the disturbance, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """One disturbance, and what came of it."""

    happening: Happening
    noticed: Stretch
    whole_after_s: float
    """From its beginning until everything ran and every region served again."""


async def disturb(
    platform: RunningPlatform, load: RunningLoad, disturbance: Disturbance, chance: random.Random, rate_per_s: float
) -> Met:
    """Let one disturbance happen under a load of that rate, and wait until the platform is whole again.

    Raises:
        PlatformFailedError: it does not become so.
    """
    this = Happening(disturbance.name)
    began = time.monotonic()
    async with disturbance.happen(platform, chance, this):
        await asyncio.sleep(max(0.0, began + disturbance.hold_s - time.monotonic()))
    await platform.wait_whole()
    whole_after_s = time.monotonic() - began
    ended = time.monotonic() + _SETTLE_S
    await load.wait_ended(ended)
    return Met(
        happening=this,
        noticed=stretch(load.asked, began, ended, rate_per_s=rate_per_s),
        whole_after_s=whole_after_s,
    )


async def run_events(
    platform: RunningPlatform,
    disturbances: Sequence[Disturbance],
    *,
    rate_per_s: float,
    seed: int,
    told: Callable[[str], None],
) -> tuple[list[Met], Judgement]:
    """Start a platform, let everything happen, judge, and stop it. Raises as its parts do."""
    chance = random.Random(seed)
    await platform.start()
    told(f"the platform is ready after {platform.ready_s:.1f} s")
    load = RunningLoad(plan_for(platform.topology, rate_per_s=rate_per_s, seed=seed), platform.folder / "load.log")
    try:
        await load.start()
        told(f"{rate_per_s:g} requests a second, by {len(load.plan.nameservers)} clients that ask DNS")
        met = []
        for each in disturbances:
            found = await disturb(platform, load, each, chance, rate_per_s)
            met.append(found)
            told(_line(found))
        await load.stop()
        (platform.folder / "asked.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, load.asked)))
        return met, judge(await gather(platform, load.asked))
    finally:
        await load.discard()


def _line(met: Met) -> str:
    noticed = met.noticed
    facts = "".join(f", {name} {value:g}" for name, value in met.happening.facts.items())
    return (
        f"{met.happening.name} ({met.happening.target}): {noticed.failed} of {noticed.requests} failed, "
        f"longest {noticed.longest_pause_s:.2f} s, p99 {noticed.p99_ms:.0f} ms, "
        f"whole after {met.whole_after_s:.1f} s{facts}"
    )


def print_met(met: Sequence[Met], console: Console) -> None:
    """Tell what came of each disturbance."""
    table = Table(title="what clients noticed", title_justify="left", title_style="bold")
    table.add_column("what happened")
    table.add_column("to")
    for heading in ("requests", "failed", "longest", "p99", "budget", "whole"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in met:
        noticed = each.noticed
        table.add_row(
            each.happening.name,
            each.happening.target,
            f"{noticed.requests:,}",
            f"[red]{noticed.failed}[/]" if noticed.failed else "0",
            f"{noticed.longest_pause_s:.2f} s",
            f"{noticed.p99_ms:,.0f} ms",
            f"{noticed.budget_s:.2f} s",
            f"{each.whole_after_s:.1f} s",
        )
    console.print(table)


def main(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="One of the catalogue, by its name; may be repeated.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests a second.", min=1)] = 300.0,
    seed: Annotated[int, typer.Option(help="Chooses what is hit.")] = 1,
    netns: Annotated[
        bool, typer.Option("--netns/--no-netns", help="Regions in networks of their own, so that they can be cut off.")
    ] = why_not() is None,
    network: Annotated[int, typer.Option(help="See 'fivenines up'.", min=0, max=255)] = 0,
    out: Annotated[Path, typer.Option(help="The folder for events.json and the data.")] = Path("build"),
) -> None:
    """Let everything of the catalogue happen to a platform under load. Exits with 1 if anybody noticed."""
    console = Console(highlight=False)
    began = time.monotonic()

    def told(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {text}", soft_wrap=True)

    unknown = set(only or ()) - {each.name for each in CATALOGUE}
    if unknown:
        console.print(f"nothing is called {unknown.pop()!r}; there are: {', '.join(each.name for each in CATALOGUE)}")
        raise typer.Exit(2)
    chosen = [each for each in CATALOGUE if (not only or each.name in only) and (netns or not each.takes_netns)]
    if not netns:
        told(f"regions cannot be cut off: {why_not() or '--no-netns'}")
    options = ("--isolation", "netns") if netns else ()
    platform = RunningPlatform(out / "events", network=network, options=options)

    async def run() -> tuple[list[Met], Judgement]:
        try:
            found = await run_events(platform, chosen, rate_per_s=rate, seed=seed, told=told)
            await platform.stop()
            return found
        finally:
            await platform.discard()

    try:
        met, judgement = uvloop.run(run())
    except _TROUBLES as error:
        console.print(f"it could not be carried out: {error}", style="bold red", markup=False)
        raise typer.Exit(1) from error
    print_met(met, console)
    failed = sum(each.noticed.failed for each in met) or judgement.failed
    is_good = judgement.is_good and not failed
    console.print(
        f"{judgement.acknowledged:,} acknowledged, {failed} failed, {judgement.lost} lost, {judgement.doubled} "
        f"doubled, {judgement.reordered} reordered, {sum(judgement.counts.values())} findings",
        style="bold green" if is_good else "bold red",
    )
    if judgement.findings:
        console.print(str(judgement), style="red", markup=False)
    told_json = {"good": is_good, "verdict": judgement, "events": met}
    (out / "events.json").write_bytes(msgspec.json.format(msgspec.json.encode(told_json), indent=2) + b"\n")
    raise typer.Exit(0 if is_good else 1)


if __name__ == "__main__":
    typer.run(main)

"""`fivenines simulate`: years of operation of a `platform.yaml`, on virtual time, with the real controllers."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fivenines.cli.output import (
    JSON,
    CommandFailedError,
    bar,
    configure_logs,
    counted,
    figures_table,
    out,
    print_json,
    telling_errors,
)
from fivenines.cli.plan import read_declared

if TYPE_CHECKING:
    from fivenines.drill.simulator import Judged, Setting, WhatIf
    from fivenines.drill.simulator.judging import Bounded, Clients
    from fivenines.drill.simulator.living import Known

__all__ = ["register"]

WIDTH = 100
_CAUSES_SHOWN = 10
_OUTAGES_SHOWN = 5
_EXAMPLES = """
[bold]Examples[/]

  fivenines simulate                                      ./platform.yaml, a thousand years of it

  fivenines simulate platform.yaml --what-if              which one change would help most?

  fivenines simulate --rates mine.yaml --years 10000      with failure rates of your own

  fivenines simulate world.yaml --nodes 5000              as if each region had so many nodes
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog=_EXAMPLES)(simulate)


def simulate(
    file: Annotated[
        Path | None, typer.Argument(metavar="PLATFORM.YAML", help="What to simulate; default: ./platform.yaml.")
    ] = None,
    years: Annotated[int, typer.Option("--years", min=1, max=1_000_000, help="How many years.")] = 1_000,
    seed: Annotated[int, typer.Option("--seed", help="Of all chance: the same one, the same years.")] = 1,
    what_if: Annotated[bool, typer.Option("--what-if", help="Find the one change that would help most.")] = False,
    rates: Annotated[
        Path | None, typer.Option("--rates", help="Failure rates of your own, in the place of ours.")
    ] = None,
    end: Annotated[
        str, typer.Option("--end", help="Which end of the ranges of rates: low, middle or high.")
    ] = "middle",
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, help="As if each region with nodes had so many.")
    ] = None,
    canary: Annotated[bool, typer.Option("--canary", help="Releases go to one node first.")] = False,
    json: JSON = False,
    folder: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write simulate.json there, too.")] = None,
) -> None:
    """Live through years of operation: how available it is, what spends the budget, and what would help most."""
    configure_logs(as_json=json)
    with telling_errors():
        setting = _setting(file, rates, end, nodes, canary=canary)
        judged, better = _live(setting, seed, years, is_whatif=what_if, quiet=json)
        content = {**msgspec.to_builtins(judged), "what_if": msgspec.to_builtins(better)}
        if folder is not None:
            _write(folder, content)
    if json:
        print_json(content)
    else:
        _print(judged, better, is_whatif=what_if)


def _setting(file: Path | None, rates: Path | None, end: str, nodes: int | None, *, canary: bool) -> "Setting":
    declared = read_declared(file)
    from fivenines.drill.simulator import Setting, SettingError, calibration
    from fivenines.drill.simulator import rates as table

    if end not in {"low", "middle", "high"}:
        raise CommandFailedError(f"--end: {end!r} is none of low, middle, high")
    try:
        found = table.read(rates) if rates else table.built_in()
        return Setting(
            platform=declared.platform,
            rates=found.at(end),  # type: ignore[arg-type]
            calibration=calibration.built_in(),
            nodes_per_region=nodes,
            has_canary=canary,
        )
    except table.RatesError as error:
        raise CommandFailedError(str(error), hint="docs/simulator.md has every field") from error
    except SettingError as error:
        raise CommandFailedError(f"{declared.file}: {error}") from error


def _live(
    setting: "Setting", seed: int, years: int, *, is_whatif: bool, quiet: bool
) -> "tuple[Judged, tuple[WhatIf, ...]]":
    from fivenines.drill.simulator import judge, live, what_if

    with bar("years of operation", quiet=quiet) as advance:
        known: Known = {}

        def lived_on(year: int) -> None:
            advance("years of operation", year, years)

        lived = live(setting, seed, years, progress=lived_on, known=known)
        judged = judge(setting, lived, seed=seed)
        if not is_whatif:
            return judged, ()

        def tell(name: str, year: int) -> None:
            advance(f"what if: {name}", year, years)

        better = what_if(setting, lived, seed=seed, budget_s=judged.budget_s, progress=tell, known=known)
        return judged, better


def _write(folder: Path, content: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "simulate.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    except OSError as error:
        raise CommandFailedError(f"{folder}: {error.strerror}", hint="name a folder that can be written") from error


# --- tables -----------------------------------------------------------------------------------------------------------


def _print(judged: "Judged", better: "tuple[WhatIf, ...]", *, is_whatif: bool) -> None:
    width = min(WIDTH, out.width)
    title = Text.assemble(
        (judged.platform, "bold"),
        f"   {counted(judged.years, 'year')} of operation, {counted(judged.regions, 'region')}, "
        f"{counted(judged.nodes, 'node')}, seed {judged.seed}\n",
        (f"{judged.slo * 100:.10g} %", "bold"),
        f" leaves {judged.budget_s:,.1f} s a year. Bounds are at 95 %, and of chance alone: the rates are assumptions.",
    )
    parts = [title, Text(), _availability(judged, width), _causes(judged, width), _outages(judged, width)]
    parts += [_rare(judged), Text()]
    if better:
        parts += [_what_if(better, width), _best(better, width)]
    elif is_whatif:
        parts.append(Text("No change is possible."))
    for part in parts:
        out.print(part, width=width)


def _availability(judged: "Judged", width: int) -> Table:
    table = figures_table(
        "How available it is", width, "", "any client", "95 %", "with our library", "95 %", wraps=True
    )
    others, ours = judged.others, judged.ours

    def row(name: str, one: "Bounded", two: "Bounded", show: Callable[[float], str], unit: str) -> None:
        table.add_row(
            name,
            Text(f"{show(one.value)} {unit}", style="bold"),
            Text(f"{show(one.low)}-{show(one.high)}", style="dim"),
            Text(f"{show(two.value)} {unit}", style="bold"),
            Text(f"{show(two.low)}-{show(two.high)}", style="dim"),
        )

    row("all years", others.availability, ours.availability, _percent, "%")
    for name, text in (("p50", "half of years ≥"), ("p05", "19 in 20 ≥"), ("p01", "99 in 100 ≥")):
        row(text, others.availability_quantiles[name], ours.availability_quantiles[name], _percent, "%")
    row("lost a year", others.lost_s_a_year, ours.lost_s_a_year, "{:,.0f}".format, "s")
    row("years that meet it", others.years_that_meet_it, ours.years_that_meet_it, _share, "%")
    table.add_row("fail in a million", _failed(others), "", _failed(ours), "")
    return table


def _failed(clients: "Clients") -> str:
    return f"{clients.failed_per_million:,.2f}"


def _causes(judged: "Judged", width: int) -> Table:
    table = figures_table(
        "What spends the budget", width, "cause", "s a year", "95 %", "share", "", "our library", wraps=True
    )
    bar_width = 12 if width >= WIDTH else 5
    ours = {each.cause: each.seconds_a_year.value for each in judged.ours.causes}
    shown = judged.others.causes[:_CAUSES_SHOWN]
    for each in shown:
        found = each.seconds_a_year
        table.add_row(
            each.what,
            f"{found.value:,.2f}",
            Text(f"{found.low:,.1f} - {found.high:,.1f}", style="dim"),
            f"{each.share:.1%}",
            Text("█" * max(1 if each.share > 0.005 else 0, round(bar_width * each.share)), style="red"),
            f"{ours.get(each.cause, 0.0):,.2f}",
        )
    rest = judged.others.causes[_CAUSES_SHOWN:]
    if rest:
        table.add_row(
            Text(f"{len(rest)} more", style="dim"),
            f"{sum(each.seconds_a_year.value for each in rest):,.2f}",
            "",
            f"{sum(each.share for each in rest):.1%}",
            "",
            f"{sum(ours.get(each.cause, 0.0) for each in rest):,.2f}",
        )
    return table


def _outages(judged: "Judged", width: int) -> Table:
    from fivenines.drill.simulator.faults import YEAR_S

    names = {each.cause: each.what for each in judged.others.causes}
    table = figures_table("The worst", width, "why", "in year", "lasted", "lost", wraps=True)
    for each in judged.longest[:_OUTAGES_SHOWN]:
        table.add_row(
            "; ".join(names.get(cause, cause.replace("_", " ")) for cause in each.causes[:2]),
            f"{int(each.at_s // YEAR_S) + 1:,}",
            _long(each.lasted_s),
            _long(each.lost_s),
        )
    return table


def _rare(judged: "Judged") -> Text:
    return Text(
        f"The journal had no majority {judged.majority_lost_a_year:.4g} times a year, for "
        f"{judged.majority_lost_s_a_year:,.2f} s. In {judged.years:,} years no region was reachable "
        f"{counted(judged.everything_lost, 'time')}, and the disks of a majority were lost at once "
        f"{counted(judged.rpo_events, 'time')} "
        f"(then up to {judged.rpo_s_max:g} s of acknowledged writes are gone)."
    )


def _what_if(better: "tuple[WhatIf, ...]", width: int) -> Table:
    table = figures_table(
        "What if: seconds a year that one change would save, in the same years",
        width,
        *("change", "any client", "95 %", "our library", "95 %", "meets it"),
        wraps=True,
    )
    for each in better:
        style = "green" if each.saves_s.low > 0 else "red" if each.saves_s.high < 0 else "dim"
        table.add_row(
            each.what,
            Text(f"{each.saves_s.value:+,.1f}", style=style),
            Text(f"{each.saves_s.low:,.1f} - {each.saves_s.high:,.1f}", style="dim"),
            f"{each.saves_ours_s.value:+,.1f}",
            Text(f"{each.saves_ours_s.low:,.1f} - {each.saves_ours_s.high:,.1f}", style="dim"),
            f"{each.meets_it:.1%}",
        )
    return table


def _best(better: "tuple[WhatIf, ...]", width: int) -> Panel:
    best = next((each for each in better if each.saves_s.low > 0), None)  # the best in the mean may be luck
    text = best.sentence if best else "None of these changes is sure to save anything."
    return Panel(
        Text(text), title="the one change that helps most", title_align="left", width=width, border_style="green"
    )


def _percent(value: float) -> str:
    return f"{value * 100:.4f}"


def _share(value: float) -> str:
    return f"{value * 100:.1f}"


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"

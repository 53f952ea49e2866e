"""`fivenines drill load URL`: a load by hand, with what clients see while it runs, and percentiles at the end."""

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fivenines.cli.output import JSON, CommandFailedError, configure_logs, errors, out, print_json, telling_errors

if TYPE_CHECKING:
    from rich.table import Table

    from fivenines.drill.load.latencies import Latencies
    from fivenines.drill.load.plan import Plan
    from fivenines.drill.load.running import RunningLoad
    from fivenines.drill.load.shapes import Arrivals, Shape

__all__ = ["register"]

_LOOK_S = 0.25
_SECONDS = 30.0
_ERRORS_SHOWN = 5

_EXAMPLES = """
[bold]Examples[/]

  fivenines drill load http://127.0.0.1:9959 --rate 500 --seconds 10

  fivenines drill load http://127.0.0.1:9959 --shape flash-sale --rate 1000 --seconds 60 --arrivals poisson

  fivenines drill load http://api.bank.test --nameserver 127.0.1.1:5353,127.0.2.1:5353 --clients 4

  fivenines drill load http://127.0.0.1:9959 --trace spy --begin "2013-10-07 09:25:00" --lasts 600 --data DIR
"""


def register(app: typer.Typer) -> None:
    """Add the command to `fivenines drill`."""
    app.command("load", epilog=_EXAMPLES)(load)


def load(
    url: Annotated[str, typer.Argument(metavar="URL", help="The ledger, by its name or its address.")],
    shape: Annotated[
        str, typer.Option(help="steady, ramp, diurnal, market-open, flash-sale or spike.", show_default=True)
    ] = "steady",
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second: of a shape what its help says, of a trace its average. Default: 300."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long it takes.", min=0.001)] = _SECONDS,
    trace: Annotated[
        str | None, typer.Option(help="Replay a trace in the place of a shape: nasa, spy, azure-conv or azure-code.")
    ] = None,
    begin: Annotated[str | None, typer.Option(metavar="TIME", help="Where in the trace to begin.")] = None,
    lasts: Annotated[
        float | None, typer.Option(metavar="S", help="How many of its seconds to replay; default: to its end.")
    ] = None,
    highest: Annotated[
        float | None, typer.Option(help="The highest rate of the trace, in the place of --rate.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder with the traces.", envvar="FIVENINES_DATA")
    ] = None,
    arrivals: Annotated[str, typer.Option(help="even, or poisson: as independent users come.")] = "even",
    clients: Annotated[int, typer.Option(help="How many clients there are.", min=1)] = 4,
    nameserver: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT,...", help="Whom clients ask for the name; several options are used in turn."),
    ] = None,
    connections: Annotated[int, typer.Option(help="Requests of one client under way at once.", min=1)] = 16,
    deadline: Annotated[float, typer.Option(metavar="S", help="How long a client tries.", min=0.001)] = 30.0,
    seed: Annotated[int, typer.Option(help="Of what is asked, and when.")] = 0,
    name: Annotated[str, typer.Option(help="Of the load: its accounts are its own.")] = "1",
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every request and its answer here, as JSON lines.")
    ] = None,
    json: JSON = False,
) -> None:
    """Ask a ledger at a planned rate, whatever becomes of what was asked before, and show how long clients waited.

    Latencies count from when a request was due, so a pause shows in all that would have been asked meanwhile. Ctrl-C
    ends it early, when all that was asked has ended. The accounts begin with load:NAME: and stay.
    """
    from fivenines.drill.load.plan import Plan
    from fivenines.drill.load.running import LoadFailedError
    from fivenines.drill.load.traces import TraceError

    configure_logs(as_json=json)
    with telling_errors():
        try:
            servers: list[tuple[str, ...] | None] = [tuple(each.split(",")) for each in nameserver or ()] or [None]
            chosen = _shape(shape, rate, seconds) if trace is None else _replay(
                trace, data, begin=begin, lasts_s=lasts, seconds=seconds, average_per_s=rate, highest_per_s=highest
            )  # fmt: skip
            plan = Plan(
                url=url,
                nameservers=tuple(servers[client % len(servers)] for client in range(clients)),
                shape=chosen,  # type: ignore[arg-type]  # one of them
                seconds=seconds,
                arrivals=_arrivals(arrivals),
                seed=seed,
                name=name,
                deadline_s=deadline,
                connections=connections,
            )
            done, seen, met = asyncio.run(_run(plan, log))
        except (ValueError, TraceError, LoadFailedError, OSError) as error:
            raise CommandFailedError(str(error)) from error
    if json:
        print_json(_facts(plan, trace or shape, seen, done, met))
        return
    out.print(_table(seen))
    out.print(_sum(seen, done), soft_wrap=True)
    for said, count in sorted(met.items(), key=lambda item: -item[1])[:_ERRORS_SHOWN]:
        out.print(f"{count:,} times: {said}", style="red", markup=False, soft_wrap=True)


def _arrivals(name: str) -> "Arrivals":
    known: dict[str, Arrivals] = {"even": "even", "poisson": "poisson"}
    if name not in known:
        raise ValueError(f"--arrivals must be even or poisson, not {name!r}")
    return known[name]


def _shape(name: str, rate: float | None, seconds: float) -> "Shape":
    from fivenines.drill.load.shapes import SHAPES, Steady

    if name not in SHAPES:
        raise ValueError(f"there is no shape {name!r}; there are: {', '.join(SHAPES)}")
    kind = SHAPES[name]
    rate = 300.0 if rate is None else rate
    return Steady(rate_per_s=rate) if kind is Steady else kind(rate_per_s=rate, seconds=seconds)  # type: ignore[call-arg]  # all others have it


def _replay(name: str, data: Path | None, *, average_per_s: float | None, **options: Any) -> "Shape":
    from fivenines.drill.load.traces import TRACES, TraceError, folder_of_traces, read_counts, recorded

    if name not in TRACES:
        raise TraceError(f"there is no trace {name!r}; there are: {', '.join(TRACES)}")
    if average_per_s is None and options["highest_per_s"] is None:
        average_per_s = 300.0
    return recorded(read_counts(TRACES[name], folder_of_traces(data)), average_per_s=average_per_s, **options)


async def _run(plan: "Plan", log: Path | None) -> tuple[float, "Latencies", dict[str, int]]:
    """Carry it out; returns how long it took, what was seen, and the errors with how often each was met."""
    from fivenines.drill.load.latencies import Latencies
    from fivenines.drill.load.running import RunningLoad

    seen, met, looked_at = Latencies(), dict[str, int](), 0
    with tempfile.TemporaryDirectory(prefix="fivenines-load-") as folder:
        running = RunningLoad(plan, Path(folder) / "load.log")
        await running.start()
        try:
            over = asyncio.create_task(running.wait_over())
            loop, ending = asyncio.get_running_loop(), list[asyncio.Task[None]]()
            for each in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(each, lambda: ending.append(loop.create_task(running.stop())))
            with errors.status("") as status:
                while not over.done():
                    looked_at = _look(running, seen, met, looked_at)
                    status.update(_line(running, seen))
                    await asyncio.wait({over}, timeout=_LOOK_S)
            await asyncio.gather(over, *ending)
            took_s = time.monotonic() - running.began if ending or plan.seconds is None else plan.seconds
            _look(running, seen, met, looked_at)
        finally:
            await running.discard()
    if log is not None:
        import msgspec

        log.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in running.asked))
    return took_s, seen, met


def _look(running: "RunningLoad", seen: "Latencies", met: dict[str, int], looked_at: int) -> int:
    """Count what has ended since; returns how many have been looked at."""
    for asked in running.asked[looked_at:]:
        seen.add(asked)
        if asked.error:
            met[asked.error] = met.get(asked.error, 0) + 1
    return len(running.asked)


def _line(running: "RunningLoad", seen: "Latencies") -> str:
    at = time.monotonic() - running.began
    plan = running.plan
    answered = seen.answered
    return (
        f"{min(at, plan.seconds or at):5.1f} of {plan.seconds:g} s, {plan.curve().rate(at):,.0f}/s due, "
        f"{seen.asked:,} ended, {seen.failed:,} failed, "
        f"p50 {answered.percentile(50) / 1_000:,.1f} ms, p99 {answered.percentile(99) / 1_000:,.1f} ms, "
        f"longest {seen.longest_s:,.2f} s"
    )


def _facts(plan: "Plan", shape: str, seen: "Latencies", took_s: float, met: dict[str, int]) -> dict[str, Any]:
    return {
        "url": plan.url,
        "shape": shape,
        "arrivals": plan.arrivals,
        "seed": plan.seed,
        "seconds": round(took_s, 3),
        "asked": seen.asked,
        "asked_per_s": round(seen.asked / took_s, 3) if took_s else 0.0,
        "failed": seen.failed,
        "refused": seen.refused,
        "slow": seen.slow,
        "longest_ms": round(seen.longest_s * 1_000, 3),
        "percentiles_ms": {f"{percent:g}": value for percent, value in seen.percentiles_ms().items()},
        "late_p50_ms": seen.late.percentile(50) / 1_000,
        "late_p99_ms": seen.late.percentile(99) / 1_000,
        "histogram_us": seen.answered.pack(),
        "errors": met,
    }


def _table(seen: "Latencies") -> "Table":
    from rich.table import Table

    table = Table(title="how long clients waited", title_justify="left", title_style="bold")
    for heading in ("of 100", "waited at most", "and longer"):
        table.add_column(heading, justify="right")
    for percent, value in seen.percentiles_ms().items():
        longer = round(seen.answered.count * (100 - percent) / 100)
        table.add_row(f"{percent:g}", f"{value:,.2f} ms", f"{longer:,}")
    return table


def _sum(seen: "Latencies", took_s: float) -> str:
    rate = seen.asked / took_s if took_s else 0.0
    return (
        f"{seen.asked:,} requests in {took_s:.1f} s ({rate:,.0f}/s), {seen.failed:,} failed "
        f"({seen.refused:,} turned away), {seen.slow:,} slow; sent late by {seen.late.percentile(50) / 1_000:.2f} ms "
        f"(p50), {seen.late.percentile(99) / 1_000:.2f} ms (p99)"
    )

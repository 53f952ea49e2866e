"""`make demo`: replay a bank's books into a whole platform, kill parts of it, prove that nothing was lost.

1. Take the books: real ones in Berka's format (`BOOKS=dir`), or a believable bank made from a seed.
2. Bring up a platform, fresh: `fivenines up`, three regions with all their servers; or with `--embedded` one process.
   Replay the books at a steady rate over HTTP, through the client library, which finds the ledger by DNS. The importer
   compares the ledger's balances with the data's own after each account-day.
3. At a quarter, SIGKILL a node; at half, the member that leads the journal; at three quarters, a whole region. The
   platform gets over each by itself. Embedded, the ledger is killed twice. Nobody tells the client.
4. Stop everything cleanly, start it again from its disks, read the journal, and ask every node from outside.
5. Judge (`checker.books`), tell (`report`), and exit with 1 if anything at all is wrong.

SIGKILL ends a process, not a machine: what the operating system had been given is still there. That the ledger waits
for the disk before it answers is what the tests of the journal show.

Everything is below `build/`: `demo/` (the data, removed when all is well), `demo.json`, `demo.svg`.
"""

import asyncio
import math
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
import typer
import uvloop
from rich.console import Console

from fivenines.drill.checker.books import Evidence, judge
from fivenines.drill.disk import OnDisk
from fivenines.drill.live import Live
from fivenines.drill.members import EtcdMissingError
from fivenines.drill.on_platform import OnPlatform
from fivenines.drill.place import Embedded, Place
from fivenines.drill.record import Kill, Record
from fivenines.drill.replay import Replay, replay
from fivenines.drill.report import Result, picture, print_report, to_json
from fivenines.drill.stated import CUSTOMER_PREFIX, Stated, stated_by
from fivenines.drill.supervise import LedgerFailedError, LedgerProcess
from fivenines.drill.witness import hear
from fivenines.importers import Import, ImportingError, find
from fivenines.importers.bank import generate_bank
from fivenines.journal import JournalError

__all__ = ["Demo", "DemoFailedError", "bank_size", "conclude", "main", "run", "run_demo"]

TRANSACTIONS = 80_000
_ROWS_PER_CUSTOMER_DAY = 0.2867  # of a generated bank
_IMPORTER = "berka"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What to do."""

    books: Path | None
    """A folder of books in Berka's format; None to make a bank."""
    transactions: int
    """About how many transactions a bank that is made shall have."""
    kills: int
    seed: int
    out: Path
    """The folder for results and, below `demo/`, for data."""
    keep: bool
    """Whether the data is kept when all is well."""
    rate_per_s: float = 100.0
    """Requests a second, of some ten transactions each; embedded as many as there can be."""
    network: int = 0
    """See `fivenines up --network`."""
    embedded: bool = False
    """Whether the ledger is one process, with a journal in a folder."""


class DemoFailedError(Exception):
    """The demo could not be carried out; the sentence says why."""


async def run_demo(demo: Demo, live: Live, *, launcher: type[LedgerProcess] = LedgerProcess) -> Result:
    """Carry out a demo from start to end.

    Args:
        demo: what to do.
        live: is told how far it is.
        launcher: runs the ledger; a test may give one that is up to no good.

    Raises:
        DemoFailedError: it could not be carried out.
    """
    began = time.monotonic()
    folder = demo.out / "demo"
    if demo.books is not None and demo.books.resolve().is_relative_to(folder.resolve()):
        raise DemoFailedError(f"{folder} is emptied at the start: the books must not be in it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        path = demo.books or folder / "books"
        source, name = _books(demo, path, live)
        stated = stated_by(source, path)
        # A snapshot now and then, so that a start after a kill is one from a snapshot and the rest of the journal.
        options = ("--snapshot-every", str(max(1_000, stated.transactions // (demo.kills + 2))))
        place: Place
        if demo.embedded:
            place = Embedded(launcher(folder / "ledger", log=folder / "ledger.log", options=options))
        else:
            place = OnPlatform(folder, network=demo.network)
        try:
            ready = await place.start()
            for each in ready:
                live.say(f"{each.name} serves {each.url}, process {each.pid}")
            live.picture = place.picture
            done = await _replay(demo, source, place, stated, live)
            return await _check(demo, name, stated, done, place, live, began)
        finally:
            await place.discard()
    except (
        *(LedgerFailedError, EtcdMissingError, ImportingError, JournalError, httpx.HTTPError),
        *(OSError, TimeoutError, ValueError),
    ) as error:
        raise DemoFailedError(str(error)) from error


async def _replay(demo: Demo, source: Import, place: Place, stated: Stated, live: Live) -> Replay:
    with live.replaying(stated.transactions):
        return await replay(
            source,
            place,
            importer=_IMPORTER,
            is_customer=_is_customer,
            kill_at=[stated.transactions * part // (demo.kills + 1) for part in range(1, demo.kills + 1)],
            patience=max(1, stated.transactions // 50),
            rate_per_s=math.inf if demo.embedded else demo.rate_per_s,
            now_ms=time.time_ns() // 1_000_000,
            progress=live.advance,
            told=live.say,
        )


async def _check(
    demo: Demo,
    name: str,
    stated: Stated,
    done: Replay,
    place: Place,
    live: Live,
    began: float,
) -> Result:
    """Stop the ledger, look at its disk, start it again, and ask it everything."""
    checking = time.monotonic()
    live.say("replayed; stopping everything, and reading the journal from disk")
    await place.stop()
    read = await place.read()
    disk = read.disk
    for kill in done.kills:
        kill.decided_unheard = _unheard(kill, done.record, disk)
    ready = await place.start()
    live.say(f"started once more at position {ready[0].position:,}; asking everything, and sending everything again")
    troubles = [
        f"{each.name} started at position {each.position}, the journal ends at {disk.position}"
        for each in ready
        if each.position < disk.position
    ]
    testimony = await asyncio.to_thread(hear, [each.url for each in ready], disk.position, done.record.answered)
    await place.stop()
    findings = judge(
        Evidence(
            answers=done.record.answers,
            changed=done.record.changed,
            disk=disk,
            accounts=testimony.accounts,
            wrong_in_themselves=testimony.wrong_in_themselves,
            decisions=testimony.decisions,
            sent_again=testimony.sent_again,
            accounts_after=testimony.accounts_after,
            nodes=testimony.nodes,
            stated=stated.last,
            stated_by_date=stated.by_date,
            unfounded=stated.unfounded,
            was_replayed=done.report is not None,
        )
    )
    ended = time.monotonic()
    return Result(
        books=name,
        place=place.name,
        cuts_requests=place.cuts_requests,
        transactions=stated.transactions,
        kills_planned=demo.kills,
        replay=done,
        findings=findings,
        journal_is_sound=read.is_sound,
        troubles=troubles,
        check_s=ended - checking,
        total_s=ended - began,
    )


def _unheard(kill: Kill, record: Record, disk: OnDisk) -> int:
    """Count the transactions that were in the journal when a kill cut off the answer, so that the retry came second."""
    cut_off = (each for each in record.cut_off if each.out_at <= kill.at <= each.ended)
    return sum(disk.asked_again[id] > 0 for each in cut_off for id in each.ids())


def _books(demo: Demo, path: Path, live: Live) -> tuple[Import, str]:
    """Open the books, or make some, and say what they are."""
    if demo.books is not None:
        live.say(f"reading the books in {demo.books}")
        what = "Books of a real bank"
    else:
        customers, days = bank_size(demo.transactions)
        live.say(f"making a bank of {customers:,} customers and {days} days from seed {demo.seed}")
        generate_bank(path, customers=customers, days=days, seed=demo.seed)
        what = f"A generated bank (seed {demo.seed})"
    source = find(_IMPORTER).open(path)
    summary = source.summary()
    if not source.rows:
        raise DemoFailedError("the books hold no transaction")
    years = f"{str(summary['first_date'])[:4]}-{str(summary['last_date'])[:4]}"
    accounts = f"{summary['accounts']:,} accounts"
    return source, f"{what}, {accounts}, {years if demo.books else str(summary['first_date'])[:4]}"


def _is_customer(account: str) -> bool:
    return account.startswith(CUSTOMER_PREFIX)


def bank_size(transactions: int) -> tuple[int, int]:
    """Choose customers and days for a bank of about so many transactions: a year, or less for a small one."""
    days = max(10, min(365, math.isqrt(transactions) * 6 // 5))
    return max(1, round(transactions / (days * _ROWS_PER_CUSTOMER_DAY))), days


def main(
    books: Annotated[
        Path | None,
        typer.Option(help="A folder of books in Berka's format; without it a bank is made.", envvar="BOOKS"),
    ] = None,
    transactions: Annotated[
        int, typer.Option(help="About how many transactions a made bank has.", min=100)
    ] = TRANSACTIONS,
    kills: Annotated[
        int | None,
        typer.Option(help="How often something is killed on the way: 3, or 2 times embedded.", min=0, max=50),
    ] = None,
    seed: Annotated[int, typer.Option(help="What a made bank is made from.")] = 1,
    out: Annotated[Path, typer.Option(help="The folder for demo.json, demo.svg and the data.")] = Path("build"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the ledger's data and log in OUT/demo.")] = False,
    rate: Annotated[float, typer.Option(help="Requests a second; embedded as many as there can be.", min=1)] = 100.0,
    network: Annotated[int, typer.Option(help="Of the regions' addresses, 127.N.R.1.", min=0, max=255)] = 0,
    embedded: Annotated[bool, typer.Option("--embedded", help="One process, in the place of a platform.")] = False,
) -> None:
    """Replay a bank's books into a whole platform, kill parts of it, and prove that nothing was lost.

    Exits with 1 if anything is wrong.
    """
    console = Console(highlight=False)
    demo = Demo(
        books=books,
        transactions=transactions,
        kills=(2 if embedded else 3) if kills is None else kills,
        seed=seed,
        out=out,
        keep=keep,
        rate_per_s=rate,
        network=network,
        embedded=embedded,
    )
    live = Live(console)
    for name in ("demo.json", "demo.svg"):  # what an earlier run found is no answer to this one
        (out / name).unlink(missing_ok=True)
    try:
        result = uvloop.run(_until_told_to_stop(demo, live))
    except DemoFailedError as error:
        console.print(f"the demo failed: {error}", style="bold red", markup=False)
        raise typer.Exit(1) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped; the ledger has been stopped too", style="yellow")
        raise typer.Exit(130) from None
    raise typer.Exit(conclude(result, out, console, keep=keep))


async def _until_told_to_stop(demo: Demo, live: Live) -> Result:
    """Run the demo so that SIGTERM ends it as Ctrl-C does: in order, with no process left."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_demo(demo, live)


def conclude(result: Result, out: Path, console: Console, *, keep: bool) -> int:
    """Write and print the report, tidy up, and return the exit status."""
    (out / "demo.json").write_bytes(msgspec.json.format(msgspec.json.encode(to_json(result)), indent=2) + b"\n")
    (out / "demo.svg").write_text(picture(result), encoding="utf-8")
    print_report(result, console)
    if result.is_good and not keep:
        shutil.rmtree(out / "demo", ignore_errors=True)
    else:
        console.print(f"the ledger's data and log are in {out / 'demo'}", soft_wrap=True)
    console.print(f"the same as an object and a picture: {out / 'demo.json'} {out / 'demo.svg'}", soft_wrap=True)
    return 0 if result.is_good else 1


def run(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, and carry out."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(args=list(arguments) if arguments is not None else None, prog_name="python -m fivenines.drill.demo")


if __name__ == "__main__":
    if sys.flags.optimize:
        sys.exit("the demo refuses to run under python -O or PYTHONOPTIMIZE: assertions are part of it")
    run()

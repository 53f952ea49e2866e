"""`fivenines balance`, `import` and `generate`: what is in the books, and how it gets there."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from fivenines.cli.output import JSON, URL, CommandFailedError, bar, errors, out, print_json, telling_errors

if TYPE_CHECKING:
    from fivenines import importers
    from fivenines.client import Account, Ledger
    from fivenines.importers.run import Progress as ImportProgress

__all__ = ["register"]

_DEFAULT_URL = "http://127.0.0.1:9959"
_SHOWN_MAX = 20
_FIRST_ANSWER_S_MAX = 5.0
_INTERRUPTED = 130
"""The exit status that a shell gives for Ctrl-C."""
_READS_MAX = 3
"""How often balances are read that a ledger at work moves meanwhile, before they are shown as they came."""
_IDS_AT_ONCE = 200
"""How many accounts the client asks for in one request, and so gets as of one position."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(epilog=_BALANCE_EXAMPLES)(balance)
    app.command("import", epilog=_IMPORT_EXAMPLES)(import_)
    generate = typer.Typer(help="Make believable books, for those who have none at hand.", no_args_is_help=True)
    generate.command("bank", epilog=_GENERATE_EXAMPLES)(generate_bank)
    app.add_typer(generate, name="generate")


_BALANCE_EXAMPLES = """
[bold]Examples[/]

  fivenines balance customers:alice customers:bob

  fivenines balance --prefix customers: --json
"""


def balance(
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="Accounts to show.")] = None,
    prefix: Annotated[str, typer.Option(help="Show the accounts whose ids begin so; without any, all.")] = "",
    at_least: Annotated[
        int | None, typer.Option(metavar="POSITION", help="Wait until the server has applied this position.", min=0)
    ] = None,
    url: URL = _DEFAULT_URL,
    json: JSON = False,
) -> None:
    """Show balances, and that they sum to zero.

    More than a page of them is read page by page. A ledger at work may move on meanwhile: then they are read again, and
    if it still does, no sum is shown, for balances of different moments have none.
    """
    from fivenines.client import Ledger, LedgerError

    with telling_errors():
        try:
            with Ledger(*url.split(","), deadline_s=_FIRST_ANSWER_S_MAX) as ledger:
                found, first, position = _read(ledger, accounts or [], prefix, at_least)
        except (LedgerError, ValueError) as error:
            raise CommandFailedError(str(error), hint=_is_it_served(url)) from error
        missing = sorted(set(accounts or ()) - {account.id for account in found})
        if missing:
            raise CommandFailedError(f"there is no account {', '.join(missing)}")
    sums: dict[str, int] = {}
    for account in found if first == position else ():
        sums[account.asset] = sums.get(account.asset, 0) + account.balance
    if json:
        rows = [
            {"id": a.id, "asset": a.asset, "status": a.status, "balance": str(a.balance), "available": str(a.available)}
            for a in found
        ]
        print_json(
            {
                "position": position,
                "position_first": first,
                "accounts": rows,
                "sums": {asset: str(total) for asset, total in sums.items()} if first == position else None,
            }
        )
        return
    when = f"at position {position:,}" if first == position else f"at positions {first:,} to {position:,}"
    table = Table("account", "asset", title=f"balances {when}", title_justify="left")
    for heading in ("balance", "available", "held"):
        table.add_column(heading, justify="right")
    for account in found:
        held = _money(account.held_debits, account.asset) if account.held_debits else ""
        code = account.asset.partition("/")[0]
        table.add_row(
            _named(account),
            code,
            _money(account.balance, account.asset),
            _money(account.available, account.asset),
            held,
        )
    out.print(table)
    if first != position:
        out.print(
            "The ledger was being written while it was read, so these balances are of different moments and have no "
            "sum.",
            soft_wrap=True,
        )
    for asset, total in sums.items():
        of_all = "" if accounts or prefix else ("  [green]as it must[/]" if not total else "  [bold red]must be 0[/]")
        out.print(f"sum of {asset.partition('/')[0]}: {_money(total, asset)}{of_all}")


def _read(ledger: "Ledger", ids: list[str], prefix: str, at_least: int | None) -> tuple[list["Account"], int, int]:
    """Read accounts, again if the ledger moved on from one page to the next; with the first and the last position."""
    found: list[Account] = []
    first = last = 0
    for _ in range(_READS_MAX):
        found, positions = [], []
        parts = [ids[begin : begin + _IDS_AT_ONCE] for begin in range(0, len(ids), _IDS_AT_ONCE)]
        for part in parts:
            found += ledger.accounts_of(part, at_least=at_least)
            positions.append(ledger.position)
        if not ids:
            for account in ledger.accounts(prefix=prefix or None, at_least=at_least):
                positions = positions or [ledger.position]
                found.append(account)
            positions.append(ledger.position)
        # A client's positions only rise, so what lies between two that are equal was read as of the same.
        first, last = positions[0], positions[-1]
        if first == last:
            break
    return found, first, last


def _named(account: "Account") -> Text:
    name = Text(account.id)
    if account.status != "open":
        name.append(f" ({account.status})", "yellow")
    return name


_IMPORT_EXAMPLES = """
[bold]Examples[/]

  fivenines import berka ./berka                 a bank's books, checked against its own balances

  fivenines import iso20022 statement.camt.053.xml payments.pain.001.xml

Running it again changes nothing; a run that was interrupted goes on.
"""


def import_(
    importer: Annotated[
        str, typer.Argument(help="Which importer: berka, iso20022, or one that is installed beside them.")
    ],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders or files to import, one after another.")
    ],
    url: URL = _DEFAULT_URL,
    json: JSON = False,
) -> None:
    """Import books into a running ledger, and check the ledger's balances against theirs."""
    from fivenines import importers
    from fivenines.client import Ledger, LedgerError
    from fivenines.client.books import LedgerBooks

    reports = []
    with telling_errors():
        try:
            found = importers.find(importer)
            sources = [(path, found.open(path)) for path in paths]  # all of them, before anything is sent
            with Ledger(*url.split(","), deadline_s=_FIRST_ANSWER_S_MAX) as ledger:
                ledger.platform()  # so that a ledger that is not there is noticed at once
            with Ledger(*url.split(",")) as ledger:
                for path, source in sources:
                    with bar(path.name, quiet=json) as advance:
                        report = importers.run_import(
                            importer,
                            source,
                            LedgerBooks(ledger),
                            now_ms=time.time_ns() // 1_000_000,
                            progress=partial(_tell, advance),
                        )
                    reports.append(report)
                    if not json:
                        _show(path, report)
        except KeyboardInterrupt:
            errors.print("Interrupted. What was carried out stays; the same command goes on from there.")
            raise typer.Exit(_INTERRUPTED) from None
        except importers.ImportingError as error:
            raise CommandFailedError(str(error)) from error
        except (LedgerError, ValueError) as error:
            raise CommandFailedError(str(error), hint=_is_it_served(url)) from error
        except OSError as error:
            raise CommandFailedError(f"{error.filename}: {error.strerror}") from error
    if json:
        content = [report.to_json() for report in reports]
        print_json(content[0] if len(content) == 1 else content)
    if not all(report.is_good for report in reports):
        raise typer.Exit(1)


def _tell(advance: Callable[[str, int, int], None], progress: "ImportProgress") -> None:
    advance(f"{progress.phase} {progress.label}", progress.done, progress.total)


def _show(path: Path, report: "importers.Report") -> None:
    out.print(
        Text.assemble((str(path), "bold"), " into ", (report.anchor, "bold"), f", {report.seconds:,.1f} s"),
        soft_wrap=True,
    )
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    rows: list[tuple[int, str]] = [
        (report.rows, "rows"),
        (report.new, "transactions carried out now"),
        (report.repeated, "that were carried out before"),
        (report.exact, "account-days exact"),
        (report.rounded, "account-days rounded, the difference booked"),
        (report.contradictory, "account-days contradictory in the source"),
        (report.checked + report.compared_last, "balances compared with the ledger's"),
        (report.mismatched, "[red]not equal[/]" if report.mismatched else "not equal"),
        *([(report.moved_meanwhile, "moved on by another import at the same time")] if report.moved_meanwhile else []),
        *([(report.moved_since, "accounts moved since by something else")] if report.moved_since else []),
    ]
    for count, what in rows:
        table.add_row(f"{count:,}", what)
    out.print(table)
    if report.expired:
        out.print("[yellow]These books are older than the ledger remembers: nothing was changed.[/]")
    for story in report.contradictions[:_SHOWN_MAX]:
        out.print(Text.assemble(("contradictory:", "yellow"), " ", "\n    ".join(story)), soft_wrap=True)
    if len(report.contradictions) > _SHOWN_MAX:
        out.print(f"... and {len(report.contradictions) - _SHOWN_MAX:,} more; --json lists them all")
    label = ("not equal:", "red") if report.mismatched else ("moved since:", "yellow")
    for line in report.mismatches[:_SHOWN_MAX]:
        out.print(Text.assemble(label, " ", line), soft_wrap=True)
    if len(report.mismatches) > _SHOWN_MAX:
        out.print(f"... and {report.mismatched + report.moved_since - _SHOWN_MAX:,} more; --json lists up to 1,000")


_GENERATE_EXAMPLES = """
[bold]Examples[/]

  fivenines generate bank --customers 500 --days 365 --seed 7 --to ./bank

  fivenines import berka ./bank
"""


def generate_bank(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write to; it is made.")] = Path("bank"),
    customers: Annotated[int, typer.Option(min=1, help="How many customers; each has one account.")] = 1_000,
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 365,
    seed: Annotated[int, typer.Option(help="The same seed makes the same bank.")] = 1,
    json: JSON = False,
) -> None:
    """Make a bank: salaries on pay-days, standing orders, cards, fees, interest, overdrafts.

    The balances in it are computed by code of its own, so that an import has something to be checked against.
    """
    from fivenines.importers.bank import generate_bank as generate

    with telling_errors():
        began = time.perf_counter()
        try:
            with bar("days", quiet=json) as advance:
                bank = generate(to, customers=customers, days=days, seed=seed, progress=partial(advance, "days"))
        except (ValueError, OSError) as error:
            raise CommandFailedError(str(error)) from error
    if json:
        print_json(
            {
                "directory": str(to),
                "customers": customers,
                "days": days,
                "seed": seed,
                "transactions": bank.transactions,
            }
        )
        return
    out.print(
        f"{bank.transactions:,} transactions of {customers:,} customers in {to}, {time.perf_counter() - began:.1f} s\n"
        f"Next: fivenines import berka {to}"
    )


def _money(amount: int, asset: str) -> str:
    """Write an amount of smallest units with the asset's decimals."""
    scale = int(asset.partition("/")[2])
    sign, digits = ("-" if amount < 0 else ""), f"{abs(amount):0{scale + 1}}"
    whole = f"{int(digits[: len(digits) - scale]):,}"
    return f"{sign}{whole}.{digits[-scale:]}" if scale else f"{sign}{whole}"


def _is_it_served(url: str) -> str:
    return f"is a ledger served at {url}? 'fivenines serve' starts one; --url names another"

"""`fivenines plan` and `fivenines schema`: what a `platform.yaml` would mean, before anything runs."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fivenines.cli.output import (
    JSON,
    CommandFailedError,
    configure_logs,
    errors,
    figures_table,
    out,
    print_json,
    telling_errors,
)

if TYPE_CHECKING:
    from fivenines.platform.findings import Finding
    from fivenines.platform.loading import Declared
    from fivenines.platform.plan import Loss, Plan
    from fivenines.platform.verdict import Proposal

__all__ = ["FILE", "check_placement", "read_declared", "register"]

FILE = "platform.yaml"
WIDTH = 100
"""Tables are no wider than this, nor than the terminal."""

_EXAMPLES = """
[bold]Examples[/]

  fivenines plan                               ./platform.yaml: is it accepted, what does each loss cost?

  fivenines plan examples/platform-world.yaml  five regions around the world: should all be active?

  fivenines schema > platform.schema.json      for an editor that completes and checks platform.yaml
"""
_KINDS = {
    "node": "a node",
    "edge": "an edge",
    "nameserver": "a nameserver",
    "controller": "a controller",
    "historian": "a historian",
    "journal_follower": "a journal follower",
    "journal_leader": "the journal's leader",
    "region": "region",
    "provider": "provider",
    "everything": "all regions at once",
}
_VERDICTS = {"right": "a good choice", "wrong": "the wrong choice", "unknown": "not known"}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(epilog=_EXAMPLES)(plan)
    app.command(epilog=_EXAMPLES)(schema)


def plan(
    file: Annotated[
        Path | None, typer.Argument(metavar="PLATFORM.YAML", help="What to plan; default: ./platform.yaml.")
    ] = None,
    json: JSON = False,
) -> None:
    """Show what each loss would cost, how long writes wait, and what is refused. Exit status 1 if anything is."""
    configure_logs(as_json=json)
    with telling_errors():
        declared = read_declared(file)
        from fivenines.platform.placement import check
        from fivenines.platform.plan import make_plan

        findings = check(declared.platform)
        found = make_plan(declared.platform)
    if json:
        told = [_finding_facts(declared, finding) for finding in findings]
        print_json({"file": declared.file, **msgspec.to_builtins(found), "findings": told})
    else:
        _print_plan(declared, found)
        for finding in findings:
            out.print(_finding_text(declared, finding), soft_wrap=True)
    if refusals := sum(finding.severity == "refused" for finding in findings):
        if not json:
            out.print(Text.assemble(("refused", "bold red"), f": {_reasons(refusals)}"))
        raise typer.Exit(1)
    if not json:
        but = ", but for what it accepts" if declared.platform.accepts else ""
        out.print(
            Text.assemble(("accepted", "bold green"), f": {declared.file} keeps its promise{but}"), soft_wrap=True
        )


def schema() -> None:
    """Print the JSON schema of platform.yaml, for editors."""
    with telling_errors():
        _need_yaml()
        from fivenines.platform.schema import json_schema

        typer.echo(json_module.dumps(json_schema(), indent=2))


def read_declared(file: Path | None) -> "Declared":
    """Read a file; without one ./platform.yaml, and where there is none, what is built in.

    Raises:
        CommandFailedError: it cannot be read, or is no platform; the message tells all that is wrong.
    """
    _need_yaml()
    from fivenines.platform.builtin import BUILT_IN, BUILT_IN_NAME
    from fivenines.platform.loading import PlatformFileError, parse, read

    if file is None and not Path(FILE).exists():
        return parse(BUILT_IN, file=BUILT_IN_NAME)
    path = file or Path(FILE)
    try:
        return read(path)
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}", hint="name a platform.yaml that can be read") from error
    except PlatformFileError as error:
        raise CommandFailedError(str(error), hint="docs/platform-yaml.md has every field") from error


def check_placement(declared: "Declared") -> None:
    """Tell what people should know of a platform, and refuse what could not keep its promise.

    Raises:
        CommandFailedError: it is refused; the message has each reason with its line.
    """
    from fivenines.platform.placement import check

    findings = check(declared.platform)
    refusals = [finding for finding in findings if finding.severity == "refused"]
    for finding in findings:
        if finding.severity == "warning" and not refusals:
            errors.print(_finding_text(declared, finding), soft_wrap=True)
    if refusals:
        reasons = "\n".join(f"{_place(declared, finding)}: {finding.reason}; {finding.mend}" for finding in refusals)
        raise CommandFailedError(reasons, hint="`fivenines plan` shows what each loss would cost")


def _need_yaml() -> None:
    try:
        import yaml  # noqa: F401 - asked for before anything that needs it is imported
    except ImportError as error:
        raise CommandFailedError(
            "a platform needs what is not installed: pyyaml", hint="pip install 'fivenines[platform]'"
        ) from error


# --- findings ---------------------------------------------------------------------------------------------------------


def _place(declared: "Declared", finding: "Finding") -> str:
    from fivenines.platform.loading import shown

    mark = declared.mark(finding.path)
    return f"{declared.file}:{mark.line}: {shown(finding.path)}" if mark else f"{declared.file}: {shown(finding.path)}"


def _finding_text(declared: "Declared", finding: "Finding") -> Text:
    is_refused = finding.severity == "refused"
    return Text.assemble(
        ("✗ " if is_refused else "! ", "bold red" if is_refused else "bold yellow"),
        (f"{_place(declared, finding)}:", "cyan"),
        f" {finding.reason}\n    ",
        (f"→ {finding.mend}", "dim"),
    )


def _finding_facts(declared: "Declared", finding: "Finding") -> dict[str, Any]:
    from fivenines.platform.loading import shown

    mark = declared.mark(finding.path)
    return {
        "severity": finding.severity,
        "rule": finding.rule,
        "path": shown(finding.path),
        "line": mark.line if mark else None,
        "reason": finding.reason,
        "mend": finding.mend,
    }


def _reasons(count: int) -> str:
    return "1 reason, above" if count == 1 else f"{count} reasons, above"


# --- tables -----------------------------------------------------------------------------------------------------------


def _print_plan(declared: "Declared", found: "Plan") -> None:
    width = min(WIDTH, out.width) if out.is_terminal else WIDTH
    budget = found.budget
    title = Text.assemble(
        (found.platform, "bold"),
        f"   {declared.file}\n",
        (f"{budget.slo * 100:.10g} %", "bold"),
        f" leaves {budget.year_s:,.1f} s a year",
        f", worth {_money(budget.cost)} {budget.currency}" if budget.cost else "",
        f".   Journal: heartbeat {found.heartbeat_ms} ms, election {found.election_ms:,} ms.",
        f"   Detection: {found.detection_s:.1f} s.",
    )
    kinds = {"right": "green", "wrong": "red", "unknown": "yellow"}
    body: list[Any] = [Text(found.verdict.text)]
    if found.verdict.proposal is not None:
        body += [Text(), _afar_table(found.verdict.proposal)]
    verdict = Panel(
        Group(*body),
        title=f"distances: {_VERDICTS[found.verdict.kind]}",
        title_align="left",
        border_style=kinds[found.verdict.kind],
        width=width,
    )
    for part in (title, Text(), _writes_table(found, width), *_losses_table(found, width), Text(), verdict):
        out.print(part, width=width)


def _writes_table(found: "Plan", width: int) -> Table:
    from fivenines.platform.verdict import LIMIT_MS

    table = figures_table(
        "How long a write waits for a majority of the journal, by who leads it",
        width,
        *("region", "provider", "mode", "journal", "traffic", "best", "usual", "worst"),
    )
    for each in found.writes:
        is_far = each.usual_ms is not None and each.usual_ms > LIMIT_MS
        table.add_row(
            each.region,
            each.provider,
            each.mode if each.mode != "member" else "",
            "member" if each.has_member else "",
            f"{each.share:.0%}" if each.share else "",
            _ms(each.nearest_ms, each.mode),
            Text(_ms(each.usual_ms, each.mode), style="red" if is_far else ""),
            _ms(each.farthest_ms, each.mode),
        )
    return table


def _losses_table(found: "Plan", width: int) -> tuple[Table, Table, Text, Table]:
    """Return the losses, and below what each pause is made of."""
    is_wide = width >= WIDTH - 4
    has_cost = found.budget.cost > 0
    has_load = is_wide and any(each.load is not None for each in found.losses)
    columns = ["what is lost", "data", "ours wait", "others ≤"]
    columns += ["touches"] if is_wide else []
    columns += ["budget", "of year"]
    columns += [found.budget.currency] if has_cost else []
    columns += ["load"] if has_load else []
    table = figures_table("What each loss costs", width, *columns, "")
    notes: dict[str, str] = {}
    for each in found.losses:
        if each.kind == "provider" and _only_region(found, each.name):
            continue  # it is its one region, which has a row
        note = notes.setdefault(each.note, _letter(len(notes)))
        row: list[str | Text] = [
            _loss_name(found, each),
            f"≤ {each.recovery_point_s:g} s" if each.recovery_point_s else "none",
            _seconds(each.pause_s),
            _seconds(each.pause_others_s),
        ]
        row += [f"{each.touches:.0%}" if each.touches else ""] if is_wide else []
        row += [_seconds(each.budget_s), Text(_share(each), style=_share_style(each))]
        row += [_money(each.cost)] if has_cost else []
        row += [Text(_load(each), style="bold red" if each.load and each.load > 1 else "")] if has_load else []
        table.add_row(*row, Text(note, style="bold dim"))
    legend = {
        "data": "acknowledged writes that are lost",
        "ours": "how long a client with our library waits; others: any other client, at the most",
        **({"touches": "the share of requests"} if is_wide else {}),
        "budget": "what one such event spends of the year's, by what others wait and the share it touches",
        **({"load": "of the busiest region that is left, at the peak"} if has_load else {}),
    }
    return table, _grid(legend), Text(), _grid({note: text for text, note in notes.items()})


def _grid(texts: dict[str, str]) -> Table:
    """Make lines of a word and what it means, the long ones indented."""
    grid = Table.grid(padding=(0, 1), expand=False)
    for word, text in texts.items():
        grid.add_row("", Text(word, style="bold dim"), Text(text, style="dim"))
    return grid


def _only_region(found: "Plan", provider: str) -> str:
    """Return the only region of a provider; empty where it has several."""
    names = [each.region for each in found.writes if each.provider == provider]
    return names[0] if len(names) == 1 else ""


def _loss_name(found: "Plan", loss: "Loss") -> Text:
    text = Text(f"{_KINDS[loss.kind]} {loss.name}".strip())
    if loss.kind == "region":
        provider = next(each.provider for each in found.writes if each.region == loss.name)
        if _only_region(found, provider):
            text.append(f", {provider}", style="dim")
    elif loss.kind == "provider":
        text.append(f", {sum(each.provider == loss.name for each in found.writes)} regions", style="dim")
    return text


def _letter(number: int) -> str:
    """Return a, b, c ... z, aa, ab ..."""
    first = _letter(number // 26 - 1) if number >= 26 else ""
    return first + chr(ord("a") + number % 26)


def _afar_table(proposal: "Proposal") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for number, name in enumerate(("people near", "write now", "write then", "read then (now: at home)")):
        table.add_column(name, justify="right" if number else "left", header_style="dim")
    for each in proposal.afar:
        table.add_row(
            each.region, f"{each.write_now_ms:.0f} ms", f"{each.write_then_ms:.0f} ms", f"{each.read_then_ms:.0f} ms"
        )
    return table


def _ms(value: float | None, mode: str) -> str:
    if mode == "member":
        return ""
    return "?" if value is None else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def _seconds(value: float | None) -> str:
    if value is None:
        return "∞"
    return "0" if not value else f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def _share(loss: "Loss") -> str:
    if loss.budget_share is None:
        return "∞"
    return (
        "0"
        if not loss.budget_share
        else f"{loss.budget_share:.3%}"
        if loss.budget_share < 0.1
        else (f"{loss.budget_share:.0%}")
    )


def _share_style(loss: "Loss") -> str:
    if loss.budget_share is None or loss.budget_share >= 1:
        return "bold red"
    return "yellow" if loss.budget_share >= 0.1 else ""


def _load(loss: "Loss") -> str:
    return "" if loss.load is None else f"{loss.load:.0%}"


def _money(value: float | None) -> str:
    if value is None:
        return "∞"
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.2f}"

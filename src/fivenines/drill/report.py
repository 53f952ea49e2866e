"""What a demo tells: one object for programs, a report for people, and a picture.

`Result` is everything that was seen; `is_good` is the verdict, and the exit status. A contradiction within the *data*
is told, and is no fault of the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fivenines.drill.chart import Course, Mark, bars, kill_columns, svg
from fivenines.drill.checker.books import Finding
from fivenines.drill.checker.stretches import Stretch, stretch
from fivenines.drill.record import Kill
from fivenines.drill.replay import Replay

__all__ = ["Result", "picture", "print_report", "to_json"]

_WIDTH, _COLUMNS, _ROWS = 80, 64, 6
_SETTLE_S = 1.0
"""Requests that were under way at a kill are its own, and so are those just before everything was back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A demo, from start to end."""

    books: str
    """What was replayed, for people."""
    place: str
    """Where, for people."""
    cuts_requests: bool
    """Whether each kill must have cut off requests."""
    transactions: int
    """How many transactions the books come to."""
    kills_planned: int
    replay: Replay
    findings: Mapping[str, Finding]
    journal_is_sound: bool
    troubles: Sequence[str]
    """What went wrong beside the findings, in sentences."""
    check_s: float
    total_s: float

    @property
    def failures(self) -> list[str]:
        """Everything that is wrong, in sentences: nothing, when all is well."""
        replay = self.replay
        told = list(self.troubles)
        if replay.error:
            told.append(f"the replay stopped: {replay.error}")
        if replay.failed_requests:
            told.append(f"{replay.failed_requests} requests failed for good")
        if len(replay.record.answers) != self.transactions:
            told.append(f"{len(replay.record.answers):,} of {self.transactions:,} transactions were acknowledged")
        if len(replay.kills) != self.kills_planned:
            told.append(f"{len(replay.kills)} of {self.kills_planned} kills happened")
        told += [
            f"the kill of {kill.what} after {kill.after:,} transactions {what}"
            for kill in replay.kills
            if (what := _flaw(kill, cuts_requests=self.cuts_requests))
        ]
        if replay.report is not None and not replay.report.is_good:
            told.append(f"{replay.report.mismatched} balances were wrong during the import")
        if not self.journal_is_sound:
            told.append("the journal on disk is damaged, or ends within a frame")
        told += [f"{_what_failed(finding)}" for finding in self.findings.values() if not finding.passed]
        return told

    @property
    def is_good(self) -> bool:
        """Whether everything is as it must be."""
        return not self.failures

    @property
    def replay_s(self) -> float:
        """How long the replay took, kills included."""
        return self.replay.ended - self.replay.began

    @property
    def longest_pause_s(self) -> float:
        """The longest time between two acknowledgements, one after the other."""
        times = [each.ended for each in self.replay.record.answered]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    @property
    def recoveries_s(self) -> list[float]:
        """For each kill: from the kill to the first write acknowledged after it."""
        return [kill.recovery_s for kill in self.replay.kills if kill.recovery_s is not None]

    def noticed(self, number: int) -> Stretch:
        """What clients noticed of a kill, by its number from 0, until everything was back."""
        replay = self.replay
        began = replay.kills[number].at
        whole_after_s = replay.whole_after_s[number] if number < len(replay.whole_after_s) else replay.ended - began
        ended = began + whole_after_s + _SETTLE_S
        return stretch(replay.asked, began - _SETTLE_S, ended, rate_per_s=replay.rate_per_s)

    @property
    def mismatches(self) -> int:
        """Balances that are not what the data, or the journal, says they must be."""
        found = sum(self.findings[name].wrong for name in ("wrong_balances", "wrong_days", "wrong_totals"))
        return found + (self.replay.report.mismatched if self.replay.report else 0)


def _flaw(kill: Kill, *, cuts_requests: bool) -> str:
    if kill.recovery_s is None:
        return "was never recovered from"
    return "cut off no request" if cuts_requests and not kill.cut_off else ""


def _what_failed(finding: Finding) -> str:
    if not finding.looked_at:
        return f"{finding.check}: there was nothing to look at"
    return f"{finding.check}: {finding.wrong:,} wrong. " + " | ".join(finding.examples)


def to_json(result: Result) -> dict[str, Any]:
    """Everything as one object of JSON values."""
    replay, report, findings = result.replay, result.replay.report, result.findings
    return {
        "good": result.is_good,
        "books": result.books,
        "transactions": result.transactions,
        "acknowledged": len(replay.record.answers),
        "lost": findings["lost"].wrong,
        "doubled": findings["doubled"].wrong,
        "mismatches": result.mismatches,
        "failed_requests": replay.failed_requests,
        "place": result.place,
        "kills": len(replay.kills),
        "killed": [kill.what for kill in replay.kills],
        "events": [
            {
                "name": f"{kill.what} killed",
                "failed_requests": noticed.failed,
                "longest_pause_s": round(noticed.longest_pause_s, 3),
                "budget_s": round(noticed.budget_s, 3),
                "requests": noticed.requests,
                "whole_after_s": round(replay.whole_after_s[number], 1) if number < len(replay.whole_after_s) else None,
            }
            for number, kill in enumerate(replay.kills)
            for noticed in [result.noticed(number)]
        ],
        "longest_pause_s": round(result.longest_pause_s, 3),
        "recovery_s": round(max(result.recoveries_s, default=0.0), 3),
        "throughput_per_s": round(len(replay.record.answers) / result.replay_s, 1),
        "account_days_exact": report.exact if report else 0,
        "account_days_rounded": report.rounded if report else 0,
        "account_days_contradictory": report.contradictory if report else 0,
        "recoveries_s": [round(each, 3) for each in result.recoveries_s],
        "requests": len(replay.record.answered),
        "requests_under_way_at_kills": [kill.requests for kill in replay.kills],
        "transactions_under_way_at_kills": [kill.transactions for kill in replay.kills],
        "requests_cut_off_at_kills": [kill.cut_off for kill in replay.kills],
        "decided_unheard_at_kills": [kill.decided_unheard for kill in replay.kills],
        "replay_s": round(result.replay_s, 3),
        "check_s": round(result.check_s, 3),
        "total_s": round(result.total_s, 3),
        "checks": {name: {"looked_at": each.looked_at, "wrong": each.wrong} for name, each in findings.items()},
        "failures": result.failures,
        "contradictions": report.contradictions if report else [],
    }


def course(result: Result) -> Course:
    """What happened when, for the chart."""
    began = result.replay.began
    end = max([result.replay_s, 0.001])
    return Course(
        end,
        [(each.ended - began, each.acknowledged) for each in result.replay.record.answered],
        [
            Mark(kill.at - began, min(end, kill.at - began + (kill.recovery_s or end)), kill.what)
            for kill in result.replay.kills
        ],
    )


def picture(result: Result) -> str:
    """The chart as SVG."""
    count = len(result.replay.record.answers)
    days = result.findings["wrong_days"]
    contradictory = result.replay.report.contradictory if result.replay.report else 0
    return svg(
        course(result),
        title=f"{count:,} transactions, {_times(len(result.replay.kills))}, "
        + ("nothing lost" if result.is_good else "and something is wrong"),
        subtitle=f"{result.books}, replayed into {result.place} over HTTP in {result.replay_s:.1f} s",
        verdict="all checks passed" if result.is_good else "checks failed",
        good=result.is_good,
        figures=[
            (f"{result.findings['lost'].wrong:,}", "lost"),
            (f"{result.findings['doubled'].wrong:,}", "applied twice"),
            (f"{result.replay.failed_requests:,}", "failed requests"),
            (f"{result.longest_pause_s:.2f} s", "longest pause"),
            (f"{days.wrong:,}", "daily balances wrong")
            if days.wrong
            else (f"{days.looked_at - contradictory:,}", "daily balances right"),
        ],
    )


def _times(kills: int) -> str:
    return {0: "no kill", 1: "a kill"}.get(kills, f"{kills} kills")


def print_report(result: Result, console: Console) -> None:
    """Tell it all, in less than a screen."""
    verdict = (
        Text(" nothing lost, nothing doubled, every balance right ", style="bold white on green")
        if result.is_good
        else Text(f" {len(result.failures)} checks failed ", style="bold white on red")
    )
    body: list[Any] = [_facts(result), Text(), _chart(result), Text()]
    if result.replay.kills:
        told = (
            "done, unheard: on disk already, and the answer was cut off; the retry got it"
            if result.cuts_requests
            else "longest: how long any request waited; budget: seconds of the 315.6 s a year"
        )
        body += [_kills(result) if result.cuts_requests else _events(result), Text(told, style="dim"), Text()]
    body += [_checks(result), Text(), verdict]
    body += [Text(f"✗ {each}", style="red") for each in result.failures]
    console.print(Panel(Group(*body), title="[bold]fivenines demo[/]", width=_WIDTH, padding=(1, 2), box=box.ROUNDED))


def _facts(result: Result) -> Table:
    replay, report = result.replay, result.replay.report
    count, requests = len(replay.record.answers), len(replay.record.answered)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("books", Text(result.books))
    table.add_row("ledger", Text(f"in {result.place}"))
    table.add_row("replayed", f"[bold]{count:,}[/] transactions in {requests:,} requests over HTTP")
    table.add_row(
        "in", f"{result.replay_s:.1f} s, kills included: {count / result.replay_s:,.0f} a second; {_failed(result)}"
    )
    table.add_row("longest pause", f"[bold]{result.longest_pause_s:.2f} s[/] between two answers")
    if report is not None:
        table.add_row(
            "account-days",
            f"{report.exact:,} exact, {report.rounded:,} rounded by their publisher, "
            f"{report.contradictory:,} contradictory in themselves"
            + (", told one by one in demo.json" if report.contradictory else ""),
        )
    table.add_row("time", f"{result.total_s:.1f} s in all, {result.check_s:.1f} s of it for the checks")
    return table


def _kills(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("kill -9", style="bold red")
    table.add_column("what", no_wrap=True)
    for heading in ("after", "requests cut off", "done, unheard", "writing again in"):
        table.add_column(heading, justify="right")
    for number, kill in enumerate(result.replay.kills, 1):
        table.add_row(
            f"✗ {number}",
            kill.what,
            f"{kill.after:,}",
            f"{kill.cut_off} of {kill.requests}",
            f"{kill.decided_unheard:,}",
            f"{kill.recovery_s:.2f} s" if kill.recovery_s is not None else "never",
        )
    return table


def _events(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("killed", no_wrap=True)
    for heading in ("requests", "failed", "longest", "budget", "all back"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, kill in enumerate(result.replay.kills):
        noticed, whole = result.noticed(number), result.replay.whole_after_s
        table.add_row(
            Text.assemble((f"✗ {number + 1} ", "bold red"), kill.what),
            f"{noticed.requests:,}",
            f"{noticed.failed:,}",
            f"{noticed.longest_pause_s:.2f} s",
            f"{noticed.budget_s:.2f} s",
            f"{whole[number]:.1f} s" if number < len(whole) else "never",
        )
    return table


def _failed(result: Result) -> str:
    count = result.replay.failed_requests
    return f"{count:,} requests failed" if count else "no request failed"


def _chart(result: Result) -> Group:
    this = course(result)
    killed = kill_columns(this, columns=_COLUMNS)
    lines = []
    for label, line in bars(this, columns=_COLUMNS, rows=_ROWS):
        text = Text(f"{label:>8} ┤" if label else f"{'':8} │", style="dim")
        for column, character in enumerate(line):
            text.append(
                "┊" if column in killed and character == " " else character, "red" if column in killed else "blue"
            )
        lines.append(text)
    axis = Text(f"{'0':>8} └", style="dim")
    for column in range(_COLUMNS):
        axis.append("✗" if column in killed else "─", "bold red" if column in killed else "dim")
    end = f"{this.seconds:.1f} s"
    foot = Text(f"{'':9} 0 s{end:>{_COLUMNS - 3}}", style="dim")
    head = Text("acknowledged transactions per second; ", style="dim")
    head.append("✗ kill -9", "bold red")
    return Group(head, *lines, axis, foot)


def _checks(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("looked at", justify="right", no_wrap=True)
    table.add_column("wrong", justify="right")
    table.add_column("")
    for finding in result.findings.values():
        sign = "[green]✓[/]" if finding.passed else "[bold red]✗[/]"
        table.add_row(Text(finding.check), f"{finding.looked_at:,}", f"{finding.wrong:,}", sign)
    return table

"""The page: a summary fit for somebody who has one minute, then each drill for somebody who has an hour. Pure.

It is one file that asks nobody for anything: style and script are within it, and a policy in it forbids the browser to
load or run anything else. It reads without the script, which only filters the list of drills.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from fivenines.drill.reporting import figures
from fivenines.drill.reporting.formats import Report
from fivenines.drill.reporting.markup import Child, Markup, join, tag
from fivenines.drill.reporting.sections import anchor, badge, command, drill, grid, key_figures, repeat_all
from fivenines.drill.reporting.summary import PROMISES, Summary, summarize
from fivenines.drill.results import DrillResult

__all__ = ["page"]


def page(report: Report, *, sha256: str) -> str:
    """Write the page.

    Args:
        report: what it tells of.
        sha256: of the JSON that holds the same report, in hexadecimal.
    """
    summary = summarize(report.results)
    style, script = _part("style.css"), _part("page.js")
    common = _common(report.results)
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    html = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="generator", content="fivenines"),
            tag("meta", name="fivenines-json-sha256", content=sha256),
            tag("title", f"Drills: {_headline(summary)}"),
            tag("style", style),
        ),
        tag(
            "body",
            tag("a", "To the drills", href="#drills", class_="skip"),
            tag(
                "main",
                _summary(report, summary),
                _guarantees(report.results, summary),
                _list(report.results),
                _evidence(report, common, sha256),
                tag("h2", "Drill by drill", id="each"),
                *(drill(index, each, common=common) for index, each in enumerate(report.results)),
                _how(),
            ),
            tag(
                "footer",
                tag("p", f"Written {figures.clock(report.written_at)} from JSON with SHA-256 ", tag("code", sha256)),
                class_="page",
            ),
            tag("script", script),
        ),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{html}\n"


@cache
def _part(name: str) -> Markup:
    """Read a part of the page that lies beside this module; it must be fit for both HTML and XML."""
    return Markup(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _headline(summary: Summary) -> str:
    ran = summary.drills - summary.verdicts["skipped"] - summary.verdicts["refused"]
    bad = summary.verdicts["failed"] + summary.verdicts["stopped"]
    if summary.verdict == "failed":
        return "The drill did not pass" if ran == 1 else f"{bad} of {ran} drills did not pass"
    if not ran:
        return "No drill was carried out"
    if summary.verdict == "incomplete":
        return f"{summary.verdicts['passed']} of {figures.count(summary.drills, 'drill')} passed"
    return "The drill passed" if ran == 1 else f"All {ran} drills passed"


def _summary(report: Report, summary: Summary) -> Markup:
    kept = sum(each.state == "kept" for each in summary.guarantees)
    broken = sum(each.state == "broken" for each in summary.guarantees)
    told = ", ".join(f"{count} {verdict}" for verdict, count in summary.verdicts.items() if count) or "none"
    costs = [figures.money(value, currency) for currency, value in summary.costs.items()]
    sentence = (
        f"{figures.count(summary.requests, 'request')} were asked while things were broken on purpose. "
        f"{figures.count(summary.failed_requests)} failed. Of {figures.count(summary.acknowledged)} that were "
        f"acknowledged, {figures.count(summary.lost)} were lost, {figures.count(summary.doubled)} applied twice and "
        f"{figures.count(summary.reordered)} reordered. {kept} of {len(summary.guarantees)} guarantees were shown to "
        f"be kept{f', {broken} to be broken' if broken else ''}."
    )
    return tag(
        "section",
        tag("p", "fivenines · drill report", class_="eyebrow"),
        tag("h1", _headline(summary)),
        tag("p", badge(summary.verdict), tag("span", told, class_="soft"), class_="verdict"),
        tag("p", sentence, class_="lead"),
        key_figures(
            [
                ("drills", figures.count(summary.drills), False),
                ("failed requests", figures.count(summary.failed_requests), summary.failed_requests > 0),
                ("lost (RPO)", figures.count(summary.lost), summary.lost > 0),
                ("doubled", figures.count(summary.doubled), summary.doubled > 0),
                ("reordered", figures.count(summary.reordered), summary.reordered > 0),
                ("longest pause", figures.seconds(summary.longest_pause_s), False),
                ("longest recovery (RTO)", figures.seconds(summary.longest_recovery_s), False),
                ("availability", "–" if summary.availability is None else figures.share(summary.availability), False),
                ("error budget spent", figures.seconds(summary.budget_s), False),
                ("its cost", " + ".join(costs) or "–", False),
            ]
        ),
        tag(
            "p",
            f"{f'Began {figures.clock(summary.began_at)}, ' if summary.began_at else ''}"
            f"{figures.seconds(summary.took_s)} of drills. Written {figures.clock(report.written_at)}.",
            class_="soft",
        ),
        class_="summary",
    )


def _guarantees(results: Sequence[DrillResult], summary: Summary) -> Markup:
    rows: list[Sequence[Child]] = []
    for each in summary.guarantees:
        shown = each.broken_by or each.kept_by
        rows.append(
            (
                [tag("strong", each.guarantee), tag("span", PROMISES[each.guarantee], class_="soft block")],
                badge(each.state),
                _links(results, shown) if shown else "–",
            )
        )
    return tag(
        "section",
        tag("h2", "Guarantees", id="guarantees"),
        grid(("guarantee", "verdict", "shown by"), rows, class_="promises"),
    )


def _links(results: Sequence[DrillResult], numbers: Sequence[int]) -> list[Markup]:
    """Name each drill; by its number only, where there are too many to be read."""
    many = len(numbers) > 5
    links: list[Markup] = [join(f"{len(numbers)} drills: ")] if many else []
    for number in numbers:
        if links:
            links.append(join(" ") if many else join(", "))
        links.append(_link(number, results[number], text=f"{number + 1:02}" if many else ""))
    return links


def _link(number: int, result: DrillResult, *, text: str = "") -> Markup:
    """Link to a drill, by its name or by another text."""
    title = result.name if text else None
    return tag("a", tag("bdi", text or result.name), href=f"#{anchor(number, result.name)}", title=title)


def _list(results: Sequence[DrillResult]) -> Markup:
    rows: list[Sequence[Child]] = []
    for number, each in enumerate(results):
        recoveries = [one.recovery_s for one in each.recoveries if one.recovery_s is not None]
        ran = each.requests > 0
        rows.append(
            (
                [tag("span", f"{number + 1:02}", class_="soft number"), _link(number, each)],
                badge(each.verdict),
                _wrong(each.failed_requests) if ran else "–",
                _wrong(each.lost) if ran else "–",
                _wrong(each.doubled + each.reordered) if ran else "–",
                figures.seconds(each.longest_pause_s) if ran else "–",
                figures.seconds(max(recoveries, default=None)),
                figures.share(each.availability) if ran else "–",
                figures.seconds(each.budget_s) if ran else "–",
            )
        )
    return tag(
        "section",
        tag("h2", "Drills", id="drills"),
        grid(
            (
                *("drill", "verdict", "failed", "lost", "doubled, reordered", "longest pause"),
                *("recovery", "availability", "budget"),
            ),
            rows,
            class_="drills",
            numbers=range(2, 9),
        ),
    )


def _wrong(value: int) -> Markup:
    return tag("span", figures.count(value), class_="wrong" if value else None)


def _common(results: Sequence[DrillResult]) -> dict[str, str]:
    """Return the versions and the machine of the first drill that knows them, key by key."""
    common: dict[str, str] = {}
    for each in results:
        for key, value in (each.versions | each.machine).items():
            common.setdefault(key, value)
    return common


def _evidence(report: Report, common: dict[str, str], sha256: str) -> Markup:
    seeds = sorted({each.seed for each in report.results})
    seed = (
        ", ".join(str(each) for each in seeds)
        if len(seeds) <= 4
        else f"one of its own for each drill, from {seeds[0]} to {seeds[-1]}"
    )
    versions = {key: value for each in report.results for key, value in each.versions.items()}
    pairs = [
        *((key, common[key]) for key in versions),
        *((key, value) for key, value in common.items() if key not in versions),
        ("seed", seed),
        ("SHA-256 of drills-full.json", sha256),
        ("schema", str(report.schema)),
    ]
    return tag(
        "section",
        tag("h2", "Evidence", id="evidence"),
        tag("dl", *(tag("div", tag("dt", key), tag("dd", value)) for key, value in pairs), class_="pairs"),
        tag("h4", "To repeat it"),
        command("\n".join(report.commands or repeat_all(report.results))),
        tag("h4", "To check this page, and to write it anew from its JSON"),
        command(
            f"echo '{sha256}  drills-full.json' | sha256sum --check\n"
            "python -m fivenines.drill.reporting drills-full.json --out again"
        ),
    )


_DEFINITIONS = (
    (
        "availability",
        """The share of requests that were answered in time, of all that were due by the plan of the load. A request
        that goes out late because of a pause counts from when it was due, so no pause hides.""",
    ),
    (
        "recovery time (RTO)",
        """From the beginning of a fault until clients were served as before. Detect: until somebody saw it. Decide:
        until something was decided. Act: until that was done. Drain: until the last request that suffered from it was
        answered.""",
    ),
    ("recovery point (RPO)", "Transactions that were acknowledged and are not in the journal."),
    ("longest pause", "The longest that any request waited for its answer, from when it was due."),
    (
        "error budget",
        """Seconds' worth of requests that failed, or were answered after longer than a client should wait: their
        number, divided by the rate of the load.""",
    ),
    ("cost", "The budget spent, by the declared cost of downtime."),
    (
        "kept, broken, not tested",
        """Broken: one drill is enough. Kept: by a drill that came to its end, and none says otherwise. A drill that was
        stopped, refused or skipped shows nothing to be kept.""",
    ),
)
"""How each figure is defined; docs/report.md says it at length."""


def _how() -> Markup:
    return tag(
        "section",
        tag("h2", "How the figures are defined", id="definitions"),
        tag(
            "dl",
            *(join(tag("dt", key), tag("dd", " ".join(value.split()))) for key, value in _DEFINITIONS),
            class_="definitions",
        ),
    )

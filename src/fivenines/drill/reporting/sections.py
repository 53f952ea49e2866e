"""One drill on the page: what was done, its course as a picture, and all figures with what they rest on. Pure.

The order is that of an auditor's questions: what is claimed and does it hold; what was done to the platform; what did
clients see; how did it come back; was it in its steady state before, during and after; what was found to be wrong.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from fivenines.drill.reporting import figures
from fivenines.drill.reporting.course import columns
from fivenines.drill.reporting.markup import Child, Markup, tag
from fivenines.drill.reporting.timeline import NARROW, WIDE, timeline
from fivenines.drill.results import Checked, DrillResult, Moment, Recovery, Verdict

__all__ = ["anchor", "badge", "command", "drill", "grid", "key_figures", "repeat_all", "repeat_one"]

_SIGNS: Mapping[str, str] = {
    "passed": "M2.5 6.5L5 9L9.5 3.5",
    "kept": "M2.5 6.5L5 9L9.5 3.5",
    "failed": "M3 3L9 9M9 3L3 9",
    "broken": "M3 3L9 9M9 3L3 9",
    "stopped": "M3 3H9V9H3Z",
    "incomplete": "M6 2.5V7M6 9V9.6",
    "refused": "M2.5 6H9.5",
    "skipped": "M2.5 6H9.5",
    "not tested": "M2.5 6H9.5",
}
_LOOKS: Mapping[str, str] = {
    **dict.fromkeys(("passed", "kept"), "good"),
    **dict.fromkeys(("failed", "broken", "stopped"), "bad"),
}
_WHEN = ("before", "during", "after")
_SHARES = ("detect", "decide", "act", "drain")


def anchor(index: int, name: str) -> str:
    """Name the place of a drill on the page, by its number from 0."""
    letters = "".join(each if each.isascii() and each.isalnum() else "-" for each in name.lower())
    return f"drill-{index + 1}-{letters[:60]}".rstrip("-")


def badge(state: str) -> Markup:
    """Make a verdict with its sign, which says the same without colour."""
    sign = tag("svg", tag("path", d=_SIGNS[state]), viewBox="0 0 12 12", width=12, height=12, aria_hidden="true")
    return tag("span", sign, state, class_=f"badge {_LOOKS.get(state, 'none')}")


def grid(
    heads: Sequence[str], rows: Iterable[Sequence[Child]], *, class_: str = "", numbers: Sequence[int] = ()
) -> Markup:
    """Make a table that becomes a list of cards on a narrow page.

    Args:
        heads: of its columns.
        rows: of as many cells.
        class_: of the table.
        numbers: which columns hold numbers.
    """
    return tag(
        "table",
        tag(
            "thead",
            tag("tr", *(tag("th", head, scope="col", class_=_number(i, numbers)) for i, head in enumerate(heads))),
        ),
        tag(
            "tbody",
            *(
                tag(
                    "tr",
                    *(
                        tag(
                            "td",
                            tag("div", *cell) if isinstance(cell, list) else cell,
                            data_head=heads[i] or None,
                            class_=_number(i, numbers),
                        )
                        for i, cell in enumerate(row)
                    ),
                )
                for row in rows
            ),
        ),
        class_=class_ or None,
    )


def _number(index: int, numbers: Sequence[int]) -> str | None:
    return "n" if index in numbers else None


def key_figures(pairs: Iterable[tuple[str, str, bool]]) -> Markup:
    """Make a row of figures: what it is, its value, and whether that is wrong."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", what), tag("dd", value, class_="wrong" if wrong else None))
            for what, value, wrong in pairs
        ),
        class_="figures",
    )


def command(text: str) -> Markup:
    """Make a line to be typed."""
    return tag("pre", tag("code", text), class_="command")


def repeat_one(result: DrillResult) -> str:
    """Write the command that repeats one drill."""
    return _run([result.name], result.rate_per_s, result.seed)


def repeat_all(results: Sequence[DrillResult]) -> list[str]:
    """Write the commands that repeat all drills, one for those of the same seed and rate together."""
    alike: dict[tuple[float, int], list[str]] = {}
    # A drill that did not begin has no rate: it goes with the others of its seed.
    rates = {each.seed: each.rate_per_s for each in results if each.rate_per_s}
    for each in results:
        alike.setdefault((each.rate_per_s or rates.get(each.seed, 0.0), each.seed), []).append(each.name)
    return [_run(names, rate, seed) for (rate, seed), names in alike.items()]


def _run(names: Sequence[str], rate_per_s: float, seed: int) -> str:
    rate = f" --rate {rate_per_s:.6g}" if rate_per_s else ""
    return f"fivenines drill run {' '.join(shlex.quote(each) for each in names)}{rate} --seed {seed}"


def drill(index: int, result: DrillResult, *, common: Mapping[str, str]) -> Markup:
    """Write all of one drill.

    Args:
        index: its number, from 0.
        result: what came of it.
        common: the versions and the machine that the page tells of once; only what differs is told here.
    """
    id = anchor(index, result.name)
    return tag(
        "article",
        tag(
            "header",
            tag("p", f"{index + 1:02} · ", tag("span", result.name, class_="mono"), class_="eyebrow"),
            tag("h3", tag("bdi", result.title or result.name), id=f"{id}-head"),
            badge(result.verdict),
            tag("p", result.description, class_="lead") if result.description else None,
        ),
        _reasons(result),
        _findings(result) if result.findings else None,
        key_figures(_figures(result)) if result.requests or result.slices else None,
        _course(result, id) if result.slices or result.moments else None,
        _recoveries(result.recoveries) if result.recoveries else None,
        _done(result.moments) if result.moments else None,
        _hypothesis(result.checked) if result.checked else None,
        _guarantees(result) if result.guarantees else None,
        _foot(result, common),
        id=id,
        class_=f"drill {_LOOKS.get(result.verdict, 'none')}",
        data_verdict=result.verdict,
        aria_labelledby=f"{id}-head",
    )


def _reasons(result: DrillResult) -> Markup | None:
    if not result.reasons:
        return None
    heads: Mapping[Verdict, str] = {
        "passed": "Told",
        "failed": "Why it failed",
        "stopped": "Why it was stopped",
        "refused": "Why it did not begin",
        "skipped": "Why it was left out",
    }
    return tag(
        "section",
        tag("h4", heads[result.verdict]),
        tag("ul", *(tag("li", reason) for reason in result.reasons)),
        class_=f"note {_LOOKS.get(result.verdict, 'none')}",
    )


def _figures(result: DrillResult) -> list[tuple[str, str, bool]]:
    recoveries = [one.recovery_s for one in result.recoveries if one.recovery_s is not None]
    return [
        ("availability, as a user saw it", figures.share(result.availability), False),
        ("longest pause", figures.seconds(result.longest_pause_s), False),
        ("recovery time (RTO)", figures.seconds(max(recoveries, default=None)), False),
        ("recovery point (RPO)", f"{figures.count(result.lost)} lost", result.lost > 0),
        ("failed requests", figures.count(result.failed_requests), result.failed_requests > 0),
        ("turned away clearly", figures.count(result.refused_requests), False),
        ("doubled", figures.count(result.doubled), result.doubled > 0),
        ("reordered", figures.count(result.reordered), result.reordered > 0),
        ("error budget spent", figures.seconds(result.budget_s), False),
        ("its cost", figures.money(result.cost, result.currency), False),
        ("requests", figures.count(result.requests), False),
        ("acknowledged", figures.count(result.acknowledged), False),
    ]


def _findings(result: DrillResult) -> Markup:
    return tag(
        "section",
        tag("h4", "Findings"),
        *(
            tag(
                "div",
                tag("p", tag("strong", one.kind), f" · breaks “{one.guarantee}”", class_="kind"),
                tag("p", one.what),
                tag("p", "The smallest history that shows it:", class_="soft") if one.history else None,
                tag("ol", *(tag("li", line) for line in one.history), class_="history") if one.history else None,
                class_="finding",
            )
            for one in result.findings
        ),
        class_="findings",
    )


def _course(result: DrillResult, id: str) -> Markup:
    keys = [
        ("answered", "answered"),
        ("asked", "asked"),
        ("failed", "failed"),
        ("p50", "p50"),
        ("p99", "p99"),
        ("longest", "longest"),
        ("fault", "a fault in force"),
    ]
    wide = columns(result.slices, WIDE.columns)
    many = len(result.slices) > len(wide)
    width = figures.seconds(wide[0].until - wide[0].at) if wide else ""
    return tag(
        "figure",
        tag("h4", "Course"),
        tag("div", timeline(result, name=f"{id}-w", size=WIDE), class_="wide"),
        tag("div", timeline(result, name=f"{id}-n", size=NARROW), class_="narrow"),
        tag(
            "figcaption",
            tag("span", *(tag("span", _key(each), text, class_="key") for each, text in keys), class_="keys"),
            "Time is in seconds since the drill began."
            + (f" Each step is {width}." if wide else "")
            + (
                f" {len(result.slices):,} slices are drawn together: counts are added, p99 and longest are the highest."
                if many
                else ""
            ),
        ),
    )


def _key(kind: str) -> Markup:
    if kind in {"answered", "failed", "fault"}:
        shape = tag("rect", x=1, y=2, width=14, height=8, rx=1, class_=kind)
    else:
        shape = tag("path", d="M0 6H16", class_=f"line {kind}" if kind != "asked" else "asked")
    return tag("svg", shape, viewBox="0 0 16 12", width=16, height=12, aria_hidden="true")


def _recoveries(recoveries: Sequence[Recovery]) -> Markup:
    most = max((sum(_parts(each).values()) for each in recoveries), default=0.0)
    heads = (
        *("fault", "detect", "decide", "act", "drain", "recovered after", "whole after"),
        *("longest pause", "failed", "budget"),
    )
    rows: list[Sequence[Child]] = [
        (
            [tag("strong", each.fault), tag("span", each.target, class_="soft block"), _bar(each, most), _facts(each)],
            *(figures.seconds(getattr(each, f"{part}_s")) for part in _SHARES),
            tag("strong", figures.seconds(each.recovery_s)),
            figures.seconds(each.whole_after_s),
            figures.seconds(each.longest_pause_s),
            tag("span", figures.count(each.failed), class_="wrong" if each.failed else None),
            figures.seconds(each.budget_s),
        )
        for each in recoveries
    ]
    keys = (
        tag(
            "span",
            tag(
                "svg",
                tag("rect", x=1, y=2, width=14, height=8, class_=part),
                viewBox="0 0 16 12",
                width=16,
                height=12,
                aria_hidden="true",
            ),
            part,
            class_="key",
        )
        for part in _SHARES
    )
    return tag(
        "section",
        tag("h4", "Recovery"),
        grid(heads, rows, class_="recovery", numbers=range(1, 10)),
        tag("p", tag("span", *keys, class_="keys"), "–: nobody had to, or it could not be seen.", class_="caption"),
    )


def _parts(each: Recovery) -> dict[str, float]:
    told = {part: getattr(each, f"{part}_s") or 0.0 for part in _SHARES}
    return {part: value for part, value in told.items() if 0 < value < float("inf")}


def _bar(each: Recovery, most: float) -> Markup | None:
    """Stack detect, decide, act and drain; the longest of the drill takes all of the width."""
    parts = _parts(each)
    if not parts:
        return None
    x = 0.0
    drawn = []
    for part, value in parts.items():
        width = value / most * 240
        drawn.append(tag("rect", x=x, y=0, width=max(1.0, width - 1), height=10, class_=part))
        x += width
    told = ", ".join(f"{part} {figures.seconds(value)}" for part, value in parts.items())
    return tag(
        "svg",
        tag("title", told),
        *drawn,
        viewBox="0 0 240 10",
        width=240,
        height=10,
        class_="stack",
        role="img",
        preserveAspectRatio="none",
    )


def _facts(each: Recovery) -> Markup | None:
    if not each.facts:
        return None
    told = {
        key.removesuffix("_s").replace("_", " "): figures.seconds(value) if key.endswith("_s") else f"{value:,.6g}"
        for key, value in each.facts.items()
    }
    return tag("span", ", ".join(f"{key}: {value}" for key, value in told.items()), class_="soft block")


def _done(moments: Sequence[Moment]) -> Markup:
    rows = [
        (
            figures.offset(each.at),
            each.kind,
            [
                tag("strong", each.what) if each.kind in {"fault", "fault over", "stopped"} else each.what,
                tag("span", each.why, class_="soft block") if each.why else None,
            ],
            each.target,
            each.region,
            figures.seconds(each.took_s) if each.took_s is not None else "",
        )
        for each in sorted(moments, key=lambda one: one.at)
    ]
    return tag(
        "section",
        tag("h4", "What was done, and what the platform did"),
        grid(("at", "kind", "what", "target", "region", "took"), rows, class_="moments", numbers=(0, 5)),
    )


def _hypothesis(checked: Sequence[Checked]) -> Markup:
    probes = list(dict.fromkeys((each.probe, each.tolerance) for each in checked))
    rows = [
        (
            probe,
            tolerance,
            *(
                _held([one for one in checked if (one.probe, one.tolerance, one.when) == (probe, tolerance, when)])
                for when in _WHEN
            ),
        )
        for probe, tolerance in probes
    ]
    return tag(
        "section",
        tag("h4", "Hypothesis"),
        grid(("probe", "wanted", *_WHEN), rows, class_="hypothesis"),
    )


def _held(checked: Sequence[Checked]) -> Child:
    if not checked:
        return "–"
    wrong = [each for each in checked if not each.holds]
    if not wrong:
        times = f" ({len(checked):,} times)" if len(checked) > 1 else ""
        return [tag("span", "holds", class_="held"), tag("span", f"{checked[-1].value}{times}", class_="soft block")]
    first = wrong[0]
    return [
        tag("span", f"fails {len(wrong):,} of {len(checked):,} times", class_="wrong"),
        tag("span", f"first at {figures.offset(first.at)}: {first.value}", class_="soft block"),
    ]


def _guarantees(result: DrillResult) -> Markup:
    rows = [(each.guarantee, badge("kept" if each.is_kept else "broken"), each.why) for each in result.guarantees]
    return tag(
        "section",
        tag("h4", "Guarantees"),
        grid(("guarantee", "verdict", "what was looked at"), rows, class_="verdicts"),
    )


def _foot(result: DrillResult, common: Mapping[str, str]) -> Markup:
    own = {key: value for key, value in (result.machine | result.versions).items() if common.get(key) != value}
    told = [
        f"Began {figures.clock(result.began_at)}" if result.began_at else None,
        f"took {figures.seconds(result.took_s)}" if result.took_s else None,
        f"{figures.count(result.rate_per_s)} requests per second" if result.rate_per_s else None,
        f"seed {result.seed}",
        *(f"{key} {value}" for key, value in own.items()),
        f"tags: {', '.join(result.tags)}" if result.tags else None,
    ]
    return tag(
        "footer",
        tag("p", " · ".join(each for each in told if each), class_="soft"),
        command(repeat_one(result)),
    )

"""One drill on one axis of time, as SVG: faults, what was seen and done, throughput, latency, availability. Pure.

From top to bottom: the faults as bars, shaded down through everything below; a line for each kind of moment, with a
mark of its own shape; requests per second, with those that failed on top of those that were answered; latency on a
logarithmic scale; how many were answered in time; the axis. Colours are classes, so the page's style says what they
are on a light and a dark ground; nothing is told by colour alone. It is drawn twice, wide and narrow, and the page
shows the one that fits, so that text is never scaled down.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fivenines.drill.chart import nice_ceiling
from fivenines.drill.reporting import figures
from fivenines.drill.reporting.course import (
    Band,
    Column,
    bands,
    columns,
    ends_at,
    fit,
    is_time,
    lanes,
    shortened,
    text_width,
)
from fivenines.drill.reporting.markup import Markup, join, number, tag
from fivenines.drill.results import DrillResult, Moment

__all__ = ["Size", "described", "timeline"]

_TEXT = 11.0
_ROWS: tuple[tuple[str, str], ...] = (
    ("detected", "detected"),
    ("decided", "decided"),
    ("done", "done"),
    ("recovered", "recovered"),
    ("stopped", "stopped"),
)
_SHAPES = {
    "detected": "M0 -4.5L4.5 0L0 4.5L-4.5 0Z",
    "decided": "M-4 3.5L0 -4.5L4 3.5Z",
    "done": "M-3.5 -3.5H3.5V3.5H-3.5Z",
    "recovered": "M-4.5 0A4.5 4.5 0 1 1 4.5 0A4.5 4.5 0 1 1 -4.5 0Z",
    "stopped": "M-4 -4L4 4M4 -4L-4 4",
    "holds": "M0 -3.5V3.5",
    "fails": "M-3.5 -3.5L3.5 3.5M3.5 -3.5L-3.5 3.5",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How wide a picture is, and what of that is for what."""

    width: float
    left: float
    right: float
    columns: int

    @property
    def end(self) -> float:
        """Where the plots end."""
        return self.width - self.right


WIDE = Size(width=860, left=86, right=50, columns=240)
NARROW = Size(width=360, left=74, right=46, columns=120)


@dataclass(frozen=True, slots=True)
class _Time:
    size: Size
    begin: float
    end: float

    def x(self, at: float) -> float:
        """Where a time is; within the plot, whatever it is."""
        share = (at - self.begin) / (self.end - self.begin) if is_time(at) else 1.0
        return self.size.left + min(1.0, max(0.0, share)) * (self.size.end - self.size.left)


def timeline(result: DrillResult, *, name: str, size: Size = WIDE) -> Markup:
    """Draw a drill.

    Args:
        result: what came of it.
        name: begins the ids in the picture; of letters, digits and hyphens.
        size: of the picture.
    """
    end = ends_at(result)
    cols = columns(result.slices, size.columns)
    time = _Time(size, min([0.0, *(each.at for each in cols)]), end)
    faults = bands(result.moments, end)
    parts: list[Markup] = []
    y = 8.0
    bars, below = _faults(faults, time, y)
    y = below
    for kind, label in _ROWS:
        marks = [each for each in result.moments if each.kind == kind]
        if marks:
            parts.append(_row(kind, label, marks, time, y))
            y += 20
    if result.checked:
        parts.append(_hypothesis(result, time, y))
        y += 20
    if cols:
        parts.append(_throughput(cols, time, y + 26, 104))
        y += 26 + 104
        parts.append(_latency(cols, time, y + 32, 124))
        y += 32 + 124
        parts.append(_in_time(cols, result, time, y + 18))
        y += 18 + 12
    parts.append(_axis(time, y + 2))
    height = y + 24
    # Below all bars: a line through the labels of others would make them hard to read.
    shades = [_shade(band, time, below - 10, y + 2) for band in faults]
    return tag(
        "svg",
        tag("title", f"The course of {result.title}", id=f"{name}-title"),
        tag("desc", described(result, faults, end), id=f"{name}-desc"),
        shades,
        bars,
        parts,
        viewBox=f"0 0 {number(size.width)} {number(height)}",
        width=size.width,
        height=height,
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def described(result: DrillResult, faults: Sequence[Band], end: float) -> str:
    """Say in words what the picture shows."""
    told = [
        (
            f"{figures.seconds(end)} at {figures.count(result.rate_per_s, 'request')} per second; "
            f"{figures.count(result.failed_requests)} failed, longest pause {figures.seconds(result.longest_pause_s)}, "
            f"availability {figures.share(result.availability)}."
        )
    ]
    told += [
        f"Fault: {_named(each.what, each.target)}, from {figures.offset(each.at)} to {figures.offset(each.until)}."
        for each in faults[:12]
    ]
    told += [
        f"{each.kind.capitalize()} at {figures.offset(each.at)}: {_named(each.what, each.target)}."
        for each in result.moments[:40]
        if each.kind in _SHAPES
    ]
    return " ".join(told)


def _named(what: str, target: str) -> str:
    return f"{what}: {target}" if target else what


def _text(x: float, y: float, text: str, *, anchor: str | None = None, class_: str | None = None) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def _faults(faults: Sequence[Band], time: _Time, y: float) -> tuple[list[Markup], float]:
    """Draw the bars, each with its label inside, or beside it where it is too short."""
    size = time.size
    spans, labels = [], []
    for band in faults:
        left, right = time.x(band.at), max(time.x(band.until), time.x(band.at) + 3)
        text = _named(band.what, band.target)
        width = text_width(text, _TEXT) + 10
        if right - left >= width:
            spans.append((left, right))
            labels.append((left + 6, text, "start"))
        elif right + width <= size.width:
            spans.append((left, right + width))
            labels.append((right + 5, text, "start"))
        elif left - width >= size.left:
            spans.append((left - width, right))
            labels.append((left - 5, text, "end"))
        elif size.width - right > right - left:
            short = shortened(text, size.width - right - 6, _TEXT)
            spans.append((left, size.width))
            labels.append((right + 5, short, "start"))
        else:
            spans.append((left, right))
            labels.append((left + 6, shortened(text, right - left - 10, _TEXT), "start"))
    given = lanes(spans)
    drawn: list[Markup] = []
    if faults:
        drawn.append(_text(size.left - 12, y + 13, "fault" if len(faults) == 1 else "faults", anchor="end"))
    for band, (x, text, anchor), lane in zip(faults, labels, given, strict=True):
        top = y + lane * 22
        left, right = time.x(band.at), time.x(band.until)
        told = f"{_named(band.what, band.target)}, {figures.offset(band.at)} to {figures.offset(band.until)}"
        drawn.append(
            tag(
                "g",
                tag("title", told),
                tag("rect", x=left, y=top, width=max(3.0, right - left), height=18, rx=3, class_="fault"),
                _text(x, top + 13, text, anchor=anchor, class_="on") if text else None,
            )
        )
    return drawn, y + 22 * (max(given, default=-1) + 1) + (6 if faults else 0)


def _shade(band: Band, time: _Time, top: float, bottom: float) -> Markup:
    left = time.x(band.at)
    width = max(1.0, time.x(band.until) - left)
    return join(
        tag("rect", x=left, y=top, width=width, height=bottom - top, class_="shade"),
        tag("path", d=f"M{number(left)} {number(top)}V{number(bottom)}", class_="edge"),
    )


def _row(kind: str, label: str, moments: Iterable[Moment], time: _Time, y: float) -> Markup:
    """Draw a line of marks; those that would cover each other are one, with how many it stands for."""
    groups: list[list[Moment]] = []
    for each in sorted(moments, key=lambda one: one.at if math.isfinite(one.at) else math.inf):
        if groups and time.x(each.at) - time.x(groups[-1][0].at) < 12:
            groups[-1].append(each)
        else:
            groups.append([each])
    at = [time.x(group[0].at) for group in groups]
    texts = [_grouped(group) for group in groups]
    placed = fit(at, texts, left=time.size.left, right=time.size.width, size=_TEXT)
    return join(
        _text(time.size.left - 12, y + 13, label, anchor="end"),
        (
            tag(
                "g",
                tag("title", "; ".join(f"{figures.offset(one.at)}: {_named(one.what, one.target)}" for one in group)),
                tag(
                    "path", d=_SHAPES[kind], transform=f"translate({number(x)} {number(y + 9)})", class_=f"mark {kind}"
                ),
                _text(spot.x, y + 13, spot.text, anchor=spot.anchor, class_="on") if spot else None,
            )
            for group, x, spot in zip(groups, at, placed, strict=True)
        ),
    )


def _grouped(group: Sequence[Moment]) -> str:
    first = group[0]
    where = f" ({first.region})" if first.region and len(group) == 1 else ""
    more = f" +{len(group) - 1}" if len(group) > 1 else ""
    return f"{first.what}{where}{more}"


def _hypothesis(result: DrillResult, time: _Time, y: float) -> Markup:
    """Draw a tick for each time at which all probes held, and a cross for each at which one did not."""
    holds: dict[int, bool] = {}
    for each in result.checked:
        x = round(time.x(each.at) / 4) * 4
        holds[x] = holds.get(x, True) and each.holds
    good = "".join(f"M{x} {number(y + 5.5)}v7" for x, held in sorted(holds.items()) if held)
    bad = "".join(
        f"M{number(x - 3.5)} {number(y + 5.5)}l7 7m0 -7l-7 7" for x, held in sorted(holds.items()) if not held
    )
    return join(
        _text(time.size.left - 12, y + 13, "hypothesis", anchor="end"),
        tag("path", d=good, class_="mark holds") if good else None,
        tag("path", d=bad, class_="mark fails") if bad else None,
    )


def _throughput(cols: Sequence[Column], time: _Time, y: float, height: float) -> Markup:
    top = nice_ceiling(max(each.per_s for each in cols))
    base = y + height

    def at(value: float) -> float:
        return base - value / top * height

    def answered(each: Column) -> float:
        return (each.asked - each.failed) / (each.until - each.at)

    failed = "".join(
        f"M{number(time.x(each.at))} {number(base)}V{number(min(at(each.failed / (each.until - each.at)), base - 4))}"
        f"H{number(max(time.x(each.until), time.x(each.at) + 1.5))}V{number(base)}Z"
        for each in cols
        if each.failed
    )
    return join(
        _text(time.size.left, y - 8, "requests per second", class_="name"),
        _grid(time, [(at(top * part / 2), f"{top * part / 2:,.4g}" if part else "0") for part in range(3)]),
        tag("path", d=_steps(cols, time, lambda each: at(answered(each)), base), class_="answered"),
        tag("path", d=_steps(cols, time, lambda each: at(each.per_s), None), class_="asked"),
        tag("path", d=failed, class_="failed") if failed else None,
    )


def _latency(cols: Sequence[Column], time: _Time, y: float, height: float) -> Markup:
    seen = [value for each in cols for value in (each.p50_ms, each.longest_ms) if 1e-3 <= value <= 1e7]
    low = math.floor(math.log10(min(seen, default=1.0)))
    high = max(low + 1, math.ceil(math.log10(max(seen, default=10.0)) - 1e-9))
    base = y + height

    def at(value: float) -> float:
        power = min(high, max(low, math.log10(value))) if 0 < value < math.inf else high if value > 0 else low
        return base - (power - low) / (high - low) * height

    lines = (("longest", "longest"), ("p99", "p99"), ("p50", "p50"))
    values: dict[str, Callable[[Column], float]] = {
        "longest": lambda each: each.longest_ms,
        "p99": lambda each: each.p99_ms,
        "p50": lambda each: each.p50_ms,
    }
    full = [each for each in cols if each.asked]
    names = (
        sorted(((at(values[key](full[-1])), key, text) for key, text in lines), key=lambda one: one[0]) if full else []
    )
    placed: list[tuple[float, str, str]] = []
    for spot, key, text in names:
        placed.append((max(spot, placed[-1][0] + 12) if placed else spot, key, text))
    return join(
        _text(time.size.left, y - 8, "latency", class_="name"),
        _grid(time, [(at(10.0**power), _duration(power)) for power in range(low, high + 1)]),
        (
            tag("path", d=_steps(full, time, lambda each, key=key: at(values[key](each)), None), class_=f"line {key}")  # type: ignore[misc]
            for key, _ in lines
        ),
        (_text(time.size.end + 5, spot + 4, text, class_=f"end {key}") for spot, key, text in placed),
    )


def _duration(power: int) -> str:
    return f"{10.0**power:g} ms" if power < 3 else f"{10.0 ** (power - 3):g} s"


def _in_time(cols: Sequence[Column], result: DrillResult, time: _Time, y: float) -> Markup:
    """Draw a strip, from which is cut, from above, the share that was not answered in time."""
    good, bad = [], []
    for each in cols:
        left, right = time.x(each.at), time.x(each.until)
        cut = 0.0 if each.in_time >= 1 else max(3.0, (1 - each.in_time) * 12)
        if cut < 12:
            good.append(f"M{number(left)} {number(y + cut)}H{number(right)}V{number(y + 12)}H{number(left)}Z")
        if cut:
            bad.append(
                f"M{number(left)} {number(y)}H{number(max(right, left + 1.5))}V{number(y + cut)}H{number(left)}Z"
            )
    return join(
        _text(time.size.left - 12, y + 10, "in time", anchor="end"),
        tag("path", d="".join(good), class_="good") if good else None,
        tag("path", d="".join(bad), class_="failed") if bad else None,
        _text(time.size.end + 5, y + 10, figures.share(result.availability).replace(" %", "%"), class_="end")
        if text_width(figures.share(result.availability), _TEXT) < time.size.right + 6
        else None,
    )


def _steps(cols: Sequence[Column], time: _Time, at: Callable[[Column], float], base: float | None) -> str:
    """Draw steps over columns that follow each other, closed down to `base` if there is one."""
    drawn: list[str] = []
    last: Column | None = None
    for each in cols:
        left, y, right = number(time.x(each.at)), number(at(each)), number(time.x(each.until))
        if last is None or each.at - last.until > 1e-3 + (last.until - last.at) / 2:
            if drawn and base is not None:
                drawn.append(f"V{number(base)}Z")
            drawn.append(f"M{left} {y if base is None else number(base)}")
        drawn.append(f"V{y}H{right}")
        last = each
    if drawn and base is not None:
        drawn.append(f"V{number(base)}Z")
    return "".join(drawn)


def _grid(time: _Time, ticks: Iterable[tuple[float, str]]) -> Markup:
    left, right = number(time.size.left), number(time.size.end)
    return join(
        *(
            join(
                tag("path", d=f"M{left} {number(y)}H{right}", class_="grid"),
                _text(time.size.left - 12, y + 4, text, anchor="end"),
            )
            for y, text in ticks
        )
    )


def _axis(time: _Time, y: float) -> Markup:
    span = time.end - time.begin
    step = nice_ceiling(span / (10 if time.size.width > 500 else 5), steps=(1, 2, 5, 10))
    first = math.ceil(time.begin / step)
    ticks = [index * step for index in range(first, math.floor(time.end / step + 1e-9) + 1)]
    return join(
        tag("path", d=f"M{number(time.size.left)} {number(y)}H{number(time.size.end)}", class_="axis"),
        *(
            join(
                tag("path", d=f"M{number(time.x(at))} {number(y)}v4", class_="axis"),
                _text(time.x(at), y + 17, f"{at:,.10g} s", anchor="middle"),
            )
            for at in ticks
        ),
    )

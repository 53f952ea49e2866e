"""The course of a drill as a picture: transactions per second over time, with the kills marked.

Pure: from numbers to text. `bars` draws with block characters for a terminal, `svg` a picture of its own that needs no
font, no script and no background but its own, so it reads the same on a light and on a dark page.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

__all__ = ["Course", "Mark", "bars", "kill_columns", "nice_ceiling", "svg"]

_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Mark:
    """A kill."""

    at_s: float
    back_at_s: float
    """When the first write after it was acknowledged."""
    what: str = "the ledger"
    """What was killed."""


@dataclass(frozen=True, slots=True)
class Course:
    """What happened when; times in seconds since the start."""

    seconds: float
    acknowledged: Sequence[tuple[float, int]]
    """When how many transactions were acknowledged, ascending by time."""
    kills: Sequence[Mark]

    def rates(self, bins: int) -> list[float]:
        """Transactions per second in each of so many equal parts of the time."""
        width = self.seconds / bins
        counts = [0] * bins
        for at, count in self.acknowledged:
            counts[min(bins - 1, int(at / width))] += count
        return [count / width for count in counts]


def bars(course: Course, *, columns: int, rows: int) -> list[tuple[str, str]]:
    """Draw the chart as lines of text: an axis label, and as many block characters as there are columns."""
    rates = course.rates(columns)
    top = nice_ceiling(max(rates))
    lines = []
    for row in range(rows, 0, -1):
        label = f"{top * row / rows:,.0f}" if row in {rows, rows // 2} else ""
        heights = (round(rate / top * rows * 8) - (row - 1) * 8 for rate in rates)
        lines.append((label, "".join(_BLOCKS[max(0, min(8, height))] for height in heights)))
    return lines


def kill_columns(course: Course, *, columns: int) -> list[int]:
    """In which columns of `bars` the kills are."""
    return [min(columns - 1, int(kill.at_s / course.seconds * columns)) for kill in course.kills]


def nice_ceiling(value: float, *, steps: Sequence[float] = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)) -> float:
    """Round up to one of the steps times a power of ten: an axis ends there. The last step is 10."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in steps if step * power >= value * 0.999_999)


_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 76.0, 732.0, 124.0, 266.0
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"
_INK, _SOFT, _LINE, _BLUE, _RED, _GREEN = "#1f2328", "#59636e", "#e4e8ec", "#2563eb", "#cf222e", "#1a7f37"


def svg(
    course: Course, *, title: str, subtitle: str, verdict: str, good: bool, figures: Sequence[tuple[str, str]]
) -> str:
    """Draw the chart as SVG.

    Args:
        course: what happened.
        title: the headline.
        subtitle: a line below it.
        verdict: a few words for the corner.
        good: whether the verdict is a good one.
        figures: numbers, and what they are, for the foot; up to five.
    """
    rates = course.rates(112)
    top = nice_ceiling(max(rates))
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
            f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="title about" font-family="{_FONT}">'
        ),
        f'<title id="title">{escape(title)}</title><desc id="about">{escape(_described(course, figures))}</desc>',
        (
            '<defs><linearGradient id="fade" x1="0" y1="0" x2="0" y2="1">'
            f'<stop offset="0" stop-color="{_BLUE}" stop-opacity=".34"/>'
            f'<stop offset="1" stop-color="{_BLUE}" stop-opacity=".05"/></linearGradient></defs>'
        ),
        f'<rect x=".5" y=".5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="12" fill="#fff" stroke="#d0d7de"/>',
        _text(28, 40, title, size=18, fill=_INK, weight=600),
        _text(28, 62, subtitle, size=13, fill=_SOFT),
        _text(28, _TOP - 14, "acknowledged per second", size=11, fill=_SOFT),
        *_pill(verdict, good=good),
        *_grid(top),
        *_seconds(course.seconds),
        *_kill_bands(course),
        *_curve(rates, top),
        *_kill_lines(course),
        *_figures(figures),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, *, size: int, fill: str, weight: int = 400, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _pill(verdict: str, *, good: bool) -> Iterable[str]:
    width = 7.2 * len(verdict) + 44
    color, ground = (_GREEN, "#dafbe1") if good else (_RED, "#ffebe9")
    left = _RIGHT - width
    yield f'<rect x="{left:.1f}" y="22" width="{width:.1f}" height="28" rx="14" fill="{ground}"/>'
    sign = "M-5 0l3.5 4l6.5 -8" if good else "M-4 -4l8 8M4 -4l-8 8"
    yield f'<path d="{sign}" transform="translate({left + 18:.1f} 36)" fill="none" stroke="{color}" stroke-width="2"/>'
    yield _text(left + 30, 40.5, verdict, size=13, fill=color, weight=600)


def _x(at_s: float, seconds: float) -> float:
    return _LEFT + at_s / seconds * (_RIGHT - _LEFT)


def _grid(top: float) -> Iterable[str]:
    for part in range(4):
        y = _BOTTOM - part / 3 * (_BOTTOM - _TOP)
        yield f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="{_LINE}" stroke-width="1"/>'
        if part in {0, 3}:
            yield _text(_LEFT - 8, y + 4, f"{top * part / 3:,.0f}", size=11, fill=_SOFT, anchor="end")


def _seconds(seconds: float) -> Iterable[str]:
    step = nice_ceiling(seconds / 8, steps=(1, 2, 5, 10))
    for count in range(int(seconds / step) + 1):
        yield _text(
            _x(count * step, seconds), _BOTTOM + 18, f"{count * step:g} s", size=11, fill=_SOFT, anchor="middle"
        )


def _curve(rates: Sequence[float], top: float) -> Iterable[str]:
    width = (_RIGHT - _LEFT) / len(rates)
    points = [
        (_LEFT + (index + 0.5) * width, _BOTTOM - rate / top * (_BOTTOM - _TOP)) for index, rate in enumerate(rates)
    ]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    first, last = points[0][0], points[-1][0]
    yield f'<path d="M{first:.1f} {_BOTTOM}L{line}L{last:.1f} {_BOTTOM}Z" fill="url(#fade)"/>'
    yield f'<path d="M{line}" fill="none" stroke="{_BLUE}" stroke-width="1.6" stroke-linejoin="round"/>'


def _kill_bands(course: Course) -> Iterable[str]:
    for kill in course.kills:
        left, right = _x(kill.at_s, course.seconds), _x(kill.back_at_s, course.seconds)
        yield (
            f'<rect x="{left:.1f}" y="{_TOP}" width="{max(1.0, right - left):.1f}" height="{_BOTTOM - _TOP:.1f}" '
            f'fill="{_RED}" fill-opacity=".08"/>'
        )


def _kill_lines(course: Course) -> Iterable[str]:
    starts = [_x(kill.at_s, course.seconds) for kill in course.kills]
    taken_until = 0.0
    for kill, (x, following) in zip(course.kills, pairwise([*starts, math.inf]), strict=True):
        yield f'<path d="M{x:.1f} {_TOP - 8}V{_BOTTOM}" stroke="{_RED}" stroke-width="1.6" stroke-dasharray="4 3"/>'
        back_in = f"{kill.back_at_s - kill.at_s:.2f} s"
        # The longest that leaves room for the next one; where kills are close together, what there is room for.
        for label in (f"kill -9: {kill.what}, {back_in}", f"{kill.what}: {back_in}", back_in):
            width = 6.3 * len(label)
            left = min(x - 4, _RIGHT - width)
            ends = left + width + 6
            if left > taken_until and (ends < following - 4 or label == back_in):
                yield _text(left, _TOP - 14, label, size=12, fill=_RED, weight=600)
                taken_until = ends
                break


def _figures(figures: Sequence[tuple[str, str]]) -> Iterable[str]:
    yield f'<path d="M28 {_BOTTOM + 36}H{_RIGHT}" stroke="{_LINE}"/>'
    width = (_RIGHT - 28) / max(1, len(figures))
    for index, (number, what) in enumerate(figures):
        yield _text(28 + index * width, _BOTTOM + 68, number, size=20, fill=_INK, weight=600)
        yield _text(28 + index * width, _BOTTOM + 88, what, size=12, fill=_SOFT)


def _described(course: Course, figures: Sequence[tuple[str, str]]) -> str:
    kills = ", ".join(f"at {kill.at_s:.1f} s" for kill in course.kills) or "never"
    told = "; ".join(f"{what}: {number}" for number, what in figures)
    return f"Transactions per second over {course.seconds:.1f} seconds. Killed: {kills}. {told}."

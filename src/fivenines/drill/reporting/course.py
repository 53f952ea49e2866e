"""The course of a drill, made fit to be drawn: columns, bands, marks, and labels that do not run into each other. Pure.

A drill may have thousands of slices, and a picture has some hundreds of columns: `columns` puts neighbours together so
that no peak is drawn away. Counts are added, p99 and longest are the highest of what is put together, p50 is the median
of the p50s weighted by requests. `bands` finds for each fault where it was over. `lanes` puts intervals that would
overlap below each other, and `fit` says where on its line a label has room, and how much of it.
"""

import unicodedata
from collections.abc import Iterable, Sequence

from msgspec import Struct

from fivenines.drill.results import DrillResult, Moment, Slice

__all__ = [
    "Band",
    "Column",
    "Label",
    "bands",
    "columns",
    "ends_at",
    "fit",
    "is_time",
    "lanes",
    "shortened",
    "text_width",
]


_LAST_S = 1e9
"""Thirty years: what is said to be later has no place on an axis."""


class Column(Struct, frozen=True, kw_only=True):
    """Some slices together."""

    at: float
    until: float
    asked: int
    failed: int
    slow: int
    p50_ms: float
    p99_ms: float
    longest_ms: float

    @property
    def per_s(self) -> float:
        """How many requests were due in a second."""
        return self.asked / (self.until - self.at)

    @property
    def in_time(self) -> float:
        """The share that was answered in time."""
        return max(0.0, 1 - (self.failed + self.slow) / self.asked) if self.asked else 1.0


class Band(Struct, frozen=True, kw_only=True):
    """A fault, from its beginning to its end."""

    at: float
    until: float
    what: str
    target: str
    is_open: bool
    """Whether nobody told of its end."""


class Label(Struct, frozen=True, kw_only=True):
    """Where some text stands."""

    x: float
    text: str
    anchor: str


def columns(slices: Iterable[Slice], most: int) -> list[Column]:
    """Put slices together, into at most so many columns of about equal width."""
    fit_slices = sorted(
        (each for each in slices if is_time(each.at) and 1e-6 <= each.width_s < _LAST_S), key=lambda each: each.at
    )
    if not fit_slices:
        return []
    first, last = fit_slices[0].at, max(each.at + each.width_s for each in fit_slices)
    width = (last - first) / most
    groups: dict[int, list[Slice]] = {}
    for each in fit_slices:
        groups.setdefault(min(most - 1, int((each.at - first) / width + 1e-6)), []).append(each)
    return [_together(group) for group in groups.values()]


def _together(group: Sequence[Slice]) -> Column:
    answered = [each for each in group if each.asked > each.failed] or [each for each in group if each.asked] or group
    return Column(
        at=group[0].at,
        until=max(each.at + each.width_s for each in group),
        asked=sum(each.asked for each in group),
        failed=sum(each.failed for each in group),
        slow=sum(each.slow for each in group),
        p50_ms=_median(answered),
        p99_ms=max(each.p99_ms for each in answered),
        longest_ms=max(each.longest_ms for each in answered),
    )


def _median(slices: Sequence[Slice]) -> float:
    half, seen = sum(each.asked for each in slices) / 2, 0
    ordered = sorted(slices, key=lambda each: each.p50_ms)
    for each in ordered:
        seen += each.asked
        if seen >= half:
            return each.p50_ms
    return ordered[-1].p50_ms


def ends_at(result: DrillResult) -> float:
    """When the last thing of a drill happened, in seconds since it began; more than 0."""
    times = [
        result.took_s,
        *(each.at + each.width_s for each in result.slices),
        *(each.at for each in result.moments),
        *(each.at for each in result.checked),
    ]
    return max((each for each in times if is_time(each) and each > 1e-3), default=1.0)


def is_time(at: float) -> bool:
    """Whether a time can be shown on an axis: it is a number, and of this world."""
    return abs(at) < _LAST_S


def bands(moments: Iterable[Moment], end: float) -> list[Band]:
    """Find each fault's end: of the same name and target, or else target, or else name; none at all is the drill's."""
    found: list[Band] = []
    for each in sorted((one for one in moments if is_time(one.at)), key=lambda one: one.at):
        if each.kind == "fault":
            until = each.at + each.took_s if each.took_s is not None and is_time(each.took_s) else end
            found.append(Band(at=each.at, until=until, what=each.what, target=each.target, is_open=each.took_s is None))
        elif each.kind == "fault over":
            candidates = [index for index, band in enumerate(found) if band.is_open]
            if candidates:
                index = max(candidates, key=lambda i: (_alike(found[i], each), -i))
                band = found[index]
                found[index] = Band(at=band.at, until=each.at, what=band.what, target=band.target, is_open=False)
    return found


def _alike(band: Band, over: Moment) -> int:
    return 2 * (band.target == over.target) + (band.what == over.what)


def lanes(extents: Sequence[tuple[float, float]], *, gap: float = 6.0) -> list[int]:
    """Give each interval the first lane in which it has room, in the order of their beginnings."""
    ends: list[float] = []
    given = [0] * len(extents)
    for index in sorted(range(len(extents)), key=lambda i: extents[i]):
        left, right = extents[index]
        lane = next((number for number, end in enumerate(ends) if end + gap <= left), len(ends))
        if lane == len(ends):
            ends.append(right)
        ends[lane] = max(ends[lane], right)
        given[index] = lane
    return given


def text_width(text: str, size: float) -> float:
    """About how wide some text is, in pixels: rather too much than too little."""
    return size * sum(1.1 if unicodedata.east_asian_width(each) in "WF" else 0.6 for each in text)


def shortened(text: str, room: float, size: float) -> str:
    """Cut text so that it fits; nothing is left where there is no room for three characters and an ellipsis."""
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "…", size) > room:
        text = text[:-1]
    text = text.rstrip()
    return f"{text}…" if len(text) >= 3 else ""


def fit(at: Sequence[float], texts: Sequence[str], *, left: float, right: float, size: float) -> list[Label | None]:
    """Place a label beside each of some marks on one line, ascending by x, so that no two and no mark are covered.

    A label stands to the right of its mark, up to the next one; or to its left, if all of it has room there and not on
    the right. Where there is no room for even a shortened one, there is None.
    """
    labels: list[Label | None] = []
    taken = left
    for index, (x, text) in enumerate(zip(at, texts, strict=True)):
        until = at[index + 1] - 8 if index + 1 < len(at) else right
        width = text_width(text, size)
        if x + 10 + width > until and x - 10 - width >= taken:
            labels.append(Label(x=x - 10, text=text, anchor="end"))
            taken = x + 8
            continue
        short = shortened(text, until - x - 10, size)
        labels.append(Label(x=x + 10, text=short, anchor="start") if short else None)
        taken = x + 10 + (text_width(short, size) if short else 0)
    return labels

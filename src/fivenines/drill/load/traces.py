"""Replays of what was seen of real systems: traces, which are CSV files with a time and a number in each line.

    counts = read_counts(TRACES["nasa"], folder_of_traces())
    shape = recorded(counts, begin="1995-07-13 08:00:00", lasts_s=86_400, seconds=60, average_per_s=300)

A trace is cut to the stretch that is wanted, then scaled: in time by how many of its seconds go into one of ours, and
in rate so that its average or its highest is what is asked for. Lines that are missing are gaps, where nothing was
seen: a stock exchange at night, a server that was shut down. They stay gaps.

The files are read where they are, in the folder that FIVENINES_DATA names, or in its subfolder `traces`. They belong to
others, and are not part of this package.
"""

import csv
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fivenines.drill.load.shapes import Recorded

__all__ = ["DATA_VARIABLE", "TRACES", "Counts", "Trace", "TraceError", "folder_of_traces", "read_counts", "recorded"]

DATA_VARIABLE: Final = "FIVENINES_DATA"
_STRETCHES_MAX: Final = 10_000_000
"""A trace that is longer has a wrong date in it."""


class TraceError(Exception):
    """A trace cannot be read or replayed; the sentence names the file, and the line and the column if it is them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where a trace is, and how it is read."""

    name: str
    file: str
    time: str
    """The column with the time at which a stretch begins."""
    count: str
    """The column with how many requests were seen in it."""
    width_s: float
    """How long each stretch is."""
    summary: str


TRACES: Final = {
    trace.name: trace
    for trace in (
        Trace(
            name="nasa",
            file="nasa_http_1995_per_minute.csv",
            time="timestamp_edt",
            count="requests",
            width_s=60.0,
            summary="a web server of NASA, July and August 1995, by the minute; 38 hours of it shut down",
        ),
        Trace(
            name="spy",
            file="spy_trades_per_second_20131007_11.csv",
            time="timestamp_new_york",
            count="trades",
            width_s=1.0,
            summary="trades in SPY on a stock exchange, five days of October 2013, by the second, with market opens",
        ),
        Trace(
            name="azure-conv",
            file="azure_llm_conv_requests_per_second.csv",
            time="timestamp_utc",
            count="requests",
            width_s=1.0,
            summary="conversations with a large language model, an hour of 2023, by the second",
        ),
        Trace(
            name="azure-code",
            file="azure_llm_code_requests_per_second.csv",
            time="timestamp_utc",
            count="requests",
            width_s=1.0,
            summary="code written by a large language model, an hour of 2023, by the second",
        ),
    )
}
"""The traces that are known, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many requests were seen in each stretch, from a first one on, without gaps: those are zeros."""

    first: datetime.datetime
    width_s: float
    counts: Sequence[int]


def folder_of_traces(given: Path | None = None) -> Path:
    """Return the folder with the traces: the one that is given, or the one that FIVENINES_DATA names.

    Raises:
        TraceError: neither is there.
    """
    named = os.environ.get(DATA_VARIABLE)
    folder = given or (Path(named) if named else None)
    if folder is None:
        raise TraceError(f"where are the traces? Name their folder, or let {DATA_VARIABLE} name it")
    for place in (folder / "traces", folder):
        if place.is_dir():
            return place
    raise TraceError(f"there is no folder {folder} with traces")


def read_counts(trace: Trace, folder: Path) -> Counts:
    """Read a trace whole.

    Raises:
        TraceError: there is no such file, or a line of it cannot be understood.
    """
    path = folder / trace.file
    seen: dict[int, int] = {}
    first: datetime.datetime | None = None
    latest = -1
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            for column in (trace.time, trace.count):
                if column not in (lines.fieldnames or ()):
                    raise TraceError(f"{path}, line 1: there is no column {column}")
            for line in lines:
                where = f"{path}, line {lines.line_num}, column"
                at = _time(line[trace.time], f"{where} {trace.time}")
                first = first or at
                number, rest = divmod((at - first).total_seconds(), trace.width_s)
                if rest:
                    raise TraceError(f"{where} {trace.time}: {at} is not a whole number of {trace.width_s:g} s on")
                if number <= latest:
                    raise TraceError(f"{where} {trace.time}: {at} does not come after the line before")
                if number >= _STRETCHES_MAX:
                    raise TraceError(f"{where} {trace.time}: {at} is too long after {first}")
                latest = int(number)
                seen[latest] = _count(line[trace.count], f"{where} {trace.count}")
    except (OSError, UnicodeError, csv.Error) as error:
        raise TraceError(f"{path} cannot be read: {error}") from error
    if first is None:
        raise TraceError(f"{path} has no line but its first")
    return Counts(first=first, width_s=trace.width_s, counts=[seen.get(number, 0) for number in range(latest + 1)])


def _time(text: str | None, where: str) -> datetime.datetime:
    try:
        at = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        raise TraceError(f"{where}: {text!r} is no time like 1995-07-01 00:00:00") from None
    return at.replace(tzinfo=None)  # all of one file are in the same zone


def _count(text: str | None, where: str) -> int:
    text = (text or "").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise TraceError(f"{where}: {text!r} is no whole number of at least 0")
    return int(text)


def recorded(
    counts: Counts,
    *,
    begin: str | None = None,
    lasts_s: float | None = None,
    seconds: float | None = None,
    average_per_s: float | None = None,
    highest_per_s: float | None = None,
    repeats: bool = False,
) -> Recorded:
    """Make a shape of a trace, or of a part of it.

    Args:
        counts: the trace.
        begin: where the part begins, as a time of the trace; None: where the trace does.
        lasts_s: how long it is, in seconds of the trace; None: until the end.
        seconds: how long the replay is to take; None: as long as that was.
        average_per_s: the rate that the replay is to have on average.
        highest_per_s: the rate that it is to have at its highest; without both, the rates are those of the trace,
            whatever happens to time.
        repeats: whether it begins again at its end.

    Raises:
        TraceError: there is nothing in that part, or a number makes no sense.
    """
    if average_per_s is not None and highest_per_s is not None:
        raise TraceError("a replay can have its average or its highest rate given, not both")
    given = {"lasts_s": lasts_s, "seconds": seconds, "average_per_s": average_per_s, "highest_per_s": highest_per_s}
    for name, value in given.items():
        if value is not None and not value > 0:
            raise TraceError(f"{name} must be above 0, not {value:g}")
    skipped = 0
    if begin is not None:
        skipped = int((_time(begin, "begin") - counts.first).total_seconds() // counts.width_s)
        if not 0 <= skipped < len(counts.counts):
            last = counts.first + datetime.timedelta(seconds=counts.width_s * len(counts.counts))
            raise TraceError(f"begin: the trace is from {counts.first} to {last}, and {begin} is not in it")
    until = None if lasts_s is None else skipped + max(1, round(lasts_s / counts.width_s))
    part = counts.counts[skipped:until]
    total, highest = sum(part), max(part)
    if not total:
        raise TraceError(f"nothing was seen in the {len(part)} stretches of {counts.width_s:g} s from {skipped} on")
    factor = 1.0
    if average_per_s is not None:
        factor = average_per_s * len(part) * counts.width_s / total
    elif highest_per_s is not None:
        factor = highest_per_s * counts.width_s / highest
    width_s = counts.width_s if seconds is None else seconds / len(part)
    rates = tuple(factor * count / counts.width_s for count in part)
    return Recorded(rates_per_s=rates, width_s=width_s, repeats=repeats)

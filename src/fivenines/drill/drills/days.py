"""Game days: which drills are carried out how often, what is due, and what is overdue. Deciding is pure.

A schedule is a file in YAML:

    days:
      - name: weekly
        every: 7d           # or 12h, 30m
        grace: 2d           # later than this it is overdue; a quarter of `every` where it is left out
        short: true         # or tags: [region], or drills: [node-killed, mine.yaml]

What was done is kept beside it, one line of JSON for each game day. A day counts as held when all of its drills that
the machine can do were carried out, whatever they found: a drill that fails has done its work.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from fivenines.drill.drills.reading import DrillFileError
from fivenines.drill.results import BY_SOMEBODY, DrillResult, Verdict
from fivenines.platform.loading import PlatformFileError, Problem, Written

__all__ = [
    "Day",
    "Held",
    "HistoryUnreadableError",
    "Schedule",
    "Standing",
    "add_held",
    "held",
    "history_file",
    "parse_schedule",
    "read_history",
    "read_schedule",
    "span_s",
    "standing",
    "why_not_held",
]

Span = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}[smhdw]$", description="a span such as 7d, 12h or 30m")]
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_GRACE = 0.25


class Day(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One game day."""

    name: Annotated[str, Meta(min_length=1)]
    every: Span
    grace: Span | None = None
    drills: tuple[str, ...] = ()
    """Names of the catalogue, or files, named from the schedule's folder."""
    tags: tuple[str, ...] = ()
    """All drills of the catalogue that have one of these."""
    short: bool = False
    """The short form of what is chosen."""


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All game days."""

    days: Annotated[tuple[Day, ...], Meta(min_length=1)]


class Held(Struct, frozen=True, kw_only=True):
    """One game day that was held."""

    day: str
    at: float
    """Unix time of its beginning."""
    drills: dict[str, Verdict]
    """What came of each."""
    seed: int = 0
    failed_requests: int = 0
    lost: int = 0
    budget_s: float = 0.0


class Standing(Struct, frozen=True, kw_only=True):
    """How it stands with one game day."""

    day: Day
    state: Literal["held", "due", "overdue", "never held"]
    held_at: float | None
    """When it was held last."""
    due_at: float | None
    """When it is, or was, due next; None: since ever."""
    late_s: float
    """For how long it has been due."""
    kept: float | None
    """The share of the intervals so far that were no longer than `every` and its grace; None: there are none yet."""
    verdicts: tuple[Verdict, ...]
    """Of its last drills."""


class HistoryUnreadableError(Exception):
    """The history of game days is none; the sentence names file and line."""


def span_s(span: str) -> float:
    """Return the seconds of a span such as 7d."""
    return float(int(span[:-1]) * _UNITS[span[-1]])


def standing(schedule: Schedule, history: Sequence[Held], now: float) -> list[Standing]:
    """Say how it stands with each game day: held, due, or overdue.

    Args:
        schedule: what is wanted.
        history: what was held, in any order.
        now: unix time.
    """
    found = []
    for day in schedule.days:
        every = span_s(day.every)
        grace = span_s(day.grace) if day.grace else _GRACE * every
        mine = sorted((each for each in history if each.day == day.name), key=lambda each: each.at)
        if not mine:
            found.append(
                Standing(day=day, state="never held", held_at=None, due_at=None, late_s=0.0, kept=None, verdicts=())
            )
            continue
        last = mine[-1]
        due_at = last.at + every
        state: Literal["held", "due", "overdue"] = "held" if now < due_at else "due"
        if now >= due_at + grace:
            state = "overdue"
        gaps = [after.at - before.at for before, after in pairwise(mine)]
        found.append(
            Standing(
                day=day,
                state=state,
                held_at=last.at,
                due_at=due_at,
                late_s=max(0.0, now - due_at),
                kept=sum(gap <= every + grace for gap in gaps) / len(gaps) if gaps else None,
                verdicts=tuple(last.drills.values()),
            )
        )
    return found


def why_not_held(results: Sequence[DrillResult]) -> str | None:
    """Say why a game day does not count as held, or return None.

    It is held when something was carried out, and everything that this machine can do, to its end: until all was over,
    or harm showed. What fails or does harm has been found, which is what the day is for.
    """
    for each in results:
        if each.verdict == "refused" or each.reasons[:1] == (BY_SOMEBODY,):
            return f"{each.name} was {each.verdict}: {'; '.join(each.reasons) or 'nobody says why'}"
    if all(each.verdict == "skipped" for each in results):
        return "this machine can do none of its drills"
    return None


def held(day: Day, results: Iterable[DrillResult], *, at: float, seed: int) -> Held:
    """Sum up a game day."""
    results = list(results)
    return Held(
        day=day.name,
        at=at,
        drills={each.name: each.verdict for each in results},
        seed=seed,
        failed_requests=sum(each.failed_requests for each in results),
        lost=sum(each.lost for each in results),
        budget_s=round(sum(each.budget_s for each in results), 3),
    )


def parse_schedule(text: str, *, file: str = "game-days.yaml") -> Schedule:
    """Read a schedule. Raises `DrillFileError` with all that is wrong."""
    try:
        written = Written(text, file=file, smallest="the smallest one has one day: see docs/drills.md")
        schedule = written.value(Schedule)
        if schedule is not None:
            names: dict[str, int] = {}
            for number, day in enumerate(schedule.days):
                if day.name in names:
                    written.refuse(("days", number, "name"), f"is that of day {names[day.name] + 1}, too")
                names.setdefault(day.name, number)
                if not (day.drills or day.tags or day.short):
                    written.refuse(("days", number), "has no drills", "say drills, tags, or short: true")
        written.check()
    except PlatformFileError as error:
        raise DrillFileError(error.problems) from None
    assert schedule is not None  # else there was a problem
    return schedule


def read_schedule(path: Path) -> Schedule:
    """Read a schedule from its file. Raises `DrillFileError`, and OSError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = Problem(file=str(path), mark=None, path="", reason=f"is not text in UTF-8: {error.reason}")
        raise DrillFileError((problem,)) from None
    return parse_schedule(text, file=str(path))


def history_file(schedule: Path) -> Path:
    """Return where the history of a schedule is kept: beside it."""
    return schedule.with_name(re.sub(r"\.ya?ml$", "", schedule.name) + ".history.jsonl")


def read_history(path: Path) -> list[Held]:
    """Read what was held so far; nothing, if there is no such file yet. Raises `HistoryUnreadableError`, OSError."""
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(Held)
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(decoder.decode(line))
        except msgspec.MsgspecError as error:
            raise HistoryUnreadableError(f"{path}:{number}: no game day that was held: {error}") from error
    return found


def add_held(path: Path, day: Held) -> None:
    """Write a game day down, for ever. Raises OSError."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(day) + b"\n")
        file.flush()

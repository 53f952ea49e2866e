"""How findings are told: requests as lines with times from the first of them on, and the smallest history of several.

A reader of a report wants to see with their own eyes that something is wrong, and nothing else. So a history is made as
small as it can be: `smallest` takes away whatever the rest is wrong without.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from fivenines.drill.checker.course import Course, Decision
from fivenines.drill.load.asked import Asked
from fivenines.ids import as_text
from fivenines.ledger import Hold, Post, PostOne, Release, Settle

__all__ = ["at", "decided", "ends_of", "history", "intent", "journal_says", "moves", "smallest", "told"]

T = TypeVar("T")

_TRIES_MAX: Final = 2_000


def smallest(items: Sequence[T], is_wrong: Callable[[Sequence[T]], bool]) -> list[T]:
    """Take away what the rest is wrong without: halves first, then quarters, at last one by one.

    That is Zeller and Hildebrandt's ddmin (Simplifying and Isolating Failure-Inducing Input, 2002), without its step of
    trying the parts alone.

    Args:
        items: that are wrong together.
        is_wrong: whether some of them are, in the same order.
    """
    kept, length, tries = list(items), max(1, len(items) // 2), 0
    while True:
        start, is_smaller = 0, False
        while start < len(kept) and tries < _TRIES_MAX:
            rest = kept[:start] + kept[start + length :]
            tries += 1
            if len(rest) < len(kept) and is_wrong(rest):
                kept, is_smaller = rest, True
            else:
                start += length
        if tries >= _TRIES_MAX or (length == 1 and not is_smaller):
            return kept
        length = max(1, length // 2)


def history(asked: Iterable[Asked], *more: str) -> tuple[str, ...]:
    """Tell of requests in the order in which they went out, a line for each, and add what else is to be said."""
    found = sorted(asked, key=lambda each: each.sent)
    origin = min((each.sent for each in found), default=0.0)
    return (*(_line(each, origin) for each in found), *more)


def _line(asked: Asked, origin: float) -> str:
    until = "…" if asked.ended == math.inf else f"{asked.ended - origin:+.3f}"
    return f"{asked.sent - origin:+.3f} to {until} s  client {asked.client}: {intent(asked)} → {told(asked)}"


def intent(asked: Asked) -> str:
    """What was asked, in words."""
    match asked.kind:
        case "post":
            what = f"post {asked.amount} from {asked.source} to {asked.destination}"
        case "hold":
            what = f"hold {asked.amount} from {asked.source} to {asked.destination}"
        case "settle":
            how = "" if asked.is_final else ", and keep the rest held"
            what = f"settle {asked.amount or 'all'} of hold {_name(asked.hold)}{how}"
        case "release":
            what = f"release hold {_name(asked.hold)}"
        case "total":
            return f"read {', '.join(asked.accounts)} at once"
        case _:
            how = ", linearizable" if asked.is_linearizable else f", at least as of {asked.at_least}"
            return f"read {asked.destination}{how}"
    return f"{what} ({_name(asked.id)})"


def told(asked: Asked) -> str:
    """What was answered, in words."""
    if asked.outcome == "read":
        found = ", ".join(map(str, asked.balances.values()))
        total = f" (in all {sum(asked.balances.values())})" if asked.kind == "total" else ""
        return f"{found}{total} at {asked.position}"
    if asked.outcome:
        return f"{asked.outcome} at {asked.position}" if asked.position else asked.outcome
    if asked.is_refused:
        return f"turned away, nothing was done: {asked.error}"
    if asked.is_undone:
        return f"given up, nothing was done: {asked.error}"
    return f"no answer: {asked.error or 'still under way'}"


def decided(decision: Decision) -> str:
    """A decision in the journal, in words."""
    return f"journal, frame {decision.position}: {moves(decision)} → {decision.outcome}"


def moves(decision: Decision) -> str:
    """What a decision is about, in words."""
    command = decision.command
    match command:
        case PostOne():
            what = f"post {command.amount} from {command.source} to {command.destination}"
        case Post() | Hold():
            what = f"{decision.kind} " + ", ".join(
                f"{each.amount} from {each.source} to {each.destination}" for each in command.postings
            )
        case Settle():
            how = "" if command.final else ", and keep the rest held"
            what = f"settle {sum(each.amount for each in command.postings) or 'all'} of hold {_name(command.hold)}{how}"
        case Release():
            what = f"release hold {_name(command.hold)}"
        case _:
            what = "change an account"
    return f"{what} ({_name(decision.id)})"


def ends_of(decision: Decision) -> list[tuple[str, str]]:
    """The sources and destinations that a post or a hold names; a settlement or a release names a hold."""
    match decision.command:
        case PostOne(source=source, destination=destination):
            return [(source, destination)]
        case Post(postings=postings) | Hold(postings=postings):
            return [(each.source, each.destination) for each in postings]
    return []


def journal_says(course: Course, id: bytes) -> str:
    """What the journal says of an id, in words."""
    decision = course.decisions.get(id)
    if decision is None:
        return f"journal, frames 1 to {course.position}: none asks for {_name(id)}"
    return decided(decision)


def at(course: Course, account: str, position: int) -> str:
    """What an account had after a frame by the journal, and since when, in words."""
    known = course.accounts.get(account)
    totals = course.totals_at(account, position)
    if known is None or totals is None:
        return f"journal, frame {position}: there is no account {account}"
    place = bisect_right(known.positions, position)
    since = known.positions[place - 1] if place else known.opened
    return f"journal, frame {position}: {account} has {totals.balance}, since frame {since}"


def _name(id: bytes) -> str:
    return as_text(id) if len(id) == 16 else id.hex()

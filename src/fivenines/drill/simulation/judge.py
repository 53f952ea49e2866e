"""The judge: it trusts nobody.

It knows what clients were told and what readers saw, and reads the shared log with a ledger of its own. That ledger is
a dict of integers and a dict of ids. Whatever the nodes hold, this is what they must hold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fivenines.drill.simulation.clients import Told
from fivenines.ids import as_text
from fivenines.journal import Frame
from fivenines.ledger import OpenAccount, Post, Posting, PostOne, decode

__all__ = ["Seen", "Truth", "ViolationError", "judge_told", "read_log"]


class ViolationError(Exception):
    """A promise was broken; the message says which, and by what."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader saw on a node."""

    node: str
    wanted: int
    """The position that the read was promised to show, at least."""
    position: int
    balances: dict[str, int]


@dataclass(slots=True)
class Truth:
    """What the log says, by position."""

    decided: dict[str, tuple[str, int, tuple[tuple[str, str, int], ...]]] = field(default_factory=dict)
    """Outcome, position and content, by id."""
    balances: list[dict[str, int]] = field(default_factory=lambda: [{}])
    """At each position; the first is that of the empty log."""
    floors: dict[str, int | None] = field(default_factory=dict)


def read_log(frames: Iterable[Frame]) -> Truth:
    """Decide everything in the log once more, in the plainest way."""
    truth = Truth()
    for frame in frames:
        balances = dict(truth.balances[-1])
        for command in decode(frame.payload).commands:
            match command:
                case OpenAccount(account=account, min_balance=floor):
                    balances.setdefault(account, 0)
                    truth.floors.setdefault(account, floor)
                case PostOne():
                    posting = Posting(command.source, command.destination, command.amount)
                    _decide(truth, balances, command.id, (posting,), frame.position)
                case Post():
                    _decide(truth, balances, command.id, command.postings, frame.position)
        if sum(balances.values()) != 0:
            raise ViolationError(f"the judge's own books do not sum to zero at {frame.position}")
        truth.balances.append(balances)
    return truth


def _decide(truth: Truth, balances: dict[str, int], id: bytes, postings: Sequence[Posting], position: int) -> None:
    name = as_text(id)
    content = tuple((p.source, p.destination, p.amount) for p in postings)
    if name in truth.decided:
        return
    after = dict(balances)
    for source, destination, amount in content:
        if source not in after or destination not in after:
            truth.decided[name] = ("account_unknown", position, content)
            return
        floor = truth.floors[source]
        if floor is not None and after[source] - amount < floor:
            truth.decided[name] = ("insufficient_funds", position, content)
            return
        after[source] -= amount
        after[destination] += amount
    balances.update(after)
    truth.decided[name] = ("posted", position, content)


def judge_told(truth: Truth, told: Sequence[Told], seen: Sequence[Seen]) -> None:
    """Hold what clients were told, and what readers saw, against the log.

    Raises:
        ViolationError: something acknowledged is missing, decided otherwise or elsewhere, or done after all; order was
            broken; a read was older than promised, or showed what never was.
    """
    uncertain = {answer.id for answer in told if answer.outcome != "not_done"}
    for answer in told:
        decided = truth.decided.get(answer.id)
        if answer.outcome == "not_done":
            if decided is not None and answer.id not in uncertain:
                raise ViolationError(f"{answer.id} was said not to be done, and was done at {decided[1]}")
            continue
        if answer.outcome == "maybe":
            continue
        if decided is None:
            raise ViolationError(f"lost: {answer.id} was acknowledged as {answer.outcome} and is not in the log")
        outcome, position, content = decided
        asked = tuple((p.source, p.destination, int(p.amount)) for p in answer.postings)
        if (answer.outcome, asked) != (outcome, content):
            raise ViolationError(f"{answer.id}: its client was told {answer.outcome}, the log says {outcome}")
        if answer.position != position:
            raise ViolationError(f"{answer.id}: its client was told position {answer.position}, it is at {position}")
    _judge_order(told)
    for read in seen:
        if read.position < read.wanted:
            raise ViolationError(f"{read.node} showed position {read.position} to a read that asked for {read.wanted}")
        if read.balances != truth.balances[read.position]:
            raise ViolationError(f"{read.node} showed balances at {read.position} that never were")


def _judge_order(told: Sequence[Told]) -> None:
    """Who asked after another was told comes after it in the log. Only the first asking of an id counts."""
    definite = [answer for answer in told if answer.position is not None]
    first: dict[str, Told] = {}
    for answer in sorted(told, key=lambda answer: answer.asked_s):
        first.setdefault(answer.id, answer)
    by_told = sorted(definite, key=lambda answer: answer.told_s)
    highest, index = 0, 0
    for answer in sorted(definite, key=lambda answer: answer.asked_s):
        while index < len(by_told) and by_told[index].told_s < answer.asked_s:
            highest = max(highest, by_told[index].position or 0)
            index += 1
        if first[answer.id] is answer and (answer.position or 0) < highest:
            raise ViolationError(f"reordered: {answer.id} at {answer.position} was asked after {highest} was told")

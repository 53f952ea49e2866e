"""What readers were told: the state after some frame, none other, and never one that is older than they may see.

- `wrong_reads`: each answer names the frame after which it was read. The balances must be those of the journal then.
- `stale_reads`: a client that asks for at least what it has seen never sees less: neither less than it asked for, nor
  less than any answer of its own had shown before.
- `changed_sums`: the balances of a set of accounts, read at once, come to the same as long as nothing enters the set or
  leaves it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from fivenines.drill.checker.case import READ, Case, Seen
from fivenines.drill.checker.course import Course
from fivenines.drill.checker.telling import at, decided, ends_of, history, intent
from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Finding

__all__ = ["changed_sums", "stale_reads", "wrong_reads"]

WRONG_READ = "wrong read"
STALE_READ = "stale read"
CHANGED_SUM = "sum changed"


def wrong_reads(case: Case) -> Iterator[Finding]:
    """Find reads that show what was not so after the frame that they name."""
    course = case.course
    for each in case.reads:
        if not each.outcome:
            continue
        wanted = each.accounts if each.kind == "total" else (each.destination,)
        if each.position > course.position:
            what = f"shows frame {each.position}, and the journal ends at {course.position}"
            yield _wrong(each, what)
            continue
        for account in wanted:
            totals = course.totals_at(account, each.position)
            found = each.balances.get(account)
            if found != (None if totals is None else totals.balance):
                says = "is not there" if found is None else f"has {found}"
                yield _wrong(
                    each,
                    f"says that {account} {says} after frame {each.position}",
                    at(course, account, each.position),
                    *_last_change(case, account, each.position),
                )
                break


def _wrong(asked: Asked, what: str, *more: str) -> Finding:
    return Finding(
        kind=WRONG_READ,
        guarantee="strictly serializable",
        what=f"{intent(asked)} {what}",
        history=history([asked], *more),
    )


def _last_change(case: Case, account: str, position: int) -> Iterator[str]:
    """Tell of what had changed an account last, as far as a command that names it did."""
    changes = case.changes.get(account, ())
    place = bisect_right(changes, position, key=lambda each: each.position)
    if place:
        yield decided(changes[place - 1])


def stale_reads(case: Case) -> Iterator[Finding]:
    """Find reads that show less than their client had seen."""
    answers: dict[int, list[tuple[Asked, int]]] = defaultdict(list)
    for each, position in case.answered():
        answers[each.client].append((each, position))
    seen = {client: Seen.of(found) for client, found in answers.items()}
    for each in case.reads:
        if each.outcome != READ:
            continue
        before, answer = seen[each.client].before(each.sent)
        if each.position < max(before, each.at_least):
            of = f"it had seen frame {before}" if before >= each.at_least else f"it asked for frame {each.at_least}"
            yield Finding(
                kind=STALE_READ,
                guarantee="read your writes",
                what=f"{intent(each)} shows frame {each.position} to client {each.client}, though {of}",
                history=history([answer, each] if answer is not None and before > each.position else [each]),
            )


def changed_sums(case: Case) -> Iterator[Finding]:
    """Find readings of several accounts whose sum is another than that of the first one."""
    readings: dict[tuple[str, ...], list[Asked]] = defaultdict(list)
    for each in case.reads:
        if each.kind == "total" and each.outcome == READ:
            readings[each.accounts].append(each)
    for accounts, all_found in readings.items():
        since = _closed_since(case.course, frozenset(accounts))
        found = [each for each in all_found if each.position >= since]
        if not found:
            continue
        first = min(found, key=lambda each: (each.position, each.sent))
        total = sum(first.balances.values())
        for each in found:
            if sum(each.balances.values()) != total:
                yield Finding(
                    kind=CHANGED_SUM,
                    guarantee="strictly serializable",
                    what=f"{len(accounts)} accounts that nothing enters or leaves had {total} after frame "
                    f"{first.position} and {sum(each.balances.values())} after frame {each.position}",
                    history=history([first, each]),
                )


def _closed_since(course: Course, accounts: frozenset[str]) -> int:
    """The last frame that moved anything into or out of these accounts."""
    return max(
        (
            decision.position
            for decision in course.decisions.values()
            if decision.is_done
            for source, destination in ends_of(decision)
            if (source in accounts) != (destination in accounts)
        ),
        default=0,
    )

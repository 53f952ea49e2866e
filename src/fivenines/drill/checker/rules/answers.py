"""What writers were told, held against the journal: nothing acknowledged is lost, doubled, or done though refused.

- `lost` and `contradicted`: each answer names an outcome and the frame that decided it. The journal, worked out anew,
  must come to the same outcome in the same frame, about the same accounts and the same amount.
- `doubled`: an id that was carried out in one frame, and told of or found with other content in another.
- `done_though_refused`: a definite refusal, by the ledger or by whoever turned the request away, and it was carried out
  all the same.
"""

from collections.abc import Iterator

from fivenines.drill.checker.case import Case
from fivenines.drill.checker.course import DONE, Decision
from fivenines.drill.checker.telling import history, intent, journal_says, told
from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Finding
from fivenines.ledger import Hold, Post, PostOne, Release, Settle

__all__ = ["contradicted", "done_though_refused", "doubled", "lost"]

LOST = "lost"
DOUBLED = "doubled"
DONE_THOUGH_REFUSED = "done though refused"
CONTRADICTED = "contradicted"
ALTERED = "altered"


def lost(case: Case) -> Iterator[Finding]:
    """Find what was acknowledged, and is not in the journal, or was refused there."""
    for each in case.acknowledged:
        decision = case.course.decisions.get(each.id)
        if decision is None or not decision.is_done:
            where = "is not in the journal" if decision is None else f"was refused there: {decision.outcome}"
            yield Finding(
                kind=LOST,
                guarantee="acknowledged is durable",
                what=f"{intent(each)} was acknowledged at {each.position}, and {where}",
                history=history([each], journal_says(case.course, each.id)),
            )


def doubled(case: Case) -> Iterator[Finding]:
    """Find ids that were decided more than once."""
    course = case.course
    for each in case.acknowledged:
        decision = course.decisions.get(each.id)
        if decision is None or not decision.is_done or each.position in (0, decision.position):
            continue
        if each.position in course.found_again.get(each.id, ()):
            yield Finding(
                kind=DOUBLED,
                guarantee="exactly once",
                what=f"{intent(each)} was carried out in frame {decision.position}, and once more in {each.position}",
                history=history([each], journal_says(course, each.id), _asks_again(each.position)),
            )
    for id, positions in course.reused.items():
        known = case.by_id.get(id)
        yield Finding(
            kind=DOUBLED,
            guarantee="exactly once",
            what=f"frame {positions[0]} has the id {id.hex()} of frame {course.decisions[id].position}, "
            "with other content",
            history=history([known] if known else [], journal_says(course, id), _asks_again(positions[0])),
        )


def _asks_again(position: int) -> str:
    return f"journal, frame {position}: asks for it again"


def done_though_refused(case: Case) -> Iterator[Finding]:
    """Find what somebody was told to be surely not done, and was done."""
    for each in case.writes:
        decision = case.course.decisions.get(each.id)
        if decision is None or not decision.is_done:
            continue
        if each.outcome and each.outcome not in DONE:
            what, by_ledger = f"was refused ({each.outcome})", True
        elif each.is_undone or each.is_refused:
            what, by_ledger = "was turned away as surely not done", False
        else:
            continue
        yield Finding(
            kind=DONE_THOUGH_REFUSED,
            guarantee="exactly once" if by_ledger else "overload is shed",
            what=f"{intent(each)} {what}, and is in frame {decision.position}",
            history=history([each], journal_says(case.course, each.id)),
        )


def contradicted(case: Case) -> Iterator[Finding]:
    """Find answers that say something else than the journal: of the outcome, of the frame, of what was asked."""
    course = case.course
    for each in case.writes:
        if not each.outcome:
            continue
        decision = course.decisions.get(each.id)
        if decision is None:
            is_traceless = any(
                outcome == each.outcome and each.position in (0, position)
                for position, outcome in course.traceless.get(each.id, ())
            )
            if each.outcome not in DONE and not is_traceless:
                yield _contradicted(case, each, "which no frame asks for")
        elif decision.is_done == (each.outcome in DONE) and decision.outcome != each.outcome:
            yield _contradicted(case, each, f"and the journal comes to {decision.outcome}")
        elif each.position not in (0, decision.position, *course.found_again.get(each.id, ())):
            yield _contradicted(case, each, f"and frame {decision.position} decided it")
        elif not decision.is_done and each.position not in (0, decision.position):
            yield _contradicted(case, each, f"and it was refused in frame {decision.position} before")
    for each in case.writes:
        decision = course.decisions.get(each.id)
        if decision is not None and not _says_the_same(each, decision):
            yield Finding(
                kind=ALTERED,
                guarantee="strictly serializable",
                what=f"{intent(each)} is something else in the journal",
                history=history([each], journal_says(course, each.id)),
            )


def _contradicted(case: Case, asked: Asked, why: str) -> Finding:
    return Finding(
        kind=CONTRADICTED,
        guarantee="strictly serializable",
        what=f"{intent(asked)} was answered {told(asked)}, {why}",
        history=history([asked], journal_says(case.course, asked.id)),
    )


def _says_the_same(asked: Asked, decision: Decision) -> bool:
    match decision.command:
        case PostOne(source=source, destination=destination, amount=amount):
            return (asked.kind, asked.source, asked.destination, asked.amount) == ("post", source, destination, amount)
        case Post(postings=postings) | Hold(postings=postings):
            if len(postings) != 1:
                return False
            (only,) = postings
            said = decision.kind, only.source, only.destination, only.amount
            return (asked.kind, asked.source, asked.destination, asked.amount) == said
        case Settle(hold=hold, postings=postings, final=final):
            is_amount = asked.amount == sum(each.amount for each in postings)
            return asked.kind == "settle" and asked.hold == hold and asked.is_final == final and is_amount
        case Release(hold=hold):
            return asked.kind == "release" and asked.hold == hold
    return False

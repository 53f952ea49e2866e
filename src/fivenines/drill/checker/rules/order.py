"""Real time: what was answered before something else was asked comes before it, everywhere and for everybody.

The journal is the order that strict serializability asks for; this looks whether it respects the clock. Of all answers
that had arrived when a request went out, one tells of the highest position. A write must be decided after that one, a
linearizable read must see that one or later. So each request is compared with one other, and whatever breaks real time
breaks it against that one: what is linear in the number of requests finds as much as comparing all of them would.
A write without an answer is looked at too, if the journal has it.
"""

from collections.abc import Iterator

from fivenines.drill.checker.case import READ, Case, Seen
from fivenines.drill.checker.telling import decided, history, intent
from fivenines.drill.results import Finding

__all__ = ["reordered", "stale_linearizable"]

REORDERED = "reordered"
STALE_LINEARIZABLE = "not linearizable"


def reordered(case: Case) -> Iterator[Finding]:
    """Find writes that were decided no later than something that was answered before they went out."""
    seen = Seen.of(case.answered())
    for each in case.writes:
        decision = case.course.decisions.get(each.id)
        if decision is None:
            continue
        before, answer = seen.before(each.sent)
        if answer is not None and decision.position <= before:
            yield Finding(
                kind=REORDERED,
                guarantee="strictly serializable",
                what=f"{intent(each)} was decided in frame {decision.position}, though frame {before} had been "
                "answered with before it went out",
                history=history([answer, each], decided(decision)),
            )


def stale_linearizable(case: Case) -> Iterator[Finding]:
    """Find linearizable reads that do not show what was answered before they went out."""
    seen = Seen.of(case.answered())
    for each in case.reads:
        if each.outcome != READ or not (each.kind == "total" or each.is_linearizable):
            continue
        before, answer = seen.before(each.sent)
        if answer is not None and each.position < before:
            yield Finding(
                kind=STALE_LINEARIZABLE,
                guarantee="strictly serializable",
                what=f"{intent(each)} shows frame {each.position}, though frame {before} had been answered with "
                "before it went out",
                history=history([answer, each]),
            )

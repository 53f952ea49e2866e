"""The journal's frames, and every history that is made of them: archives, event feeds, SQL. All tell the same.

- `broken_chain`: each frame's digest follows from the one before and from what is in it;
- `differing_archives`: an archive has every frame up to where all must be, and each with the journal's digest;
- `differing_histories`: a feed or a database tells of each transaction once, in the journal's order, as it was asked
  for there and with the outcome that the journal comes to, and of no other;
- `unheard`: who did not answer cannot be believed either.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from fivenines.drill.checker.case import Case
from fivenines.drill.checker.course import Decision
from fivenines.drill.checker.evidence import Effected, Told
from fivenines.drill.checker.telling import decided, history, moves
from fivenines.drill.results import Finding
from fivenines.ids import as_text
from fivenines.journal.format import DIGEST_NONE, frame_digest
from fivenines.ledger import Posting, PostOne

__all__ = ["broken_chain", "differing_archives", "differing_histories", "unheard"]

BROKEN_CHAIN = "broken chain"
ARCHIVE_DIFFERS = "archive differs"
ARCHIVE_LACKS = "missing from an archive"
HISTORY_LACKS = "missing from history"
HISTORY_DOUBLED = "doubled in history"
HISTORY_REORDERED = "reordered in history"
HISTORY_DIFFERS = "history differs"
UNHEARD = "not heard"

_SAID: Final[Mapping[str, str]] = MappingProxyType(
    {
        "position": "frame",
        "item": "item",
        "kind": "kind",
        "outcome": "outcome",
        "hold": "hold",
        "amount": "amount",
        "is_final": "whether it is final",
        "postings": "postings",
        "effects": "effects",
    }
)
"""What is told of a transaction beside its id, in words."""


def broken_chain(case: Case) -> Iterator[Finding]:
    """Find the first frame that does not follow from the one before."""
    before = DIGEST_NONE
    for frame in case.evidence.frames:
        if frame.digest != frame_digest(frame.position, before, frame.payload):
            yield Finding(
                kind=BROKEN_CHAIN,
                guarantee="corruption is found",
                what=f"frame {frame.position} of the journal does not follow from the frame before it",
            )
            return
        before = frame.digest


def differing_archives(case: Case) -> Iterator[Finding]:
    """Find frames that an archive lacks, or has otherwise."""
    digests = case.course.digests
    for name, said in case.evidence.archives.items():
        for what in said.damaged:
            yield Finding(kind=ARCHIVE_DIFFERS, guarantee="corruption is found", what=f"archive {name}: {what}")
        lacking = [position for position in range(1, case.until + 1) if position not in said.digests]
        if lacking:
            yield Finding(
                kind=ARCHIVE_LACKS,
                guarantee="acknowledged is durable",
                what=f"archive {name} lacks {len(lacking)} frames of {case.until}, the first is {lacking[0]}",
                history=tuple(_acknowledged_in(case, lacking[0])),
            )
        for position, digest in said.digests.items():
            if position > len(digests) or digest != digests[position - 1]:
                yield Finding(
                    kind=ARCHIVE_DIFFERS,
                    guarantee="corruption is found",
                    what=f"archive {name} has another frame {position} than the journal",
                    history=(f"archive {name}, frame {position}: {digest.hex()}", _digest(digests, position)),
                )
                break


def _digest(digests: Sequence[bytes], position: int) -> str:
    if position > len(digests):
        return f"journal: ends at frame {len(digests)}"
    return f"journal, frame {position}: {digests[position - 1].hex()}"


def _acknowledged_in(case: Case, position: int) -> Iterator[str]:
    """Tell of what was acknowledged in a frame, or in the next one in which anything was."""
    found = [each for each in case.acknowledged if each.position >= position]
    if found:
        yield from history([min(found, key=lambda each: each.position)])


def differing_histories(case: Case) -> Iterator[Finding]:
    """Find transactions that a history lacks, has twice, has in another order, or tells otherwise."""
    for name, feed in case.evidence.feeds.items():
        yield from _differing(case, f"the events of {name}", feed.events, feed.after, feed.position)
    for name, sql in case.evidence.sql.items():
        yield from _differing(case, name, sql.transactions, 0, sql.position)


def _differing(case: Case, by: str, told: Sequence[Told], after: int, until: int) -> Iterator[Finding]:
    if until < case.until:
        yield Finding(
            kind=HISTORY_LACKS,
            guarantee="acknowledged is durable",
            what=f"{by} came to position {until}, and not to {case.until}",
        )
    decisions = case.course.decisions
    seen: set[bytes] = set()
    last = (0, -1)
    for each in told:
        decision = decisions.get(each.id)
        said = f"{by}: {_words(each)}"
        if each.id in seen:
            yield Finding(
                kind=HISTORY_DOUBLED,
                guarantee="exactly once",
                what=f"{by} tells of {_name(each.id)} more than once",
                history=(said, *([decided(decision)] if decision else [])),
            )
            continue
        seen.add(each.id)
        if decision is None:
            yield _differs(f"{by} tells of {_name(each.id)}, which the journal has not", said)
            continue
        if (each.position, each.item) <= last:
            yield Finding(
                kind=HISTORY_REORDERED,
                guarantee="strictly serializable",
                what=f"{by} tells of {moves(decision)} after what was decided later",
                history=(f"{by}: before it, frame {last[0]}, item {last[1]}", said, decided(decision)),
            )
        last = max(last, (each.position, each.item))
        right = _right(case, decision, each)
        if each != right:
            yield _told_otherwise(by, decision, each, right)
    for decision in decisions.values():
        if after < decision.position <= until and decision.item >= 0 and decision.id not in seen:
            asked = case.by_id.get(decision.id)
            yield Finding(
                kind=HISTORY_LACKS,
                guarantee="acknowledged is durable",
                what=f"{by} lacks {moves(decision)}",
                history=history([asked] if asked else [], decided(decision)),
            )


def _right(case: Case, decision: Decision, told: Told) -> Told:
    """Say of a decision what the journal says, as far as a history tells of it at all."""
    command = decision.command
    if isinstance(command, PostOne):
        asked: tuple[Posting, ...] = (Posting(command.source, command.destination, command.amount),)
    else:
        asked = getattr(command, "postings", ())
    return Told(
        position=decision.position,
        item=decision.item,
        id=decision.id,
        kind=decision.kind,
        outcome=decision.outcome,
        hold=getattr(command, "hold", b""),
        amount=sum(each.amount for each in asked),
        is_final=getattr(command, "final", True),
        postings=None if told.postings is None else asked,
        effects=None if told.effects is None else tuple(sorted(_effects(case, decision, asked))),
    )


def _effects(case: Case, decision: Decision, asked: Sequence[Posting]) -> Iterator[Effected]:
    """Yield what became of what was asked, and of the rest of a hold, in the words of `docs/sql-history.md`."""
    yield from _effected(decision.kind if decision.is_done else "refused", asked)
    takes_rest = decision.kind == "settle" and not asked
    yield from _effected("settle_rest" if takes_rest else "give_back", case.course.rests.get(decision.id, ()))


def _effected(effect: str, postings: Iterable[Posting]) -> Iterator[Effected]:
    return (Effected(effect, each.source, each.destination, each.amount) for each in postings)


def _told_otherwise(by: str, decision: Decision, told: Told, right: Told) -> Finding:
    """Name what differs, and show both; effects only where nothing else shows it."""
    fields = [name for name in _SAID if getattr(told, name) != getattr(right, name)]
    if "postings" in fields:
        fields = [name for name in fields if name not in {"amount", "effects"}]
    if "effects" not in fields:
        told, right = told._replace(effects=None), right._replace(effects=None)
    what = f"{by} tells otherwise of {moves(decision)}: {', '.join(_SAID[name] for name in fields)}"
    return _differs(what, f"{by}: {_words(told)}", f"journal: {_words(right)}")


def _words(told: Told) -> str:
    """Say all that is told of a transaction."""
    if told.postings:
        moved = ", ".join(f"{each.amount} from {each.source} to {each.destination}" for each in told.postings)
    else:
        moved = str(told.amount) if told.amount else "all" if told.kind == "settle" else ""
    what = f"{told.kind} {moved}".rstrip()
    if told.hold:
        what += f" of hold {_name(told.hold)}"
    if not told.is_final:
        what += ", and keep the rest held"
    what += f" ({_name(told.id)}) → {told.outcome}, frame {told.position}, item {told.item}"
    if told.effects is not None:
        done = (f"{each.effect} {each.amount} from {each.source} to {each.destination}" for each in told.effects)
        what += f", with {', '.join(done) or 'no effect'}"
    return what


def _differs(what: str, *lines: str) -> Finding:
    return Finding(kind=HISTORY_DIFFERS, guarantee="strictly serializable", what=what, history=lines)


def _name(id: bytes) -> str:
    return as_text(id) if len(id) == 16 else id.hex()


def unheard(case: Case) -> Iterator[Finding]:
    """Tell of the witnesses who said nothing."""
    for who, why in case.evidence.unheard.items():
        yield Finding(kind=UNHEARD, guarantee="acknowledged is durable", what=f"{who} was not heard: {why}")

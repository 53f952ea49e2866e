"""What a feed or SQL tells of a transaction is held against what the journal asks for: each field, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fivenines.drill.checker import Effected, Evidence, FeedSaid, Judgement, SqlSaid, Told, judge
from fivenines.drill.checker.course import Totals
from fivenines.ids import as_text
from fivenines.ledger import Hold, Posting, PostOne, Release, Settle
from tests.property.checker.honest import World
from tests.unit.checker.test_checker_telling import OPENED, frames_of, id_of, post

FRAMES = frames_of(
    OPENED,
    [PostOne(id_of(1), "bank", "ada", 25)],
    [Hold(id_of(2), (Posting("bank", "ada", 9),)), Hold(id_of(3), (Posting("ada", "bank", 4),))],
    [Settle(id_of(4), id_of(2), (Posting("bank", "ada", 5),), final=False), Settle(id_of(5), id_of(2))],
    [Release(id_of(6), id_of(3)), PostOne(id_of(7), "ada", "bank", 500)],
)
TOLD = (
    Told(2, 0, id_of(1), "post", "posted", b"", 25, True, (Posting("bank", "ada", 25),)),
    Told(3, 0, id_of(2), "hold", "held", b"", 9, True, (Posting("bank", "ada", 9),)),
    Told(3, 1, id_of(3), "hold", "held", b"", 4, True, (Posting("ada", "bank", 4),)),
    Told(4, 0, id_of(4), "settle", "settled", id_of(2), 5, False, (Posting("bank", "ada", 5),)),
    Told(4, 1, id_of(5), "settle", "settled", id_of(2), 0, True, ()),
    Told(5, 0, id_of(6), "release", "released", id_of(3), 0, True, ()),
    Told(5, 1, id_of(7), "post", "insufficient_funds", b"", 500, True, (Posting("ada", "bank", 500),)),
)
EFFECTS = (
    (Effected("post", "bank", "ada", 25),),
    (Effected("hold", "bank", "ada", 9),),
    (Effected("hold", "ada", "bank", 4),),
    (Effected("settle", "bank", "ada", 5),),
    (Effected("settle_rest", "bank", "ada", 4),),
    (Effected("give_back", "ada", "bank", 4),),
    (Effected("refused", "ada", "bank", 500),),
)
WRITTEN = tuple(told._replace(effects=effects) for told, effects in zip(TOLD, EFFECTS, strict=True))


def judged(*, events: Sequence[Told] = TOLD, rows: Sequence[Told] = WRITTEN) -> Judgement:
    accounts = {"bank": Totals(34, 0), "ada": Totals(0, 34)}
    return judge(
        Evidence(
            asked=[post(1, 50.0, 2)],
            frames=FRAMES,
            feeds={"a": FeedSaid(position=5, events=events)},
            sql={"sql": SqlSaid(position=5, transactions=rows, accounts=accounts)},
        )
    )


def altered(told: Sequence[Told], number: int, **changes: object) -> list[Told]:
    return [each._replace(**changes) if place == number else each for place, each in enumerate(told)]  # type: ignore[arg-type]


def test_nothing_is_wrong_with_what_is_told() -> None:
    assert judged().is_good, str(judged())


def test_of_an_amount_only_the_sum_may_be_known() -> None:
    events = [each._replace(postings=None) for each in TOLD]
    assert judged(events=events).is_good
    assert judged(events=altered(events, 0, amount=26)).counts == {"history differs": 1}


@pytest.mark.parametrize("where", ["events", "rows"])
@pytest.mark.parametrize(
    ("number", "changes", "names"),
    [
        (0, {"amount": 26}, "amount"),
        (0, {"postings": (Posting("bank", "ada", 26),), "amount": 26}, "postings"),
        (0, {"postings": (Posting("ada", "bank", 25),)}, "postings"),
        (0, {"postings": ()}, "postings"),
        (0, {"hold": id_of(2)}, "hold"),
        (0, {"is_final": False}, "whether it is final"),
        (0, {"item": 1}, "item"),
        (1, {"kind": "post"}, "kind"),
        (2, {"postings": (Posting("bank", "ada", 4),)}, "postings"),
        (3, {"is_final": True}, "whether it is final"),
        (4, {"is_final": False, "hold": id_of(3)}, "hold, whether it is final"),
        (5, {"hold": id_of(2)}, "hold"),
        (6, {"postings": (Posting("ada", "bank", 501),), "amount": 501}, "postings"),
    ],
)
def test_each_field_is_held_against_the_journal(
    where: str, number: int, changes: dict[str, object], names: str
) -> None:
    told = altered(TOLD if where == "events" else WRITTEN, number, **changes)
    judgement = judged(events=told) if where == "events" else judged(rows=told)
    found = [each for each in judgement.findings if each.kind == "history differs"]
    assert [each.what.rpartition(": ")[2] for each in found] == [names]
    assert len(found[0].history) == 2


@pytest.mark.parametrize(
    ("number", "effects"),
    [
        (0, (Effected("refused", "bank", "ada", 25),)),
        (3, (*EFFECTS[3], Effected("give_back", "bank", "ada", 4))),
        (4, (Effected("settle_rest", "bank", "ada", 9),)),
        (5, ()),
        (6, (Effected("post", "ada", "bank", 500),)),
    ],
)
def test_so_is_what_became_of_each_posting_in_sql(number: int, effects: tuple[Effected, ...]) -> None:
    judgement = judged(rows=altered(WRITTEN, number, effects=effects))
    assert judgement.counts == {"history differs": 1}
    assert judgement.findings[0].what.endswith(": effects")


def test_a_finding_shows_what_is_told_and_what_the_journal_says_and_no_more() -> None:
    judgement = judged(rows=altered(WRITTEN, 0, postings=(Posting("ada", "bank", 25),)))
    (found,) = judgement.findings
    name = as_text(id_of(1))
    assert found.what == f"sql tells otherwise of post 25 from bank to ada ({name}): postings"
    assert found.history == (
        f"sql: post 25 from ada to bank ({name}) → posted, frame 2, item 0",
        f"journal: post 25 from bank to ada ({name}) → posted, frame 2, item 0",
    )
    judgement = judged(rows=altered(WRITTEN, 4, effects=(), hold=id_of(3)))
    name, hold, other = map(as_text, (id_of(5), id_of(2), id_of(3)))
    (history,) = [each.history for each in judgement.findings if each.kind == "history differs"]
    decided = f"({name}) → settled, frame 4, item 1"
    assert history == (
        f"sql: settle all of hold {other} {decided}, with no effect",
        f"journal: settle all of hold {hold} {decided}, with settle_rest 4 from bank to ada",
    )


def test_amounts_that_one_feed_raises_are_found_for_each_post() -> None:
    evidence = World(1, 200).evidence()
    told = evidence.feeds["a"].events
    raised = [each._replace(amount=each.amount + 1_000) if each.kind == "post" else each for each in told]
    judgement = judge(replace(evidence, feeds={"a": FeedSaid(position=evidence.feeds["a"].position, events=raised)}))
    assert judgement.counts == {"history differs": sum(each.kind == "post" for each in told)}


def test_who_tells_of_something_twice_has_doubled_it() -> None:
    assert judged().doubled == 0
    for judgement in (judged(events=[*TOLD, TOLD[0]]), judged(rows=[WRITTEN[0], *WRITTEN])):
        assert judgement.counts["doubled in history"] == 1
        assert judgement.doubled == 1

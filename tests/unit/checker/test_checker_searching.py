"""The search for an order tells for each group of accounts what became of it, and nobody takes credit for the rest."""

from fivenines.drill.checker import Evidence, Judgement, judge
from fivenines.drill.checker.case import Case
from fivenines.drill.checker.rules import search
from fivenines.drill.load.asked import Asked
from fivenines.ledger import OpenAccount, PostOne
from tests.unit.checker.test_checker_telling import OPENED, frames_of, id_of

AT_ONCE = 20
EASY = ("bob", "cyd")


def post(number: int, destination: str, *, position: int, sent: float, ended: float, amount: int) -> Asked:
    return Asked(
        due=sent,
        client=number,
        kind="post",
        id=id_of(number),
        source="bank",
        destination=destination,
        amount=amount,
        sent=sent,
        ended=ended,
        outcome="posted",
        position=position,
    )


def read(account: str, *, position: int, sent: float, balance: int) -> Asked:
    return Asked(
        due=sent,
        client=99,
        kind="read",
        destination=account,
        is_linearizable=True,
        sent=sent,
        ended=sent + 0.5,
        outcome="read",
        position=position,
        balances={account: balance},
    )


def at_once() -> list[Asked]:
    """Honest, and hard to search: of all that happens at once, the read saw only what returned last."""
    posts = [
        post(
            number,
            "ada",
            position=2 if number == AT_ONCE - 1 else number + 3,
            sent=1.0,
            ended=3.0 + number / 1_000,
            amount=2**number,
        )
        for number in range(AT_ONCE)
    ]
    return [*posts, read("ada", position=2, sent=1.0, balance=2 ** (AT_ONCE - 1))]


def one_by_one() -> list[Asked]:
    found = []
    for place, account in enumerate(EASY):
        position, sent = AT_ONCE + 2 + place, 10.0 + 2 * place
        number = AT_ONCE + place
        found.append(post(number, account, position=position, sent=sent, ended=sent + 0.5, amount=5))
        found.append(read(account, position=position, sent=sent + 1, balance=5))
    return found


def evidence_of(asked: list[Asked]) -> Evidence:
    writes = sorted((each for each in [*at_once(), *one_by_one()] if each.id), key=lambda each: each.position)
    batches = [[PostOne(each.id, each.source, each.destination, each.amount)] for each in writes]
    opened = [OpenAccount(each, "EUR/2") for each in EASY]
    return Evidence(asked=asked, frames=frames_of([*OPENED, *opened], *batches))


def said_of_order(judgement: Judgement) -> str:
    (verdict,) = [each for each in judgement.guarantees if each.guarantee == "strictly serializable"]
    return verdict.why[verdict.why.index("an order") :]


def test_each_group_has_an_outcome_of_its_own() -> None:
    found = search(Case(evidence_of([*at_once(), *one_by_one()])))
    assert [(each.operations, each.is_given_up, each.violation) for each in found] == [
        (AT_ONCE + 1, True, None),
        (2, False, None),
        (2, False, None),
    ]


def test_what_was_given_up_is_told_and_not_counted() -> None:
    judgement = judge(evidence_of([*at_once(), *one_by_one()]))
    assert judgement.is_good, str(judgement)
    assert said_of_order(judgement) == (
        "an order found without the journal for 4 operations on 2 groups of accounts, "
        "the search given up as too large for 21 operations on 1 group"
    )


def test_where_all_were_given_up_no_order_was_found_for_anything() -> None:
    judgement = judge(evidence_of(at_once()))
    assert said_of_order(judgement) == (
        "an order found without the journal for 0 operations on 0 groups of accounts, "
        "the search given up as too large for 21 operations on 1 group"
    )


def test_where_nothing_was_given_up_nothing_is_said_of_it() -> None:
    judgement = judge(evidence_of(one_by_one()))
    assert said_of_order(judgement) == "an order found without the journal for 4 operations on 2 groups of accounts"


def test_a_group_without_an_order_is_found_beside_one_that_was_given_up() -> None:
    asked = [*at_once(), *one_by_one()]
    asked[-1].balances = {"cyd": 4}
    judgement = judge(evidence_of(asked))
    assert judgement.counts["no order explains it"] == 1
    assert [each.violation is not None for each in search(Case(evidence_of(asked)))] == [False, False, True]

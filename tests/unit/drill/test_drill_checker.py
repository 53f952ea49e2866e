"""The judge must be able to find somebody guilty: a fault is planted in a sound world, and who can see it notices."""

from collections.abc import Callable

import pytest

from fivenines.drill.checker.books import CHECKS, judge
from fivenines.drill.disk import Totals
from fivenines.drill.record import Answer
from fivenines.ledger import OpenAccount
from tests.unit.drill.books import CUSTOMERS, World, id_of, post, sound_world


def test_nothing_is_wrong_with_a_sound_world() -> None:
    assert sound_world().failed() == {}


def test_a_judge_who_saw_nothing_passes_nobody() -> None:
    assert World().failed() == dict.fromkeys(CHECKS, 0)


def lose_it_everywhere(world: World) -> None:
    """The ledger acknowledged the last payment to Cyd, and then forgot it: no frame, no decision, no money."""
    world.frames[4].pop()
    del world.decisions[id_of(9)]
    world.move("till", "cyd", -300)


def lose_the_frame(world: World) -> None:
    world.frames[4].pop()


def forget_the_decision(world: World) -> None:
    world.decisions[id_of(9)] = []


def decide_twice(world: World) -> None:
    """The retry of the first payment was carried out as if it were new."""
    world.decisions[id_of(1)].append(Answer("posted", 7))
    world.move("till", "ada", 100)


def answer_twice(world: World) -> None:
    world.changed.append((id_of(1), Answer("posted", 7)))


def carry_out_again_when_sent_again(world: World) -> None:
    world.sent_again[id_of(1)] = Answer("posted", 8)
    world.accounts_after["till"].debits += 100
    world.accounts_after["ada"].credits += 100


def move_money_in_secret(world: World) -> None:
    world.move("ada", "bob", 1)


def misplace_a_balance(world: World) -> None:
    """One account shows a cent more, which came from nowhere."""
    world.accounts["ada"].credits += 1
    world.accounts_after["ada"].credits += 1


def lose_an_account(world: World) -> None:
    del world.accounts["bob"], world.accounts_after["bob"]


def refuse_and_carry_out(world: World) -> None:
    """A payment to Ada is answered as refused; it moved all the same, in the journal, the feed and the books."""
    world.frames[0][1] = OpenAccount("vault", "EUR/2", None)
    for number in (10, 11, 12):
        world.decisions[id_of(number)] = [Answer("posted", 6)]
    for index, customer in enumerate(CUSTOMERS):
        world.move("vault", customer, 100 * (index + 1))
        world.stated[customer] += 100 * (index + 1)
    for number in (11, 12):
        world.answers[id_of(number)] = world.sent_again[id_of(number)] = Answer("posted", 6)


def refuse_and_tell_of_it_as_posted(world: World) -> None:
    world.decisions[id_of(10)] = [Answer("posted", 6)]


def change_its_mind(world: World) -> None:
    world.sent_again[id_of(10)] = Answer("posted", 6)


def change_its_mind_meanwhile(world: World) -> None:
    world.changed.append((id_of(10), Answer("account_frozen", 6)))


def name_the_wrong_position(world: World) -> None:
    world.answers[id_of(1)] = Answer("posted", 5)


def keep_silent(world: World) -> None:
    del world.sent_again[id_of(4)]


def invent_a_transaction(world: World) -> None:
    """Somebody posted what nobody asked for, and it cancels out."""
    world.frames.append([post(100, "ada", "bob", 5), post(101, "bob", "ada", 5)])
    for source, destination in (("ada", "bob"), ("bob", "ada")):
        world.move(source, destination, 5)


def reuse_an_id(world: World) -> None:
    world.frames.append([post(1, "till", "bob", 999)])


def state_another_balance(world: World) -> None:
    world.stated["ada"] += 1


def state_another_balance_for_a_day(world: World) -> None:
    world.stated_by_date["ada", "2023-01-02"] += 1


def contradict_itself(world: World) -> None:
    world.wrong_in_themselves.append("ada")


def let_a_node_be_elsewhere(world: World) -> None:
    world.nodes["east"] = (6, "ab", world.nodes["east"][2])


def let_a_node_hold_something_else(world: World) -> None:
    world.nodes["north"][2]["ada"] = Totals("EUR/2", 0, 1)


@pytest.mark.parametrize(
    ("plant", "noticed"),
    [
        (let_a_node_be_elsewhere, {"differing_nodes": 1}),
        (let_a_node_hold_something_else, {"differing_nodes": 1}),
        (lose_it_everywhere, {"lost": 1, "wrong_answers": 1, "wrong_balances": 1, "wrong_days": 1}),
        (lose_the_frame, {"lost": 1, "wrong_answers": 1, "wrong_totals": 2, "wrong_days": 1}),
        (forget_the_decision, {"lost": 1}),
        (decide_twice, {"doubled": 1, "wrong_totals": 2, "wrong_balances": 1}),
        (answer_twice, {"doubled": 1}),
        (carry_out_again_when_sent_again, {"doubled": 1, "moved_by_repeats": 2}),
        (move_money_in_secret, {"wrong_totals": 2, "wrong_balances": 2}),
        (misplace_a_balance, {"wrong_totals": 1, "wrong_balances": 1, "imbalance": 1}),
        (lose_an_account, {"wrong_totals": 1, "wrong_balances": 1, "imbalance": 1}),
        (refuse_and_carry_out, {"wrong_answers": 1}),
        (refuse_and_tell_of_it_as_posted, {"wrong_answers": 1}),
        (change_its_mind, {"wrong_answers": 1}),
        (change_its_mind_meanwhile, {"wrong_answers": 1}),
        (name_the_wrong_position, {"wrong_answers": 1, "doubled": 1}),
        (keep_silent, {"wrong_answers": 1}),
        (invent_a_transaction, {"strays": 2}),
        (reuse_an_id, {"strays": 1}),
        (state_another_balance, {"wrong_balances": 1}),
        (state_another_balance_for_a_day, {"wrong_days": 1}),
        (contradict_itself, {"wrong_totals": 1}),
    ],
)
def test_a_planted_fault_is_noticed_by_those_who_can_see_it(
    plant: Callable[[World], None], noticed: dict[str, int]
) -> None:
    world = sound_world()
    plant(world)
    assert world.failed() == noticed


def test_a_finding_names_examples_and_counts_the_rest() -> None:
    world = sound_world()
    for number in range(1, 10):
        del world.decisions[id_of(number)]
    found = judge(world.evidence())["lost"]
    assert (found.looked_at, found.wrong, len(found.examples)) == (9, 9, 5)
    assert found.examples[0] == "01900000-0000-7000-8000-000000000001: acknowledged, and the ledger does not know it"


def test_books_that_were_not_replayed_to_their_end_do_not_pass() -> None:
    world = sound_world()
    world.stated["dan"] = 5
    told = judge(world.evidence())["wrong_balances"].examples
    assert told == ("dan: the data states 5, the ledger has no such account",)


def test_the_totals_of_an_account_are_told_with_their_asset() -> None:
    world = sound_world()
    world.accounts["ada"] = Totals("EUR/2", 0, 299)
    told = judge(world.evidence())["wrong_totals"].examples
    assert told == ("ada: the ledger has -0 +299 EUR/2, the journal comes to -0 +300 EUR/2",)

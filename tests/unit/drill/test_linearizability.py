"""The judge of histories: it accepts what one copy could have answered, refuses the rest, and shows why, briefly."""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.account_model import POSTED, REFUSED, AccountOperation, Accounts, Read, Transfer
from fivenines.drill.linearizability import TooManyConfigurationsError, Violation, check

ACCOUNTS = Accounts({"a": 10, "b": 10, "c": 10}, {"a": 0, "b": 0})


def moved(
    source: str, destination: str, amount: int, invoked: float, returned: float | None, output: str | None = POSTED
) -> AccountOperation:
    return AccountOperation(
        client=0, invoked=invoked, returned=returned, input=Transfer(source, destination, amount), output=output
    )


def saw(balances: dict[str, int], invoked: float, returned: float | None) -> AccountOperation:
    return AccountOperation(
        client=1, invoked=invoked, returned=returned, input=Read(tuple(balances)), output=tuple(balances.values())
    )


def brute_force(model: Accounts, operations: Sequence[AccountOperation]) -> bool:
    """Say whether any order of any of those without an answer, with all of the others, explains all outputs."""
    closed = [each for each in operations if each.returned is not None]
    open_ = [each for each in operations if each.returned is None]
    for count in range(len(open_) + 1):
        for chosen in itertools.combinations(open_, count):
            if any(_explains(model, order) for order in itertools.permutations([*closed, *chosen])):
                return True
    return False


def _explains(model: Accounts, order: Iterable[AccountOperation]) -> bool:
    state, latest = model.initial, float("-inf")
    for each in order:
        # Nobody comes after one who was invoked only after he had returned.
        if each.returned is not None and each.returned < latest:
            return False
        latest = max(latest, each.invoked)
        after = model.step(state, each)
        if after is None:
            return False
        state = after
    return True


def violation(operations: Sequence[AccountOperation], model: Accounts = ACCOUNTS) -> Violation[object, object]:
    """Return what is wrong, after a look whether the witness is wrong by itself."""
    found = check(model, operations)
    assert found is not None
    assert found.stuck in found.operations
    assert check(found.model, found.operations) is not None
    return found  # type: ignore[return-value]  # only looked at


# --- planted


def test_a_history_that_one_copy_could_have_given_is_accepted() -> None:
    history = [
        moved("a", "b", 7, 0, 3),
        moved("a", "b", 7, 1, 4, REFUSED),
        saw({"a": 10, "b": 10}, 1, 2),
        saw({"a": 3, "b": 17}, 2, 5),
        moved("b", "c", 17, 5, None, None),
        saw({"b": 17}, 6, 7),
        saw({"b": 0, "c": 27}, 8, 9),
    ]
    assert check(ACCOUNTS, history) is None


def test_a_stale_read_is_found() -> None:
    write, read = moved("a", "b", 1, 0, 1), saw({"a": 10}, 2, 3)
    found = violation([write, read, saw({"c": 10}, 0, 9)])
    assert found.stuck.input == Read(("a",))
    assert found.operations == (read,)
    assert found.model.initial == (9,)


def test_an_old_balance_after_a_new_one_was_seen_is_found() -> None:
    history = [moved("a", "b", 1, 0, 9), saw({"a": 9}, 1, 2), saw({"a": 10}, 3, 4)]
    assert len(violation(history).operations) == 3
    assert check(ACCOUNTS, [history[0], history[2], replace(history[1], invoked=3, returned=4)]) is None


def test_a_lost_write_is_found() -> None:
    history = [moved("a", "b", 1, 0, 1), moved("c", "b", 5, 2, 3), saw({"b": 15}, 4, 5)]
    assert len(violation(history).operations) == 1


def test_a_write_that_was_done_twice_is_found() -> None:
    history = [moved("a", "b", 3, 0, 9), saw({"a": 4}, 1, 2)]
    assert len(violation(history).operations) == 2


def test_a_write_without_an_answer_that_was_done_twice_is_found() -> None:
    history = [moved("a", "b", 3, 0, None, None), saw({"a": 4}, 1, 2)]
    assert violation(history).stuck == history[1]
    assert check(ACCOUNTS, [history[0], saw({"a": 7}, 1, 2)]) is None


def test_writes_that_were_seen_in_two_orders_are_found() -> None:
    writes = [moved("c", "a", 1, 0, 9), moved("c", "b", 1, 0, 9)]
    one, other = saw({"a": 11, "b": 10}, 1, 2), saw({"a": 10, "b": 11}, 1, 2)
    assert len(violation([*writes, one, other]).operations) == 4
    assert check(ACCOUNTS, [*writes, one]) is None
    assert check(ACCOUNTS, [*writes, other]) is None


def test_a_write_that_took_effect_before_it_was_asked_for_is_found() -> None:
    history = [saw({"a": 9}, 0, 1), moved("a", "b", 1, 2, 3)]
    assert len(violation(history).operations) == 1


def test_what_was_read_of_a_refused_write_is_found() -> None:
    history = [moved("a", "b", 11, 0, 9, REFUSED), saw({"b": 21}, 1, 2), saw({"b": 10}, 10, 11)]
    assert len(violation(history).operations) == 1


def test_what_was_read_of_a_write_without_an_answer_that_no_floor_admits_is_found() -> None:
    history = [moved("a", "b", 11, 0, None, None), saw({"a": -1, "b": 21}, 1, 2)]
    assert len(violation(history).operations) == 2


def test_a_transfer_that_was_seen_in_halves_is_found() -> None:
    history = [moved("a", "b", 4, 0, 9), saw({"a": 6, "b": 10}, 1, 2)]
    assert len(violation(history).operations) == 2


def test_a_refusal_without_a_reason_is_found() -> None:
    history = [moved("a", "b", 4, 0, 1), moved("a", "b", 6, 2, 3, REFUSED)]
    assert violation(history).stuck.output == REFUSED


def test_a_write_that_should_have_been_refused_is_found() -> None:
    history = [moved("a", "b", 6, 0, 3), moved("a", "b", 6, 1, 4)]
    assert len(violation(history).operations) == 2


def test_a_write_without_an_answer_explains_nothing_from_before_it() -> None:
    history = [saw({"a": 9}, 0, 1), moved("a", "b", 1, 2, None, None)]
    assert violation(history).stuck == history[0]


def test_the_witness_of_a_violation_in_a_long_history_is_short_and_can_be_read() -> None:
    history = lived(random.Random(7), operations=1_000, clients=16, model=BANK)
    number = next(n for n, each in enumerate(history) if n > 500 and isinstance(each.input, Read))
    output = history[number].output
    assert isinstance(output, tuple)
    history[number] = replace(history[number], output=(output[0] + 10_000, *output[1:]))
    found = violation(history, BANK)
    assert len(found.operations) <= 16
    assert str(found).count("<- no order") == 1


# --- the machinery


def test_a_history_without_operations_is_accepted() -> None:
    assert check(ACCOUNTS, []) is None


def test_reads_without_an_answer_say_nothing() -> None:
    unanswered = AccountOperation(client=0, invoked=0, returned=None, input=Read(("a", "b")), output=None)
    assert check(ACCOUNTS, [unanswered]) is None


def test_accounts_that_nothing_joins_are_judged_apart() -> None:
    history = [moved("a", "b", 99, 0, 1, REFUSED), moved("b", "b", 1, 0, 1), saw({"a": 10}, 0, 1)]
    parts = ACCOUNTS.parts(history)
    assert [(list(model.balances), len(operations)) for model, operations in parts] == [(["a"], 2), (["b"], 1)]


def test_a_search_that_takes_too_long_says_so() -> None:
    writes = [moved("c", "b", 2**n, 0, 1) for n in range(12)]
    with pytest.raises(TooManyConfigurationsError):
        check(ACCOUNTS, [*writes, saw({"b": 9}, 2, 3)], configurations_max=1_000)


# --- histories that were lived

BANK = Accounts({f"p{n}": 60 for n in range(8)}, {f"p{n}": 0 for n in range(8)})


def lived(
    chance: random.Random, *, operations: int, clients: int, model: Accounts, unanswered: float = 0.0
) -> list[AccountOperation]:
    """Make a history from a single copy: each operation has its moment, somewhere between its two ends."""
    names = list(model.balances)
    state = dict(model.balances)
    free_at = [chance.random() for _ in range(clients)]
    history: list[AccountOperation] = []
    planned = []
    for _ in range(operations):
        client = min(range(clients), key=free_at.__getitem__)
        invoked = free_at[client]
        moment = invoked + chance.random()
        returned = moment + chance.random()
        free_at[client] = returned + chance.random() / 10
        planned.append((moment, client, invoked, returned))
    for _moment, client, invoked, returned in sorted(planned):
        output: str | tuple[int, ...] | None
        asked: Transfer | Read
        if chance.random() < 0.5:
            asked = Read(tuple(chance.sample(names, chance.choice([1, 1, min(3, len(names))]))))
            output = tuple(state[name] for name in asked.accounts)
        else:
            source, destination = chance.sample(names, 2)
            asked = Transfer(source, destination, chance.randint(1, 40))
            output = REFUSED
            if source not in model.floors or state[source] - asked.amount >= model.floors[source]:
                state[source] -= asked.amount
                state[destination] += asked.amount
                output = POSTED
        is_answered = chance.random() >= unanswered
        history.append(
            AccountOperation(
                client=client,
                invoked=invoked,
                returned=returned if is_answered else None,
                input=asked,
                output=output if is_answered else None,
            )
        )
    chance.shuffle(history)
    return history


CHANCES = st.integers(0, 2**32).map(random.Random)


@given(CHANCES, st.integers(1, 120), st.integers(1, 12), st.sampled_from([0.0, 0.05]))
def test_whatever_one_copy_answered_is_accepted(
    chance: random.Random, operations: int, clients: int, unanswered: float
) -> None:
    history = lived(chance, operations=operations, clients=clients, model=BANK, unanswered=unanswered)
    assert check(BANK, history) is None


@given(CHANCES, st.integers(1, 6), st.sampled_from([0.0, 0.3]))
def test_the_verdict_is_that_of_trying_every_order(chance: random.Random, operations: int, unanswered: float) -> None:
    model = Accounts({"a": 10, "b": 30}, {"a": 0})
    history = lived(chance, operations=operations, clients=3, model=model, unanswered=unanswered)
    number = chance.randrange(len(history))
    changed = history[number]
    match changed.input, changed.output:
        case Read(), tuple(output):
            changed = replace(changed, output=tuple(balance + chance.randint(-40, 40) for balance in output))
        case Transfer(), str(output):
            changed = replace(changed, output=POSTED if output == REFUSED else REFUSED)
    history[number] = changed
    found = check(model, history)
    assert (found is None) == brute_force(model, history)
    if found is not None:
        assert not brute_force(found.model, found.operations)  # type: ignore[arg-type]  # it is of accounts


@given(CHANCES, st.integers(10, 80), st.sampled_from([0.0, 0.05]))
def test_the_witness_has_in_it_what_is_wrong(chance: random.Random, operations: int, unanswered: float) -> None:
    """Without the one read that is wrong all is well, so whatever is shown without it would be a false accusation."""
    history = lived(chance, operations=operations, clients=6, model=BANK, unanswered=unanswered)
    reads = [n for n, each in enumerate(history) if isinstance(each.input, Read) and each.output is not None]
    if not reads:
        return
    wrong = history[number := chance.choice(reads)]
    assert isinstance(wrong.output, tuple)
    history[number] = replace(wrong, output=tuple(balance + chance.randint(-9, 9) for balance in wrong.output))
    found = check(BANK, history)
    if found is not None:
        assert (wrong.client, wrong.invoked) in {(each.client, each.invoked) for each in found.operations}
        assert check(found.model, found.operations) is not None


def test_thousands_of_operations_of_sixteen_clients_are_judged() -> None:
    history = lived(random.Random(1), operations=4_000, clients=16, model=BANK, unanswered=0.001)
    assert check(BANK, history) is None

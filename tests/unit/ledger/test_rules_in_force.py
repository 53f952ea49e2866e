"""Versions of the rules: put in force by the journal, from the next frame on, on every replica at once."""

import pytest

from fivenines.ledger import (
    RULES,
    Activate,
    Batch,
    Command,
    Hold,
    Outcome,
    PostOne,
    Release,
    Rules,
    RulesUnsupportedError,
    Settle,
    State,
    apply,
    digest,
    image,
    restore,
)
from tests.unit.ledger.world import DAY_MS, NOW_MS, make_id, make_world, posts, tell

CAREFUL = Rules(version=2, retention_ms=1_000, id_ahead_ms_max=10, expired_postings_per_frame_max=2)
PATIENT = Rules(version=3, retention_ms=90 * DAY_MS)


@pytest.fixture(autouse=True)
def _newer_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, 2, CAREFUL)
    monkeypatch.setitem(RULES, 3, PATIENT)


def test_rules_take_effect_with_the_frame_after_the_one_that_activates_them() -> None:
    state = make_world()
    ahead = 200_000
    first: list[Command] = [Activate(2), PostOne(make_id(1, ahead), "bank", "rich", 1), Activate(2), Activate(1)]
    assert tell(state, *first) == [
        Outcome.done,
        Outcome.posted,
        Outcome.rules_not_newer,
        Outcome.rules_not_newer,
    ]
    assert state.rules is CAREFUL
    assert tell(state, PostOne(make_id(2, ahead), "bank", "rich", 1)) == [Outcome.id_in_future]
    assert tell(state, PostOne(make_id(3, 10), "bank", "rich", 1)) == [Outcome.posted]


def test_of_two_activations_in_one_frame_the_newer_one_stands() -> None:
    state = make_world()
    assert tell(state, Activate(2), Activate(3)) == [Outcome.done, Outcome.done]
    assert state.rules is PATIENT


@pytest.mark.parametrize("version", [4, 2**63, 2**64 - 1])
def test_rules_that_this_release_does_not_have_stop_it(version: int) -> None:
    state = make_world()
    with pytest.raises(RulesUnsupportedError, match=str(version)) as caught:
        tell(state, Activate(version), PostOne(make_id(1000), "bank", "rich", 1))
    assert caught.value.rules == version


def test_an_image_says_which_rules_are_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_world()
    tell(state, Activate(2))
    chunks = list(image(state))
    assert restore(chunks).rules is CAREFUL
    assert digest(restore(chunks)) == digest(state)
    monkeypatch.delitem(RULES, 2)
    with pytest.raises(RulesUnsupportedError, match="rules 2"):
        restore(chunks)


def test_a_longer_retention_brings_no_forgotten_id_back() -> None:
    state = make_world()
    tell(state, Activate(2))
    old = make_id(1000, -2_000)
    assert tell(state, PostOne(old, "bank", "rich", 1)) == [Outcome.id_expired]
    assert tell(state, Activate(3)) == [Outcome.done]
    horizon = state.horizon
    assert tell(state, PostOne(old, "bank", "rich", 1)) == [Outcome.id_expired]
    assert state.horizon == horizon
    assert restore(image(state)).horizon == horizon
    # And the window grows again from there on.
    at = (NOW_MS + 80 * DAY_MS) * 1000
    assert tell(state, PostOne(make_id(1001, 0), "bank", "rich", 1), time_us=at) == [Outcome.posted]


def test_expiry_gives_a_few_postings_back_a_frame_and_the_rest_with_the_next_ones() -> None:
    state = make_world()
    two = posts("rich", "bank", 1) + posts("rich", "poor", 1)
    holds = [Hold(make_id(1000 + n), two if n == 1 else posts("rich", "bank", 1), timeout_us=10) for n in range(4)]
    assert tell(state, *holds, Activate(2))[:4] == [Outcome.held] * 4
    due_us = state.time_us + 10
    late: list[Command] = [Settle(make_id(2000), holds[3].id), Release(make_id(2001), holds[3].id)]
    applied = apply(state, Batch(b"w" * 16, 0, due_us, late))
    assert applied.expired == [holds[0].id, holds[1].id]
    assert applied.outcomes == [Outcome.hold_expired] * 2  # although its turn has not come
    assert holds[3].id in state.holds
    resumed = restore(image(state))
    for replica in (state, resumed):
        assert apply(replica, Batch(b"w" * 16, 0, 0, [])).expired == [holds[2].id, holds[3].id]
    assert digest(resumed) == digest(state)


def test_holds_that_ended_early_neither_delay_the_expiry_of_others_nor_pile_up() -> None:
    state = make_world()
    lasting = Hold(make_id(900), posts("rich", "bank", 1), timeout_us=10**9)
    tell(state, lasting)
    for round_number in range(8):
        numbers = range(1000 + 1000 * round_number, 1400 + 1000 * round_number)
        tell(state, *(Hold(make_id(n), posts("rich", "bank", 1), timeout_us=10**8) for n in numbers))
        tell(state, *(Release(make_id(10**6 + n), make_id(n)) for n in numbers))
    tell(state)
    assert len(state.expiries) <= 1_024 + 2 * len(state.holds)
    assert state.accounts["rich"].held_debits == restore(image(state)).accounts["rich"].held_debits
    applied = apply(state, Batch(b"w" * 16, 0, state.time_us + 10**10, []))
    assert applied.expired == [lasting.id]


def test_time_never_goes_back_and_ends_where_the_time_of_an_id_does() -> None:
    state = State()
    stamped = (5, 3, -(2**63), 5, 10, 2**48 * 1000 - 2, 2**64 - 1, 2**64 - 1, 0)
    times = [apply(state, Batch(b"w" * 16, 0, time_us, [])).time_us for time_us in stamped]
    end = 2**48 * 1000
    assert times == [5, 6, 7, 8, 10, end - 2, end - 1, end, end + 1]
    assert digest(restore(image(state))) == digest(state)

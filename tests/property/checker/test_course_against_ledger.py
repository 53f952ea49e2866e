"""The checker works out what a journal comes to by itself, and comes to the same as the ledger, to the last outcome."""

from collections.abc import Sequence

import pytest
from hypothesis import given

from fivenines.drill.checker.course import Course, course_of
from fivenines.journal import Frame
from fivenines.journal.format import DIGEST_NONE, frame_digest
from fivenines.ledger import Batch, State, apply, encode
from tests.property.ledger.long_journals import Journalist
from tests.property.ledger.sequences import journals


def frames_of(batches: Sequence[Batch]) -> list[Frame]:
    frames, digest = [], DIGEST_NONE
    for position, batch in enumerate(batches, 1):
        payload = encode(batch)
        digest = frame_digest(position, digest, payload)
        frames.append(Frame(position, payload, digest))
    return frames


def assert_same(course: Course, state: State, position: int) -> None:
    """The chain over all outcomes, and each account, are the same at a position."""
    assert course.outcomes[position] == state.outcomes_digest
    for id, account in state.accounts.items():
        expected = account.debits, account.credits, account.held_debits, account.held_credits
        assert course.totals_at(id, position) == expected
    for id, known in course.accounts.items():
        assert (known.opened <= position) == (id in state.accounts)


@given(journals())
def test_it_comes_to_the_same_at_every_position(batches: list[Batch]) -> None:
    course, state = course_of(frames_of(batches)), State()
    assert course.position == len(batches)
    for position, batch in enumerate(batches, 1):
        apply(state, batch)
        assert_same(course, state, position)


@pytest.mark.parametrize("seed", range(6))
def test_it_comes_to_the_same_in_long_journals(seed: int) -> None:
    batches = Journalist(seed).journal(frames=60, commands=12)
    course, state = course_of(frames_of(batches)), State()
    for batch in batches:
        apply(state, batch)
    assert_same(course, state, len(batches))
    assert {id for id, hold in course.holds.items() if hold.ended is None} == set(state.holds)

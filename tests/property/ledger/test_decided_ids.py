"""The memory of decided ids against a plain dict, with blocks so small that every seam is crossed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fivenines.ledger import decided
from fivenines.ledger.decided import FINGERPRINT_PRIME, Decided, DecidedIds, pack


@contextmanager
def small_blocks() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decided, "_BLOCK_IDS", 3)
        patch.setattr(decided, "_BLOCK_IDS_MAX", 6)
        patch.setattr(decided, "_SEAL_IDS", 9)
        patch.setattr(decided, "_TAIL_IDS_MAX", 12)
        yield patch


def make_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


numbers = st.one_of(st.integers(0, 400), st.integers(0, 2**128 - 1))
outcomes = st.integers(0, 30)
fingerprints = st.integers(0, FINGERPRINT_PRIME - 1)


class AgainstADict(RuleBasedStateMachine):
    """Ids come ascending, late, twice; the memory is sealed and forgets; a dict is told the same."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks = small_blocks()
        self._blocks.__enter__()
        self.ids = DecidedIds()
        self.known: dict[bytes, Decided] = {}
        self.horizon = bytes(16)
        self.position = 1
        self.newest = 0

    def teardown(self) -> None:
        self._blocks.__exit__(None, None, None)

    @initialize(step=st.integers(1, 5), count=st.integers(0, 40))
    def begin_in_order(self, step: int, count: int) -> None:
        for _ in range(count):
            self.newest += step
            self._add(self.newest, 0, self.newest % FINGERPRINT_PRIME)
        self.ids.seal()

    def _add(self, number: int, outcome: int, fingerprint: int) -> None:
        id = make_id(number)
        if id < self.horizon or id in self.known:
            return
        self.newest = max(self.newest, number)
        self.ids.add(id, pack(outcome, fingerprint), self.position)
        self.known[id] = Decided(outcome, fingerprint, self.position)

    @rule(number=numbers, outcome=outcomes, fingerprint=fingerprints)
    def add_any(self, number: int, outcome: int, fingerprint: int) -> None:
        self._add(number, outcome, fingerprint)

    @rule(steps=st.lists(st.integers(1, 3), max_size=15))
    def add_ascending(self, steps: list[int]) -> None:
        for step in steps:
            if self.newest + step < 2**128:
                self._add(self.newest + step, 0, step)

    @rule(gap=st.integers(0, 60), count=st.integers(1, 15))
    def add_descending(self, gap: int, count: int) -> None:
        for number in range(max(0, self.newest - gap), max(0, self.newest - gap - count), -1):
            self._add(number, 3, number % FINGERPRINT_PRIME)

    @rule(step=st.integers(1, 3))
    def end_the_frame(self, step: int) -> None:
        self.ids.seal()
        self.position += step
        assert len(self.ids.tail_ids) <= decided._TAIL_IDS_MAX

    @rule(number=st.integers(0, 450))
    def forget(self, number: int) -> None:
        self.horizon = max(self.horizon, make_id(number))
        self.ids.forget_before(self.horizon)
        # It may keep what is older, up to a block and what has not been sealed; it must keep what is not.
        kept = {id for id, _ in self.ids.entries()}
        assert kept >= {id for id in self.known if id >= self.horizon}
        assert all(block.last >= self.horizon for block in self.ids.blocks)
        self.known = {id: found for id, found in self.known.items() if id in kept}

    @rule(number=numbers)
    def find(self, number: int) -> None:
        assert self.ids.find(make_id(number)) == self.known.get(make_id(number))

    @invariant()
    def everything_is_there_in_order(self) -> None:
        assert list(self.ids.entries()) == sorted(self.known.items())
        assert len(self.ids) == len(self.known)
        assert all(self.ids.find(id) == found for id, found in self.known.items())
        assert all(id <= self.ids.top for id in self.known)
        assert all(1 <= len(block) <= decided._BLOCK_IDS_MAX for block in self.ids.blocks)


def test_it_remembers_what_a_dict_remembers() -> None:
    run_state_machine_as_test(AgainstADict, settings=settings(max_examples=100, stateful_step_count=30))


@given(st.lists(st.integers(0, 200), unique=True, min_size=1))
def test_the_order_of_arrival_does_not_matter_to_what_is_found(arrivals: list[int]) -> None:
    with small_blocks():
        ids = DecidedIds()
        for position, number in enumerate(arrivals, 1):
            ids.add(make_id(number), pack(number % 31, number), position)
            ids.seal()
        assert [id for id, _ in ids.entries()] == sorted(map(make_id, arrivals))
        for position, number in enumerate(arrivals, 1):
            found = ids.find(make_id(number))
            assert found is not None
            # A late id may come into a block that begins after its position, or far before it: then that is unknown.
            assert found in {Decided(number % 31, number, position), Decided(number % 31, number, None)}
        assert all(ids.find(make_id(number)) is None for number in range(201) if number not in arrivals)

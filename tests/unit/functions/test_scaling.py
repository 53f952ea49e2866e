"""How many processes there should be."""

from hypothesis import given
from hypothesis import strategies as st

from fivenines.functions.scaling import Observed, Scaling, to_start

SCALING = Scaling(processes_max=4, calls_per_process=8, patience_s=0.2)


def start(waiting: int, *, oldest_s: float = 0.0, processes: int = 0, starting: int = 0) -> int:
    return to_start(SCALING, Observed(waiting=waiting, oldest_s=oldest_s, processes=processes, starting=starting))


def test_nothing_is_started_for_nothing() -> None:
    assert start(0) == 0
    assert start(0, processes=2) == 0


def test_the_first_call_starts_a_process_at_once() -> None:
    assert start(1) == 1
    assert start(8) == 1


def test_a_backlog_starts_more_up_to_the_bound() -> None:
    assert start(9) == 2
    assert start(1_000) == 4
    assert start(20, processes=1) == 2
    assert start(1_000, processes=3) == 1


def test_a_call_that_waits_long_is_worth_another_process() -> None:
    assert start(1, oldest_s=0.1, processes=1) == 0
    assert start(1, oldest_s=0.2, processes=1) == 1


def test_while_one_starts_no_other_does() -> None:
    assert start(1_000, oldest_s=9.0, processes=2, starting=1) == 0


@given(st.integers(0, 10_000), st.floats(0, 1e6), st.integers(0, 4), st.integers(0, 4))
def test_there_are_never_more_than_the_bound(waiting: int, oldest_s: float, processes: int, starting: int) -> None:
    more = start(waiting, oldest_s=oldest_s, processes=processes, starting=min(starting, processes))
    assert 0 <= more <= 4 - processes
    # And never none while a call waits.
    assert more > 0 or processes > 0 or waiting == 0

"""Ids ascend, are unique, and are UUIDs of version 7, whatever the clock does and whoever asks."""

import os
import threading
import uuid

from hypothesis import given
from hypothesis import strategies as st

from fivenines.ids import CLOCK_STEP_BACK_MS_MAX, IdMaker, as_text, new_id, new_ids, new_ids16

clocks_ms = st.lists(st.integers(0, 2**48 - 2), min_size=1, max_size=30)
small_steps_ms = st.lists(st.integers(-CLOCK_STEP_BACK_MS_MAX // 100, 50), min_size=1, max_size=50)


class Clock:
    """A clock that shows the given times, one after another, and then the last one."""

    def __init__(self, times_ms: list[int]) -> None:
        self.times_ms = times_ms

    def __call__(self) -> int:
        return self.times_ms.pop(0) if len(self.times_ms) > 1 else self.times_ms[0]


def time_ms_of(number: int) -> int:
    return number >> 80


@given(clocks_ms, st.integers(1, 40))
def test_every_id_is_a_uuid_of_version_7_and_none_comes_twice(times_ms: list[int], count: int) -> None:
    maker = IdMaker(clock_ms=Clock(times_ms[:]))
    numbers = [number for _ in times_ms for number in maker.numbers(count)]
    assert len(set(numbers)) == len(numbers)
    for number in numbers:
        parsed = uuid.UUID(int=number)
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122


@given(st.integers(10**12, 2 * 10**12), small_steps_ms, st.integers(1, 40))
def test_ids_ascend_while_the_clock_stands_still_or_goes_back_a_little(
    begin_ms: int, steps_ms: list[int], count: int
) -> None:
    times_ms = [begin_ms]
    for step_ms in steps_ms:
        times_ms.append(max(times_ms[-1] + step_ms, max(times_ms) - CLOCK_STEP_BACK_MS_MAX))
    maker = IdMaker(clock_ms=Clock(times_ms[:]))
    numbers = [number for _ in times_ms for number in maker.numbers(count)]
    assert numbers == sorted(numbers)
    assert time_ms_of(numbers[-1]) == max(times_ms)


def test_ids_follow_a_clock_that_had_been_far_ahead() -> None:
    hour_ms = 3_600_000
    maker = IdMaker(clock_ms=Clock([10**12 + hour_ms, 10**12, 10**12 + 1]))
    times_ms = [time_ms_of(maker.numbers(1)[0]) for _ in range(3)]
    assert times_ms == [10**12 + hour_ms, 10**12, 10**12 + 1]


def test_a_counter_at_its_end_borrows_from_the_time() -> None:
    maker = IdMaker(clock_ms=lambda: 10**12, random_bytes=lambda count: b"\xff" * count)
    first = maker.numbers(1)[0]
    maker._counter = 2**42 - 1
    second, third = maker.numbers(2)
    assert first < second < third
    assert [time_ms_of(number) - 10**12 for number in (first, second, third)] == [0, 1, 1]


def test_the_counter_starts_in_the_lower_half_so_that_it_has_room() -> None:
    maker = IdMaker(clock_ms=lambda: 10**12, random_bytes=lambda count: b"\xff" * count)
    assert maker.numbers(1)[0] >> 64 & 0xFFF == 0x800  # the counter's upper bits, just over the half
    assert time_ms_of(maker.numbers(1)[0]) == 10**12


def test_threads_get_different_ids_and_each_sees_its_own_ascend() -> None:
    maker = IdMaker()
    made: list[list[int]] = []

    def make() -> None:
        own = [number for _ in range(200) for number in maker.numbers(5)]
        made.append(own)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert all(own == sorted(own) for own in made)
    assert len({number for own in made for number in own}) == 8 * 1_000


def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    new_ids(10)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, b"".join(new_ids16(100)))
        finally:
            os._exit(0)
    os.close(writing)
    own = set(new_ids16(100))
    with os.fdopen(reading, "rb") as pipe:
        theirs = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 1_600
    assert own.isdisjoint(theirs[at : at + 16] for at in range(0, 1_600, 16))


def test_the_forms_of_an_id_say_the_same() -> None:
    id16 = new_ids16(1)[0]
    assert as_text(id16) == str(uuid.UUID(bytes=id16))
    assert new_id() < new_id()
    assert new_ids(0) == []
    texts = new_ids(3)
    assert texts == sorted(texts)
    assert all(str(uuid.UUID(text)) == text for text in texts)

"""Tests that want the machine to themselves get it, and are not overtaken for ever."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.side_by_side import Room

_LONG_S = 30.0
"""What nothing here should take."""


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[list[Room]]:
    """The room, as three workers use it."""
    rooms = [Room(tmp_path) for _ in range(3)]
    yield rooms
    for room in rooms:
        room.close()


def test_two_files_share_the_room_and_a_third_that_wants_it_alone_waits_for_both(rooms: list[Room]) -> None:
    first, second, third = rooms
    first.enter(Path("a"), alone=False)
    second.enter(Path("b"), alone=False)
    has_it = threading.Event()

    def want() -> None:
        third.enter(Path("c"), alone=True)
        has_it.set()

    waiting = threading.Thread(target=want)
    waiting.start()
    first.leave()
    assert not has_it.is_set()
    second.leave()
    assert has_it.wait(_LONG_S)
    waiting.join()


def test_a_file_keeps_the_room_that_it_has_and_the_next_one_takes_another(rooms: list[Room]) -> None:
    one, other, _ = rooms
    one.enter(Path("a"), alone=True)
    one.enter(Path("a"), alone=True)
    one.enter(Path("b"), alone=False)
    other.enter(Path("c"), alone=False)
    other.leave()
    one.leave()
    other.enter(Path("d"), alone=True)
    assert other._for == Path("d")

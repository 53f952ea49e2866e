import random
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fivenines.traffic.nameserver import Watch
from fivenines.traffic.responder import Responder
from fivenines.traffic.table import write_table
from tests.unit.names.tables import region, table


class Place:
    """A table's file, and what watches it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "steering.json"
        self.responder = Responder(random.Random(7))
        self.watch = Watch(self.path, self.responder)

    def look(self) -> tuple[bool, list[str]]:
        """Look once; return whether another table is in force, and what was logged."""
        with capture_logs() as logged:
            is_new = self.watch.look()
        return is_new, [event["event"] for event in logged]

    def put(self, **changes: Any) -> None:
        write_table(self.path, table(region("a", 1, **changes), region("b", 2, share=changes.get("share", 1.0))))

    @property
    def serving(self) -> dict[str, float]:
        zone = self.responder.zone
        return {} if zone is None else {each.name: each.share for each in zone.table.regions}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_file_that_is_not_there_is_told_once(place: Place) -> None:
    assert place.look() == (False, ["table_unreadable"])
    assert place.look() == (False, [])
    place.put()
    assert place.look() == (True, ["table_in_force"])
    place.path.unlink()
    assert place.look() == (False, ["table_unreadable"])
    assert place.serving == {"a": 1.0, "b": 1.0}


def test_the_same_table_written_again_changes_nothing(place: Place) -> None:
    place.put()
    place.look()
    place.put()
    assert place.look() == (False, [])


def test_new_measurements_are_used_and_not_told(place: Place) -> None:
    place.put(latency_ms=1.0)
    place.look()
    place.put(latency_ms=2.0)
    assert place.look() == (True, [])
    place.put(latency_ms=2.0, share=0.5)
    assert place.look() == (True, ["table_in_force"])


def test_what_is_wrong_again_and_again_is_told_once(place: Place) -> None:
    place.put()
    place.look()
    for expected in (["table_refused"], [], []):
        place.put(share=2.0)
        assert place.look() == (False, expected)
    assert place.watch.refused == 3
    place.put()
    assert place.look() == (False, []), "the one in force is back"
    place.put(share=2.0)
    assert place.look() == (False, ["table_refused"])
    assert place.serving == {"a": 1.0, "b": 1.0}


def test_all_regions_down_leave_the_last_shares_in_force_and_are_told_once(place: Place) -> None:
    place.put(share=0.5)
    place.look()
    place.put(share=0.0)
    assert place.look() == (False, ["no_region_serves"])
    assert place.serving == {"a": 0.5, "b": 0.5}
    place.put(share=0.0, latency_ms=3.0)
    assert place.look() == (True, [])
    assert place.serving == {"a": 0.5, "b": 0.5}
    place.put(share=1.0)
    assert place.look() == (True, ["table_in_force"])

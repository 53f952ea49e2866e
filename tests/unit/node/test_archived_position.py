"""How far the journal is archived, by what historians said."""

import pytest

from fivenines.node.fleet import Member, Statement, archived_position, safe_position, trim_bound, trimmer
from fivenines.node.settings import FleetSettings

BASE = Statement(
    instance="i",
    region="here",
    url="",
    version="1",
    rules=[1],
    position=900,
    snapshot_position=500,
    snapshot_digest="",
    image=1,
    audits={},
    out_of_service=None,
)


def historian(name: str, archived: dict[str, int], *, copies: int = 2, age_s: float = 0.0) -> Member:
    fields = {each: getattr(BASE, each) for each in BASE.__struct_fields__}
    return Member(name, Statement(**fields | {"role": "historian", "archived": archived, "copies": copies}), age_s)


NODE = Member("n", BASE, 0.0)


@pytest.mark.parametrize(
    ("historians", "expected"),
    [
        ([], None),
        ([historian("a", {"one": 70})], 0),  # two are wanted, and there is one
        ([historian("a", {"one": 70}, copies=1)], 70),
        ([historian("a", {"one": 70}), historian("b", {"two": 50}), historian("c", {"three": 60})], 60),
        ([historian("a", {"one": 70, "two": 40})], 40),  # one historian that writes to two stores
        ([historian("a", {"one": 70}), historian("b", {"one": 90})], 0),  # the same store twice is one copy
        ([historian("a", {"one": 70}, age_s=9_999.0), historian("b", {"two": 50}, age_s=9_999.0)], 50),
        ([historian("a", {"one": 70}, copies=3), historian("b", {"two": 50}, copies=1)], 0),  # the strictest counts
        ([historian("a", {})], 0),
    ],
)
def test_frames_are_archived_up_to_where_enough_stores_have_them(
    historians: list[Member], expected: int | None
) -> None:
    assert archived_position([NODE, *historians]) == expected


def test_a_historian_is_no_node() -> None:
    members = [historian("a", {"one": 70}), NODE]
    assert trimmer(members, 15.0) == "n"
    assert safe_position(members, 15.0) == 500
    assert safe_position([historian("a", {"one": 70})], 15.0) == 0


ROOM = FleetSettings(unarchived_bytes_max=1_000, fullness_max=0.85)


@pytest.mark.parametrize(
    ("archived", "tail_bytes", "fullness", "expected"),
    [
        (None, 10, 0.1, 500),  # nobody keeps an archive: behind snapshots
        (700, 10, 0.1, 500),  # never beyond snapshots
        (300, 1_000, 0.1, 300),  # as long as there is room, behind the archive
        (0, 1_000, 0.84, 0),
        (300, 1_001, 0.1, 500),  # no more room: money comes first
        (300, 10, 0.85, 500),  # nor in etcd, where small frames take three times their bytes
        (300, 10, 1.2, 500),
    ],
)
def test_frames_wait_for_the_archive_as_long_as_there_is_room(
    archived: int | None, tail_bytes: int, fullness: float, expected: int
) -> None:
    assert trim_bound(500, archived, tail_bytes=tail_bytes, fullness=fullness, settings=ROOM) == expected

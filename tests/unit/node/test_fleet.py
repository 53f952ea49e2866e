"""What a node makes of what the others say: tables of situations."""

import msgspec
import pytest

from fivenines.journal import Notice
from fivenines.node.fleet import Member, Statement, members_of, safe_position, snapshot_sources, trimmer, unable
from fivenines.node.settings import FleetSettings, Identity

SILENT_S_MAX = 15.0


def member(
    name: str, *, region: str = "", snapshot: int = 0, age_s: float = 0.0, out_of_service: str | None = None
) -> Member:
    statement = Statement(
        instance=name,
        region=region or name.rpartition("-")[0],
        url=f"http://{name}",
        version="1",
        rules=[1],
        position=1_000_000,
        snapshot_position=snapshot,
        snapshot_digest="",
        image=1,
        audits={},
        out_of_service=out_of_service,
    )
    return Member(name, statement, age_s)


@pytest.mark.parametrize(
    ("members", "safe"),
    [
        ([], 0),
        ([member("west-1", snapshot=70)], 70),
        # Two regions: both must have it. Three: two. Five: three.
        ([member("west-1", snapshot=70), member("east-1", snapshot=50)], 50),
        ([member("west-1", snapshot=70), member("east-1", snapshot=50), member("north-1")], 50),
        ([member(f"r{n}-1", snapshot=10 * n) for n in range(1, 6)], 30),
        # The best node of a region counts, however many there are.
        ([member("west-1", snapshot=70), member("west-2", snapshot=90), member("east-1", snapshot=50)], 50),
        ([member("west-1", snapshot=1), member("west-2", snapshot=90), member("east-1", snapshot=95)], 90),
        # A region that is silent still counts as one, and its snapshots do not.
        ([member("west-1", snapshot=70), member("east-1", snapshot=60, age_s=60.0), member("north-1")], 0),
        ([member("west-1", snapshot=70), member("east-1", snapshot=60, out_of_service="it differs")], 0),
    ],
)
def test_trimming_goes_behind_snapshots_in_a_majority_of_regions(members: list[Member], safe: int) -> None:
    assert safe_position(members, SILENT_S_MAX) == safe


def test_one_node_trims_and_another_takes_over_when_it_is_silent_or_out_of_service() -> None:
    first, second, third = member("a-1"), member("b-1"), member("c-1")
    assert trimmer([first, second, third], SILENT_S_MAX) == "a-1"
    silent = member("a-1", age_s=SILENT_S_MAX + 1)
    assert trimmer([silent, second, third], SILENT_S_MAX) == "b-1"
    differing = member("b-1", out_of_service="it differs")
    assert trimmer([silent, differing, third], SILENT_S_MAX) == "c-1"
    assert trimmer([], SILENT_S_MAX) is None


@pytest.mark.parametrize(
    ("own", "first", "names"),
    [
        # No snapshot of our own, and the journal was trimmed: whatever it still reaches back to will do.
        (None, 500, ["b-1", "c-1"]),
        # All of the journal is there: a snapshot only saves time.
        (None, 1, ["b-1"]),
        # Ours was trimmed beyond.
        (400, 500, ["b-1", "c-1"]),
        # The frame after it is there yet.
        (499, 500, ["b-1"]),
        # Ours is nearly as new as theirs.
        (1_950, 500, []),
        # What they have does not reach the journal either.
        (None, 2_500, []),
    ],
)
def test_a_node_begins_with_the_newest_snapshot_that_spares_it_something(
    own: int | None, first: int, names: list[str]
) -> None:
    members = [
        member("a-1", snapshot=9_999),
        member("b-1", snapshot=2_000),
        member("c-1", snapshot=700),
        member("d-1", snapshot=9_000, age_s=60.0),
        member("e-1", snapshot=9_000, out_of_service="it differs"),
        member("f-1", snapshot=300),
    ]
    found = snapshot_sources(members, me="a-1", own=own, first=first, ahead_min=1_000, silent_s_max=SILENT_S_MAX)
    assert [source.name for source in found] == names


def test_a_notice_that_cannot_be_read_is_left_out() -> None:
    notices = {"a-1": Notice(b"{}", 1.0), "b-1": Notice(b"not even JSON", 1.0)}
    assert members_of(notices, 2.0) == []


def test_whoever_does_not_say_that_it_can_run_the_rules_cannot() -> None:
    able = msgspec.structs.replace(member("a-1").statement, rules=[1, 2])
    notices = {
        "d-1": Notice(b"not even JSON", 99.0),
        "c-1": Notice(msgspec.json.encode(able), 99.0),
        "b-1": Notice(msgspec.json.encode(member("b-1").statement), 99.0),
        "a-1": Notice(msgspec.json.encode(member("a-1").statement), 80.0),
    }
    assert unable(notices, 2, 100.0, SILENT_S_MAX) == ["b-1", "d-1"]  # a-1 has been silent for too long
    assert unable(notices, 1, 100.0, SILENT_S_MAX) == ["d-1"]
    assert unable({}, 2, 100.0, SILENT_S_MAX) == []


@pytest.mark.parametrize("name", ["", "eu west", "a/b", "x" * 65, "näme"])
def test_a_name_that_could_not_be_a_key_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name is 1 to 64 characters"):
        Identity(name=name, region="eu-west")
    with pytest.raises(ValueError, match="region is 1 to 64 characters"):
        Identity(name="eu-west-1", region=name)


def test_settings_out_of_range_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="tail_bytes_max must be more than 0"):
        FleetSettings(tail_bytes_max=0)

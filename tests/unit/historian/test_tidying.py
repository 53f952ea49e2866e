"""What is merged, what is superseded, what expires: pure decisions on listings."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fivenines.historian.settings import Retention
from fivenines.historian.tidying import expired, mergeable, superseded
from fivenines.journal.archive import Catalogue, SegmentName, SnapshotName

DAY_S = 86_400.0
LIMIT = 100


def catalogue(segments: list[SegmentName], snapshots: list[SnapshotName]) -> Catalogue:
    return Catalogue(dict.fromkeys(segments, 1), dict.fromkeys(snapshots, 1), [], [])


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 120), st.booleans()), max_size=40))
def test_runs_are_small_neighbours_that_fit(row: list[tuple[int, int, bool]]) -> None:
    segments: dict[SegmentName, int] = {}
    position = 1
    for count, size, hole in row:
        position += 3 * hole
        segments[SegmentName(1, position, position + count - 1)] = size
        position += count
    seen: set[SegmentName] = set()
    for run in mergeable(segments, LIMIT):
        assert len(run) >= 4
        assert sum(segments[name] for name in run) <= LIMIT
        assert all(after.first == before.last + 1 for before, after in pairwise(run))
        assert not seen & set(run)
        seen.update(run)


def test_what_is_merged_once_is_not_merged_again() -> None:
    small = {SegmentName(1, position, position): 10 for position in range(1, 41)}
    runs = mergeable(small, LIMIT)
    assert [len(run) for run in runs] == [10, 10, 10, 10]
    assert mergeable({SegmentName(1, run[0].first, run[-1].last): 100 for run in runs}, LIMIT) == []


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(0, 8)), max_size=12))
def test_what_is_superseded_takes_no_frame_along(row: list[tuple[int, int, int]]) -> None:
    segments = {SegmentName(epoch, first, first + more): 1 for epoch, first, more in row}
    gone = set(superseded(segments))

    def frames(names: set[SegmentName]) -> set[tuple[int, int]]:
        return {(name.epoch, position) for name in names for position in range(name.first, name.last + 1)}

    assert frames(set(segments) - gone) == frames(set(segments))


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=30, unique=True).map(sorted),
    st.integers(1, 30),
    st.integers(5, 60),
)
def test_every_time_within_retention_can_be_restored(positions: list[int], keep_days: int, end_day: int) -> None:
    """A frame takes an hour; segments hold ten frames; snapshots are where chance put them."""
    hour_us = 3_600_000_000
    last = max(positions)
    segments = [SegmentName(1, first, min(first + 9, last)) for first in range(1, last + 1, 10)]
    found = catalogue(segments, [SnapshotName(1, position, position * hour_us) for position in positions])
    now_s = end_day * DAY_S
    gone = set(expired(found, Retention(keep_s=keep_days * DAY_S, snapshots_all_s=2 * DAY_S), now_s))
    kept_segments = [name for name in segments if name not in gone]
    kept_snapshots = [name for name in found.snapshots if name not in gone]
    held = {position for name in kept_segments for position in range(name.first, name.last + 1)}
    begin = int((now_s - keep_days * DAY_S) // 3_600)
    for position in range(max(1, begin), last + 1):
        starts = [0, *(name.position for name in kept_snapshots if name.position <= position)]
        assert any(set(range(start + 1, position + 1)) <= held for start in starts), position


def test_the_only_snapshot_after_a_gap_stays() -> None:
    hour_us = 3_600_000_000
    segments = [SegmentName(1, 1, 25), SegmentName(1, 41, 60)]
    found = catalogue(segments, [SnapshotName(1, hour, hour * hour_us) for hour in (24, 40, 44, 47)])
    gone = [name.position for name in expired(found, Retention(), now_s=900 * 3_600) if isinstance(name, SnapshotName)]
    assert gone == [44, 47]


def test_without_retention_no_frame_goes_and_old_snapshots_are_one_a_day() -> None:
    hour_us = 3_600_000_000
    segments = [SegmentName(1, 1, 100)]
    found = catalogue(segments, [SnapshotName(1, hour, hour * hour_us) for hour in range(1, 96, 6)])
    gone = expired(found, Retention(), now_s=96 * 3_600)
    assert not set(segments) & set(gone)
    kept = [name.position for name in found.snapshots if name not in gone]
    assert [position for position in kept if position < 72] == [1, 25, 49]
    assert [position for position in kept if position >= 72] == [73, 79, 85, 91]

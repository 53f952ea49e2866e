"""Segments and snapshots as bytes: whole or refused; listings as tables of contents."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.journal import Frame
from fivenines.journal.archive.objects import (
    Epoch,
    SegmentName,
    SnapshotName,
    frames_of,
    pack_segment,
    pack_snapshot,
    parse_epoch,
    parse_segment,
    parse_snapshot,
    path_through,
)
from fivenines.journal.archive.reading import gaps
from fivenines.journal.format import DIGEST_NONE, FormatError, frame_digest

payloads = st.lists(st.binary(max_size=80), min_size=1, max_size=8)


def chained(first: int, payloads: list[bytes], digest: bytes = DIGEST_NONE) -> list[Frame]:
    frames = []
    for position, payload in enumerate(payloads, start=first):
        digest = frame_digest(position, digest, payload)
        frames.append(Frame(position, payload, digest))
    return frames


@given(payloads, st.integers(1, 2**40), st.binary(min_size=32, max_size=32))
def test_a_segment_gives_back_what_went_in(payloads: list[bytes], first: int, before: bytes) -> None:
    frames = chained(first, payloads, before)
    name = SegmentName(1, first, frames[-1].position)
    head, raw = parse_segment(name, pack_segment(frames, before, b"o" * 32))
    assert list(frames_of(head, raw)) == frames
    assert (head.previous_digest, head.last_digest, head.outcomes_digest) == (before, frames[-1].digest, b"o" * 32)


@given(payloads, st.data())
def test_no_changed_byte_and_no_cut_goes_unnoticed(payloads: list[bytes], data: st.DataObject) -> None:
    frames = chained(1, payloads)
    packed = pack_segment(frames, DIGEST_NONE)
    name = SegmentName(1, 1, len(frames))
    at = data.draw(st.integers(0, len(packed) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = packed[:at] + bytes([packed[at] ^ 1 << bit]) + packed[at + 1 :]
    for damaged in (flipped, packed[:at], packed + b"\0", b""):
        with pytest.raises(FormatError):
            parse_segment(name, damaged)


def test_a_segment_under_another_name_is_refused() -> None:
    frames = chained(1, [b"a", b"b"])
    with pytest.raises(FormatError, match="another segment's content"):
        parse_segment(SegmentName(1, 2, 3), pack_segment(frames, DIGEST_NONE))


@given(st.binary(max_size=2_000), st.data())
def test_a_snapshot_gives_back_what_went_in_or_is_refused(file: bytes, data: st.DataObject) -> None:
    packed = pack_snapshot(file)
    assert parse_snapshot(packed) == file
    at = data.draw(st.integers(0, len(packed) - 1))
    for damaged in (packed[:at], packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]):
        with pytest.raises(FormatError):
            parse_snapshot(damaged)


@given(st.integers(1, 10**10 - 1), st.integers(1, 10**20 - 1), st.integers(0, 10**6))
def test_names_say_what_they_were_made_of(epoch: int, first: int, more: int) -> None:
    last = min(first + more, 10**20 - 1)
    segment, snapshot = SegmentName(epoch, first, last), SnapshotName(epoch, first, more)
    assert SegmentName.parse(str(segment)) == segment
    assert SnapshotName.parse(str(snapshot)) == snapshot
    assert SegmentName.parse(str(snapshot)) is None
    assert SnapshotName.parse(str(segment)) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": 0}, "cannot begin"),
        ({"parent": 2}, "cannot begin"),
        ({"position": -1}, "cannot begin"),
        ({"digest": "00"}, "32 bytes"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_the_beginning_of_an_epoch_is_checked(change: dict[str, object], reason: str) -> None:
    good = {"epoch": 2, "parent": 1, "position": 7, "digest": "ab" * 32}
    assert parse_epoch(msgspec.json.encode(good)) == Epoch(**good)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=reason):
        parse_epoch(msgspec.json.encode(good | change))


spans = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12)).map(lambda s: SegmentName(1, s[0], s[0] + s[1])))


@given(spans, st.integers(1, 40))
def test_a_path_reaches_as_far_as_segments_do(names: list[SegmentName], start: int) -> None:
    held = {position for name in names for position in range(name.first, name.last + 1)}
    end = start - 1
    while end + 1 in held:
        end += 1
    path, reached = path_through(names, start)
    assert reached == end
    covered = {position for name in path for position in range(name.first, name.last + 1)}
    assert set(range(start, end + 1)) <= covered
    assert len(path) == len(set(path)) <= len(range(start, end + 1))


@given(spans)
def test_gaps_are_what_lies_between(names: list[SegmentName]) -> None:
    held = {position for name in names for position in range(name.first, name.last + 1)}
    found = {position for first, last in gaps(names) for position in range(first, last + 1)}
    assert found == (set(range(min(held), max(held) + 1)) - held if held else set())

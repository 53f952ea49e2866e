"""Every byte of a small journal, flipped, cut off or zeroed: nothing acknowledged is lost without a word.

The journal has four frames in two segments. What is expected is worked out here from the places of the frames alone.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fivenines.journal import Damage, Frame, JournalDamagedError, verify
from fivenines.journal.format import SEGMENT_HEADER_BYTES, frame_bytes, segment_name
from tests.unit.journal.journals import PAYLOADS, contents, make_journal, open_writer

SEGMENT_BYTES = SEGMENT_HEADER_BYTES + frame_bytes(len(PAYLOADS[0])) + frame_bytes(len(PAYLOADS[1]))
"""Two frames to a segment."""
OLD, NEW = segment_name(1), segment_name(3)


class Place:
    """Where in the journal a byte lies: which frame it belongs to, and where that begins."""

    def __init__(self, name: str, byte: int) -> None:
        self.offset, self.position = 0, 1 if name == OLD else 3
        if byte < SEGMENT_HEADER_BYTES:
            return
        end = SEGMENT_HEADER_BYTES
        for position, payload in enumerate(PAYLOADS[:2] if name == OLD else PAYLOADS[2:], start=self.position):
            self.offset, self.position, end = end, position, end + frame_bytes(len(payload))
            if byte < end:
                return
        self.offset, self.position = end, self.position + 1


@pytest.fixture
def frames(tmp_path: Path) -> list[Frame]:
    frames = make_journal(tmp_path, segment_bytes=SEGMENT_BYTES)
    assert list(contents(tmp_path)) == [OLD, NEW]
    return frames


def bytes_of(directory: Path) -> Iterator[tuple[Path, int, bytes]]:
    for name, data in contents(directory).items():
        for byte in range(len(data)):
            yield directory / name, byte, data


def assert_refused(directory: Path, path: Path, place: Place) -> None:
    """A start is refused with file, offset and position, nothing is changed, and verify says the same."""
    before = contents(directory)
    with pytest.raises(JournalDamagedError) as refused:
        open_writer(directory)
    assert (refused.value.file, refused.value.offset, refused.value.position) == (path, place.offset, place.position)
    assert contents(directory) == before
    verdict = verify(directory)
    assert verdict.damage == Damage(path, place.offset, place.position, refused.value.reason)
    assert verdict.last == place.position - 1
    assert not verdict.is_sound


def test_a_flipped_bit_in_any_byte_is_found_and_named_and_nothing_is_changed(
    tmp_path: Path, frames: list[Frame]
) -> None:
    for path, byte, data in bytes_of(tmp_path):
        damaged = bytearray(data)
        damaged[byte] ^= 1 << byte % 8
        path.write_bytes(damaged)
        assert_refused(tmp_path, path, Place(path.name, byte))
        path.write_bytes(data)
    assert verify(tmp_path).last_digest == frames[-1].digest


def test_a_byte_turned_to_zero_or_to_ones_is_found_and_named(tmp_path: Path, frames: list[Frame]) -> None:
    for path, byte, data in bytes_of(tmp_path):
        for value in {0x00, 0xFF} - {data[byte]}:
            path.write_bytes(data[:byte] + bytes([value]) + data[byte + 1 :])
            assert_refused(tmp_path, path, Place(path.name, byte))
        path.write_bytes(data)
    assert verify(tmp_path).last_digest == frames[-1].digest


def test_an_older_segment_cut_at_any_length_is_found_and_named(tmp_path: Path, frames: list[Frame]) -> None:
    path = tmp_path / OLD
    data = path.read_bytes()
    boundaries = (SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES + frame_bytes(len(frames[0].payload)))
    for length in range(len(data)):
        path.write_bytes(data[:length])
        if length not in boundaries:
            assert_refused(tmp_path, path, Place(OLD, length))
            continue
        # Whole frames are missing: what shows it is the next segment.
        with pytest.raises(JournalDamagedError, match="goes on at position 3") as refused:
            open_writer(tmp_path)
        assert (refused.value.file, refused.value.position) == (tmp_path / NEW, boundaries.index(length) + 1)
        assert path.read_bytes() == data[:length]


def test_the_newest_segment_cut_at_any_length_loses_only_frames_that_are_not_whole(
    tmp_path: Path, frames: list[Frame]
) -> None:
    path = tmp_path / NEW
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        place = Place(NEW, length)
        if length < SEGMENT_HEADER_BYTES:
            assert_refused(tmp_path, path, place)
        else:
            assert_cut(tmp_path, path, place, frames)


def test_the_newest_segment_zeroed_from_any_word_on_loses_only_frames_that_are_not_whole(
    tmp_path: Path, frames: list[Frame]
) -> None:
    path = tmp_path / NEW
    data = path.read_bytes()
    for begin in range(0, len(data), 8):
        for more in (0, 8, 4096):
            path.write_bytes(data[:begin] + bytes(len(data) - begin + more))
            place = Place(NEW, begin)
            if begin < SEGMENT_HEADER_BYTES:
                assert_refused(tmp_path, path, place)
            else:
                assert_cut(tmp_path, path, place, frames)


def assert_cut(directory: Path, path: Path, place: Place, frames: list[Frame]) -> None:
    """What is not a whole frame is cut with a logged line, what is whole stays, and the next frame goes there."""
    size = path.stat().st_size
    data = path.read_bytes()
    verdict = verify(directory)
    assert verdict.is_sound
    assert path.read_bytes() == data
    with capture_logs() as logs:
        writer = open_writer(directory)
    kept = frames[: place.position - 1]
    cuts = [entry for entry in logs if entry["event"] == "journal.tail_cut"]
    if size == place.offset:
        assert cuts == []
        assert verdict.tail is None
    else:
        assert [(c["file"], c["offset"], c["bytes"], c["position"]) for c in cuts] == [
            (str(path), place.offset, size - place.offset, place.position)
        ]
        assert verdict.tail is not None
        assert (verdict.tail.offset, verdict.tail.position) == (place.offset, place.position)
    assert path.read_bytes() == data[: place.offset]
    [again] = writer.store([b"again"])
    writer.close()
    assert again.position == len(kept) + 1
    verdict = verify(directory)
    assert (verdict.frames, verdict.last_digest) == (len(kept) + 1, again.digest)


def test_a_zeroed_end_with_a_frame_after_it_is_damage(tmp_path: Path, frames: list[Frame]) -> None:
    path = tmp_path / NEW
    data = path.read_bytes()
    end = SEGMENT_HEADER_BYTES + frame_bytes(len(frames[2].payload))
    path.write_bytes(data[: end - 8] + bytes(8) + data[end:])
    assert_refused(tmp_path, path, Place(NEW, end - 8))


def test_a_missing_segment_is_found(tmp_path: Path) -> None:
    make_journal(tmp_path, [b"x"] * 5, segment_bytes=1)
    (tmp_path / segment_name(3)).unlink()
    with pytest.raises(JournalDamagedError, match="goes on at position 4") as refused:
        open_writer(tmp_path)
    assert refused.value.position == 3


def test_a_segment_under_another_name_is_found(tmp_path: Path, frames: list[Frame]) -> None:
    (tmp_path / NEW).rename(tmp_path / segment_name(4))
    with pytest.raises(JournalDamagedError, match="says that it begins at position 3"):
        open_writer(tmp_path)


def test_a_segment_of_another_journal_is_found(tmp_path: Path, frames: list[Frame]) -> None:
    make_journal(tmp_path / "other", [b"other", *PAYLOADS[1:]], segment_bytes=SEGMENT_BYTES)
    (tmp_path / "other" / NEW).rename(tmp_path / NEW)
    with pytest.raises(JournalDamagedError, match="does not follow") as refused:
        open_writer(tmp_path)
    assert (refused.value.file, refused.value.offset, refused.value.position) == (tmp_path / NEW, 0, 3)


def test_a_frame_of_another_journal_is_found(tmp_path: Path) -> None:
    make_journal(tmp_path / "one", [b"one", b"next"])
    make_journal(tmp_path / "two", [b"two", b"next"])
    one, two = tmp_path / "one" / OLD, tmp_path / "two" / OLD
    end = SEGMENT_HEADER_BYTES + frame_bytes(3)
    one.write_bytes(one.read_bytes()[:end] + two.read_bytes()[end:])
    with pytest.raises(JournalDamagedError, match="wrong previous digest") as refused:
        open_writer(tmp_path / "one")
    assert (refused.value.offset, refused.value.position) == (end, 2)


def test_a_segment_that_was_not_finished_is_put_away(tmp_path: Path, frames: list[Frame]) -> None:
    (tmp_path / (segment_name(5) + ".new")).write_bytes(b"5nSeg")
    open_writer(tmp_path).close()
    assert list(contents(tmp_path)) == [OLD, NEW]

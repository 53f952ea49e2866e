from pathlib import Path

import pytest

from fivenines.journal import JournalDamagedError, TrimmedError, show, verify
from fivenines.journal.format import DIGEST_NONE, segment_name
from tests.unit.journal.journals import contents, make_journal, open_writer


def test_verify_tells_what_there_is(tmp_path: Path) -> None:
    frames = make_journal(tmp_path, [b"%d" % number for number in range(10)], segment_bytes=300)
    verdict = verify(tmp_path)
    assert (verdict.frames, verdict.first, verdict.last) == (10, 1, 10)
    assert verdict.last_digest == frames[-1].digest
    assert verdict.segments == len(contents(tmp_path)) > 1
    assert verdict.sound_bytes == sum(map(len, contents(tmp_path).values()))
    assert (verdict.tail, verdict.damage, verdict.is_sound) == (None, None, True)


def test_verify_of_an_empty_folder_and_of_an_empty_journal_finds_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        verdict = verify(tmp_path)
        assert (verdict.frames, verdict.first, verdict.last, verdict.last_digest) == (0, 1, 0, DIGEST_NONE)
        assert verdict.is_sound
        open_writer(tmp_path).close()


def test_verify_of_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "nowhere")


def test_show_gives_the_frames_asked_for(tmp_path: Path) -> None:
    frames = make_journal(tmp_path, [b"%d" % number for number in range(10)], segment_bytes=300)
    assert list(show(tmp_path, 1)) == frames
    assert list(show(tmp_path, 4, 8)) == frames[3:7]
    assert list(show(tmp_path, 10, 99)) == frames[9:]
    assert list(show(tmp_path, 4, 4)) == []
    assert list(show(tmp_path, 11)) == []


def test_show_of_what_was_trimmed_says_so(tmp_path: Path) -> None:
    frames = make_journal(tmp_path, [b"%d" % number for number in range(10)], segment_bytes=1)
    writer = open_writer(tmp_path)
    writer.trim(4)
    writer.close()
    assert list(show(tmp_path, 4)) == frames[3:]
    with pytest.raises(TrimmedError):
        show(tmp_path, 3)


def test_show_gives_what_is_before_a_torn_tail_and_before_damage(tmp_path: Path) -> None:
    frames = make_journal(tmp_path, [b"one", b"two", b"three"])
    path = tmp_path / segment_name(1)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert list(show(tmp_path, 1)) == frames[:2]
    path.write_bytes(data[:-1] + b"!")
    shown = show(tmp_path, 1)
    assert [next(shown), next(shown)] == frames[:2]
    with pytest.raises(JournalDamagedError):
        next(shown)

"""Looking at a journal from outside: no lock is taken and nothing is changed, so a writer may be at work meanwhile.

The tail of a journal that is being written may end within a frame: from outside, a write in flight and a torn one look
the same. Both are reported as `tail`, and neither is damage.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from fivenines.journal.format import DIGEST_NONE, SEGMENT_HEADER_BYTES
from fivenines.journal.port import Frame, JournalDamagedError, Position, TrimmedError
from fivenines.journal.segments import (
    SegmentFound,
    Torn,
    check_segments,
    list_segments,
)

__all__ = ["Damage", "Torn", "Verdict", "show", "verify"]

_TOLD_EVERY = 10_000
"""Frames between two steps of progress."""


class Damage(Struct, frozen=True):
    """Where and why a journal is damaged; everything before it is sound."""

    file: Path
    offset: int
    position: Position
    reason: str


class Verdict(Struct, frozen=True, kw_only=True):
    """What a look at a whole journal found."""

    segments: int
    """How many segment files there are."""
    frames: int
    """How many sound frames there are, up to the damage if there is one."""
    sound_bytes: int
    """How many bytes the sound segments and frames take."""
    first: Position
    """The position of the oldest frame; `last + 1` when there is none."""
    last: Position
    """The position of the newest sound frame."""
    last_digest: bytes
    tail: Torn | None
    """The torn tail, or the write in flight, after the last frame. The next start of a node cuts it."""
    damage: Damage | None

    @property
    def is_sound(self) -> bool:
        """Whether a node would start on this journal."""
        return self.damage is None


def verify(directory: Path, *, on_progress: Callable[[int, int], None] = lambda _done, _total: None) -> Verdict:
    """Check every byte of the journal in `directory`. Raises OSError when the folder cannot be read.

    `on_progress` is told now and then how many bytes were checked, and of how many.
    """
    while True:
        segments = list_segments(directory)
        try:
            return _judge(segments, on_progress)
        except FileNotFoundError:
            if list_segments(directory)[:1] == segments[:1]:
                raise
            # The writer trimmed what was about to be read: look at what there is now.


def show(directory: Path, start: Position, end: Position | None = None) -> Iterator[Frame]:
    """Iterate over the frames from `start` up to and without `end`, or else to the last one there is.

    Raises `TrimmedError` when `start` is before the first frame, `JournalDamagedError` when a frame is damaged, or one
    before it in the same file, OSError when the folder cannot be read.
    """
    segments = list_segments(directory)
    if segments and start < segments[0][0]:
        raise TrimmedError(start, segments[0][0])
    holder = bisect_right(segments, start, key=lambda segment: segment[0]) - 1
    return _between(segments[max(holder, 0) :], start, end)


def _between(segments: list[tuple[Position, Path]], start: Position, end: Position | None) -> Iterator[Frame]:
    for item in check_segments(segments):
        if isinstance(item, SegmentFound | Torn):
            continue
        _, frame = item
        if end is not None and frame.position >= end:
            return
        if frame.position >= start:
            yield frame


def _judge(segments: list[tuple[Position, Path]], on_progress: Callable[[int, int], None]) -> Verdict:
    total_bytes = sum(path.stat().st_size for _, path in segments)
    frames = sound_bytes = end = 0
    first, last, digest = 1, 0, DIGEST_NONE
    tail: Torn | None = None
    damage: Damage | None = None
    try:
        for item in check_segments(segments):
            if isinstance(item, SegmentFound):
                sound_bytes += end
                end = SEGMENT_HEADER_BYTES
                last, digest = item.first - 1, item.previous_digest
                if item.file == segments[0][1]:
                    first = item.first
            elif isinstance(item, Torn):
                tail = item
            else:
                end, frame = item
                last, digest = frame.position, frame.digest
                frames += 1
                if frames % _TOLD_EVERY == 0:
                    on_progress(sound_bytes + end, max(total_bytes, sound_bytes + end))
    except JournalDamagedError as error:
        damage = Damage(error.file, error.offset, error.position, error.reason)
    return Verdict(
        segments=len(segments),
        frames=frames,
        sound_bytes=sound_bytes + end,
        first=first,
        last=last,
        last_digest=digest,
        tail=tail,
        damage=damage,
    )

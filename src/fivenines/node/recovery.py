"""Start: the newest good snapshot, and the rest of the journal.

A snapshot that is damaged or cannot be read is skipped with a warning, and the one before it used; replaying more of
the journal gives the same state. What must never pass is a state that the journal does not bear out: a snapshot of
another journal, or one ahead of a journal that has lost frames which were acknowledged.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from fivenines.journal import Journal
from fivenines.journal.format import DIGEST_NONE
from fivenines.journal.format import frame_digest as chain
from fivenines.journal.segments import list_segments
from fivenines.ledger import State, apply, decode
from fivenines.node import snapshots
from fivenines.node.snapshots import LoadedSnapshot, SnapshotDamagedError

__all__ = ["FramesTrimmedError", "Recovered", "RecoveryError", "check_has_journal", "recover"]

_FRAMES_PER_NEWS = 256

_log = structlog.get_logger("fivenines.node")


class RecoveryError(Exception):
    """The data of the node do not fit together; it must not start on them. The message says what to do."""


class FramesTrimmedError(RecoveryError):
    """The journal begins after what our newest snapshot is of: a later snapshot mends it, another node's for one."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A state at the end of the journal, and how it was come by."""

    state: State
    snapshot_position: int
    """0 if there was no snapshot."""
    frames_replayed: int
    commands_replayed: int
    snapshot_s: float
    replay_s: float
    frame_digest: bytes
    """Of the frame at the state's position: what ties it to its journal."""


def check_has_journal(directory: Path) -> None:
    """Refuse a folder with snapshots and no journal, before an empty one is made there, in the way of the real one.

    Raises:
        RecoveryError: the journal is missing.
    """
    if directory.is_dir() and (found := snapshots.paths(directory)) and not list_segments(directory):
        raise RecoveryError(
            f"there is the snapshot {found[0].name}, and no journal: frames that were acknowledged are missing. Bring "
            "the whole journal back, or move the snapshots away to begin with an empty ledger"
        )


def recover(
    directory: Path, journal: Journal, *, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Recovered:
    """Return the state at what is `journal.last` now. Blocks; it may be called from another thread.

    `on_progress` is told, now and then, how many frames are replayed, and of how many.

    Raises:
        RecoveryError: the snapshots and the journal do not belong together, or frames are missing between them.
        JournalDamagedError, CodecError, RulesUnsupportedError: as the journal and the ledger raise them.
    """
    began = time.perf_counter()
    snapshot = _newest_good(directory)
    state = State() if snapshot is None else snapshot.state
    loaded = time.perf_counter()

    start = state.position
    if start > journal.last:
        raise RecoveryError(
            f"the snapshot {_name(snapshot)} is ahead of the journal, which ends at position {journal.last}: frames "
            "that were acknowledged are missing. Bring the whole journal back, or restore from the archive"
        )
    if start + 1 < journal.first:
        raise FramesTrimmedError(
            f"the journal begins at position {journal.first}, and "
            + (f"the newest good snapshot is of {start}" if start else "there is no good snapshot")
            + ": the frames between are missing. Bring a later snapshot back, or restore from the archive"
        )
    _check_same_journal(snapshot, journal)

    commands = 0
    frame_digest = DIGEST_NONE if snapshot is None else snapshot.frame_digest
    last = journal.last
    if last == start and journal.last_digest != frame_digest:
        raise _other_journal(snapshot, last)
    for frame in journal.read(start + 1):
        if frame.position == start + 1 and chain(frame.position, frame_digest, frame.payload) != frame.digest:
            # The frame of the snapshot itself is trimmed away. A journal that was restored is another one from where
            # it was restored on, although its positions go on.
            raise _other_journal(snapshot, start + 1)
        batch = decode(frame.payload)
        apply(state, batch)
        commands += len(batch.commands)
        frame_digest = frame.digest
        if frame.position % _FRAMES_PER_NEWS == 0:
            on_progress(frame.position - start, last - start)
    done = time.perf_counter()
    # A journal that others write to may have grown meanwhile.
    assert state.position >= last, (state.position, last)
    return Recovered(state, start, state.position - start, commands, loaded - began, done - loaded, frame_digest)


def _newest_good(directory: Path) -> LoadedSnapshot | None:
    for path in snapshots.paths(directory):
        try:
            return snapshots.load(path)
        except SnapshotDamagedError as error:
            _log.warning("snapshot.skipped", file=str(error.path), offset=error.offset, reason=error.reason)
        except OSError as error:
            # The disk cannot read it, or somebody deleted it a moment ago: no reason not to take the one before.
            _log.warning("snapshot.skipped", file=str(path), offset=0, reason=error.strerror or str(error))
    return None


def _check_same_journal(snapshot: LoadedSnapshot | None, journal: Journal) -> None:
    if snapshot is None or snapshot.state.position < journal.first:
        return  # the frame is trimmed away; the next one's chain was checked by the journal itself
    frame = next(journal.read(snapshot.state.position))
    if frame.digest != snapshot.frame_digest:
        raise _other_journal(snapshot, snapshot.state.position)


def _other_journal(snapshot: LoadedSnapshot | None, position: int) -> RecoveryError:
    return RecoveryError(
        f"the snapshot {_name(snapshot)} was taken from another journal: the frames at position {position} differ. "
        "Move the snapshot away to start from the journal alone"
    )


def _name(snapshot: LoadedSnapshot | None) -> str:
    return snapshot.path.name if snapshot else "(none)"

"""Beginning: the state that a historian goes on from.

It wants the newest good snapshot from which the frames on are to be had: its own, or one of the archive. Only when the
journal and all stores lack frames that it needs does it leave a gap in history, and begin after it.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import structlog

from fivenines.historian.follower import Follower
from fivenines.journal import Position
from fivenines.journal.archive import Archive, ArchiveError, SnapshotName, Store, read_snapshot
from fivenines.journal.format import DIGEST_NONE
from fivenines.ledger import State
from fivenines.node import snapshots
from fivenines.node.snapshots import LoadedSnapshot, SnapshotDamagedError

__all__ = ["fetch_snapshot", "follower_from", "follower_with_frames", "followers_before", "stored_positions"]

_log = structlog.get_logger("fivenines.historian")


def stored_positions(
    archive: Archive, stores: list[Store], epoch: int, remembered: Position | None
) -> dict[str, Position]:
    """Return the last position that each of our stores has, by its name.

    Of a store that cannot be looked at, what we remember from before is believed.

    Raises:
        StoreError: a store cannot be looked at, and we remember nothing: with a new disk, its end must be seen.
    """
    begins = archive.epochs[epoch].position if epoch in archive.epochs else 0
    unreachable = {error.store: error for error in archive.unreachable}
    found: dict[str, Position] = {}
    for store in stores:
        if store.name not in unreachable:
            names = archive.listed(store).segments_of(epoch)
            found[store.name] = max((name.last for name in names), default=begins)
        elif remembered is not None:
            found[store.name] = remembered
        else:
            raise unreachable[store.name]
    return found


def follower_from(archive: Archive, epoch: int, directory: Path, first: Position) -> Follower | None:
    """Return the oldest state from which the journal, which begins at `first`, leads on; None if there is none. Blocks.

    Of good snapshots, on our own disk or in the archive.
    """
    for at, copies in sorted(_kept(archive, epoch, directory).items()):
        if at + 1 >= first and (follower := _first_good(copies)) is not None:
            return follower
    return None


def followers_before(archive: Archive, epoch: int, directory: Path, position: Position) -> Iterator[Follower]:
    """Yield the states to go on from that are not later than `position`, the newest first. Blocks.

    Those of good snapshots, on our own disk or in the archive, and at last the empty ledger that everything began with.
    """
    for at, copies in sorted(_kept(archive, epoch, directory).items(), reverse=True):
        if at <= position and (follower := _first_good(copies)) is not None:
            yield follower
    yield Follower(State(), DIGEST_NONE)


Copy = tuple[str, Callable[[], LoadedSnapshot]]
"""Where a snapshot is, and how to load it."""


def _kept(archive: Archive, epoch: int, directory: Path) -> dict[Position, list[Copy]]:
    """Return the snapshots by their positions, each with its copies, our own first."""
    found: dict[Position, list[Copy]] = {}
    for path in snapshots.paths(directory):
        found.setdefault(snapshots.position_of(path), []).append((str(path), partial(snapshots.load, path)))
    for store, name in archive.snapshots(epoch):
        found.setdefault(name.position, []).append((store.name, partial(fetch_snapshot, store, name, directory)))
    return found


def _first_good(copies: list[Copy]) -> Follower | None:
    for where, load in copies:
        try:
            loaded = load()
        except (ArchiveError, SnapshotDamagedError, OSError) as error:
            _log.warning("snapshot.skipped", where=where, reason=str(error))
        else:
            return Follower(loaded.state, loaded.frame_digest)
    return None


def fetch_snapshot(store: Store, name: SnapshotName, directory: Path) -> LoadedSnapshot:
    """Read a snapshot of the archive and check all of it; it is not kept. Blocks.

    Raises:
        ObjectDamagedError, SnapshotDamagedError: it is not what was written.
        StoreError, OSError: it could not be read, or there was no room to unpack it.
    """
    draft = directory / f"snapshot-{name.position:020}-from-archive.draft"
    try:
        draft.write_bytes(read_snapshot(store, name))
        loaded = snapshots.load(draft)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    if loaded.state.position != name.position or loaded.state.time_us != name.time_us:
        raise SnapshotDamagedError(Path(str(name)), 0, f"it is of position {loaded.state.position}")
    return loaded


def follower_with_frames(
    archive: Archive, epoch: int, directory: Path, position: Position, journal_first: Position
) -> Follower | None:
    """Return the newest state not later than `position` from which all frames are to be had; None if none is. Blocks.

    They are in the archive, as far as its listing tells, up to where the journal begins.
    """
    for follower in followers_before(archive, epoch, directory, position):
        start = follower.state.position + 1
        if start >= journal_first or archive.reach(epoch, start) + 1 >= journal_first:
            return follower
    return None

"""Restoring: a ledger's state at any position, from object storage alone.

It begins at the snapshot before the newest that will do, and applies the frames from there on: so the newest one is
borne out on the way, to the digest, and with it everything that a snapshot could get wrong. The hash chain is followed
from frame to frame, and the outcomes are held against those that the segments remember.

What comes of it is a state with all that ties it to its journal, which can go on from there in a new epoch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fivenines.historian.beginning import fetch_snapshot
from fivenines.historian.follower import Follower
from fivenines.journal import Frame, Position
from fivenines.journal.archive import (
    Archive,
    ArchiveError,
    Epoch,
    MissingFramesError,
    SnapshotName,
    Store,
    StoreError,
    put_in_all,
)
from fivenines.journal.format import DIGEST_NONE
from fivenines.ledger import State, decode, digest
from fivenines.ledger.state import TIME_US_MAX
from fivenines.node.snapshots import LoadedSnapshot, SnapshotDamagedError

__all__ = ["RestoreError", "Restored", "Target", "begin_epoch", "next_epoch", "restore"]

_FRAMES_PER_NEWS = 64


class RestoreError(ArchiveError):
    """What was asked for cannot be restored; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to go back to: a position, a time, or with neither the newest that there is."""

    position: Position | None = None
    time_us: int | None = None
    """The last position whose journal time is not later than this."""

    def __str__(self) -> str:
        if self.position is not None:
            return f"position {self.position}"
        return "the latest position" if self.time_us is None else f"time {self.time_us} us"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A state, and how it was come by."""

    epoch: int
    """Whose history it is."""
    state: State
    frame_digest: bytes
    state_digest: bytes
    begun_at: Position
    """The position of the snapshot that it began with, 0 for none."""
    frames: int
    commands: int
    bytes: int
    compared: list[Position]
    """The positions of snapshots that it came by and was equal to."""
    damaged: list[str]
    """Copies that were found bad on the way, and done without."""
    is_at_the_end: bool
    """Whether it ends where the archive does: what a time asked for may have been later than all that is archived."""


def restore(
    stores: list[Store],
    target: Target,
    scratch: Path,
    *,
    epoch: int | None = None,
    thorough: bool = False,
    on_begin: Callable[[State, bytes], None] = lambda _state, _digest: None,
    on_frame: Callable[[Frame, bytes], None] = lambda _frame, _before: None,
    on_progress: Callable[[Position, Position], None] = lambda _done, _total: None,
) -> Restored:
    """Restore a state. Blocks.

    Args:
        stores: where the archive is, the nearest first.
        target: what to go back to.
        scratch: a folder to unpack snapshots in.
        epoch: whose history; None for the newest.
        thorough: begin with the oldest snapshot, or with nothing, in the place of the one before the newest.
        on_begin: is given the state that is begun with, and the digest of its frame; again, should another be needed.
        on_frame: is given each frame that was applied, and the digest of the one before.
        on_progress: is told, now and then, the position and where it ends as far as that is known.

    Raises:
        RestoreError: there is nothing there, or not so far.
        MissingFramesError: frames are missing, and no store has a good copy of them.
        StoreError: no store can be reached.
    """
    damaged: list[str] = []
    archive = Archive(stores, on_damage=lambda error: damaged.append(str(error)))
    archive.look()
    if len(archive.unreachable) == len(stores):
        raise archive.unreachable[0]
    damaged += map(str, archive.unreachable)
    if not archive.newest_epoch:
        raise RestoreError(f"there is no archive in {', '.join(store.name for store in stores)}")
    epoch = _epoch_meant(archive) if epoch is None else epoch
    if epoch not in archive.epochs and not any(epoch in each.named_epochs for each in archive.catalogues.values()):
        raise RestoreError(f"there is no epoch {epoch}: the newest is {archive.newest_epoch}")
    reasons: list[str] = []
    for begun, expected in _beginnings(archive, epoch, target, scratch, damaged, thorough=thorough):
        try:
            if begun is not None:
                on_begin(begun.state, begun.frame_digest)
            return _replay(archive, epoch, target, begun, expected, damaged, on_frame, on_progress)
        except MissingFramesError as error:
            reasons.append(str(error))
    if reasons:
        raise RestoreError(f"{target} cannot be restored: {reasons[0]}")
    raise RestoreError(f"{target} cannot be restored: the archive has no good snapshot, and not the first frame")


def _epoch_meant(archive: Archive) -> int:
    """Return the newest epoch, unless nothing was ever archived in it while the one before it went on."""
    newest = archive.newest_epoch
    begun = archive.epochs.get(newest)
    if begun is None or not begun.parent or any(newest in each.named_epochs for each in archive.catalogues.values()):
        return newest
    if (end := archive.reach(begun.parent, begun.position + 1)) > begun.position:
        raise RestoreError(
            f"epoch {newest} began after position {begun.position}, and nothing is archived of it; epoch "
            f"{begun.parent} goes on to {end}. Say which is meant: --epoch {begun.parent}, or --epoch {newest}"
        )
    return newest


def _beginnings(
    archive: Archive, epoch: int, target: Target, scratch: Path, damaged: list[str], *, thorough: bool
) -> Iterator[tuple[LoadedSnapshot | None, dict[Position, bytes]]]:
    """Yield what to begin with, the best first, each with the digests of the states that it must come by."""
    named: dict[Position, list[tuple[Store, SnapshotName]]] = {}
    for store, name in archive.snapshots(epoch):
        if _is_before(name, target):
            named.setdefault(name.position, []).append((store, name))
    newest_first = sorted(named, reverse=True)
    digests: dict[Position, bytes] = {}
    # Of states that must be come by; not the states themselves, each of which is as large as a ledger.
    wanted = len(newest_first) if thorough else 2
    for position in newest_first:
        if (state_digest := _digest_of(named[position], scratch, damaged)) is not None:
            digests[position] = state_digest
        if len(digests) == wanted:
            break
    first = min(digests, default=1)
    if (thorough or len(digests) < wanted) and archive.reach(epoch, 1) >= first:
        yield None, digests
    for position in (*sorted(digests), *(each for each in newest_first if each not in digests)):
        # From the oldest of those; then those before, should frames be missing between the newest ones.
        if (begun := _load(named[position], scratch, [])) is not None:
            yield begun, digests


def _is_before(name: SnapshotName, target: Target) -> bool:
    if target.position is not None:
        return name.position <= target.position
    return target.time_us is None or name.time_us <= target.time_us


def _load(copies: list[tuple[Store, SnapshotName]], scratch: Path, damaged: list[str]) -> LoadedSnapshot | None:
    for store, name in copies:
        try:
            return fetch_snapshot(store, name, scratch)
        except SnapshotDamagedError as error:
            damaged.append(f"{store.name}: {name}: {error.reason}")
        except ArchiveError as error:
            damaged.append(str(error))
    return None


def _digest_of(copies: list[tuple[Store, SnapshotName]], scratch: Path, damaged: list[str]) -> bytes | None:
    """Return the digest of a state, which is let go of again."""
    loaded = _load(copies, scratch, damaged)
    return None if loaded is None else loaded.state_digest


def _replay(
    archive: Archive,
    epoch: int,
    target: Target,
    begun: LoadedSnapshot | None,
    expected: dict[Position, bytes],
    damaged: list[str],
    on_frame: Callable[[Frame, bytes], None],
    on_progress: Callable[[Position, Position], None],
) -> Restored:
    follower = Follower(State(), DIGEST_NONE) if begun is None else Follower(begun.state, begun.frame_digest)
    state = follower.state
    begun_at = state.position
    end = target.position if target.position is not None else archive.reach(epoch, begun_at + 1)
    frames = commands = size = 0
    compared: list[Position] = []
    is_seen_past = False
    for frame in archive.read(epoch, begun_at + 1, target.position, previous_digest=follower.frame_digest):
        batch = decode(frame.payload)
        # As `apply` would set it: the time of a frame is known before it is applied.
        time_us = max(state.time_us + 1, min(batch.time_us, TIME_US_MAX))
        if target.time_us is not None and time_us > target.time_us:
            is_seen_past = True
            break
        before = follower.frame_digest
        follower.step(frame, batch)
        on_frame(frame, before)
        if archive.outcomes.pop(frame.position, state.outcomes_digest) != state.outcomes_digest:
            raise RestoreError(
                f"up to position {frame.position} something was decided otherwise than when it was archived: this "
                "release and the one that wrote the journal differ, or a machine is broken. Try another of either"
            )
        frames, commands, size = frames + 1, commands + len(batch.commands), size + len(frame.payload)
        if (wanted := expected.get(frame.position)) is not None:
            if digest(state) != wanted:
                raise RestoreError(
                    f"the state at position {frame.position} is not that of the snapshot there: one of them is wrong. "
                    "Restore to a position before it, and keep the archive as it is for whoever looks into this"
                )
            compared.append(frame.position)
        if frames % _FRAMES_PER_NEWS == 0:
            on_progress(frame.position, end)
    if target.position is None and state.position < max(expected, default=0):
        # A snapshot may be there before the frames that lead to it: then it is what to begin with.
        raise MissingFramesError(state.position + 1, max(expected), ["they are not archived yet"])
    if target.position is not None and state.position != target.position:
        raise RestoreError(f"the archive ends at position {state.position}, before {target}")
    if state.position == 0:
        raise RestoreError(f"there was nothing yet at {target}")
    return Restored(
        epoch=epoch,
        state=state,
        frame_digest=follower.frame_digest,
        state_digest=digest(state),
        begun_at=begun_at,
        frames=frames,
        commands=commands,
        bytes=size,
        compared=compared,
        damaged=damaged,
        is_at_the_end=target.position is None and not is_seen_past,
    )


def next_epoch(stores: list[Store]) -> int:
    """Return the number of the epoch that a restored journal begins. Blocks.

    Raises:
        StoreError: a store cannot be looked at: it may know of an epoch that the others do not.
    """
    archive = Archive(stores)
    archive.look()
    if archive.unreachable:
        raise archive.unreachable[0]
    return archive.newest_epoch + 1


def begin_epoch(stores: list[Store], restored: Restored, number: int) -> tuple[Epoch, list[StoreError]]:
    """Write into the stores that an epoch begins where `restored` ends; return it, and which stores failed. Blocks.

    Raises:
        StoreError: no store took it. One that knows of an epoch of this number already does not.
    """
    epoch = Epoch(
        epoch=number, parent=restored.epoch, position=restored.state.position, digest=restored.frame_digest.hex()
    )
    failed = put_in_all(stores, epoch.name, msgspec.json.encode(epoch), is_new=True)
    if len(failed) == len(stores):
        raise failed[0]
    return epoch, failed

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
)
from fivenines.journal.format import DIGEST_NONE
from fivenines.ledger import State, decode, digest
from fivenines.ledger.state import TIME_US_MAX
from fivenines.node.snapshots import LoadedSnapshot, SnapshotDamagedError

__all__ = ["RestoreError", "Restored", "Target", "begin_epoch", "restore"]

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
    if epoch is None:
        epoch = archive.newest_epoch
    if not epoch:
        raise RestoreError(f"there is no archive in {', '.join(store.name for store in stores)}")
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


def _beginnings(
    archive: Archive, epoch: int, target: Target, scratch: Path, damaged: list[str], *, thorough: bool
) -> Iterator[tuple[LoadedSnapshot | None, dict[Position, bytes]]]:
    """Yield what to begin with, the best first, each with the digests of the states that it must come by."""
    named: dict[Position, list[tuple[Store, SnapshotName]]] = {}
    for store, name in archive.snapshots(epoch):
        if _is_before(name, target):
            named.setdefault(name.position, []).append((store, name))
    newest_first = sorted(named, reverse=True)
    loaded: dict[Position, LoadedSnapshot | None] = {}

    def load(position: Position) -> LoadedSnapshot | None:
        if position not in loaded:
            loaded[position] = _load(named[position], scratch, damaged)
        return loaded[position]

    good: list[LoadedSnapshot] = []
    wanted = len(newest_first) if thorough else 2
    for position in newest_first:
        if (found := load(position)) is not None:
            good.append(found)
        if len(good) == wanted:
            break
    reaches_start = archive.reach(epoch, 1) >= (good[-1].state.position if good else 1)
    digests = {each.state.position: each.state_digest for each in good}
    if reaches_start and (thorough or len(good) < wanted):
        yield None, digests
    for each in reversed(good):
        yield each, digests
    for position in newest_first:  # those before, should frames be missing between the newest ones
        if position not in digests and (found := load(position)) is not None:
            yield found, digests


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
    for frame in archive.read(epoch, begun_at + 1, target.position, previous_digest=follower.frame_digest):
        if target.time_us is not None:
            # As `apply` would set it: the time of a frame is known before it is applied.
            stamped = min(decode(frame.payload).time_us, TIME_US_MAX)
            if max(state.time_us + 1, stamped) > target.time_us:
                break
        before = follower.frame_digest
        step = follower.step(frame)
        on_frame(frame, before)
        if archive.outcomes.pop(frame.position, state.outcomes_digest) != state.outcomes_digest:
            raise RestoreError(
                f"up to position {frame.position} something was decided otherwise than when it was archived: this "
                "release and the one that wrote the journal differ, or a machine is broken. Try another of either"
            )
        frames, commands, size = frames + 1, commands + len(step.batch.commands), size + len(frame.payload)
        if (wanted := expected.get(frame.position)) is not None:
            if digest(state) != wanted:
                raise RestoreError(
                    f"the state at position {frame.position} is not that of the snapshot there: one of them is wrong. "
                    "Restore to a position before it, and keep the archive as it is for whoever looks into this"
                )
            compared.append(frame.position)
        if frames % _FRAMES_PER_NEWS == 0:
            on_progress(frame.position, end)
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
    )


def begin_epoch(stores: list[Store], restored: Restored) -> tuple[Epoch, list[StoreError]]:
    """Write into the stores that a new epoch begins where `restored` ends; return it, and which stores failed. Blocks.

    Raises:
        StoreError: no store took it.
    """
    archive = Archive(stores)
    archive.look()
    wanted = Epoch(
        epoch=archive.newest_epoch + 1,
        parent=restored.epoch,
        position=restored.state.position,
        digest=restored.frame_digest.hex(),
    )
    failed: list[StoreError] = []
    for store in stores:
        try:
            store.put(wanted.name, msgspec.json.encode(wanted))
        except StoreError as error:
            failed.append(error)
    if len(failed) == len(stores):
        raise failed[0]
    return wanted, failed

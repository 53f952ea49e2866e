"""Reading an archive: the frames of a journal's life, from whichever store has a good copy of them.

Several stores hold the same history, each cut into segments of its own. A reader takes each frame from the first store
that has it whole, in the order in which the stores are given, and follows the hash chain throughout: what does not
follow from the frame before is as bad as what cannot be read. Whatever copy is found bad is told by name.

A journal that was restored lives on in a new epoch. Its history up to where it began is that of the epoch before.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

from fivenines.journal.archive.errors import (
    MissingFramesError,
    ObjectDamagedError,
    ObjectMissingError,
    OtherJournalError,
    StoreError,
)
from fivenines.journal.archive.objects import (
    Epoch,
    ObjectName,
    SegmentHead,
    SegmentName,
    SnapshotName,
    frames_of,
    parse_epoch,
    parse_segment,
    parse_snapshot,
    path_through,
)
from fivenines.journal.archive.store import Store
from fivenines.journal.format import DIGEST_NONE, FormatError
from fivenines.journal.port import Frame, Position

__all__ = [
    "Archive",
    "Catalogue",
    "Part",
    "catalogue_of",
    "check_object",
    "first_epoch",
    "gaps",
    "read_segment",
    "read_snapshot",
]

Told = Callable[[ObjectDamagedError], None]


class Catalogue(Struct):
    """What is in a store, by its listing."""

    segments: dict[SegmentName, int]
    """Each with its size in bytes."""
    snapshots: dict[SnapshotName, int]
    epochs: list[Epoch]
    damaged: list[ObjectDamagedError]
    """Beginnings of epochs that cannot be read."""

    @property
    def named_epochs(self) -> set[int]:
        """The epochs that there are segments or snapshots of."""
        return {name.epoch for name in self.segments} | {name.epoch for name in self.snapshots}

    def segments_of(self, epoch: int) -> list[SegmentName]:
        """The segments of an epoch."""
        return [each for each in self.segments if each.epoch == epoch]

    def reach(self, epoch: int, start: Position) -> Position:
        """Return the position up to which the store has the frames of an epoch from `start` on without a gap."""
        return path_through(self.segments_of(epoch), start)[1]


class Part(NamedTuple):
    """A part of a life: the frames from `first` to `last` are those of an epoch; None: to its end."""

    epoch: int
    first: Position
    last: Position | None


def first_epoch() -> Epoch:
    """The epoch of a journal that was founded, not restored."""
    return Epoch(epoch=1, parent=0, position=0, digest=DIGEST_NONE.hex())


def catalogue_of(store: Store) -> Catalogue:
    """List a store. What has the name of nothing that we know is left alone. Raises `StoreError`."""
    found = Catalogue({}, {}, [], [])
    for item in store.list("epochs"):
        if (segment := SegmentName.parse(item.name)) is not None:
            found.segments[segment] = item.bytes
        elif (snapshot := SnapshotName.parse(item.name)) is not None:
            found.snapshots[snapshot] = item.bytes
        elif item.name.endswith("/epoch.json"):
            try:
                epoch = parse_epoch(store.get(item.name))
                if epoch.name != item.name:
                    raise FormatError(0, f"it is about epoch {epoch.epoch}")  # noqa: TRY301 - the same to whoever reads
            except FormatError as error:
                found.damaged.append(ObjectDamagedError(store.name, item.name, error.reason))
                continue
            except ObjectDamagedError as error:
                found.damaged.append(error)
                continue
            found.epochs.append(epoch)
    return found


def read_segment(store: Store, name: SegmentName) -> tuple[SegmentHead, list[Frame]]:
    """Read a segment and check all of it. Raises `ObjectDamagedError`, `StoreError`."""
    data = store.get(str(name))
    try:
        head, raw = parse_segment(name, data)
        return head, list(frames_of(head, raw))
    except FormatError as error:
        raise ObjectDamagedError(store.name, str(name), f"byte {error.offset}: {error.reason}") from error


def read_snapshot(store: Store, name: SnapshotName) -> bytes:
    """Return the snapshot file in an object, which has checks of its own inside. Raises as `read_segment` does."""
    data = store.get(str(name))
    try:
        return parse_snapshot(data)
    except FormatError as error:
        raise ObjectDamagedError(store.name, str(name), f"byte {error.offset}: {error.reason}") from error


def check_object(store: Store, name: ObjectName) -> None:
    """Read an object and check all of it that can be checked here. Raises as `read_segment` does."""
    if isinstance(name, SegmentName):
        read_segment(store, name)
    else:
        read_snapshot(store, name)


class Archive:
    """The archive in several stores. All methods block.

    Args:
        stores: the nearest first.
        on_damage: is told of each copy that is found bad.
    """

    def __init__(self, stores: Sequence[Store], *, on_damage: Told = lambda _error: None) -> None:
        self.stores = list(stores)
        self.catalogues: dict[str, Catalogue] = {}
        """What each store has, by its name, as of the last `look`."""
        self.unreachable: list[StoreError] = []
        """The stores that could not be listed."""
        self.outcomes: dict[Position, bytes] = {}
        """The chain over all outcomes after the last frame of each segment that was read, where the segment says so."""
        self._on_damage = on_damage
        self._bad: set[tuple[str, SegmentName]] = set()

    def look(self) -> None:
        """List all stores. One that is out of reach counts as empty, and is named in `unreachable`."""
        self.catalogues, self.unreachable = {}, []
        self._bad.clear()
        for store in self.stores:
            try:
                self.catalogues[store.name] = catalogue_of(store)
            except StoreError as error:
                self.catalogues[store.name] = Catalogue({}, {}, [], [])
                self.unreachable.append(error)
        for found in self.catalogues.values():
            for damage in found.damaged:
                self._on_damage(damage)

    def listed(self, store: Store) -> Catalogue:
        """What was in a store at the last look."""
        return self.catalogues[store.name]

    @property
    def epochs(self) -> dict[int, Epoch]:
        """The epochs that any store knows; the first one where there is anything. Raises `OtherJournalError`."""
        found: dict[int, Epoch] = {}
        for each in self.catalogues.values():
            for epoch in each.epochs:
                if found.setdefault(epoch.epoch, epoch) != epoch:
                    raise OtherJournalError(
                        f"two stores say differently how epoch {epoch.epoch} began: after position {epoch.position} "
                        f"and after {found[epoch.epoch].position}. One was restored by itself: name only its own"
                    )
        if any(name.epoch == 1 for each in self.catalogues.values() for name in each.segments):
            found.setdefault(1, first_epoch())
        return found

    @property
    def newest_epoch(self) -> int:
        """The last epoch that anything is known of, 0 for none."""
        named = (epoch for each in self.catalogues.values() for epoch in each.named_epochs)
        return max((*self.epochs, *named), default=0)

    def parts(self, epoch: int) -> list[Part]:
        """Return where the history of an epoch is, the oldest part first."""
        line = [epoch]
        epochs = self.epochs
        while (known := epochs.get(line[-1])) is not None and known.parent:
            line.append(known.parent)
        ends: Position | None = None
        found: list[Part] = []
        for each in line:
            begins = epochs[each].position if each in epochs else 0
            found.append(Part(each, begins + 1, ends))
            ends = begins if ends is None else min(ends, begins)
        return found[::-1]

    def reach(self, epoch: int, start: Position) -> Position:
        """Return the position up to which all stores together have the frames of an epoch from `start` on."""
        reached = start - 1
        for part in self.parts(epoch):
            if part.last is not None and reached >= part.last:
                continue
            names = [name for each in self.catalogues.values() for name in each.segments_of(part.epoch)]
            here = path_through(names, reached + 1)[1]
            reached = here if part.last is None else min(here, part.last)
            if part.last is None or reached < part.last:
                break
        return reached

    def digest_at(self, epoch: int, position: Position) -> bytes:
        """Return the digest of a frame in the history of an epoch, by the first good copy of it.

        Raises `MissingFramesError` where there is none.
        """
        if position == 0:
            return DIGEST_NONE
        if (known := self.epochs.get(epoch)) is not None and known.position == position:
            return bytes.fromhex(known.digest)
        for frame in self.read(epoch, position, position):
            return frame.digest
        raise MissingFramesError(position, position, [])

    def snapshots(self, epoch: int) -> list[tuple[Store, SnapshotName]]:
        """Return all snapshots in the history of an epoch, the newest first, with each store that has it."""
        parts = {part.epoch: part.last for part in self.parts(epoch)}
        found = [
            (store, name)
            for store in self.stores
            for name in self.listed(store).snapshots
            if name.epoch in parts and (parts[name.epoch] is None or name.position <= (parts[name.epoch] or 0))
        ]
        return sorted(found, key=lambda each: -each[1].position)

    def read(
        self, epoch: int, start: Position, last: Position | None = None, *, previous_digest: bytes | None = None
    ) -> Iterator[Frame]:
        """Iterate over the frames of an epoch's history from `start` to `last`, or to the end of what there is.

        Args:
            epoch: whose.
            start: the first position.
            last: the last one.
            previous_digest: of the frame before `start`, if it is known; then `start` must follow from it.

        Raises:
            MissingFramesError: no store has a good copy of a frame before `last`.
        """
        return (frame for _, frame in self._links(epoch, start, last, previous_digest))

    def piece(self, epoch: int, first: Position, last: Position) -> tuple[bytes, list[Frame]]:
        """Return the frames from `first` to `last`, and the digest of the frame before them. Raises as `read` does."""
        links = list(self._links(epoch, first, last, None))
        return links[0][0], [frame for _, frame in links]

    def _links(
        self, epoch: int, start: Position, last: Position | None, previous_digest: bytes | None
    ) -> Iterator[tuple[bytes, Frame]]:
        """Iterate over frames as `read` does, each with the digest of the one before it."""
        position, digest = start, previous_digest
        if start == 1 and digest is None:
            digest = DIGEST_NONE
        for part in self.parts(epoch):
            stop = part.last if last is None else last if part.last is None else min(part.last, last)
            while stop is None or position <= stop:
                if position < part.first:
                    raise MissingFramesError(position, None, [f"epoch {part.epoch} begins at position {part.first}"])
                found = self._frames_at(part.epoch, position, digest, must=last is not None or part.last is not None)
                if found is None:
                    return
                digest, frames = found
                for frame in frames:
                    if stop is not None and frame.position > stop:
                        break
                    yield digest, frame
                    position, digest = frame.position + 1, frame.digest

    def _frames_at(
        self, epoch: int, position: Position, digest: bytes | None, *, must: bool, is_second: bool = False
    ) -> tuple[bytes, list[Frame]] | None:
        """Return the digest before `position` and the frames from there on, out of the first good copy.

        None at the end of all, unless there must be some.

        What was listed and is gone by now may have been put together with its neighbours: then it is looked again.
        """
        found: list[str] = []
        is_stale = False
        for store in self.stores:
            here = (name for name in self.listed(store).segments_of(epoch) if name.first <= position <= name.last)
            for name in sorted(here, key=lambda each: -each.last):
                if (store.name, name) in self._bad:
                    found.append(f"{store.name}: {name}: it is damaged")
                    continue
                try:
                    head, frames = read_segment(store, name)
                    at = position - name.first
                    before = frames[at - 1].digest if at else head.previous_digest
                    if digest is not None and before != digest:
                        raise ObjectDamagedError(  # noqa: TRY301 - the same to whoever reads
                            store.name, str(name), f"frame {position} does not follow from the one before it"
                        )
                except ObjectMissingError as error:
                    found.append(str(error))
                    is_stale = True
                except ObjectDamagedError as error:
                    found.append(str(error))
                    self._bad.add((store.name, name))
                    self._on_damage(error)
                except StoreError as error:
                    found.append(str(error))
                else:
                    if head.outcomes_digest != DIGEST_NONE:
                        self.outcomes[head.last] = head.outcomes_digest
                    return before, frames[at:]
        if is_stale and not is_second:
            self.look()
            return self._frames_at(epoch, position, digest, must=must, is_second=True)
        firsts = (name.first for each in self.catalogues.values() for name in each.segments_of(epoch))
        later = min((first for first in firsts if first > position), default=None)
        if not found and not must and later is None:
            return None
        found += map(str, self.unreachable)
        raise MissingFramesError(position, None if later is None else later - 1, found)


def gaps(names: list[SegmentName]) -> list[tuple[Position, Position]]:
    """Return the positions, first and last, that lie between segments and are in none."""
    spans = sorted((name.first, name.last) for name in names)
    merged: list[tuple[Position, Position]] = []
    for first, last in spans:
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return [(before[1] + 1, after[0] - 1) for before, after in pairwise(merged)]

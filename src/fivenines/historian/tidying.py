"""Tidying: an archive that stays whole, and no larger than wanted.

- **Scrub**: each object is read and checked in turn. One that is missing, cut short, changed or another's is written
  anew from the good copy of another region; where there is none, that is told by name, again and again.
- **Merge**: a quiet journal leaves many small segments. Neighbours become one, which is there before they go.
- **Retention**: what only serves positions that nobody wants to go back to is deleted.

What is decided is decided by pure functions on listings; the rest reads and writes.
"""

import asyncio
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import msgspec
import structlog

from fivenines.historian.settings import ArchiveSettings, Retention
from fivenines.journal import Position
from fivenines.journal.archive import (
    Archive,
    ArchiveError,
    Catalogue,
    ObjectDamagedError,
    ObjectName,
    SegmentName,
    SnapshotName,
    Store,
    catalogue_of,
    check_object,
    gaps,
    pack_segment,
    pack_snapshot,
    read_segment,
    read_snapshot,
)

__all__ = ["Tidier", "Verdict", "expired", "mergeable", "repair_missing", "scrub_one", "superseded"]

_log = structlog.get_logger("fivenines.historian")

_RUN_MIN = 4
"""Fewer small segments than this are left as they are."""
_SMALL_SHARE = 0.5
_DAY_S = 86_400.0

Verdict = Literal["good", "repaired", "beyond repair"]


def mergeable(segments: Mapping[SegmentName, int], segment_bytes: int) -> list[list[SegmentName]]:
    """Return runs of small neighbours, each of which would make one segment of no more than `segment_bytes`."""
    runs: list[list[SegmentName]] = []
    run: list[SegmentName] = []
    size = 0
    for name in sorted(segments):
        is_small = segments[name] < segment_bytes * _SMALL_SHARE
        follows = bool(run) and name.epoch == run[-1].epoch and name.first == run[-1].last + 1
        if not (is_small and follows and size + segments[name] <= segment_bytes):
            runs.append(run)
            run, size = [], 0
        if is_small:
            run.append(name)
            size += segments[name]
    return [run for run in [*runs, run] if len(run) >= _RUN_MIN]


def superseded(segments: Mapping[SegmentName, int]) -> list[SegmentName]:
    """Return the segments whose frames are all in a longer one."""
    found: list[SegmentName] = []
    longest: SegmentName | None = None
    for name in sorted(segments, key=lambda each: (each.epoch, each.first, -each.last)):
        if longest is not None and name.epoch == longest.epoch and name.last <= longest.last:
            found.append(name)
        else:
            longest = name
    return found


def expired(found: Catalogue, retention: Retention, now_s: float) -> list[ObjectName]:
    """Return the objects that serve no position which shall be restorable.

    The newest snapshot that is old enough stays, and every frame after it: from there on, all can be restored. Older
    snapshots, and frames before it, go. Of the snapshots that stay, those that are not young are thinned to one a day.
    """
    if retention.keep_s is None:
        keep_from: SnapshotName | None = None
    else:
        old_us = (now_s - retention.keep_s) * 1e6
        keep_from = max((name for name in found.snapshots if name.time_us <= old_us), default=None)
    gone: list[ObjectName] = []
    if keep_from is not None:
        before = (keep_from.epoch, keep_from.position)
        gone += [name for name in found.segments if (name.epoch, name.last) <= before]
        gone += [name for name in found.snapshots if (name.epoch, name.position) < before]
    days: set[tuple[int, float]] = set()
    young_us = (now_s - retention.snapshots_all_s) * 1e6
    before_it: SnapshotName | None = None
    for name in sorted(set(found.snapshots) - set(gone)):
        day = (name.epoch, name.time_us // (_DAY_S * 1e6))
        if name.time_us < young_us and name != keep_from and day in days:
            # One that the frames do not lead to, from the one that stays before it, is all there is of what follows it.
            start = before_it.position + 1 if before_it is not None and before_it.epoch == name.epoch else 1
            if found.reach(name.epoch, start) >= name.position:
                gone.append(name)
                continue
        days.add(day)
        before_it = name
    return gone


def scrub_one(store: Store, name: ObjectName, others: Archive) -> Verdict:
    """Check an object, and write it anew from another store if it is not what was written. Blocks.

    Raises `StoreError` when the store cannot be read or written now.
    """
    try:
        check_object(store, name)
    except ObjectDamagedError as error:
        _log.error("archive.damaged", store=error.store, name=error.name, reason=error.reason)
    else:
        return "good"
    data = _segment_again(name, others) if isinstance(name, SegmentName) else _snapshot_again(name, others)
    if data is None:
        _log.error("archive.beyond_repair", store=store.name, name=str(name))
        return "beyond repair"
    store.put(str(name), data)
    _log.warning("archive.repaired", store=store.name, name=str(name))
    return "repaired"


def repair_missing(
    store: Store, found: Catalogue, epoch: int, others: Archive, *, all_before: bool = True, upto: Position = 0
) -> tuple[int, list[tuple[Position, Position]]]:
    """Bring what a store lacks of an epoch from others; return how many segments came, and what nobody has. Blocks.

    `found` is what the store has. Frames are missing between segments, and up to `upto`; with `all_before` also before
    the first one, as far back as any other store has them. What others have beyond that is not missing: it is on its
    way.
    """
    own = found.segments_of(epoch)
    elsewhere = [name for each in others.stores for name in others.listed(each).segments_of(epoch)]
    if not own and not (upto and elsewhere):
        return 0, []
    first = min((name.first for name in own), default=upto + 1)
    wanted = gaps(own)
    if (last := max((name.last for name in own), default=upto)) < upto:
        wanted.append((last + 1, upto))
    if all_before and (earliest := min((name.first for name in elsewhere), default=first)) < first:
        wanted.insert(0, (earliest, first - 1))
    brought, lacking = 0, []
    for begin, end in wanted:
        position = begin
        while position <= end:
            # In the pieces in which another store has them, cut to what is missing.
            here = [name for name in elsewhere if name.first <= position <= name.last]
            if not here:
                later = min((name.first for name in elsewhere if position < name.first <= end), default=end + 1)
                lacking.append((position, later - 1))
                position = later
                continue
            piece = SegmentName(epoch, position, min(end, max(name.last for name in here)))
            data = _segment_again(piece, others)
            if data is None:
                lacking.append((piece.first, piece.last))
            else:
                store.put(str(piece), data)
                _log.warning("archive.repaired", store=store.name, name=str(piece))
                brought += 1
            position = piece.last + 1
    return brought, lacking


def _segment_again(name: SegmentName, others: Archive) -> bytes | None:
    """Make a segment from the frames that other stores have; None if they have not all of them."""
    try:
        before, frames = others.piece(name.epoch, name.first, name.last)
    except ArchiveError:
        return None
    return pack_segment(frames, before)


def _snapshot_again(name: SnapshotName, others: Archive) -> bytes | None:
    for store in others.stores:
        if name in others.listed(store).snapshots:
            try:
                return pack_snapshot(read_snapshot(store, name))
            except ArchiveError:
                continue
    return None


class Tidier:
    """Keeps the stores of one historian tidy, at intervals.

    Args:
        stores: those it writes to.
        peers: other regions' stores.
        epoch: the journal's.
        settings: how often, and what stays.
    """

    def __init__(self, stores: list[Store], peers: list[Store], epoch: int, settings: ArchiveSettings) -> None:
        self.scrubbed = self.repaired = self.merged = self.deleted = 0
        """Objects, since the start."""
        self.beyond_repair = 0
        """Objects, and gaps, of which no store had a good copy at the last look."""
        self._upto: dict[str, Position] = {}
        self.filled: set[str] = set()
        """The stores that have, of our epoch, all that any other has up to where they were to be filled."""
        self._stores = stores
        self._peers = peers
        self._epoch = epoch
        self._settings = settings
        self._checked: dict[str, set[ObjectName]] = {store.name: set() for store in stores}
        self._bad: dict[str, set[object]] = {store.name: set() for store in stores}

    async def run(self) -> None:
        """Tidy, until cancelled. A store that is out of reach is left for the next time."""
        while True:
            await asyncio.sleep(self._settings.tidy_s)
            for store in self._stores:
                try:
                    await asyncio.to_thread(self.tidy, store)
                except ArchiveError as error:
                    _log.info("archive.not_tidied", store=store.name, reason=str(error))
                except Exception:  # noqa: BLE001 - an untidy archive is an archive all the same
                    _log.exception("tidying.broke", store=store.name)

    def tidy(self, store: Store) -> None:
        """Tidy a store once, and check the next part of it. Blocks. Raises `StoreError`."""
        found = catalogue_of(store)
        if self._merge(store, found.segments):
            found = catalogue_of(store)
        if gone := [*self._superseded(store, found), *expired(found, self._settings.retention, time.time())]:
            store.delete([str(name) for name in gone])
            self.deleted += len(gone)
        names: list[ObjectName] = sorted(set(found.segments) - set(gone))
        names += sorted(set(found.snapshots) - set(gone))
        self.scrub(store, names, share=min(1.0, self._settings.tidy_s / self._settings.scrub_s))

    def scrub(self, store: Store, names: list[ObjectName], *, share: float = 1.0, is_whole: bool = False) -> None:
        """Check a share of the objects of a store, those that have waited longest. Blocks. Raises `StoreError`.

        With `is_whole`, nothing is on its way: what other stores have beyond this one's end is missing too.
        """
        others = Archive([each for each in (*self._stores, *self._peers) if each.name != store.name])
        others.look()
        found = catalogue_of(store)
        checked, bad = self._checked[store.name], self._bad[store.name]
        bad.intersection_update(names)
        elsewhere = (
            {epoch for each in others.stores for epoch in others.listed(each).named_epochs} if is_whole else set()
        )
        for epoch in sorted({name.epoch for name in names} | elsewhere | set(self._epochs_upto(store))):
            upto = max(
                (name.last for each in others.stores for name in others.listed(each).segments_of(epoch)), default=0
            )
            brought, lacking = repair_missing(
                *(store, found, epoch, others),
                all_before=self._settings.retention.keep_s is None,
                upto=upto if is_whole else self._upto.get(store.name, 0) if epoch == self._epoch else 0,
            )
            self.repaired += brought
            if epoch == self._epoch and not lacking:
                self.filled.add(store.name)
            for gap in lacking:
                _log.error("archive.gap", store=store.name, epoch=epoch, first=gap[0], last=gap[1])
            bad.update(lacking)
        unchecked = [name for name in names if name not in checked]
        if not unchecked:
            checked.clear()
            unchecked = names
        for name in unchecked[: max(1, round(len(names) * share))]:
            verdict = scrub_one(store, name, others)
            self.scrubbed += 1
            self.repaired += verdict == "repaired"
            (bad.add if verdict == "beyond repair" else bad.discard)(name)
            checked.add(name)
        known = {epoch.epoch for epoch in found.epochs}
        for number, begun in others.epochs.items():
            if number not in known:
                store.put(begun.name, msgspec.json.encode(begun))
        self.beyond_repair = sum(map(len, self._bad.values()))

    @staticmethod
    def _superseded(store: Store, found: Catalogue) -> list[SegmentName]:
        """Return the segments that are in a longer one, which was read to make sure of it."""
        gone: list[SegmentName] = []
        good: dict[SegmentName, bool] = {}
        for name in superseded(found.segments):
            longer = next(
                each
                for each in found.segments
                if each != name and each.epoch == name.epoch and each.first <= name.first and name.last <= each.last
            )
            if longer not in good:
                try:
                    read_segment(store, longer)
                    good[longer] = True
                except ObjectDamagedError:
                    good[longer] = False  # scrubbing sees to it
            if good[longer]:
                gone.append(name)
        return gone

    def fill(self, store: Store, upto: Position) -> None:
        """Have a store get what it lacks of our epoch up to a position, from others, at the next look."""
        self._upto[store.name] = upto

    def _epochs_upto(self, store: Store) -> list[int]:
        return [self._epoch] if store.name in self._upto else []

    def _merge(self, store: Store, segments: Mapping[SegmentName, int]) -> int:
        """Put small segments together, and return how many there were of them."""
        merged = 0
        for run in mergeable(segments, self._settings.segment_bytes):
            try:
                parts = [read_segment(store, name) for name in run]
            except ObjectDamagedError:
                continue  # scrubbing sees to it
            if any(before[0].last_digest != after[0].previous_digest for before, after in pairwise(parts)):
                continue
            frames = [frame for _, some in parts for frame in some]
            name = SegmentName(run[0].epoch, run[0].first, run[-1].last)
            store.put(str(name), pack_segment(frames, parts[0][0].previous_digest, parts[-1][0].outcomes_digest))
            read_segment(store, name)  # raises, and nothing is deleted
            store.delete([str(each) for each in run])
            merged += len(run)
        self.merged += merged
        return merged

"""The archive: frames and snapshots in object storage, from which a whole platform can be rebuilt."""

from fivenines.journal.archive.errors import (
    ArchiveError,
    MissingFramesError,
    ObjectDamagedError,
    ObjectMissingError,
    OtherJournalError,
    StoreError,
)
from fivenines.journal.archive.objects import Epoch, SegmentName, SnapshotName, pack_segment, pack_snapshot
from fivenines.journal.archive.reading import (
    Archive,
    Catalogue,
    Part,
    catalogue_of,
    first_epoch,
    gaps,
    read_segment,
    read_snapshot,
)
from fivenines.journal.archive.store import Listed, Store, StoreUrlError, open_store

__all__ = [
    "Archive",
    "ArchiveError",
    "Catalogue",
    "Epoch",
    "Listed",
    "MissingFramesError",
    "ObjectDamagedError",
    "ObjectMissingError",
    "OtherJournalError",
    "Part",
    "SegmentName",
    "SnapshotName",
    "Store",
    "StoreError",
    "StoreUrlError",
    "catalogue_of",
    "first_epoch",
    "gaps",
    "open_store",
    "pack_segment",
    "pack_snapshot",
    "read_segment",
    "read_snapshot",
]

"""The archive: frames and snapshots in object storage, from which a whole platform can be rebuilt."""

from fivenines.journal.archive.errors import (
    ArchiveError,
    MissingFramesError,
    ObjectDamagedError,
    ObjectMissingError,
    OtherJournalError,
    StoreError,
)
from fivenines.journal.archive.objects import Epoch, ObjectName, SegmentName, SnapshotName, pack_segment, pack_snapshot
from fivenines.journal.archive.reading import (
    Archive,
    Catalogue,
    Part,
    catalogue_of,
    check_object,
    first_epoch,
    gaps,
    read_segment,
    read_snapshot,
)
from fivenines.journal.archive.store import Listed, Store, StoreUrlError, open_store, put_in_all

__all__ = [
    "Archive",
    "ArchiveError",
    "Catalogue",
    "Epoch",
    "Listed",
    "MissingFramesError",
    "ObjectDamagedError",
    "ObjectMissingError",
    "ObjectName",
    "OtherJournalError",
    "Part",
    "SegmentName",
    "SnapshotName",
    "Store",
    "StoreError",
    "StoreUrlError",
    "catalogue_of",
    "check_object",
    "first_epoch",
    "gaps",
    "open_store",
    "pack_segment",
    "pack_snapshot",
    "put_in_all",
    "read_segment",
    "read_snapshot",
]

"""What can go wrong with an archive.

ArchiveError
 +-- StoreError            the store did not do what it was asked: it may pass
 +-- ObjectDamagedError    an object is cut short, or not what was written
     |    +-- ObjectMissingError   there is none
 +-- MissingFramesError    no store has a good copy of these frames
 +-- OtherJournalError     the archive is of another journal than the one at hand
"""

from fivenines.journal.port import Position

__all__ = [
    "ArchiveError",
    "MissingFramesError",
    "ObjectDamagedError",
    "ObjectMissingError",
    "OtherJournalError",
    "StoreError",
]


class ArchiveError(Exception):
    """Something about an archive went wrong that its user must handle."""


class StoreError(ArchiveError):
    """A store did not do what it was asked; trying again may help."""

    def __init__(self, store: str, what: str, reason: str) -> None:
        super().__init__(f"{store}: {what}: {reason}")
        self.store = store
        self.reason = reason


class ObjectDamagedError(ArchiveError):
    """An object is not what was written."""

    def __init__(self, store: str, name: str, reason: str) -> None:
        super().__init__(f"{store}: {name}: {reason}")
        self.store = store
        self.name = name
        self.reason = reason


class ObjectMissingError(ObjectDamagedError):
    """There is no such object, or no longer: it may have been put together with others."""

    def __init__(self, store: str, name: str) -> None:
        super().__init__(store, name, "it is missing")


class MissingFramesError(ArchiveError):
    """No store has a good copy of the frames from `start` on; `found` says what was tried."""

    def __init__(self, start: Position, end: Position | None, found: list[str]) -> None:
        which = f"frame {start}" if end == start else f"the frames from {start} to {end or 'the end'}"
        tried = "; ".join(found) or "no store has a segment with them"
        super().__init__(f"there is no good copy of {which}: {tried}")
        self.start = start
        self.end = end
        self.found = found


class OtherJournalError(ArchiveError):
    """What is in the archive and what is at hand come from different journals."""

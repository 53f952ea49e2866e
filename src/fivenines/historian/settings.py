"""Settings of a historian: frozen, read once."""

from dataclasses import dataclass

__all__ = ["ArchiveSettings", "Retention"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What of an archive is let go of. Nothing, by default."""

    keep_s: float | None = None
    """Every position of so many seconds back can be restored; what only serves older ones goes. None: all stays."""
    snapshots_all_s: float = 86_400.0
    """Snapshots that are younger all stay; of older ones the first of each day does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSettings:
    """How the archive is kept."""

    segment_bytes: int = 8 * MIB
    """Frames of so many bytes make a segment."""
    seal_s: float = 5.0
    """... and so does what is older than this, so that a quiet journal is archived too: what would be missing if all
    regions were lost is no older."""
    spool_bytes_max: int = 4_096 * MIB
    """What waits on the disk for stores that are out of reach. Beyond, nothing more is sealed until there is room; the
    journal keeps what is not sealed, as long as it can."""
    snapshot_commands: int = 2_000_000
    """A snapshot is begun after so many commands: restoring replays these, in some seconds."""
    snapshot_journal_bytes: int = 256 * MIB
    """... or after so many bytes of the journal."""
    snapshot_s_max: float = 3_600.0
    """One that is not written by then has failed."""
    snapshots_kept: int = 2
    """On the historian's own disk, to start from. In the archive they follow `Retention`."""
    copies: int = 2
    """The journal is trimmed behind what is in so many regions' archives, or on its way there on a historian's disk."""
    tidy_s: float = 60.0
    """How often small segments are put together and what is no longer wanted deleted."""
    scrub_s: float = 86_400.0
    """Within this time every object is read and checked once."""
    retention: Retention = Retention()

    def __post_init__(self) -> None:
        for name in ("segment_bytes", "spool_bytes_max", "snapshot_commands", "snapshot_journal_bytes", "copies"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seal_s", "snapshot_s_max", "tidy_s", "scrub_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")

"""Settings of a journal in etcd: frozen, read once."""

from pathlib import Path

from msgspec import Struct

__all__ = ["EtcdJournalSettings", "EtcdTls"]

MIB = 1024 * 1024


class EtcdTls(Struct, frozen=True, kw_only=True):
    """How members prove who they are, and we to them. Paths of PEM files."""

    authorities: Path | None = None
    """Who may sign a member's certificate; None: whom the system trusts."""
    certificate: Path | None = None
    """Our certificate, with the chain that it needs, if members ask for one."""
    key: Path | None = None
    """Our private key."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate and its key go together")


class EtcdJournalSettings(Struct, frozen=True, kw_only=True):
    """Where the journal is, and how it is used."""

    endpoints: tuple[str, ...]
    """`host:port` of each member, the nearest first: it is used as long as it answers."""
    prefix: str = "/fivenines/journal/"
    """What all keys of this journal begin with."""
    tls: EtcdTls | None = None
    """None: no encryption, for members on this machine."""

    payload_bytes_max: int = 16 * MIB
    """The longest payload."""
    piece_bytes_max: int = 64 * 1024
    """A longer payload is kept in several pieces. A member keeps its last 5,000 entries and `--snapshot-count` more in
    memory, whatever their size: so their size decides how much memory a member takes. Less than etcd's
    `--max-request-bytes`, which is 1.5 MiB."""
    lanes: int = 16
    """Appends on their way to etcd at the same time. Those on their way together may come to be in either order."""
    append_s_max: float = 10.0
    """How long an append may take. Longer than any election."""

    cut_off_s: float = 3.0
    """With no sign of life from any member for so long, appends are refused at once, in the place of being tried. Far
    longer than an election, during which they wait."""

    patience_s: float = 0.1
    """A member that has not answered by then, and not within four times the usual, is not waited for alone: the next
    one is asked as well. It decides the pause when a leader dies, together with the members' election timeout: what was
    sent on to the dead leader is lost, and comes through when it is sent anew after the election."""
    silence_s_max: float = 0.3
    """A member that watches for us and has been silent for so long, although asked for a sign, is taken for dead."""

    quota_bytes: int = 2048 * MIB
    """The members' `--quota-backend-bytes`. Beyond it etcd refuses all writes until somebody intervenes, so appends are
    refused before, at `quota_share_max` of it."""
    quota_share_max: float = 0.7
    """See `quota_bytes`. What is left is for what other members still have to apply, and for what fragments take."""
    status_s: float = 1.0
    """How often each member is asked how it is."""

    mark_bytes: int = 4 * MIB
    """A mark is set after so many bytes of frames: trimming goes from mark to mark, and reading begins at one."""
    mark_frames: int = 1_024
    """... or after so many frames. etcd deletes as many keys at a time."""
    recent_bytes_max: int = 32 * MIB
    """The newest frames stay in memory up to this, for followers that keep up."""

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("a journal in etcd needs at least one endpoint")
        for name in ("payload_bytes_max", "piece_bytes_max", "lanes", "mark_bytes", "mark_frames", "quota_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("append_s_max", "cut_off_s", "patience_s", "silence_s_max", "status_s", "quota_share_max"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")
        if self.quota_share_max >= 1:
            raise ValueError(f"quota_share_max must be less than 1, not {self.quota_share_max}")

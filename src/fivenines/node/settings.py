"""Settings of a node: frozen, read once, checked before anything is opened."""

import re
from dataclasses import dataclass

__all__ = ["OPEN_FILES_MAX", "FleetSettings", "Identity", "Limits", "NodeSettings"]

OPEN_FILES_MAX = 65_536
"""Files that a process lets itself open. More would be of no use; and where a thousand million are allowed, closing all
that may be open takes minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a node accepts. Over a limit it refuses at once and clearly, so that what it accepts keeps its latency."""

    body_bytes_max: int = 8 * 1024 * 1024
    """A longer request body is answered 413."""
    head_bytes_max: int = 64 * 1024
    """A longer head of a request is answered 431."""
    request_s_max: int = 30
    """A request that is not whole by then is dropped, and its connection closed."""
    unread_s_max: int = 20
    """A connection whose peer reads nothing of its answer for so long is dropped."""
    array_items_max: int = 10_000
    """Transactions or accounts in one array; a longer one is answered 413."""
    array_postings_max: int = 20_000
    """Postings in one array, all together: what bounds how long one request keeps the event loop from the others."""
    queue_requests_max: int = 256
    """Writes that wait for the journal. At 12,000 a second this is a wait of 20 ms; one more is answered 503."""
    queue_commands_max: int = 65_536
    """The same, counted in commands: a quarter of a second at 300,000 a second."""
    bodies_bytes_max: int = 128 * 1024 * 1024
    """Bodies that are being received or waiting, all together."""
    refusal_delay_ms: int = 500
    """How long a 503 is held back. A client that tries again at once would otherwise spend our time on refusals: so,
    it can ask twice a second. A client that honours Retry-After does not notice."""
    refusals_per_s_max: int = 1_000
    """With more than this to refuse they are held back longer. A refusal costs about as much as an acceptance."""
    refusals_waiting_max: int = 10_000
    """Refusals that are held back at once; beyond, they are sent at once and the connection is closed."""
    retry_after_s: int = 1
    """What Retry-After says in a 503."""
    at_least_wait_ms: int = 5_000
    """How long a read waits for the position that it asks for."""
    long_poll_wait_ms: int = 20_000
    """How long a request for events waits for one; less than the 30 s after which many proxies hang up."""
    streams_max: int = 64
    """Streams of events that are open at once; one more is answered 503. Each costs a send for every page, ten times a
    second at most."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"limits.{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """How a node runs, apart from where its data is."""

    limits: Limits = Limits()
    appends_in_flight_max: int = 1
    """Frames on their way to the journal. With one, whatever arrives meanwhile makes the next frame: the batch grows
    with the load by itself. A journal across regions bears more."""
    frame_commands_max: int = 16_384
    """Commands in a frame; it bounds how long applying one keeps the event loop from its clients."""
    frame_bytes_max: int = 4 * 1024 * 1024
    """Bytes of request bodies in a frame; one request that is longer has a frame of its own."""
    snapshot_commands: int = 2_000_000
    """A snapshot is begun after so many commands: a start then replays these, in about three seconds."""
    snapshot_journal_bytes: int = 256 * 1024 * 1024
    """... or after so many bytes of the journal."""
    snapshot_s_max: int = 3_600
    """A snapshot that is not written by then has failed, and whatever writes it is ended."""
    snapshots_kept: int = 2
    """If the newest is damaged, the one before it is used."""
    journal_frames_kept: int | None = None
    """Frames that are behind the oldest kept snapshot, and farther back than this, are trimmed. None: all are kept, and
    with them every transaction's details."""

    def __post_init__(self) -> None:
        for name in (
            "appends_in_flight_max",
            "frame_commands_max",
            "snapshot_commands",
            "snapshot_s_max",
            "snapshots_kept",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a node is among those of a shared journal."""

    name: str
    """Its own, and the same after a restart: 1 to 64 characters of a-z A-Z 0-9 _ . -"""
    region: str
    """The failure domain that it is in, named by the same characters."""
    url: str = ""
    """Where the others reach it."""

    def __post_init__(self) -> None:
        for field in ("name", "region"):
            value = getattr(self, field)
            if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", value):
                raise ValueError(f"{field} is 1 to 64 characters of a-z A-Z 0-9 _ . -, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """What a node does for, and expects of, the others of a shared journal."""

    interval_s: float = 0.5
    """How often it looks at what the others say."""
    refresh_s: float = 5.0
    """How often it says something, though nothing has changed."""
    silent_s_max: float = 15.0
    """Who is silent for longer is not counted on: three times `refresh_s`, and an election."""
    tail_bytes_max: int = 512 * 1024 * 1024
    """The frames that the journal keeps, in bytes of payloads. What is before is trimmed, once snapshots of it are on
    disk in a majority of regions."""
    tail_share: float = 0.8
    """Trimming begins at this share of `tail_bytes_max`, and leaves half of that, so that it is never late."""
    unarchived_bytes_max: int = 1024 * 1024 * 1024
    """So many bytes of frames are kept, where need be, until historians have archived them."""
    fullness_max: float = 0.85
    """... but no more once so much of the journal's room is taken: small frames take up to three times their bytes in
    etcd, and when there is no room, writes are refused."""
    tidy_s: float = 300.0
    """How often etcd is told to forget what was overwritten, though nothing is to be trimmed."""
    fetch_frames_min: int = 1_000
    """A node that starts fetches another's snapshot when that spares it so many frames."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")

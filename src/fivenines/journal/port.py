"""The port: what a journal is to the rest of fivenines, whatever keeps it.

A journal is an append-only, totally ordered sequence of **frames**. A frame has a **position**, counted from 1 without
gaps, a payload (bytes that the journal never looks into) and a digest that chains it to the frame before, so that two
journals that agree on one digest agree on everything before it. The digest is defined in `fivenines.journal.format` and
is the same for every kind of journal.

A write that fails says whether it happened. These are all the errors that leave a journal:

    JournalError
     +-- NotDoneError             the append surely did not happen: try again at will
     |    +-- JournalFullError    no room on the disk, or no file descriptor; works again by itself when there is
     |    +-- JournalFailedError  the disk failed before; the journal must be opened anew
     |    +-- JournalClosedError  the journal is closed
     |    +-- FrameTooLargeError  the payload is longer than payload_bytes_max
     +-- MaybeDoneError           the append may have happened: look before trying again
     +-- JournalDamagedError      bytes on the disk are not what was written
     +-- JournalLockedError       another process has the journal open for writing
     +-- TrimmedError             the frames asked for were trimmed away
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

__all__ = [
    "Frame",
    "FrameTooLargeError",
    "Journal",
    "JournalClosedError",
    "JournalDamagedError",
    "JournalError",
    "JournalFailedError",
    "JournalFullError",
    "JournalLockedError",
    "MaybeDoneError",
    "NotDoneError",
    "Notice",
    "Noticeboard",
    "Position",
    "SharedJournal",
    "TrimmedError",
]

Position = int


class Frame(Struct, frozen=True, gc=False):
    """One frame, as every reader and follower sees it."""

    position: Position
    payload: bytes
    digest: bytes
    """32 bytes of SHA-256 over the digest of the frame before, the position, the length and the payload."""


class Journal(Protocol):
    """An ordered log of frames. All of it belongs to one event loop, except `read`, which any thread may call."""

    @property
    def first(self) -> Position:
        """The oldest position that can be read; `last + 1` when there is none."""

    @property
    def last(self) -> Position:
        """The newest durable position, 0 before the first append. Trimming never lowers it."""

    @property
    def last_digest(self) -> bytes:
        """The digest of the frame at `last`; 32 zero bytes before the first append."""

    @property
    def payload_bytes_max(self) -> int:
        """The longest payload that can be appended, in bytes."""

    @property
    def failed(self) -> str | None:
        """Why the journal takes no more appends until it is opened anew, or None. Reading goes on."""

    @property
    def cut_off(self) -> str | None:
        """Why the journal is out of reach, so that an append would surely not happen now, or None. It may pass."""

    @property
    def age_s(self) -> float:
        """How old our knowledge of the journal's end is, in seconds: 0 for a journal that is our own."""

    async def append(self, payload: bytes) -> Position:
        """Append one frame and return its position once it is durable.

        Appends are ordered by the call. Any number may be in flight, and whoever calls bounds it. One that is cancelled
        may still happen.

        Raises a `NotDoneError` when it surely did not happen, a `MaybeDoneError` when that is not known.
        """

    def read(self, start: Position) -> Iterator[Frame]:
        """Iterate over the frames from `start` to what is `last` at the time of the call.

        Blocks on the disk. Raises `TrimmedError` when `start` is before `first`, `JournalDamagedError` when a frame on
        the disk is not what was written.
        """

    def follow(self, start: Position) -> AsyncGenerator[Frame, None]:
        """Iterate over the durable frames from `start`, waiting for new ones, until the journal is closed.

        Each frame comes once and in order. A follower takes its own time: the journal waits for none, and memory for a
        slow one is bounded, as it is served from the disk. Raises what `read` raises, and `TrimmedError` also when the
        frames that a follower still needs are trimmed meanwhile.
        """

    async def trim(self, before: Position) -> None:
        """Let go of frames before `before`, as far as whole segments allow; the newest segment always stays."""

    async def close(self) -> None:
        """Finish the appends in flight, end the followers and let go of the journal. Closing twice is harmless."""


class Notice(Struct, frozen=True):
    """What a node lets the others know."""

    content: bytes
    heard_s: float
    """When this process heard of it, in the event loop's time. A clock of one's own is the only one that can tell how
    long another has been silent."""


class Noticeboard(Protocol):
    """Beside the frames, what the nodes of a shared journal let each other know: one notice each, the newest counts.

    A notice is never waited for and may get lost with its writer: nothing that frames must be in order with goes here.
    """

    @property
    def notices(self) -> Mapping[str, Notice]:
        """The newest notice of each node that has ever posted one, by the node's name."""

    async def post_notice(self, name: str, content: bytes) -> None:
        """Replace the notice under a name. Raises `JournalError`; it may be there all the same."""


class SharedJournal(Journal, Noticeboard, Protocol):
    """A journal that many nodes follow and append to. It keeps a tail of frames; what is before it is trimmed away."""

    @property
    def tail_bytes(self) -> int:
        """What the payloads of the frames from `first` to `last` amount to."""

    @property
    def fullness(self) -> float:
        """How much of the room for frames is taken: at 1, appends are refused until some are trimmed."""

    def position_leaving(self, tail_bytes: int) -> Position:
        """Return the oldest position up to which frames must go, so that the rest is no more than `tail_bytes`.

        0 when nothing must go, or nothing can go yet.
        """


class JournalError(Exception):
    """Something about the journal went wrong that its user must handle."""


class NotDoneError(JournalError):
    """The append surely did not happen: it may be tried again."""


class JournalFullError(NotDoneError):
    """There is no room for the frame, or no file descriptor; the journal works again by itself once there is."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no room in the journal: {reason}")
        self.reason = reason


class JournalFailedError(NotDoneError):
    """The disk failed before: what it holds is only known again after the journal is opened anew."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the journal failed and must be opened anew: {reason}")
        self.reason = reason


class JournalClosedError(NotDoneError):
    """The journal is closed."""

    def __init__(self) -> None:
        super().__init__("the journal is closed")


class FrameTooLargeError(NotDoneError):
    """The payload is longer than the journal takes."""

    def __init__(self, payload_bytes: int, payload_bytes_max: int) -> None:
        super().__init__(f"a payload of {payload_bytes} bytes is over the journal's limit of {payload_bytes_max}")
        self.payload_bytes = payload_bytes
        self.payload_bytes_max = payload_bytes_max


class MaybeDoneError(JournalError):
    """The append may have happened: whether it did shows when the journal is opened anew."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it is not known whether the frame is on the disk: {reason}")
        self.reason = reason


class JournalDamagedError(JournalError):
    """Bytes on the disk are not what was written; nothing was changed on finding it."""

    def __init__(self, file: Path, offset: int, position: Position, reason: str) -> None:
        super().__init__(f"the journal is damaged: {file}, byte {offset}, position {position}: {reason}")
        self.file = file
        self.offset = offset
        """Where in the file the frame or header that is damaged begins, in bytes."""
        self.position = position
        """The position that the frame there has, or should have."""
        self.reason = reason


class JournalLockedError(JournalError):
    """Another process has the journal open for writing."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(f"the journal in {directory} is in use by {holder}")
        self.directory = directory
        self.pid = pid


class TrimmedError(JournalError):
    """The frames asked for are no longer in the journal."""

    def __init__(self, start: Position, first: Position) -> None:
        super().__init__(f"position {start} was trimmed away: the journal begins at {first}")
        self.start = start
        self.first = first

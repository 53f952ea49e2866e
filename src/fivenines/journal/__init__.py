"""The journal: frames and the ordered log that keeps them.

Begin with `port`, the `Journal` protocol and its errors; `file` keeps a journal in a folder, in the bytes that `format`
describes; `verify` looks at such a folder from outside. A journal does not know what its payloads mean.
"""

from fivenines.journal.file import FileJournal, FileJournalSettings
from fivenines.journal.port import (
    Frame,
    FrameTooLargeError,
    Journal,
    JournalClosedError,
    JournalDamagedError,
    JournalError,
    JournalFailedError,
    JournalFullError,
    JournalLockedError,
    MaybeDoneError,
    NotDoneError,
    Notice,
    Noticeboard,
    Position,
    SharedJournal,
    TrimmedError,
)
from fivenines.journal.verify import Damage, Torn, Verdict, show, verify

__all__ = [
    "Damage",
    "FileJournal",
    "FileJournalSettings",
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
    "Torn",
    "TrimmedError",
    "Verdict",
    "show",
    "verify",
]

"""What goes wrong with an etcd, beside what goes wrong with any journal. The tree is that of `fivenines.journal.port`.

JournalError
 +-- NotDoneError
 |    +-- JournalUnreachableError   no member answered, or they have no majority
 +-- EtcdRefusedError               this etcd must not keep a journal
 +-- JournalMissingError            there is no journal in this etcd
 +-- JournalExistsError             there is another journal in this etcd
 +-- JournalFencedError             the journal goes on in another etcd
"""

from fivenines.journal.port import JournalError, NotDoneError, Position

__all__ = [
    "EtcdRefusedError",
    "JournalExistsError",
    "JournalFencedError",
    "JournalMissingError",
    "JournalUnreachableError",
]


class JournalUnreachableError(NotDoneError):
    """No member of the journal's etcd answered in time; what was asked for surely did not happen."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the journal is out of reach: {reason}")
        self.reason = reason


class EtcdRefusedError(JournalError):
    """This etcd must not keep a journal."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"the etcd at {endpoint} must not keep a journal: {reason}")
        self.endpoint = endpoint
        self.reason = reason


class JournalMissingError(JournalError):
    """There is no journal in this etcd. Found one, or restore it, if that is what you want."""

    def __init__(self, prefix: str) -> None:
        super().__init__(f"there is no journal under {prefix}: found one, or restore it from the archive")
        self.prefix = prefix


class JournalExistsError(JournalError):
    """There is another journal in this etcd than the one that was to be founded."""

    def __init__(self, prefix: str, epoch: int, position: Position) -> None:
        super().__init__(f"there is a journal under {prefix}, in epoch {epoch}, that begins after position {position}")
        self.prefix = prefix
        self.epoch = epoch
        self.position = position


class JournalFencedError(JournalError):
    """The journal was restored, and goes on in another etcd: here it is at its end."""

    def __init__(self, prefix: str, epoch: int) -> None:
        super().__init__(
            f"the journal under {prefix} is fenced: it goes on in another etcd, in epoch {epoch}; name its members"
        )
        self.prefix = prefix
        self.epoch = epoch

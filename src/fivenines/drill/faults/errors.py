"""What can go wrong with a fault itself. Every sentence names the fault and the reason."""

__all__ = ["BadFaultError", "FaultError", "FaultImpossibleError", "FaultStaysError", "FaultTimedOutError"]


class FaultError(Exception):
    """Something about a fault.

    BadFaultError          nothing is called so, or a parameter makes no sense; nothing was done
    FaultImpossibleError   this machine or platform cannot do it; what was begun is undone
    FaultStaysError        it was ended, and is not gone
    FaultTimedOutError     its time was over before it was ended, so it did not last as long as somebody thought
    """


class BadFaultError(FaultError):
    """What was asked for makes no sense."""


class FaultImpossibleError(FaultError):
    """It cannot be done here."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be done here: {reason}")
        self.reason = reason


class FaultStaysError(FaultError):
    """It is still in force though it was ended.

    Args:
        name: of the fault.
        target: what it hit.
        still: why it is known to be there, a sentence each.
    """

    def __init__(self, name: str, target: str, still: list[str]) -> None:
        super().__init__(f"{name} ({target}) was ended and is not gone: {'; '.join(still)}")
        self.still = still


class FaultTimedOutError(FaultError):
    """It was gone before it was ended.

    Args:
        name: of the fault.
        target: what it hit.
        limit_s: how long it was in force.
        held_s: how long somebody thought so.
    """

    def __init__(self, name: str, target: str, *, limit_s: float, held_s: float) -> None:
        super().__init__(
            f"{name} ({target}) was undone after {limit_s:g} s, when its time was over (limit_s), "
            f"and ended only after {held_s:.1f} s: it did not last"
        )
        self.limit_s = limit_s

"""What is known of a name that stands for several servers: the last good answer, and when to ask again. No I/O here.

A nameserver of the platform leads each client to a region by the order of its answer, and takes a region that is lost
out of it within seconds. So an answer is followed for as long as its TTL says, and then asked for again, beside the
requests: none waits for that, and when no nameserver answers the last good answer goes on being used, for however long.
Only a name that was never answered has to be waited for.

Addresses that stood in earlier answers are remembered as well, a few of them: when a region dies the answer that led
to it is as old as its TTL, and what stood in the one before may be what still works.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["ANSWER_MAX", "EARLIER_MAX", "TTL_S_MAX", "TTL_S_MIN", "Addresses", "Name", "NoAddresses"]

TTL_S_MIN: Final = 1.0
"""No name is asked for more often, whatever its TTL; and so long after a failure it is asked for again."""
TTL_S_MAX: Final = 3600.0
"""A longer TTL is most likely a mistake that somebody would be glad to see end."""
ANSWER_MAX: Final = 16
"""Addresses of one answer that are used, the first ones."""
EARLIER_MAX: Final = 8
"""Addresses of earlier answers that are remembered, the latest ones."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """An answer about a name."""

    addresses: tuple[str, ...]
    """IPv4 or IPv6, at least one, in the order of the answer: the first is where the nameserver wants the client."""
    ttl_s: float


@dataclass(frozen=True, slots=True)
class NoAddresses:
    """No answer, or none with an address in it."""

    reason: str
    """Names the name, whom we asked, and what each said."""


class Name:
    """One name, and what was heard of it. Its owner sees to it that one thread at a time changes it.

    Args:
        host: the name.
        asked: who is asked for its addresses, in words.
    """

    def __init__(self, host: str, *, asked: str) -> None:
        self.host: Final = host
        self.answer: tuple[str, ...] = ()
        """The last good answer; empty before the first."""
        self.earlier: tuple[str, ...] = ()
        """What stood in answers before that and is not in it, the latest first."""
        self.ask_at = float("-inf")
        """When to ask again."""
        self.reason = f"no address of {host} yet from {asked}"
        """Why there is no newer answer."""
        self.was_waited_for = False
        """Whether a request has waited for the first answer, in vain or not."""

    def mark_asked(self, now: float) -> None:
        """Take note that it is being asked for, so that not every request asks."""
        self.ask_at = now + TTL_S_MIN

    def heard(self, came: Addresses | NoAddresses, now: float) -> bool:
        """Take note of what came of asking; return whether the addresses are other ones, or in another order.

        A name that is said not to exist any more keeps its addresses: a nameserver that has lost its zone must not
        stop the money.
        """
        self.was_waited_for = True
        if isinstance(came, NoAddresses):
            self.reason = came.reason
            self.ask_at = now + TTL_S_MIN
            return False
        self.ask_at = now + min(max(came.ttl_s, TTL_S_MIN), TTL_S_MAX)
        answer = tuple(dict.fromkeys(came.addresses))[:ANSWER_MAX]
        if answer == self.answer:
            return False
        before = dict.fromkeys((*self.answer, *self.earlier))
        self.earlier = tuple(address for address in before if address not in answer)[:EARLIER_MAX]
        self.answer = answer
        return True

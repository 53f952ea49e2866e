"""Ids for transactions: UUIDv7 (RFC 9562), ascending within a process.

The ledger decides each id once, so a client that makes the id before its first try may retry as often as it likes. An
id carries its time, by which the ledger forgets in an orderly way, and ascending ids are what its memory stores best.

The layout is that of RFC 9562, section 6.2, method 1: a counter beside the time.

    48 bits  unix time, milliseconds
     4 bits  version, 7
    12 bits  counter, upper part
     2 bits  variant, 0b10
    30 bits  counter, lower part
    32 bits  random

The counter starts each millisecond at a random number below 2^41, so two processes are told apart by 73 random bits and
one process still has room for 2^41 ids in a millisecond. Within a millisecond it counts up. Where the clock stands
still or goes back a little, the time of the last id is kept and the counter goes on, so ids keep ascending. Where it
goes back by more than `CLOCK_STEP_BACK_MS_MAX` it had been wrong, and the ids follow it back: ids from the future would
be refused by the ledger for as long as the clock had been ahead. They are unique all the same.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["CLOCK_STEP_BACK_MS_MAX", "IdMaker", "as_text", "new_id", "new_ids", "new_ids16"]

CLOCK_STEP_BACK_MS_MAX: Final = 10_000
"""How far the clock may go back while ids go on ascending: more than a leap second or a small correction by NTP."""

_COUNTER_BITS: Final = 42
_COUNTER_MAX: Final = 2**_COUNTER_BITS - 1
_SEED_MASK: Final = _COUNTER_MAX >> 1
_VERSION_AND_VARIANT: Final = 0x7 << 76 | 0b10 << 62


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


class IdMaker:
    """Makes ascending ids; threads may share it. The functions of this module share one for the process.

    Args:
        clock_ms: unix time in milliseconds.
        random_bytes: n unpredictable bytes.
    """

    def __init__(
        self, *, clock_ms: Callable[[], int] = _clock_ms, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._clock_ms = clock_ms
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._time_ms = -1
        self._counter = 0

    def numbers(self, count: int) -> list[int]:
        """Make `count` ids as 128-bit numbers, ascending."""
        with self._lock:
            noise = self._random_bytes(4 * count)
            self._follow_clock()
            made = []
            for at in range(0, 4 * count, 4):
                if self._counter == _COUNTER_MAX:
                    # Never seen, yet RFC 9562 has an answer: borrow from the time.
                    self._time_ms, self._counter = self._time_ms + 1, 0
                self._counter += 1
                made.append(
                    self._time_ms << 80
                    | self._counter >> 30 << 64
                    | (self._counter & 0x3FFF_FFFF) << 32
                    | int.from_bytes(noise[at : at + 4])
                    | _VERSION_AND_VARIANT
                )
        return made

    def _follow_clock(self) -> None:
        now_ms = self._clock_ms()
        if self._time_ms - CLOCK_STEP_BACK_MS_MAX <= now_ms <= self._time_ms:
            return
        self._time_ms = now_ms
        self._counter = int.from_bytes(self._random_bytes(8)) & _SEED_MASK


_maker = IdMaker()


def _begin_afresh() -> None:
    """Give a forked child a counter of its own, and a lock that no thread of the parent holds."""
    global _maker
    _maker = IdMaker()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_afresh)


def new_id() -> str:
    """Make one id in the usual text form: lower case, with hyphens."""
    return new_ids(1)[0]


def new_ids(count: int) -> list[str]:
    """Make `count` ids in text form, ascending."""
    return [_text(f"{number:032x}") for number in _maker.numbers(count)]


def new_ids16(count: int) -> list[bytes]:
    """Make `count` ids of 16 bytes each, ascending: the form that rows for `Ledger.submit_rows` have."""
    return [number.to_bytes(16) for number in _maker.numbers(count)]


def as_text(id16: bytes) -> str:
    """Write an id of 16 bytes in text form."""
    assert len(id16) == 16, id16
    return _text(id16.hex())


def _text(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

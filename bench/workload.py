"""The work that every benchmark gives to a ledger: single-posting transactions between random pairs of 10,000 accounts.

All from a seed, so that two runs do the same. Ids ascend, as those of clients with good clocks do.
"""

import random
import time
from collections.abc import Iterator, Sequence

from bench.ids import uuid7_bytes
from fivenines.ledger import Batch, OpenAccount, PostOne, RegisterAsset

__all__ = ["ACCOUNTS", "ASSET", "BATCH_SIZE", "MIN_BALANCE", "account_names", "opening", "transfers"]

ACCOUNTS = 10_000
ASSET = "EUR/2"
BATCH_SIZE = 8_000
MIN_BALANCE = -(10**12)
"""Each transaction's overdraft check is made against it, and none is refused: what is measured is money that moves."""

WRITER = bytes(16)
SALT = 5


def account_names(count: int) -> list[str]:
    """Return `bench:000001` and so on."""
    return [f"bench:{number:06d}" for number in range(1, count + 1)]


def opening(names: Sequence[str]) -> Iterator[Batch]:
    """Yield frames that open the accounts."""
    now_us = time.time_ns() // 1_000
    yield Batch(WRITER, 1, now_us, [RegisterAsset(ASSET)])
    for sequence, start in enumerate(range(0, len(names), BATCH_SIZE), start=2):
        part = names[start : start + BATCH_SIZE]
        yield Batch(WRITER, sequence, now_us, [OpenAccount(name, ASSET, MIN_BALANCE) for name in part])


def transfers(names: Sequence[str], *, batches: int, size: int = BATCH_SIZE, seed: int = 1) -> Iterator[Batch]:
    """Yield frames of 8,000 transactions of one posting each, or of another `size`."""
    chance = random.Random(seed)
    for number in range(batches):
        pairs = [chance.sample(names, 2) for _ in range(size)]
        yield frame(
            number * size, number, [(source, destination, chance.randint(1, 1_000)) for source, destination in pairs]
        )


def ring(names: Sequence[str]) -> Iterator[Batch]:
    """Yield frames in which each account pays the next one, so that each has both totals."""
    for number, start in enumerate(range(0, len(names), BATCH_SIZE)):
        sources = range(start, min(start + BATCH_SIZE, len(names)))
        yield frame(start, number, [(names[source - 1], names[source], 1_000 + source) for source in sources])


def frame(counter: int, number: int, postings: Sequence[tuple[str, str, int]]) -> Batch:
    """Make a frame of transactions of one posting each; they are counted from `counter`, and frames from 0."""
    now_us = time.time_ns() // 1_000
    commands = [
        PostOne(uuid7_bytes(now_us // 1_000, SALT, counter + index), source, destination, amount)
        for index, (source, destination, amount) in enumerate(postings)
    ]
    return Batch(WRITER, 1_000_000 + number, now_us, commands)

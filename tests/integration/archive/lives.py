"""Lives of a small ledger as frames, and archives of them."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fivenines.historian.follower import Follower
from fivenines.journal import Frame
from fivenines.journal.archive import SegmentName, SnapshotName, Store, pack_segment, pack_snapshot
from fivenines.journal.format import DIGEST_NONE, frame_digest
from fivenines.ledger import (
    Batch,
    Command,
    Hold,
    OpenAccount,
    Post,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
    State,
    digest,
    encode,
)
from fivenines.node import snapshots

START_US = 1_700_000_000_000_000


@dataclass
class Life:
    """Frames, and what the ledger was after each."""

    frames: list[Frame] = field(default_factory=list)
    digests: dict[int, bytes] = field(default_factory=dict)
    times_us: dict[int, int] = field(default_factory=dict)
    outcomes: dict[int, bytes] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)
    """A snapshot file of some positions."""

    def before(self, position: int) -> bytes:
        return self.frames[position - 2].digest if position > 1 else DIGEST_NONE


def make_life(directory: Path, *, frames: int = 60, seed: int = 1, snapshots_at: Iterable[int] = (20, 40)) -> Life:
    """Live for so many frames, one a second."""
    chance = random.Random(seed)
    life, follower = Life(), Follower(State(), DIGEST_NONE)
    before, time_us = DIGEST_NONE, START_US
    holds: list[bytes] = []
    for position in range(1, frames + 1):
        time_us += 1_000_000
        payload = encode(Batch(b"w" * 16, position, time_us, _commands(chance, position, time_us, holds)))
        before = frame_digest(position, before, payload)
        frame = Frame(position, payload, before)
        follower.step(frame)
        life.frames.append(frame)
        life.digests[position] = digest(follower.state)
        life.times_us[position] = follower.state.time_us
        life.outcomes[position] = follower.state.outcomes_digest
        if position in snapshots_at:
            path = snapshots.write(directory, follower.state, before)
            life.files[position] = path.read_bytes()
            path.unlink()
    return life


def _commands(chance: random.Random, position: int, time_us: int, holds: list[bytes]) -> list[Command]:
    if position == 1:
        return [RegisterAsset("EUR/2"), *(OpenAccount(f"a:{n}", "EUR/2", None) for n in range(8))]

    def id() -> bytes:
        return (
            (time_us // 1000).to_bytes(6, "big")
            + (0x7000 | chance.getrandbits(12)).to_bytes(2, "big")
            + (1 << 63 | chance.getrandbits(62)).to_bytes(8, "big")
        )

    def posting() -> Posting:
        source, destination = chance.sample(range(8), 2)
        return Posting(f"a:{source}", f"a:{destination}", chance.randint(1, 1_000))

    found: list[Command] = []
    for _ in range(chance.randint(1, 6)):
        kind = chance.random()
        if kind < 0.5:
            each = posting()
            found.append(PostOne(id(), each.source, each.destination, each.amount))
        elif kind < 0.7:
            found.append(Post(id(), (posting(), posting()), reference=f"r{position}", metadata=b'{"k":1}'))
        elif kind < 0.85 or not holds:
            found.append(hold := Hold(id(), (posting(),), timeout_us=chance.choice([None, 5_000_000])))
            holds.append(hold.id)
        elif kind < 0.95:
            found.append(Settle(id(), chance.choice(holds)))
        else:
            found.append(Release(id(), chance.choice(holds)))
    return found


def archive_life(store: Store, life: Life, *, size: int = 7, epoch: int = 1, first: int = 1, last: int = 0) -> None:
    """Write segments of `size` frames, and the snapshots."""
    last = last or len(life.frames)
    for begin in range(first, last + 1, size):
        some = life.frames[begin - 1 : min(begin - 1 + size, last)]
        name = SegmentName(epoch, begin, some[-1].position)
        store.put(str(name), pack_segment(some, life.before(begin), life.outcomes[name.last]))
    for position, file in life.files.items():
        if first <= position <= last:
            store.put(str(SnapshotName(epoch, position, life.times_us[position])), pack_snapshot(file))

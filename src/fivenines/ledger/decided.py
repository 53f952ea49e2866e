"""The memory of decided ids: which ids were decided, how, where, and (as a fingerprint) with what content.

An id that was decided stays decided, so this memory is asked at every transaction and holds one entry for each id of
the whole retention window. It is kept sorted throughout:

    blocks (oldest)  ...  blocks  |  tail (newest)  |  top

- A UUIDv7 starts with its own time, so that most ids arrive in ascending order. An id above `top`, the highest that was
  ever seen, was surely not decided before: one comparison settles it, and it is appended to the `tail`, three plain
  lists. The state machine does just that in its hot loop, without a call.
- Any other id is looked up by bisection, and put where it belongs at the end of the frame. Where nodes in several
  regions decide arrays at once, most arrays are late as a whole: so between two neighbours one bisection does for all
  ids that fall there, and a run of them is inserted at once.
- When the tail grows long its older part is sealed into **blocks**: compact sorted arrays of 22 bytes an id, which the
  garbage collector never sees. A late id may still be inserted into a block; one that grows too large is split.
- Blocks whose last id is older than the retention window are dropped whole, from the front.

The value of an id packs how it ended (6 bits) and a fingerprint of its content (26 bits: the content's hash modulo a
prime). If a client reuses an id for other content, one in 67 million such mistakes goes unnoticed and is answered like
the original; it never moves money. The position is kept as a 32-bit distance from the block's base.

Each step depends on nothing but the ids and their order, so every replica holds the same blocks.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import pairwise
from typing import NamedTuple

__all__ = ["FINGERPRINT_PRIME", "Block", "Decided", "DecidedIds", "pack"]

FINGERPRINT_PRIME = 67_108_859
"""The largest prime below 2^26."""

_ID_BYTES = 16
_BLOCK_IDS = 8_192
_BLOCK_IDS_MAX = 2 * _BLOCK_IDS
_TAIL_IDS_MAX = 32_768
_SEAL_IDS = 3 * _BLOCK_IDS  # leaves the newest quarter open, where clocks that differ a little still insert
_NARROW_MAX = 2**16 - 1
_DISTANCE_MAX = 2**32 - 1  # stands for "this far or farther": the position is then not known any more

assert _SEAL_IDS < _TAIL_IDS_MAX


class Decided(NamedTuple):
    """What is remembered of a decided id."""

    outcome: int
    fingerprint: int
    position: int | None
    """The frame that decided it; None where the memory has lost it."""


def pack(outcome: int, fingerprint: int) -> int:
    """Make the value of an id. A transaction that was simply posted (outcome 0) is packed as its fingerprint."""
    return outcome << 26 | fingerprint


class Block:
    """A sorted run of ids, 22 bytes each, or 24 where their positions lie far apart."""

    __slots__ = ("base", "distances", "ids", "values")

    def __init__(self, ids: bytes | bytearray, values: Iterable[int], distances: Iterable[int], base: int) -> None:
        self.ids = bytearray(ids)
        self.values = array("I", values)
        self.distances = _narrowest(array("I", distances))
        self.base = base

    def __len__(self) -> int:
        return len(self.values)

    @property
    def last(self) -> bytes:
        """The highest id."""
        return bytes(self.ids[-_ID_BYTES:])

    def index(self, id: bytes) -> int:
        """Return the index of the first id that is not below `id`."""
        ids = self.ids
        low, high = 0, len(self.values)
        while low < high:
            middle = (low + high) // 2
            if ids[middle * _ID_BYTES : middle * _ID_BYTES + _ID_BYTES] < id:
                low = middle + 1
            else:
                high = middle
        return low

    def find(self, id: bytes) -> Decided | None:
        """Return what is remembered of `id`, None if it is not here."""
        index = self.index(id)
        return self.decided_at(index) if self.id_at(index) == id else None

    def decided_at(self, index: int) -> Decided:
        """Return what is remembered of the id at an index."""
        distance = self.distances[index]
        return _unpack(self.values[index], self.base + distance if distance != _DISTANCE_MAX else None)

    def id_at(self, index: int) -> bytes:
        """Return the id at an index."""
        return bytes(self.ids[index * _ID_BYTES : (index + 1) * _ID_BYTES])

    def insert(self, ids: Sequence[bytes], values: Sequence[int], positions: Sequence[int]) -> None:
        """Put ids, which ascend and are not above the last one, where they belong."""
        distances = [_distance(position, self.base) for position in positions]
        if max(distances) > _NARROW_MAX and self.distances.typecode == "H":
            self.distances = array("I", self.distances)
        start = 0
        while start < len(ids):
            index = self.index(ids[start])
            end = _end_of_run(ids, start, self.id_at(index))
            at = index * _ID_BYTES
            self.ids[at:at] = b"".join(ids[start:end])
            self.values[index:index] = array("I", values[start:end])
            self.distances[index:index] = array(self.distances.typecode, distances[start:end])
            start = end

    def split(self) -> list["Block"]:
        """Return parts of about equal length."""
        parts = len(self) // _BLOCK_IDS
        bounds = [len(self) * part // parts for part in range(parts + 1)]
        return [
            Block(
                self.ids[start * _ID_BYTES : end * _ID_BYTES],
                self.values[start:end],
                self.distances[start:end],
                self.base,
            )
            for start, end in pairwise(bounds)
        ]


class DecidedIds:
    """The decided ids of one retention window. The names without an underscore are for the state machine's hot loop."""

    __slots__ = (
        "_gap_from",
        "_gap_to",
        "_lasts",
        "_late",
        "blocks",
        "tail_ids",
        "tail_positions",
        "tail_values",
        "top",
    )

    def __init__(self) -> None:
        self.top: bytes = b""
        """No decided id is above it. It never falls."""
        self.tail_ids: list[bytes] = []
        self.tail_values: list[int] = []
        self.tail_positions: list[int] = []
        self.blocks: list[Block] = []
        self._lasts: list[bytes] = []  # the last id of each block, to bisect
        self._late: dict[bytes, tuple[int, int]] = {}  # values and positions of ids of this frame that are not yet put
        # Between these two, neither of them included, there is no id in blocks and tail.
        self._gap_from = self._gap_to = b""

    def __len__(self) -> int:
        return sum(map(len, self.blocks)) + len(self.tail_ids) + len(self._late)

    def find(self, id: bytes) -> Decided | None:
        """Return what is remembered of `id`, None if it was not decided or has left the retention window."""
        if id > self.top:
            return None
        found, _, _ = self._look(id)
        if found is not None:
            return found
        late = self._late.get(id)
        return None if late is None else _unpack(*late)

    def seek(self, id: bytes) -> Decided | None:
        """Do what `find` does, for whoever decides: several ids with the same neighbours are looked for once.

        It remembers where there was nothing, so nobody else may call it: a reader in another thread, who looks while a
        frame is being applied, could remember what is true no more.
        """
        if id > self.top:
            return None
        if not self._gap_from < id < self._gap_to:
            found, below, above = self._look(id)
            if found is not None:
                return found
            self._gap_from, self._gap_to = below, above
        late = self._late.get(id)
        return None if late is None else _unpack(*late)

    def add(self, id: bytes, value: int, position: int) -> None:
        """Remember `id`, which must not be remembered yet."""
        if id > self.top:
            self.top = id
            self.tail_ids.append(id)
            self.tail_values.append(value)
            self.tail_positions.append(position)
        else:
            self._late[id] = (value, position)

    def seal(self) -> None:
        """Put late ids where they belong, and seal the older part of a tail that has grown long.

        To be called after each frame.
        """
        if self._late:
            self._put_late()
        while len(self.tail_ids) > _TAIL_IDS_MAX:
            for start in range(0, _SEAL_IDS, _BLOCK_IDS):
                end = start + _BLOCK_IDS
                positions = self.tail_positions[start:end]
                base = min(positions)
                distances = [position - base for position in positions]
                if max(distances) >= _DISTANCE_MAX:
                    distances = [_distance(position, base) for position in positions]
                self.append_block(
                    Block(b"".join(self.tail_ids[start:end]), self.tail_values[start:end], distances, base)
                )
            del self.tail_ids[:_SEAL_IDS], self.tail_values[:_SEAL_IDS], self.tail_positions[:_SEAL_IDS]

    def append_block(self, block: Block) -> None:
        """Add a block of ids that are all above those of the blocks before it."""
        self.blocks.append(block)
        self._lasts.append(block.last)

    def forget_before(self, horizon: bytes) -> None:
        """Drop what is older than `horizon`, an id; a block that reaches beyond it stays whole for now."""
        gone = bisect_left(self._lasts, horizon)
        if gone:
            del self.blocks[:gone], self._lasts[:gone]

    def entries(self) -> Iterator[tuple[bytes, Decided]]:
        """Yield everything that is remembered, in the order of the ids."""
        late = sorted((id, _unpack(*found)) for id, found in self._late.items())
        yield from merge(self._entries_put(), late)

    def _entries_put(self) -> Iterator[tuple[bytes, Decided]]:
        for block in self.blocks:
            for index in range(len(block)):
                id = block.id_at(index)
                yield id, block.decided_at(index)
        for id, value, position in zip(self.tail_ids, self.tail_values, self.tail_positions, strict=True):
            yield id, _unpack(value, position)

    def _look(self, id: bytes) -> tuple[Decided | None, bytes, bytes]:
        """Look for an id in blocks and tail; return what is there, and else the ids between which nothing is."""
        if self._lasts and id <= self._lasts[-1]:
            number = bisect_left(self._lasts, id)
            block = self.blocks[number]
            index = block.index(id)
            above = block.id_at(index)
            if above == id:
                return block.decided_at(index), b"", b""
            below = block.id_at(index - 1) if index else self._last_before(number)
        else:
            index = bisect_left(self.tail_ids, id)
            if index == len(self.tail_ids):
                return None, b"", b""  # what is above has yet to come
            above = self.tail_ids[index]
            if above == id:
                return _unpack(self.tail_values[index], self.tail_positions[index]), b"", b""
            below = self.tail_ids[index - 1] if index else self._last_before(len(self._lasts))
        return None, below, above

    def _last_before(self, number: int) -> bytes:
        return self._lasts[number - 1] if number else b""

    def _put_late(self) -> None:
        ids = sorted(self._late)
        values, positions = zip(*map(self._late.__getitem__, ids), strict=True)
        self._late = {}
        self._gap_from = self._gap_to = b""
        start = 0
        while self._lasts and start < len(ids) and ids[start] <= self._lasts[-1]:
            number = bisect_left(self._lasts, ids[start])
            end = max(start + 1, bisect_right(ids, self._lasts[number], start))
            self._add_to_block(number, ids[start:end], values[start:end], positions[start:end])
            start = end
        index = 0
        while start < len(ids):
            index = bisect_left(self.tail_ids, ids[start], index)
            end = _end_of_run(ids, start, self.tail_ids[index]) if index < len(self.tail_ids) else len(ids)
            self.tail_ids[index:index] = ids[start:end]
            self.tail_values[index:index] = values[start:end]
            self.tail_positions[index:index] = positions[start:end]
            start = end

    def _add_to_block(self, number: int, ids: Sequence[bytes], values: Sequence[int], positions: Sequence[int]) -> None:
        block = self.blocks[number]
        block.insert(ids, values, positions)
        if len(block) > _BLOCK_IDS_MAX:
            parts = block.split()
            self.blocks[number : number + 1] = parts
            self._lasts[number : number + 1] = [part.last for part in parts]


def _end_of_run(ids: Sequence[bytes], start: int, above: bytes) -> int:
    """Return the end of the ids from `start` on that are below `above`: one at least, as each step must go on."""
    return max(start + 1, bisect_left(ids, above, start))


def _narrowest(distances: "array[int]") -> "array[int]":
    return array("H", distances) if max(distances, default=0) <= _NARROW_MAX else distances


def _unpack(value: int, position: int | None) -> Decided:
    return Decided(value >> 26, value & 0x3FFFFFF, position)


def _distance(position: int, base: int) -> int:
    # A late id may lie before its block's base or, after years, too far behind it: its position is then given up.
    distance = position - base
    return distance if 0 <= distance < _DISTANCE_MAX else _DISTANCE_MAX

"""The chain: what makes one sequence of frames, with positions and digests, of the pieces that etcd holds.

It is a pure state machine: pieces go in, in the order of their etcd revisions, and frames come out. That order is the
same for everybody, so every reader derives the same positions and digests, whether it is told by a watch, reads the
keys, or does first the one and then the other. What it was told before it recognises and ignores, by the piece's number
in its lane; what it was not told it misses at once, as each piece names the one before it.
"""

from msgspec import Struct

from fivenines.journal.etcd.layout import LayoutError, Piece, Place
from fivenines.journal.format import frame_digest
from fivenines.journal.port import Frame, Position

__all__ = ["Chain", "MissedError"]


class MissedError(Exception):
    """Pieces of a lane are missing before this one: whoever told us of it has left something out."""

    def __init__(self, key: bytes, expected: int, previous: int) -> None:
        super().__init__(f"{key.decode(errors='replace')} follows piece {previous}, but the newest known is {expected}")
        self.key = key


class _Lane(Struct):
    newest: int
    """The number of the last piece that was taken."""
    complete: int
    """The number of the last piece of the last whole frame."""
    parts: list[bytes]
    """Of the frame that has begun and is not whole; none when there is none."""


class Chain:
    """The order of frames, from a place on."""

    def __init__(self, place: Place) -> None:
        self.position: Position = place.position
        self.digest = place.digest
        self.bytes = place.bytes
        self.revision = place.revision
        """The revision of the newest frame."""
        self._lanes = {lane: _Lane(number, number, []) for lane, number in place.lanes.items()}

    @property
    def place(self) -> Place:
        """The place after the newest frame. Pieces of a frame that is not whole are after it."""
        return Place(
            position=self.position,
            digest=self.digest,
            bytes=self.bytes,
            revision=self.revision,
            lanes={lane: state.complete for lane, state in self._lanes.items() if state.complete},
        )

    def newest(self, lane: str) -> int:
        """Return the number of the last piece of a lane that was taken, 0 for none."""
        state = self._lanes.get(lane)
        return state.newest if state else 0

    def take(self, key: bytes, lane: str, number: int, piece: Piece, revision: int) -> Frame | None:
        """Take the next piece, and return the frame that it completes, if it does.

        Raises `MissedError` when pieces are missing before it, `LayoutError` when it cannot be where it is. Nothing is
        changed then.
        """
        state = self._lanes.get(lane)
        newest = state.newest if state else 0
        if number <= newest:
            return None
        if piece.previous != newest:
            raise MissedError(key, newest, piece.previous)
        if state is None:
            state = _Lane(0, 0, [])
        if not piece.is_first and not state.parts:
            raise LayoutError(key, "a frame does not begin with its first piece")
        self._lanes[lane] = state
        state.newest = number
        if piece.is_first:
            # What was there before, if anything, was given up by its writer.
            state.parts = []
        state.parts.append(piece.part)
        if not piece.is_last:
            return None
        payload = state.parts[0] if len(state.parts) == 1 else b"".join(state.parts)
        state.parts = []
        state.complete = number
        digest = frame_digest(self.position + 1, self.digest, payload)
        self.position += 1
        self.digest = digest
        self.bytes += len(payload)
        self.revision = revision
        return Frame(self.position, payload, digest)

    def forget(self, lane: str) -> None:
        """Forget a lane that is gone for ever."""
        self._lanes.pop(lane, None)

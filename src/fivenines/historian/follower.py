"""The follower: the ledger's state as a stream of steps, for whoever keeps history.

A historian needs to know what was decided, and frames only say what was asked. So it lives the ledger's life beside
the nodes: it starts from a snapshot, or from nothing, applies each frame, and passes on what the frame did. It writes
nothing to the journal, and no node waits for it.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import NamedTuple

from fivenines.journal import Frame, Journal
from fivenines.ledger import Applied, Batch, State, apply, decode

__all__ = ["Follower", "Step"]


class Step(NamedTuple):
    """One frame, and what it did."""

    frame: Frame
    batch: Batch
    applied: Applied


class Follower:
    """A state, and the frames that carry it on.

    Args:
        state: where to begin; it is changed in place, step by step.
        frame_digest: of the frame at the state's position: the next one must follow from it.
    """

    def __init__(self, state: State, frame_digest: bytes) -> None:
        self.state = state
        self.frame_digest = frame_digest

    def step(self, frame: Frame, batch: Batch | None = None) -> Step:
        """Apply the next frame, with its batch if that is decoded already.

        Raises `CodecError` and `RulesUnsupportedError` as the ledger does.
        """
        assert frame.position == self.state.position + 1, (frame.position, self.state.position)
        batch = batch or decode(frame.payload)
        applied = apply(self.state, batch)
        self.frame_digest = frame.digest
        return Step(frame, batch, applied)

    def replay(self, frames: Iterable[Frame], listener: Callable[[Step], None] = lambda _step: None) -> None:
        """Apply frames one after the other."""
        for frame in frames:
            listener(self.step(frame))

    async def follow(self, journal: Journal) -> AsyncIterator[Step]:
        """Yield the steps from where the state is, waiting for new frames, until the journal is closed.

        Raises what `Journal.follow` raises: `TrimmedError` where the journal begins later.
        """
        async with aclosing(journal.follow(self.state.position + 1)) as frames:
            async for frame in frames:
                yield self.step(frame)

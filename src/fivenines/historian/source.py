"""Where history comes from: the archive as far as it is needed, and the journal from there on."""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice

from fivenines.historian.follower import Follower, Step
from fivenines.journal import Position, SharedJournal, TrimmedError
from fivenines.journal.archive import Archive, MissingFramesError, OtherJournalError
from fivenines.journal.format import frame_digest

__all__ = ["History"]

_FRAMES_AT_ONCE = 64


class History:
    """All frames of a journal's life.

    Args:
        archive: looked at anew whenever the journal no longer has what is needed.
        journal: open.
        epoch: the journal's.
    """

    def __init__(self, archive: Archive, journal: SharedJournal, epoch: int) -> None:
        self.archive = archive
        self.journal = journal
        self.epoch = epoch

    async def steps(self, follower: Follower) -> AsyncIterator[Step]:
        """Yield the steps from where the follower is, and wait for new ones, until the journal is closed.

        Raises:
            MissingFramesError: neither the journal nor any store has the next frame.
            OtherJournalError: the journal's frames do not follow from those that the follower has seen.
            JournalError: what the journal raises while it is followed.
        """
        while True:
            start = follower.state.position + 1
            if start < self.journal.first:
                async for step in self._from_archive(follower, start):
                    yield step
                if follower.state.position < start:
                    raise MissingFramesError(start, self.journal.first - 1, [])
                continue
            try:
                async for step in self._from_journal(follower):
                    yield step
            except TrimmedError:
                if self.journal.failed is not None:
                    raise
            else:
                return

    async def _from_journal(self, follower: Follower) -> AsyncIterator[Step]:
        """Yield steps of the journal's frames, the first of which must follow from what the follower has seen."""
        before = follower.frame_digest
        position = follower.state.position
        if self.journal.last < position:
            raise OtherJournalError(
                f"the archive goes to position {position}, the journal ends at {self.journal.last}: frames that were "
                "acknowledged are missing, or this is another journal"
            )
        if self.journal.last == position and self.journal.last_digest != before:
            raise OtherJournalError(f"the journal's frame {position} is not the one in the archive")
        is_first = True
        async for step in follower.follow(self.journal):
            if is_first and frame_digest(step.frame.position, before, step.frame.payload) != step.frame.digest:
                raise OtherJournalError(
                    f"the journal's frame {step.frame.position} does not follow from frame {position} of the archive"
                )
            is_first = False
            yield step

    async def _from_archive(self, follower: Follower, start: Position) -> AsyncIterator[Step]:
        await asyncio.to_thread(self.archive.look)
        frames = self.archive.read(self.epoch, start, previous_digest=follower.frame_digest)
        while some := await asyncio.to_thread(lambda: list(islice(frames, _FRAMES_AT_ONCE))):
            for frame in some:
                yield follower.step(frame)

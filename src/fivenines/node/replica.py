"""The replica: the journal's frames, applied in order, and everybody who waits for one of them.

It follows the journal and nothing else. A frame that this node wrote comes back like any other; the writer recognises
it, which spares decoding it again and answers the requests in it.
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Callable

from fivenines.journal import Frame, Journal
from fivenines.journal.format import DIGEST_NONE
from fivenines.ledger import Applied, Batch, Decided, State, apply, decode

__all__ = ["PositionTimeoutError", "Replica"]

_LOOK_AGAIN_S = 0.0002


class PositionTimeoutError(Exception):
    """A position was not reached in time. `position` is where the replica is."""

    def __init__(self, wanted: int, position: int) -> None:
        super().__init__(f"position {wanted} was not reached in time; this node is at {position}")
        self.wanted = wanted
        self.position = position


class Replica:
    """The ledger's state, kept at the end of the journal."""

    def __init__(self, state: State, journal: Journal, frame_digest: bytes = DIGEST_NONE) -> None:
        self.state = state
        self.frame_digest = frame_digest
        """The digest of the frame at `state.position`."""
        self._journal = journal
        self._listeners: list[Callable[[Frame, Batch, Applied], None]] = []
        self._batch_of: Callable[[Frame], Batch | None] = lambda _frame: None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._abandoned = 0
        self._order = itertools.count()
        self._position = state.position
        self._steps = 0  # one before a frame is applied and one after: odd while the state changes

    @property
    def position(self) -> int:
        """The position up to which everything is applied."""
        return self._position

    def decision(self, id: bytes) -> Decided | None:
        """Return how a transaction or change was decided, as `State.decision` does. Any thread may call it.

        The state changes on the event loop, and a thread that looks at it may see half of a change. So it looks again
        until nothing was being applied from before its look until after it.
        """
        while True:
            steps = self._steps
            if steps % 2 == 0:
                found = None
                with contextlib.suppress(IndexError):  # of lists that were not yet changed alike
                    found = self.state.decision(id)
                if self._steps == steps:
                    return found
            time.sleep(_LOOK_AGAIN_S)

    def listen(self, listener: Callable[[Frame, Batch, Applied], None]) -> None:
        """Call `listener` after each frame that is applied. It must neither fail nor wait."""
        self._listeners.append(listener)

    def recognise(self, batch_of: Callable[[Frame], Batch | None]) -> None:
        """Ask `batch_of` for the batch of a frame before decoding it."""
        self._batch_of = batch_of

    async def run(self) -> None:
        """Follow the journal until it is closed. What goes wrong here is a bug or a broken machine, and is raised."""
        async for frame in self._journal.follow(self.state.position + 1):
            batch = self._batch_of(frame) or decode(frame.payload)
            self._steps += 1
            try:
                applied = apply(self.state, batch)
            finally:
                self._steps += 1
            self._position = applied.position
            assert applied.position == frame.position, (applied.position, frame.position)
            self.frame_digest = frame.digest
            for listener in self._listeners:
                listener(frame, batch, applied)
            while self._waiting and self._waiting[0][0] <= applied.position:
                reached = heapq.heappop(self._waiting)[2]
                if not reached.done():
                    reached.set_result(None)

    async def wait_position(self, position: int, timeout_s: float) -> None:
        """Wait until `position` is applied.

        Raises:
            PositionTimeoutError: it was not within `timeout_s`.
        """
        if position <= self._position:
            return
        reached = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (position, next(self._order), reached))
        try:
            async with asyncio.timeout(timeout_s):
                await reached
        except TimeoutError:
            raise PositionTimeoutError(position, self._position) from None
        finally:
            if reached.cancelled():
                self._forget_abandoned()

    def stop_waiting(self) -> None:
        """Tell everybody who waits for a position that it was not reached in time."""
        for wanted, _, reached in self._waiting:
            if not reached.done():
                reached.set_exception(PositionTimeoutError(wanted, self._position))
        self._waiting.clear()
        self._abandoned = 0

    def _forget_abandoned(self) -> None:
        """Let go of those who no longer wait, once they are the most: for a far position they would pile up."""
        self._abandoned += 1
        if 2 * self._abandoned > len(self._waiting):
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapq.heapify(self._waiting)
            self._abandoned = 0

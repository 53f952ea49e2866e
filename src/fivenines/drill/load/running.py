"""A load that runs: a process of its own, from its start to the last answer.

    load = RunningLoad(Plan(url=..., shape=Steady(rate_per_s=300)), folder / "load.log")
    await load.start()
    ...                                   # break something
    await load.wait_ended(time.monotonic())
    await load.stop()                     # or `discard`, whatever happened
    load.asked                            # every request and every answer

The load is open: a request goes out when its time has come, not when the one before was answered. So a pause cannot
hide behind requests that were never made, and a latency counts from the time at which its request was due.

It is a process of its own, so that what a drill does meanwhile is not taken for a slow ledger. It says on stdout when
it began, then each `Asked` as it ends, a line of JSON each; it ends when it is told to, when its plan is over, or when
whoever started it is gone.
"""

import asyncio
import time
from itertools import count
from pathlib import Path

from fivenines.drill.load.asked import Asked
from fivenines.drill.load.plan import Plan
from fivenines.drill.load.process import LoadProcess

__all__ = ["LoadFailedError", "RunningLoad"]

_LOOK_S = 0.1


class LoadFailedError(Exception):
    """The load could not be begun, or ended by itself; the sentence has what it said last."""


class RunningLoad:
    """A load that runs.

    Args:
        plan: what to do.
        log: the file for what goes wrong with it.
    """

    def __init__(self, plan: Plan, log: Path) -> None:
        self.plan = plan
        self.asked: list[Asked] = []
        """Requests that have ended, in the order of their ends."""
        self.began = 0.0
        """When the load began, on the monotonic clock: the times of its shape count from then."""
        self._process = LoadProcess("fivenines.drill.load", Asked, self.asked.append, log=log, failed=LoadFailedError)
        self._is_stopping = False

    async def start(self) -> None:
        """Begin, and return when requests go out.

        Raises:
            ValueError: the plan makes no sense.
            LoadFailedError: it does not begin.
        """
        self.plan.check()
        self.began = await self._process.start(self.plan)

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    async def stop(self) -> None:
        """Ask nothing more, and return when all that was asked has ended. Raises `LoadFailedError`."""
        self._is_stopping = True
        self._process.ask_no_more()
        await self._process.wait()

    async def wait_over(self) -> None:
        """Return when the plan is over and all that was asked has ended. Raises `LoadFailedError`."""
        await self._process.wait()

    async def wait_ended(self, moment: float) -> None:
        """Wait until that moment of the monotonic clock is over, and all that was due before it has ended.

        Raises:
            LoadFailedError: the load ended by itself before, and not because its plan was over.
        """
        due, wanted = self.plan.due(), 0
        following = next(due, None)
        heard, looked_at = 0, 0
        while True:
            is_over = self._process.is_over
            while following is not None and self.began + following < moment:
                wanted, following = wanted + 1, next(due, None)
            # Each is looked at once, so that a long load does not take ever longer to look at.
            for index in count(looked_at):
                if index >= len(self.asked):
                    looked_at = index
                    break
                heard += self.asked[index].due < moment
            if time.monotonic() >= moment and heard >= wanted:
                return
            if is_over:
                if not self._is_stopping:
                    await self._process.wait()
                if heard >= wanted and following is None:
                    return
                raise self._process.failed("ended by itself")
            await asyncio.sleep(_LOOK_S)

    async def discard(self) -> None:
        """Leave no process behind."""
        await self._process.discard()

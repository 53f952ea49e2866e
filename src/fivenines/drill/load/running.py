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
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from itertools import count
from pathlib import Path

import msgspec

from fivenines.drill.load.asked import Asked
from fivenines.drill.load.plan import Plan
from fivenines.platform.local.dying import dying_with_us

__all__ = ["LoadFailedError", "RunningLoad"]

_START_S_MAX = 60.0
_LOOK_S = 0.1
_LINE_BYTES_MAX = 1024 * 1024


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
        self._log = log
        self._process: Process | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Begin, and return when requests go out.

        Raises:
            ValueError: the plan makes no sense.
            LoadFailedError: it does not begin.
        """
        self.plan.check()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*dying_with_us(), sys.executable, "-m", "fivenines.drill.load"),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,
                limit=_LINE_BYTES_MAX,
            )
        assert self._process.stdout is not None and self._process.stdin is not None  # noqa: PT018
        try:
            async with asyncio.timeout(_START_S_MAX):
                # Not as an argument: that is 128 KiB at most, and a day of a trace is more.
                self._process.stdin.write(msgspec.json.encode(self.plan) + b"\n")
                self._process.stdin.close()
                line = await self._process.stdout.readline()
        except (TimeoutError, ConnectionError):
            line = b""
        if not line:
            await self.discard()
            raise self._failed("did not begin")
        self.began = float(line)
        self._hearing = asyncio.create_task(self._hear(), name="hearing of the load")

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    async def stop(self) -> None:
        """Ask nothing more, and return when all that was asked has ended. Raises `LoadFailedError`."""
        assert self._process is not None and self._hearing is not None  # noqa: PT018
        self._is_stopping = True
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        await self._end()

    async def wait_over(self) -> None:
        """Return when the plan is over and all that was asked has ended. Raises `LoadFailedError`."""
        await self._end()

    async def _end(self) -> None:
        assert self._process is not None and self._hearing is not None  # noqa: PT018
        await asyncio.shield(self._hearing)
        if (status := await self._process.wait()) != 0:
            raise self._failed(f"ended with status {status}")

    async def wait_ended(self, moment: float) -> None:
        """Wait until that moment of the monotonic clock is over, and all that was due before it has ended.

        Raises:
            LoadFailedError: the load ended by itself before, and not because its plan was over.
        """
        assert self._hearing is not None
        due, wanted = self.plan.due(), 0
        following = next(due, None)
        heard, looked_at = 0, 0
        while True:
            is_over = self._hearing.done()
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
                    await self._end()
                if heard >= wanted and following is None:
                    return
                raise self._failed("ended by itself")
            await asyncio.sleep(_LOOK_S)

    async def discard(self) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)

    async def _hear(self) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: PT018
        decoder = msgspec.json.Decoder(Asked)
        while (line := await self._process.stdout.readline()).endswith(b"\n"):
            self.asked.append(decoder.decode(line))

    def _failed(self, what: str) -> LoadFailedError:
        said = self._log.read_bytes()[-2_000:].decode(errors="replace").strip()
        return LoadFailedError(f"the load {what}. It said last:\n{said or '(nothing)'}")

"""A load's process, seen from the one who started it: it says when it began, and then each request as it ends.

It is a process of its own so that what a drill does meanwhile is not taken for a slow ledger. It is told what to do by
one line of JSON on its stdin, tells by lines on its stdout, stops asking on SIGTERM, and dies with us however we end.
"""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from fivenines.platform.local.dying import dying_with_us

__all__ = ["LoadProcess"]

A = TypeVar("A")

_LINE_BYTES_MAX = 1024 * 1024


class LoadProcess(Generic[A]):
    """The process of a load.

    Args:
        module: what Python runs.
        kind: what each line says, in JSON.
        heard: called with each request that has ended.
        log: the file for what goes wrong with it.
        failed: makes the error that tells so.
        start_s_max: how long it may take until requests go out, in seconds.
        folder: where it runs; None: where we do.
    """

    def __init__(
        self,
        module: str,
        kind: type[A],
        heard: Callable[[A], None],
        *,
        log: Path,
        failed: Callable[[str], Exception],
        start_s_max: float = 60.0,
        folder: Path | None = None,
    ) -> None:
        self._module, self._decoder, self._heard = module, msgspec.json.Decoder(kind), heard
        self._log, self._error, self._start_s_max, self._folder = log, failed, start_s_max, folder
        self._process: Process | None = None
        self._hearing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be heard."""
        assert self._hearing is not None, "it was not started"
        return self._hearing.done()

    async def start(self, plan: object) -> float:
        """Begin, and return the moment of the monotonic clock that it began at. Raises what `failed` makes."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*dying_with_us(), sys.executable, "-m", self._module),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,
                limit=_LINE_BYTES_MAX,
                cwd=self._folder,
            )
        assert self._process.stdout is not None and self._process.stdin is not None  # noqa: PT018
        try:
            async with asyncio.timeout(self._start_s_max):
                # Not as an argument: that is 128 KiB at most, and a day of a trace is more.
                self._process.stdin.write(msgspec.json.encode(plan) + b"\n")
                self._process.stdin.close()
                line = await self._process.stdout.readline()
        except (TimeoutError, ConnectionError):
            line = b""
        if not line:
            await self.discard()
            raise self.failed("did not begin")
        self._hearing = asyncio.create_task(self._hear(), name="hearing of the load")
        return float(line)

    def ask_no_more(self) -> None:
        """Have it ask nothing more."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def wait(self) -> None:
        """Return when all that was asked has ended, and the process with it. Raises what `failed` makes."""
        assert self._process is not None and self._hearing is not None  # noqa: PT018
        await asyncio.shield(self._hearing)
        if (status := await self._process.wait()) != 0:
            raise self.failed(f"ended with status {status}")

    async def discard(self) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)

    def failed(self, what: str) -> Exception:
        """Make the error that tells what happened to it, with what it said last."""
        said = self._log.read_bytes()[-2_000:].decode(errors="replace").strip()
        return self._error(f"the load {what}. It said last:\n{said or '(nothing)'}")

    async def _hear(self) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: PT018
        # What a killed process had begun to say is no line.
        while (line := await self._process.stdout.readline()).endswith(b"\n"):
            self._heard(self._decoder.decode(line))

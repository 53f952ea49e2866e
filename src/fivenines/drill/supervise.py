"""Run the ledger as a process of its own: start it, kill it without warning, start it again, stop it cleanly.

The process is `python -m fivenines serve`, the same that a user starts. It is a session of its own, so that Ctrl-C in a
terminal reaches the drill alone, which then ends it; and whichever way the drill ends, a kill of its own included where
`dying_with_us` can, the process is gone afterwards.
"""

import asyncio
import atexit
import contextlib
import os
import signal
import sys
from pathlib import Path

import msgspec

from fivenines.platform.local.dying import dying_with_us

__all__ = ["LedgerFailedError", "LedgerProcess", "Ready"]

_LOG_TAIL_BYTES = 2_000


class LedgerFailedError(Exception):
    """The ledger did not start, or ended without having been told to; the sentence ends with what it logged last."""


class Ready(msgspec.Struct, frozen=True):
    """What the ledger says as soon as it serves, and which process that is."""

    url: str
    position: int = 0
    name: str = "the ledger"
    pid: int = 0


class LedgerProcess:
    """One ledger on this machine, as a process. Not to be shared by threads.

    Args:
        data: the folder of its journal and snapshots; an attribute too.
        log: the file to which all its processes append what they log.
        options: further options of `fivenines serve`.
        start_s_max: how long a start may take.
        name: what it is called, for people.
        program: what Python runs, with the command and the options as its arguments; a test may give one that is up
            to no good.
        command: which command of ours it is; one that takes `--data` and `--port` and says when it is ready.
    """

    def __init__(
        self,
        data: Path,
        *,
        log: Path,
        options: tuple[str, ...] = (),
        start_s_max: float = 60.0,
        name: str = "the ledger",
        program: tuple[str, ...] = ("-m", "fivenines"),
        command: str = "serve",
    ) -> None:
        self._command = command
        self._name, self._program = name, program
        self.data, self._log, self._options, self._start_s_max = data, log, options, start_s_max
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    @property
    def pid(self) -> int | None:
        """The process id, None when none runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> Ready:
        """Start it and wait until it serves: the first time on a free port, from then on on the same one.

        Raises:
            LedgerFailedError: it ended, or did not serve in time.
        """
        assert self.pid is None, "the ledger runs already"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*dying_with_us(), sys.executable, *self._program, self._command, "--json"),
                *("--data", str(self.data), "--port", str(self._port), *self._options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.kill)
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(self._start_s_max):
                line = await self._process.stdout.readline()
            ready = msgspec.json.decode(line, type=Ready)
        except TimeoutError:
            await self.discard()
            raise self._failed(f"did not serve within {self._start_s_max:g} s") from None
        except msgspec.MsgspecError:
            await self.discard()
            raise self._failed("did not start") from None
        self._port = int(ready.url.rpartition(":")[2])
        return msgspec.structs.replace(ready, name=self._name, pid=self._process.pid)

    def kill(self) -> None:
        """End it with SIGKILL, now, without warning; nothing happens when none runs."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and asyncio was not told yet
                os.kill(pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until the process has ended, by whatever cause, and return its status: below 0 a signal's number."""
        assert self._process is not None
        status = await self._process.wait()
        atexit.unregister(self.kill)
        return status

    async def stop(self, *, stop_s_max: float = 60.0) -> None:
        """Ask it to stop, by SIGTERM, and wait until it has.

        Raises:
            LedgerFailedError: it did not end in time, or not with status 0.
        """
        assert self._process is not None
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(stop_s_max):
                status = await self.wait()
        except TimeoutError:
            await self.discard()
            raise self._failed(f"did not stop within {stop_s_max:g} s") from None
        if status != 0:
            raise self._failed(f"ended with status {status} when it was asked to stop")

    async def discard(self) -> None:
        """Leave no process behind."""
        if self._process is not None:
            self.kill()
            await self.wait()

    def died(self, status: int) -> LedgerFailedError:
        """Say that it ended by itself."""
        return self._failed(f"ended by itself, with status {status}")

    def _failed(self, what: str) -> LedgerFailedError:
        logged = self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return LedgerFailedError(f"{self._name} {what}. It logged last:\n{logged or '(nothing)'}")

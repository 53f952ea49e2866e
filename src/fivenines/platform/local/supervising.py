"""One workload: started, asked how it is, begun again when it ends, drained and stopped in the right order.

`Workload.run` is its whole life. A process that ends by itself is begun again after a wait that doubles up to ten
seconds, and at once if it had been well for a while. A stop that is asked for goes: out of the edge, wait until what is
in flight there is done, SIGTERM (the process finishes what it has and closes idle connections), SIGKILL if it does not
end. That is why a rolling restart fails no request.

One process at a time: whoever ends it to stop, restart or replace it holds off the next one until that is done. What a
service leaves behind in its process group is ended too, or it would keep the port from the next one. Our own parts are
spared that: a node's snapshot may be written to its end by a child that outlives the node.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, Protocol

from fivenines.control.observed import WorkloadSeen
from fivenines.platform.local.logs import PlatformLog
from fivenines.platform.local.probing import Prober
from fivenines.platform.local.processes import end_group
from fivenines.platform.local.program import Probe, Program

__all__ = ["EdgeSide", "NoEdge", "NotEmptiedError", "Workload"]

State = Literal["waiting", "starting", "ready", "unready", "draining", "stopping", "stopped", "backoff"]

_BACKOFF_S_MIN = 0.2
_BACKOFF_S_MAX = 10.0
_WELL_S = 10.0
"""A process that was ready for so long is begun again at once when it ends."""
_STARTUP_LOOK_S = 0.1
_HUNG_S = 2.0
"""What fails its liveness gets so long to end by SIGTERM: it is most likely past hearing it."""
_DRAIN_LOOK_S = 0.05
_EMPTYING_TRIES = 5
_EMPTYING_LOOK_S = 0.2
_LINE_BYTES_MAX = 64 * 1024


class NotEmptiedError(Exception):
    """A workload's folder could not be emptied. It is not begun before it is, and that is tried again."""


class EdgeSide(Protocol):
    """What a workload has to do with the edge of its region."""

    async def ready(self, program: Program) -> None:
        """Let it have traffic."""

    async def drain(self, program: Program) -> None:
        """Send it nothing new."""

    async def in_flight(self, program: Program) -> int:
        """Return how many requests it still has."""


class NoEdge:
    """For workloads that no edge knows."""

    async def ready(self, program: Program) -> None:
        """Do nothing."""

    async def drain(self, program: Program) -> None:
        """Do nothing."""

    async def in_flight(self, program: Program) -> int:  # noqa: ARG002
        """Return 0."""
        return 0


class Workload:
    """One process under supervision. Everything happens on one event loop.

    Args:
        program: what to run.
        edge: what knows its traffic.
        log: gets what it says, and what happens to it.
        prober: asks it.
        gate: is awaited before each start.
        before: what stands before every command; another program, that becomes it.
    """

    def __init__(
        self,
        program: Program,
        *,
        edge: EdgeSide,
        log: PlatformLog,
        prober: Prober,
        gate: Callable[[], Awaitable[None]],
        before: tuple[str, ...] = (),
    ) -> None:
        self.program = program
        self._edge, self._log, self._prober, self._gate, self._before = edge, log, prober, gate, before
        self._state: State = "waiting"
        self._since = time.time()
        self._reason = ""
        self._restarts = 0
        self._process: Process | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._is_drained = False
        self._is_planned = False
        """Whether the process ends because it was asked to."""
        self._is_to_be_emptied = False
        """Whether it must not begin before its folder is empty."""
        self._busy = asyncio.Lock()
        """Held by whoever stops, restarts or drains it."""
        self._beginning = asyncio.Lock()
        """Held while a process is begun, and by whoever wants none to begin meanwhile."""
        self._group: int | None = None
        """Where what the process has started may be left, until that is ended."""
        self._ending_group = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._swapped = asyncio.Event()
        """Set when another process has taken over from the one before."""

    def seen(self) -> WorkloadSeen:
        """Return how it is."""
        program = self.program
        return WorkloadSeen(
            name=program.name,
            role=program.role,
            state=self._state,
            since=self._since,
            pid=self.pid,
            restarts=self._restarts,
            reason=self._reason,
            address=program.address,
            is_drained=self._is_drained,
        )

    @property
    def pid(self) -> int | None:
        """The process id, None when none runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self) -> None:
        """Keep it running until it is stopped."""
        failures = 0
        while not self._is_stopping:
            await self._become("waiting", f"waits for the {self.program.needs}" if not failures else self._reason)
            await self._gate()
            ended, was_well = await self._live()
            if self._has_been_stopped():
                break
            if self._is_planned:
                failures = 0
                continue
            failures = 0 if was_well else failures + 1
            wait_s = min(_BACKOFF_S_MAX, _BACKOFF_S_MIN * 2**failures)
            self._log.event(self.program.name, "workload.ended", reason=ended, again_in_s=wait_s)
            self._restarts += 1
            await self._become("backoff", ended)
            await asyncio.sleep(wait_s)
        await self._become("stopped", "")

    async def stop(self) -> None:
        """Drain it and end it, for good."""
        async with self._busy:
            self._is_stopping = True
            async with self._beginning:
                await self._drain_and_end()

    async def restart(self) -> None:
        """Drain it, end it, begin it again, and return when it is ready. Where it can be reloaded, reload it.

        Raises:
            TimeoutError: it did not become ready in time; it is still being tried.
        """
        async with self._busy:
            async with self._beginning:
                if self.program.reload and self.pid is not None:
                    await self._reload()
                else:
                    self._is_planned = True
                    await self._drain_and_end()
            self._restarts += 1
        await self.wait_ready(self.program.startup_s_max)

    async def replace(self, program: Program | None = None) -> None:
        """Begin it again with an empty folder, and return when it is ready.

        Args:
            program: what it is from then on; None: what it was.

        Raises:
            NotEmptiedError: its folder could not be emptied; that, too, is still being tried.
            TimeoutError: it did not become ready in time; it is still being tried.
        """
        async with self._busy, self._beginning:
            self._is_planned = True
            await self._drain_and_end()
            self.program = program or self.program
            self._is_to_be_emptied = True
            self._restarts += 1
            try:
                await self._empty()
            except OSError as error:
                raise NotEmptiedError(
                    f"{self.program.folder} could not be emptied, so {self.program.name} is not begun yet: {error}"
                ) from error
        await self.wait_ready(self.program.startup_s_max)

    async def drain(self) -> None:
        """Take it out of the edge, and return when it has nothing in flight, or after `drain_s_max`."""
        async with self._busy:
            self._is_drained = True
            await self._drain()

    async def undrain(self) -> None:
        """Put it back."""
        async with self._busy:
            self._is_drained = False
            if self._state == "draining":
                await self._become("ready", "")
                await self._edge.ready(self.program)

    async def wait_ready(self, seconds: float) -> None:
        """Return when it is ready. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: self._state == "ready")

    def _has_been_stopped(self) -> bool:
        """Whether it was stopped meanwhile."""
        return self._is_stopping

    async def _live(self) -> tuple[str, bool]:
        """Run the process once. Return why it ended, and whether it had been well for a while."""
        async with self._beginning:
            if self._has_been_stopped():
                return "", False
            self._is_planned = False
            try:
                if self.pid is None:  # else the one before ended while a reload began the next
                    await self._empty()
                    await self._spawn()
            except OSError as error:
                return f"{error.filename or self.program.command[0]}: {error.strerror or error}", False
            except ValueError as error:  # what is no environment, or no command
                return f"{self.program.command[0]}: {error}", False
        process = self._process
        assert process is not None
        began = time.monotonic()
        self._swapped.clear()
        minding = asyncio.create_task(self._mind(), name=f"minding {self.program.name}")
        try:
            while True:
                ending = asyncio.create_task(process.wait())
                swapping = asyncio.create_task(self._swapped.wait())
                try:
                    await asyncio.wait({ending, minding, swapping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ending.cancel()
                    swapping.cancel()
                if self._swapped.is_set():
                    self._swapped.clear()
                    process = self._process or process
                    continue
                if minding.done():
                    await self._end(_HUNG_S)
                    return minding.result(), False
                await self._end_group()
                return _told(process.returncode), time.monotonic() - began > _WELL_S
        finally:
            minding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await minding

    async def _empty(self) -> None:
        """Empty its folder if that is due. Raises OSError: something stays there."""
        folder, tries = self.program.folder, 0
        while self._is_to_be_emptied and folder is not None:
            try:
                await asyncio.to_thread(_empty, folder)
            except OSError:  # a child of the process that has ended may still write there
                tries += 1
                if tries == _EMPTYING_TRIES:
                    raise
                await asyncio.sleep(_EMPTYING_LOOK_S)
            else:
                break
        self._is_to_be_emptied = False

    async def _spawn(self, *more: str) -> Process:
        program = self.program
        await self._become("starting", "") if not more else None
        if program.folder is not None:
            program.folder.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *self._before,
            *program.command,
            *more,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, **program.env, **_further(program.env_file)},
            cwd=program.works_in,
            start_new_session=True,
            limit=_LINE_BYTES_MAX,
        )
        self._process = process
        self._group = process.pid if program.role == "service" else None
        reader = asyncio.create_task(self._read(process), name=f"logs of {program.name}")
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        self._log.event(program.name, "workload.started", pid=process.pid)
        return process

    async def _reload(self) -> None:
        old = self._process
        assert old is not None
        await self._spawn(*self.program.reload, str(old.pid))
        self._swapped.set()
        self._log.event(self.program.name, "workload.reloaded", pid=self.pid, before=old.pid)

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than any line should be
                continue
            if not line:
                return
            self._log.line(self.program.name, line)

    async def _mind(self) -> str:
        """Ask the process how it is for as long as it lives; return why it has to be begun again."""
        program = self.program
        until = time.monotonic() + program.startup_s_max
        while program.startup is not None and (reason := await self._ask(program.startup)):
            if time.monotonic() > until:
                return f"it did not start within {program.startup_s_max:g} s: {reason}"
            await asyncio.sleep(_STARTUP_LOOK_S)
        alive, ready = _Count(program.liveness), _Count(program.readiness)
        is_first = True
        while True:
            reason = await self._ask(program.liveness) if program.liveness else ""
            if alive.says_down(reason):
                return f"it does not live: {reason}"
            reason = await self._ask(program.readiness) if program.readiness else ""
            if ready.says_down(reason) or (is_first and reason):
                await self._turn("unready", reason)
            elif not reason:
                is_first = False
                await self._turn("ready", "")
            probes = [each for each in (program.liveness, program.readiness) if each is not None]
            look_s = min((each.interval_s for each in probes), default=1.0)
            await asyncio.sleep(look_s if self._state != "unready" else min(look_s, 0.25))

    async def _ask(self, probe: Probe) -> str:
        return await self._prober.ask(self.program.host, probe)

    async def _turn(self, state: State, reason: str) -> None:
        """Take note of what readiness says, unless it is being drained or stopped."""
        if self._state in {"draining", "stopping"} or (self._state == state and self._reason == reason):
            return
        if self._state != state:
            self._log.event(self.program.name, f"workload.{state}", reason=reason)
        if state == "ready" and self._is_drained:
            state = "draining"
            await self._edge.drain(self.program)
        elif state == "ready" and self._state != "ready":
            await self._edge.ready(self.program)
        await self._become(state, reason)

    async def _become(self, state: State, reason: str) -> None:
        if state != self._state:
            self._since = time.time()
        self._state, self._reason = state, reason
        async with self._changed:
            self._changed.notify_all()

    async def _drain(self) -> None:
        if self.pid is None or self._state not in {"ready", "unready", "draining"}:
            return
        await self._become("draining", "")
        await self._edge.drain(self.program)
        until = time.monotonic() + self.program.drain_s_max
        while time.monotonic() < until and await self._edge.in_flight(self.program):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_DRAIN_LOOK_S)

    async def _drain_and_end(self) -> None:
        await self._drain()
        await self._become("stopping", "")
        await self._end(self.program.stop_s_max)

    async def _end(self, patience_s: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            await self._end_group()
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.program.stop_signal)
        try:
            async with asyncio.timeout(patience_s):
                await process.wait()
        except TimeoutError:
            self._log.event(self.program.name, "workload.killed", reason=f"it did not stop within {patience_s:g} s")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await self._end_group()

    async def _end_group(self) -> None:
        """End what the process, which has ended, has left behind. Whoever calls this meanwhile waits for it."""
        async with self._ending_group:
            group, self._group = self._group, None
            if group is None:
                return
            if await end_group(group, number=self.program.stop_signal, patience_s=_HUNG_S):
                self._log.event(self.program.name, "workload.children_ended", group=group)


def _empty(folder: Path) -> None:
    """Remove all that is in a folder, which itself may be a link, or the place of a disk. Raises OSError."""
    try:
        found = list(folder.iterdir())
    except FileNotFoundError:
        return
    for each in found:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink(missing_ok=True)


def _further(env_file: Path | None) -> dict[str, str]:
    """Read further environment; what is no line of it is left out."""
    try:
        lines = env_file.read_text().splitlines() if env_file is not None else []
    except OSError:
        return {}
    return {name: value for name, is_one, value in (line.partition("=") for line in lines) if is_one and name}


class _Count:
    """How often in a row a probe has failed."""

    def __init__(self, probe: Probe | None) -> None:
        self._failures_max = probe.failures if probe is not None else 0
        self._failures = 0

    def says_down(self, reason: str) -> bool:
        """Take note of an answer, and return whether it has failed so often that it counts."""
        self._failures = self._failures + 1 if reason else 0
        return bool(reason) and self._failures >= self._failures_max


def _told(status: int | None) -> str:
    if status is not None and status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return f"it ended with status {status}"

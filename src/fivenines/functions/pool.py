"""The processes that run functions: none when nothing happens, more while calls wait, never more than a bound.

A worker runs one call at a time. One that takes too long, or whose call nobody waits for any more, is killed and gone
before that is told: so no two calls that belong in order are ever under way together.
"""

import asyncio
import contextlib
import socket
import sys
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from fivenines.api import Event
from fivenines.functions import wire
from fivenines.functions.port import InvocationError
from fivenines.functions.registry import Context
from fivenines.functions.scaling import Observed, Scaling, to_start

__all__ = ["Pool"]

_log = structlog.get_logger("fivenines.functions")

_LOAD_S_MAX = 60.0
_LEAVE_S_MAX = 2.0
_encode_event = msgspec.json.Encoder().encode


class _Worker:
    """A process, and the socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer
        self.retiring: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, module: str, lock_fds: Sequence[int]) -> "_Worker":
        ours, theirs = socket.socketpair()
        fds = (theirs.fileno(), *lock_fds)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fivenines.functions.worker", module, *map(str, fds)),
                pass_fds=fds,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the runner, who lets functions finish
            )
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, reader, writer)

    async def ask(self, call: wire.Call) -> wire.Message:
        """Send a call, and return the answer. Raises `InvocationError` if the process dies."""
        self._writer.write(wire.encode(call))
        return await self.read()

    async def read(self) -> wire.Message:
        """Return the next message. Raises `InvocationError` if the process dies."""
        try:
            header = await self._reader.readexactly(wire.HEADER.size)
            return wire.decode(await self._reader.readexactly(*wire.HEADER.unpack(header)))
        except (asyncio.IncompleteReadError, OSError):
            status = await self.process.wait()
            raise InvocationError(f"its process ended with status {status}") from None

    async def end(self, *, kill: bool) -> None:
        """End the process, and return when it is gone."""
        self._writer.close()
        if not kill:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_S_MAX):
                    await self.process.wait()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


@dataclass(slots=True)
class _Waiting:
    since_s: float
    worker: asyncio.Future[_Worker]


class Pool:
    """Runs the functions of a module. Is an `Invoker`.

    Args:
        module: the name or the path of the user's module.
        lock_fds: what each worker holds while it lives.
        scaling: how many processes.
        idle_s: a process that had nothing to do for so long ends.
        timeout_s: how long a call may take.
    """

    def __init__(
        self,
        module: str,
        *,
        lock_fds: Sequence[int] = (),
        scaling: Scaling | None = None,
        idle_s: float = 30.0,
        timeout_s: float = 60.0,
    ) -> None:
        self.started = 0
        """How many processes were started."""
        self._module = module
        self._lock_fds = tuple(lock_fds)
        self._scaling = scaling or Scaling()
        self._idle_s = idle_s
        self._timeout_s = timeout_s
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._waiting: deque[_Waiting] = deque()
        self._starting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def processes(self) -> int:
        """How many processes there are, those that start included."""
        return len(self._workers) + self._starting

    async def load(self) -> list[wire.Named]:
        """Start a process only to learn what functions there are. Raises `InvocationError`."""
        worker = await _Worker.start(self._module, self._lock_fds)
        try:
            return await self._loaded(worker)
        finally:
            await worker.end(kill=True)

    async def invoke(self, function: str, event: Event, context: Context) -> None:
        """Run a function; see `Invoker`."""
        worker = await self._take()
        call = wire.Call(
            function, _encode_event(event), context.position, context.item, context.attempt, context.is_replay
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await worker.ask(call)
        except TimeoutError:
            await self._drop(worker)
            raise InvocationError(f"it took longer than {self._timeout_s:g} s") from None
        except BaseException:
            await self._drop(worker)
            raise
        self._give_back(worker)
        if isinstance(answer, wire.Failed):
            raise InvocationError(answer.reason)

    async def close(self) -> None:
        """End all processes."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        workers, self._workers = self._workers, set()
        self._idle.clear()
        for worker in workers:
            if worker.retiring is not None:
                worker.retiring.cancel()
        await asyncio.gather(*(worker.end(kill=True) for worker in workers))

    # --- who runs what -----------------------------------------------------------------------------------------------

    async def _take(self) -> _Worker:
        if self._idle:
            worker = self._idle.pop()  # the one used last, so that those that are not needed end
            assert worker.retiring is not None
            worker.retiring.cancel()
            return worker
        loop = asyncio.get_running_loop()
        waiting = _Waiting(loop.time(), loop.create_future())
        self._waiting.append(waiting)
        self._scale()
        loop.call_later(self._scaling.patience_s, self._scale)
        try:
            return await waiting.worker
        except asyncio.CancelledError:
            if waiting.worker.done() and not waiting.worker.cancelled() and waiting.worker.exception() is None:
                self._give_back(waiting.worker.result())
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def _give_back(self, worker: _Worker) -> None:
        while self._waiting:
            future = self._waiting.popleft().worker
            if not future.done():
                future.set_result(worker)
                return
        worker.retiring = asyncio.get_running_loop().call_later(self._idle_s, self._retire, worker)
        self._idle.append(worker)

    def _retire(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        self._run(self._drop(worker, kill=False))

    async def _drop(self, worker: _Worker, *, kill: bool = True) -> None:
        # It counts until it is gone.
        await asyncio.shield(worker.end(kill=kill))
        self._workers.discard(worker)
        self._scale()

    def _scale(self) -> None:
        now_s = asyncio.get_running_loop().time()
        observed = Observed(
            waiting=len(self._waiting),
            oldest_s=now_s - self._waiting[0].since_s if self._waiting else 0.0,
            processes=self.processes,
            starting=self._starting,
        )
        for _ in range(to_start(self._scaling, observed)):
            self._starting += 1
            self._run(self._start())

    async def _start(self) -> None:
        worker = None
        try:
            worker = await _Worker.start(self._module, self._lock_fds)
            self.started += 1
            await self._loaded(worker)
        except (InvocationError, OSError) as error:
            _log.warning("function.not_loaded", module=self._module, reason=str(error))
            for waiting in self._waiting:
                if not waiting.worker.done():
                    waiting.worker.set_exception(InvocationError(f"{self._module} cannot be loaded: {error}"))
            self._waiting.clear()
            if worker is not None:
                await worker.end(kill=True)
        except asyncio.CancelledError:
            if worker is not None:
                await worker.end(kill=True)
            raise
        else:
            self._workers.add(worker)
            self._give_back(worker)
        finally:
            self._starting -= 1
        self._scale()

    async def _loaded(self, worker: _Worker) -> list[wire.Named]:
        try:
            async with asyncio.timeout(_LOAD_S_MAX):
                said = await worker.read()
        except TimeoutError:
            raise InvocationError(f"the module was not loaded within {_LOAD_S_MAX:g} s") from None
        if isinstance(said, wire.Failed):
            raise InvocationError(said.reason)
        assert isinstance(said, wire.Loaded)
        return said.functions

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

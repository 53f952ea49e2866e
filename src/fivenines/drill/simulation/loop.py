"""An event loop on virtual time: when everybody waits, the clock jumps to whoever waits the shortest.

It runs asyncio code as it is, in one thread, in an order that depends on nothing but the program: no sockets, no
threads, no clock of the machine. What would run in a thread (`asyncio.to_thread`) runs at once instead.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["DeadlockError", "EndlessError", "Process", "VirtualLoop", "run"]

T = TypeVar("T")

_STEP_S = 1e-6
"""What each round of the loop takes. If it took nothing, a deadline that is nearer than what a clock can tell apart
would never come, and whoever looks again until then would do so for ever."""


_ROUNDS_MAX = 300_000
"""A hundred times what a life takes."""


class DeadlockError(Exception):
    """Everybody waits, and nobody for a time: the program would hang for ever."""


class EndlessError(Exception):
    """The program is busy for ever: it has gone on for far longer than any life does."""


class Process:
    """What begins in one process of the many that are simulated, however deep within: so that all of it can be ended.

    Tasks belong to the process in which they are made.
    """

    def __init__(self) -> None:
        self.is_dead = False
        self._tasks: dict[asyncio.Task[Any], None] = {}  # in the order of their making; that of a set is chance

    def begin(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Begin a task in this process."""
        token = _process.set(self)
        try:
            return asyncio.create_task(work, name=name)
        finally:
            _process.reset(token)

    def kill(self) -> None:
        """End all of it at once, and what it begins while it ends."""
        self.is_dead = True
        for task in list(self._tasks):
            task.cancel()

    def take(self, task: "asyncio.Task[Any]") -> None:
        """Have a task belong to this process."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        if self.is_dead:
            task.cancel()

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        del self._tasks[task]


_process: ContextVar[Process | None] = ContextVar("process", default=None)


def _make_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any) -> "asyncio.Task[T]":
    task = asyncio.Task(work, loop=loop, **options)
    if (process := _process.get()) is not None:
        process.take(task)
    return task


class _Jump(selectors.BaseSelector):
    """In the place of waiting for sockets: the clock goes on by as long as there was to wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError
        self._rounds += 1
        if self._rounds > _ROUNDS_MAX:
            self._rounds = 0  # what is cancelled now may end in order
            raise EndlessError
        self.now += max(0.0, timeout) + _STEP_S
        return []

    def register(self, *_: Any) -> selectors.SelectorKey:
        raise AssertionError("there are no sockets in here")

    def unregister(self, *_: Any) -> selectors.SelectorKey:
        raise AssertionError("there are no sockets in here")

    def get_map(self) -> Any:
        return {}


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. Its time starts at zero, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._jump = _Jump()
        self._selector = self._jump  # where BaseEventLoop waits
        self._clock_resolution = 1e-9
        self.set_task_factory(_make_task)  # type: ignore[arg-type]

    def time(self) -> float:
        """Return the virtual time."""
        return self._jump.now

    def run_in_executor(self, _executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Call `func` here and now."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever awaits
            future.set_exception(error)
        return future

    def _process_events(self, _events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a new loop, then cancel what is left."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)

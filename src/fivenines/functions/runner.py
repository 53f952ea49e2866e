"""The runner: a lane for each function of a module, and processes that run them.

How far each function is, and what was given up, is kept in a folder, in SQLite. One runner has the folder at a time:
the lock on it is also held by the workers, so a runner that follows one which was killed waits until those are gone.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from fivenines.functions.conditions import Conditions, ConditionsError
from fivenines.functions.pool import Pool
from fivenines.functions.port import InvocationError, Invoker
from fivenines.functions.registry import Context
from fivenines.functions.scaling import Scaling
from fivenines.historian.feed.lane import Delivery, Lane, LaneSettings, NotDeliveredError
from fivenines.historian.feed.retrying import Retry
from fivenines.historian.feed.source import HttpSource, SharedSource, SourceError, SourceUnavailableError
from fivenines.historian.feed.store import Store
from fivenines.historian.sql.schema import open_engine
from fivenines.journal import JournalLockedError
from fivenines.journal.disk import release_lock, take_lock

__all__ = ["FunctionsError", "RunnerSettings", "lane_of", "open_store", "run_functions"]

_log = structlog.get_logger("fivenines.functions")

_LOCK_S_MAX = 5.0
_PAUSE_S = 1.0
_DATABASE = "functions.sqlite"
_OWNER = "runner"  # there is one at a time: the folder is locked


class FunctionsError(Exception):
    """Functions cannot be run as they are; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """What to run, on which events, and how."""

    module: str
    """Its name, or the path of its file."""
    urls: tuple[str, ...]
    """Of nodes or historians, the nearest first."""
    directory: Path
    after: int | None = None
    """Where a function begins that is new here; None: with what comes from now on."""
    scaling: Scaling = field(default_factory=Scaling)
    idle_s: float = 30.0
    timeout_s: float = 60.0
    stop_s_max: float = 20.0
    retry: Retry = field(default_factory=Retry)


def lane_of(function: str) -> str:
    """Return the name of a function's lane."""
    return f"function:{function}"


def open_store(directory: Path) -> Store:
    """Open what a runner keeps in its folder. Raises `StoreUnavailableError`."""
    store = Store(open_engine(f"sqlite:///{directory / _DATABASE}"))
    store.install()
    return store


class _Function:
    """A function, as the target of a lane."""

    def __init__(self, name: str, invoker: Invoker) -> None:
        self._name = name
        self._invoker = invoker

    async def deliver(self, delivery: Delivery) -> None:
        """Call the function. Raises `NotDeliveredError`."""
        key = delivery.key
        context = Context(delivery.event.id, key.position, key.item, delivery.attempt, delivery.is_replay)
        try:
            await self._invoker.invoke(self._name, delivery.event, context)
        except InvocationError as error:
            raise NotDeliveredError(str(error)) from error


async def run_functions(
    settings: RunnerSettings, *, on_ready: Callable[[Sequence[str]], None] = lambda _names: None
) -> None:
    """Run functions until SIGTERM or SIGINT. `on_ready` is called with their names when events are followed.

    Raises:
        FunctionsError: the module cannot be loaded, has no functions, or asks for what cannot be.
        JournalLockedError: another runner has the folder.
        StoreUnavailableError: the folder's database cannot be opened.
        OSError: the folder cannot be had.
    """
    settings.directory.mkdir(parents=True, exist_ok=True)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    lock = await _lock(settings.directory)
    try:
        await _run(settings, lock, stopping, on_ready)
    finally:
        release_lock(lock)


async def _lock(directory: Path) -> tuple[int, ...]:
    """Take the lock; whoever was killed just now has workers that are about to end."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _LOCK_S_MAX
    while True:
        try:
            return take_lock(directory)
        except JournalLockedError:
            if loop.time() > end_s:
                raise
        await asyncio.sleep(0.02)


async def _run(
    settings: RunnerSettings,
    lock: tuple[int, ...],
    stopping: asyncio.Event,
    on_ready: Callable[[Sequence[str]], None],
) -> None:
    pool = Pool(
        settings.module,
        lock_fds=lock,
        scaling=settings.scaling,
        idle_s=settings.idle_s,
        timeout_s=settings.timeout_s,
    )
    try:
        wanted = {each.name: Conditions(each.types, each.where) for each in await pool.load()}
    except (InvocationError, ConditionsError) as error:
        raise FunctionsError(f"{settings.module} cannot be run: {error}") from error
    if not wanted:
        raise FunctionsError(f"{settings.module} has no function that is decorated with fivenines.on(...)")
    store = await asyncio.to_thread(open_store, settings.directory)
    http = HttpSource(*settings.urls)
    source = SharedSource(http)
    scaling = settings.scaling
    try:
        # Each lane begins before anybody is told that events are followed: from then on none is skipped.
        if not await _begin(store, [lane_of(name) for name in wanted], http, settings, stopping):
            return
        lane_settings = LaneSettings(at_once=scaling.processes_max * scaling.calls_per_process, retry=settings.retry)
        lanes = [
            Lane(
                lane_of(name),
                source,
                _Function(name, pool),
                store,
                wanted=conditions.matches,
                owner=_OWNER,
                settings=lane_settings,
            )
            for name, conditions in wanted.items()
        ]
        running = [asyncio.create_task(lane.run(), name=lane.name) for lane in lanes]
        stop = asyncio.create_task(stopping.wait(), name="stop")
        on_ready(sorted(wanted))
        try:
            done, _ = await asyncio.wait({stop, *running}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                task.result()  # a lane ends only by an error of ours
            await asyncio.gather(*(lane.drain(settings.stop_s_max) for lane in lanes))
        finally:
            for task in (stop, *running):
                task.cancel()
            await asyncio.gather(stop, *running, return_exceptions=True)
    finally:
        await source.close()
        await http.close()
        await pool.close()
    _log.info("functions.stopped")


async def _begin(
    store: Store, lanes: Sequence[str], http: HttpSource, settings: RunnerSettings, stopping: asyncio.Event
) -> bool:
    """Make the lanes that are new; return whether they are there, and nobody wants to stop meanwhile."""
    new = set(lanes) - (await asyncio.to_thread(store.cursors)).keys()
    start = settings.after
    while new and start is None:
        try:
            start = await http.end()
        except SourceUnavailableError as error:
            _log.warning("functions.wait", reason=str(error))
        except SourceError as error:
            raise FunctionsError(str(error)) from error
        else:
            break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE_S):
                await stopping.wait()
                return False
    for lane in new:
        assert start is not None
        await asyncio.to_thread(store.begin, lane, start)
    return True

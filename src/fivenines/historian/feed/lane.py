"""A lane: one who gets events, in order for each account, at least once, none skipped.

    reader      takes events from the source, as long as there is room, and puts those that are wanted in order
    dispatcher  hands to the target what may go now, so many at a time
    committer   writes down what came of them, many at a time, and how far everything is done

The cursor moves only behind what is delivered or has become a dead letter, and that is committed together with it. So a
kill at any moment leaves events that are delivered once more, in their order, and none that is not. What is not
committed is bounded, and tries are counted from the start of the process.

When an event is given up, those after it go on. A dead letter that is replayed is put behind all that waits; so
replayed events of an account are in order among themselves, and never under way beside another one of that account.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from fivenines.api import Event
from fivenines.historian.feed.ordering import Key, Order, key_of
from fivenines.historian.feed.retrying import Retry
from fivenines.historian.feed.source import EventSource, SourceError, SourceUnavailableError
from fivenines.historian.feed.store import DeadLetter, LaneLostError, LaneTaken, Store, StoreUnavailableError
from fivenines.node.filters import accounts_of

__all__ = ["Delivery", "Lane", "LaneSettings", "LaneStatus", "NotDeliveredError", "Target"]

_log = structlog.get_logger("fivenines.feed")

_PAGE = 500
_WAIT_S = 20.0
_PAUSE_S = 1.0
_REPLAYS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way."""

    event: Event
    key: Key
    attempt: int
    """From 1 on, since the process started."""
    is_replay: bool


class NotDeliveredError(Exception):
    """The target did not take an event; the message says why."""

    def __init__(self, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Target(Protocol):
    """Where a lane delivers to."""

    async def deliver(self, delivery: Delivery) -> None:
        """Return when the event is taken. Raises `NotDeliveredError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """How a lane delivers."""

    at_once: int = 16
    """How many events are under way at a time; never two of one account."""
    waiting_max: int = 10_000
    """How many may wait behind others; then it reads no more."""
    beyond_max: int = 200_000
    """How many may be done beyond one that is not; then it reads no more, either."""
    retry: Retry = field(default_factory=Retry)
    beat_s: float = 2.0
    """How often it says that it lives, and looks for dead letters to replay."""
    silent_s_max: float = 15.0
    """When it has not said so for so long, another deliverer may take the lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """How a lane is."""

    cursor: int
    """Everything up to this position is delivered, or a dead letter."""
    read: int
    waiting: int
    under_way: int
    failing: int
    """How many wait to be tried again."""
    problem: str | None
    """Why it does not go on now, None if it does."""


@dataclass(slots=True)
class _Item:
    event: Event
    tries: int = 0
    first_s: float = 0.0
    is_replay: bool = False


@dataclass(slots=True)
class _Results:
    """What is to be committed."""

    delivered: list[Key] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    replayed: list[Key] = field(default_factory=list)
    dead_again: list[DeadLetter] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.delivered) + len(self.dead) + len(self.replayed) + len(self.dead_again)


class Lane:
    """Delivers events to one target for as long as it runs.

    Args:
        name: of the lane in the store, where it must be.
        source, target, store: where events come from, go to, and how far they are.
        wanted: which events; the others are passed over.
        owner: who delivers, the same after a restart.
    """

    def __init__(
        self,
        name: str,
        source: EventSource,
        target: Target,
        store: Store,
        *,
        wanted: Callable[[Event], bool],
        owner: str,
        settings: LaneSettings | None = None,
    ) -> None:
        self.name = name
        self._source = source
        self._target = target
        self._store = store
        self._wanted = wanted
        self._owner = owner
        self._settings = settings or LaneSettings()
        self._problem: str | None = "it is starting"
        self._life = _Life()
        self._is_draining = False

    @property
    def status(self) -> LaneStatus:
        """How it is."""
        life = self._life
        return LaneStatus(
            cursor=life.committed,
            read=life.read,
            waiting=len(life.order) - life.under_way,
            under_way=life.under_way,
            failing=sum(bool(item.tries) for item in life.items.values()),
            problem=self._problem,
        )

    @property
    def backlog(self) -> int:
        """How many events could be under way now, or are."""
        return self._life.under_way + self._life.order.free(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Deliver until cancelled. What is in the way, the source or the store, is waited for."""
        while True:
            try:
                await self._live()
            except* (StoreUnavailableError, LaneLostError) as group:
                self._tell(str(_first(group)))
            await asyncio.sleep(_PAUSE_S)

    def _tell(self, reason: str) -> None:
        if reason != self._problem:
            _log.warning("feed.waits", lane=self.name, reason=reason)
        self._problem = reason

    async def drain(self, within_s: float) -> None:
        """Begin no more deliveries, and return when none is under way, or after a time. Then cancel `run`."""
        self._is_draining = True
        life = self._life
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while life.under_way:
                    life.ended.clear()
                    await life.ended.wait()

    async def _live(self) -> None:
        settings = self._settings
        taken = await asyncio.to_thread(
            self._store.take, self.name, self._owner, time.time(), silent_s_max=settings.silent_s_max
        )
        if taken is None:
            self._problem = "another one delivers it"
            return
        self._life = life = _Life(taken)
        self._problem = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(life), name=f"{self.name} reads")
                tasks.create_task(self._dispatch(life, tasks), name=f"{self.name} dispatches")
                tasks.create_task(self._commit_at_intervals(life), name=f"{self.name} commits")
        finally:
            await self._leave(life)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _read(self, life: "_Life") -> None:
        settings = self._settings
        while True:
            while len(life.order) >= settings.waiting_max or len(life.outstanding) >= settings.beyond_max:
                life.room.clear()
                await life.room.wait()
            try:
                await self._read_page(life)
            except SourceError as error:
                # What was read goes on being delivered.
                self._tell(str(error))
                await asyncio.sleep(_PAUSE_S)

    async def _read_page(self, life: "_Life") -> None:
        events, position = await self._source.after(life.read, _PAGE)
        self._problem = None
        for event in events:
            key = _key(event)
            if key in life.done:
                life.done.remove(key)
            elif self._wanted(event):
                life.outstanding.append(key)
                life.add(key, _Item(event))
        life.read = position
        if len(events) < _PAGE:
            await self._source.wait(position, _WAIT_S)

    # --- delivering --------------------------------------------------------------------------------------------------

    async def _dispatch(self, life: "_Life", tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            life.wake.clear()
            # What is done but not committed is bounded: that is what a kill would have delivered again.
            while not self._is_full(life):
                key = life.order.take(loop.time())
                if key is None:
                    break
                life.under_way += 1
                tasks.create_task(self._try(life, key), name=f"{self.name} {key}")
            due_s = None if self._is_full(life) else life.order.due_s()
            try:
                async with asyncio.timeout_at(due_s):
                    await life.wake.wait()
            except TimeoutError:
                pass

    def _is_full(self, life: "_Life") -> bool:
        settings = self._settings
        is_full = life.under_way >= settings.at_once or len(life.results) >= settings.waiting_max
        return is_full or self._is_draining

    async def _try(self, life: "_Life", key: Key) -> None:
        item, now_s = life.items[key], time.time()
        item.first_s = item.first_s or now_s
        item.tries += 1
        try:
            await self._target.deliver(Delivery(item.event, key, item.tries, item.is_replay))
        except NotDeliveredError as error:
            self._failed(life, key, item, error)
        else:
            life.finish(key)
            (life.results.replayed if item.is_replay else life.results.delivered).append(key)
            life.to_commit.set()
        life.under_way -= 1
        life.wake.set()
        life.ended.set()

    def _failed(self, life: "_Life", key: Key, item: _Item, error: NotDeliveredError) -> None:
        retry, now_s = self._settings.retry, time.time()
        if not retry.is_over(item.tries, now_s - item.first_s):
            pause_s = retry.pause_s(item.tries, random.random(), at_least_s=error.retry_after_s)
            _log.info("feed.not_delivered", lane=self.name, id=str(key), tries=item.tries, reason=str(error))
            life.order.put_off(key, asyncio.get_running_loop().time() + pause_s)
            return
        _log.warning("feed.given_up", lane=self.name, id=str(key), tries=item.tries, reason=str(error))
        letter = DeadLetter(key, item.event, item.tries, str(error), int(now_s))
        life.finish(key)
        (life.results.dead_again if item.is_replay else life.results.dead).append(letter)
        life.to_commit.set()

    # --- committing --------------------------------------------------------------------------------------------------

    async def _commit_at_intervals(self, life: "_Life") -> None:
        while True:
            await self._begin_replays(life)
            loop = asyncio.get_running_loop()
            beat_s = loop.time() + self._settings.beat_s
            while loop.time() < beat_s:
                try:
                    async with asyncio.timeout_at(beat_s):
                        await life.to_commit.wait()
                except TimeoutError:
                    break
                life.to_commit.clear()
                await self._commit(life)
            await self._commit(life)

    async def _commit(self, life: "_Life") -> None:
        results, life.results = life.results, _Results()
        life.writing = asyncio.create_task(self._write(life, results, life.cursor()))
        # The cursor of a later commit may pass what this one writes: so it is never left half-way.
        await asyncio.shield(life.writing)

    async def _write(self, life: "_Life", results: _Results, cursor: int) -> None:
        await asyncio.to_thread(
            self._store.commit,
            self.name,
            life.term,
            time.time(),
            cursor=cursor,
            delivered=results.delivered,
            dead=results.dead,
            replayed=results.replayed,
            dead_again=results.dead_again,
        )
        life.committed = cursor
        life.wake.set()
        life.room.set()

    async def _leave(self, life: "_Life") -> None:
        """Write down what is known when the lane stops, unless the store is what stopped it."""
        if life.writing is not None:
            await asyncio.wait({life.writing})
            if life.writing.exception() is not None:
                return
        if len(life.results):
            with contextlib.suppress(StoreUnavailableError, LaneLostError):
                await self._commit(life)

    async def _begin_replays(self, life: "_Life") -> None:
        letters = await asyncio.to_thread(self._store.dead_letters, self.name, limit=_REPLAYS_MAX, only_waiting=True)
        uncommitted = {*life.results.replayed, *(letter.key for letter in life.results.dead_again)}
        for letter in letters:
            if letter.key not in life.items and letter.key not in uncommitted:
                life.add(letter.key, _Item(letter.event, is_replay=True))


class _Life:
    """What a lane knows from when it is taken until it is lost."""

    def __init__(self, taken: LaneTaken | None = None) -> None:
        self.term = taken.term if taken is not None else 0
        self.read = self.committed = taken.cursor if taken is not None else 0
        self.done = set(taken.done) if taken is not None else set[Key]()
        """What was done beyond the cursor, and has not been read again yet."""
        self.order = Order()
        self.items: dict[Key, _Item] = {}
        self.outstanding: deque[Key] = deque()
        """What was read beyond the cursor, in that order."""
        self.under_way = 0
        self.results = _Results()
        self.writing: asyncio.Task[None] | None = None
        """The last commit."""
        self.wake, self.room, self.to_commit, self.ended = (asyncio.Event() for _ in range(4))

    def add(self, key: Key, item: _Item) -> None:
        """Put an event in order."""
        self.items[key] = item
        self.order.add(key, accounts_of(item.event))
        self.wake.set()

    def finish(self, key: Key) -> None:
        """Let go of an event."""
        del self.items[key]
        self.order.finish(key)
        self.room.set()

    def cursor(self) -> int:
        """Return the position up to which everything is done that was read."""
        while self.outstanding and self.outstanding[0] not in self.items:
            self.outstanding.popleft()
        return self.outstanding[0].position - 1 if self.outstanding else self.read


def _key(event: Event) -> Key:
    try:
        return key_of(event)
    except ValueError as error:
        raise SourceUnavailableError(f"the source is none of a ledger: {error}") from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first

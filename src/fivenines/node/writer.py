"""The writer: makes frames of what requests want decided, and appends them.

There are no timers. While appends are in flight requests queue up, and all that has queued up makes the next frame: an
idle node answers at the speed of its disk, a busy one writes large frames by itself.

The queue is bounded, in requests and in commands; what does not fit is refused before anything was done for it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from fivenines.journal import Frame, Journal, JournalError, JournalFullError, MaybeDoneError, NotDoneError
from fivenines.ledger import RULES, SCHEMA, Applied, Batch, CodecError, Command, PostOne, State, decode, encode, need_of
from fivenines.node.settings import NodeSettings

__all__ = ["OverloadedError", "Receipt", "RulesNotInForceError", "Writer"]

_log = structlog.get_logger("fivenines.node")

_FAILED_PAUSE_S = 0.1  # a journal that refuses is not asked more often than this
_PROBE_S = 1.0  # how often a full journal is asked whether it has room, while there are no writes that would ask
_MARK_BYTES = 48  # from the start of a payload: the schema, the writer and the sequence lie within


class RulesNotInForceError(Exception):
    """A command says what only newer rules let frames say: nothing was done."""

    def __init__(self, index: int, field: str, needed: int | None, in_force: int) -> None:
        which = f"rules {needed}" if needed else "rules that this release does not have"
        super().__init__(f"it needs {which}, and rules {in_force} are in force")
        self.index = index
        """Of the command, among those that were submitted."""
        self.field = field


class OverloadedError(Exception):
    """The queue is full: nothing was done. Try again after a while."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a request's commands."""

    position: int
    """The frame that carried them."""
    outcomes: list[int]
    repeated: dict[int, int | None]
    """Of those that were decided before, by index: the position of the frame that did, where it is still known."""


class _Request:
    __slots__ = ("applied", "commands", "durable", "size_bytes")

    def __init__(self, commands: Sequence[Command], *, size_bytes: int, durable_is_enough: bool) -> None:
        future = asyncio.get_running_loop().create_future()
        self.commands = commands
        self.size_bytes = size_bytes
        self.durable: asyncio.Future[Receipt] | None = future if durable_is_enough else None
        self.applied: asyncio.Future[Receipt] | None = None if durable_is_enough else future


class _InFlight:
    __slots__ = ("batch", "requests")

    def __init__(self, batch: Batch, requests: list[_Request]) -> None:
        self.batch = batch
        self.requests = requests


def _encode_readable(batch: Batch, schema: int) -> bytes:
    """Encode a frame, and make sure that every replica will be able to read it: one that cannot would stop them all.

    What the gateway lets through can be read. Should it ever let through what cannot, only its requests fail. The short
    form was checked by the very decoder that replicas use. What was lowered to an older schema must say the same to
    those who read it as to us, who apply it as it was: else our state would differ from theirs.
    """
    payload = encode(batch, schema=schema)
    if schema != SCHEMA or set(map(type, batch.commands)) - {PostOne}:
        try:
            read = decode(payload)
        except CodecError as error:
            raise NotDoneError(f"the frame could not be read back: {error}") from error
        if schema != SCHEMA and read != msgspec.structs.replace(batch, commands=[*batch.commands]):
            raise NotDoneError(f"schema {schema}, which the rules in force name, cannot say what the frame says")
    return payload


def _fail(requests: Iterable[_Request], error: JournalError) -> None:
    for request in requests:
        future = request.applied or request.durable
        if future is not None and not future.done():
            future.set_exception(error)


class Writer:
    """The way from requests to the journal."""

    def __init__(
        self, journal: Journal, state: State, settings: NodeSettings, clock_us: Callable[[], int], id: bytes
    ) -> None:
        # A request is never split, and a frame of one alone must fit: what a body says takes no more room in a frame.
        assert settings.limits.body_bytes_max + settings.frame_bytes_max <= journal.payload_bytes_max
        self._journal = journal
        self._state = state
        self._settings = settings
        self._clock_us = clock_us
        assert len(id) == 16, id
        self._id = id
        self._sequence = 0
        self._queue: deque[_Request] = deque()
        self._queued_commands = 0
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(settings.appends_in_flight_max)
        self._in_flight: dict[bytes, _InFlight] = {}
        self._closing = False
        self._expiry_awaited_us: int | None = None
        self._journal_full: str | None = None

    @property
    def id(self) -> bytes:
        """Names this writer, and so this process, in its frames."""
        return self._id

    @property
    def queued_requests(self) -> int:
        """Requests that wait for a frame."""
        return len(self._queue)

    @property
    def queued_commands(self) -> int:
        """Commands that wait for a frame."""
        return self._queued_commands

    @property
    def journal_full(self) -> str | None:
        """Why the journal had no room for the last frame, None if it had."""
        return self._journal_full

    @property
    def has_room(self) -> bool:
        """Whether the queue takes another request."""
        limits = self._settings.limits
        return len(self._queue) < limits.queue_requests_max and self._queued_commands < limits.queue_commands_max

    @property
    def is_half_full(self) -> bool:
        """Whether what can wait should wait."""
        limits = self._settings.limits
        return 2 * len(self._queue) > limits.queue_requests_max or 2 * self._queued_commands > limits.queue_commands_max

    async def submit(
        self, commands: Sequence[Command], *, size_bytes: int = 0, durable_is_enough: bool = False
    ) -> Receipt:
        """Have `commands` decided, in order, in one frame, and return once they are applied.

        With `durable_is_enough` return as soon as they are durable; the receipt then has no outcomes. No command at all
        makes a barrier: when it returns, everything that was acknowledged anywhere before the call has been applied.
        `size_bytes` is about what the commands take in a frame; the body that they came in is a good measure.

        Raises:
            OverloadedError: the queue is full.
            RulesNotInForceError: a command needs newer rules.
            NotDoneError, MaybeDoneError: as the journal says.
        """
        if not self.has_room or self._closing:
            raise OverloadedError
        if (cut_off := self._journal.cut_off) is not None:
            raise NotDoneError(cut_off)
        if self._state.rules.schema < SCHEMA:
            self._check_rules(commands)
        request = _Request(commands, size_bytes=size_bytes, durable_is_enough=durable_is_enough)
        self._queue.append(request)
        self._queued_commands += len(commands)
        self._wake.set()
        future = request.applied or request.durable
        assert future is not None
        return await future

    def _check_rules(self, commands: Sequence[Command]) -> None:
        in_force = self._state.rules
        for index, command in enumerate(commands):
            need = need_of(command)
            if need is not None and need.schema > in_force.schema:
                able = [version for version, rules in RULES.items() if rules.schema >= need.schema]
                raise RulesNotInForceError(index, need.field, min(able, default=None), in_force.version)

    async def run(self) -> None:
        """Write frames until cancelled, or until `close` was called and the queue is empty."""
        async with asyncio.TaskGroup() as appends:
            while True:
                await self._wait_for_work()
                if not self._queue and self._closing:
                    return
                await self._slots.acquire()
                # Only now are the requests taken: whatever came while the slot was busy is in this frame.
                requests = self._take()
                if not requests and not self._expiry_is_due and not self._journal_full:
                    self._slots.release()
                    continue
                commands = requests[0].commands if len(requests) == 1 else [c for r in requests for c in r.commands]
                self._sequence += 1
                batch = Batch(self._id, self._sequence, self._clock_us(), commands)
                appends.create_task(self._append(batch, requests), name=f"append {self._sequence}")

    def close(self) -> None:
        """Take nothing more; `run` returns when what was taken is written."""
        self._closing = True
        self._wake.set()

    def refuse_waiting(self, reason: str) -> None:
        """Send home all who wait for a frame: nothing of theirs was done."""
        waiting, self._queue, self._queued_commands = self._queue, deque(), 0
        _fail(waiting, NotDoneError(reason))

    def disown(self, reason: str) -> None:
        """Answer nobody from this state any more. What is on its way to the journal may be done."""
        self.refuse_waiting(reason)
        for own in self._in_flight.values():
            _fail(own.requests, MaybeDoneError(reason))
        self._in_flight.clear()

    def batch_of(self, frame: Frame) -> Batch | None:
        """Return the batch of a frame that this writer wrote, None for any other."""
        own = self._in_flight.get(frame.payload[:_MARK_BYTES])
        return own.batch if own else None

    def on_applied(self, frame: Frame, _batch: Batch, applied: Applied) -> None:
        """Answer the requests that a frame of this writer carried."""
        if self._state.next_expiry_us != self._expiry_awaited_us:
            self._wake.set()
        own = self._in_flight.pop(frame.payload[:_MARK_BYTES], None)
        if own is None:
            return
        start = 0
        for request in own.requests:
            end = start + len(request.commands)
            if request.applied is not None and not request.applied.done():
                repeated = (
                    {i - start: p for i, p in applied.repeated.items() if start <= i < end} if applied.repeated else {}
                )
                request.applied.set_result(Receipt(applied.position, applied.outcomes[start:end], repeated))
            start = end

    @property
    def _expiry_is_due(self) -> bool:
        expiry_us = self._state.next_expiry_us
        return expiry_us is not None and expiry_us <= self._clock_us()

    async def _wait_for_work(self) -> None:
        """Wait for a request, for the close, or for the time at which a hold expires.

        A frame without commands is due then, since the journal's time is what the frames say. It is due as well while
        the journal is full: that is how we learn that there is room again, though nobody sends us writes meanwhile.
        """
        if self._queue or self._closing:
            return
        self._wake.clear()
        expiry_us = self._state.next_expiry_us
        self._expiry_awaited_us = expiry_us
        wait_s = None if expiry_us is None else max(0.001, (expiry_us - self._clock_us()) / 1_000_000)
        if self._journal_full or self._journal.failed:
            wait_s = _PROBE_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()

    def _take(self) -> list[_Request]:
        taken: list[_Request] = []
        room, room_bytes = self._settings.frame_commands_max, self._settings.frame_bytes_max
        while self._queue:
            request = self._queue[0]
            room -= len(request.commands)
            room_bytes -= request.size_bytes
            if taken and (room < 0 or room_bytes < 0):
                break
            self._queue.popleft()
            self._queued_commands -= len(request.commands)
            taken.append(request)
        return taken

    async def _append(self, batch: Batch, requests: list[_Request]) -> None:
        mark = b""
        try:
            payload = _encode_readable(batch, self._state.rules.schema)
            mark = payload[:_MARK_BYTES]
            self._in_flight[mark] = _InFlight(batch, requests)
            position = await self._journal.append(payload)
        except JournalError as error:
            self._in_flight.pop(mark, None)
            self._journal_full = str(error) if isinstance(error, JournalFullError) else None
            if batch.commands:
                _log.warning("append.failed", reason=str(error), commands=len(batch.commands))
            _fail(requests, error)
            await asyncio.sleep(_FAILED_PAUSE_S)
            self._wake.set()  # whoever waits for work shall know that it may be to ask for room
        else:
            self._journal_full = None
            for request in requests:
                if request.durable is not None and not request.durable.done():
                    request.durable.set_result(Receipt(position, [], {}))
        finally:
            self._slots.release()

"""The client: transactions, watches and the state of members, over gRPC, past members that are dead, cut off or slow.

Any member answers for all of them, so a call that is not answered much later than usual is sent to the next member as
well, and the first good answer counts; one that fails goes to the next member at once. Hence every call here must be
harmless when it happens twice: reading is, and the journal's transactions compare before they write.

Two clients of one mind: `EtcdClient` for the event loop, and `BlockingClient`, which any thread may use, for reading.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, NamedTuple, TypeVar, cast

import grpc
import grpc.aio
import structlog
from google.protobuf.message import Message

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.errors import JournalUnreachableError
from fivenines.journal.etcd.outside import OUTSIDE, Outside
from fivenines.journal.etcd.settings import EtcdJournalSettings
from fivenines.journal.port import JournalClosedError

__all__ = [
    "Answer",
    "BlockingClient",
    "CompactedError",
    "EtcdClient",
    "NoSpaceError",
    "RefusedError",
    "WatchBrokenError",
]

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)
_ATTEMPT_S_MAX = 5.0
"""No attempt is waited for longer. etcd itself gives up after five seconds and two elections."""
_PAUSE_S = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Between rounds in which every member failed at once."""
_PATIENCE_USUAL = 4
"""How many times as long as usual an answer may take, before the next member is asked as well."""
_USUAL_OF = 32
"""About how many answers the average is of."""
_PATIENCE_GROWTH = 1.25
"""So that asking others as well does not add to the load that makes all of them slow."""
_SILENCE_GROWTH_MAX = 8
_SILENCE_DECAY = 0.95
"""Fifty responses, and a silence that was borne for twice as long is so no more."""
_READ_S_MAX = 30.0
_NO_SPACE = "database space exceeded"
_COMPACTED = "required revision has been compacted"
_PERMANENT = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_LEADER_REQUIRED = (("hasleader", "true"),)
"""A member that has lost its leader ends the watch, instead of keeping quiet."""


class NoSpaceError(Exception):
    """etcd is over its quota and takes no writes. `maybe_done`: an attempt before this answer may have happened."""

    def __init__(self, *, maybe_done: bool) -> None:
        super().__init__("etcd is over its quota")
        self.maybe_done = maybe_done


class CompactedError(Exception):
    """The revision asked for is compacted away: what there is now has to be read instead."""


class RefusedError(Exception):
    """etcd does not take this request from us, and will not however often it is asked."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"{endpoint}: {reason}")
        self.endpoint = endpoint
        self.reason = reason


class WatchBrokenError(Exception):
    """A watch ended or went silent: go on at another member, where it left off."""


class _TryNextError(Exception):
    """This member cannot answer now."""


class Answer(NamedTuple):
    """What became of a transaction."""

    txn: rpc.TxnResponse
    is_repeated: bool
    """Whether another attempt may have been carried out before the one that this is the answer to."""


class EtcdClient:
    """Members of one etcd, on the event loop that it was made on."""

    def __init__(self, settings: EtcdJournalSettings, outside: Outside = OUTSIDE) -> None:
        self.endpoints = settings.endpoints
        self._settings = settings
        self._channels = [outside.channel(endpoint, settings.tls) for endpoint in settings.endpoints]
        self._txn = [_txn_method(channel) for channel in self._channels]
        self._compact = [
            channel.unary_unary(
                "/etcdserverpb.KV/Compact",
                request_serializer=rpc.CompactionRequest.SerializeToString,
                response_deserializer=rpc.CompactionResponse.FromString,
            )
            for channel in self._channels
        ]
        self._status = [
            channel.unary_unary(
                "/etcdserverpb.Maintenance/Status",
                request_serializer=rpc.StatusRequest.SerializeToString,
                response_deserializer=rpc.StatusResponse.FromString,
            )
            for channel in self._channels
        ]
        self._watch = [
            channel.stream_stream(
                "/etcdserverpb.Watch/Watch",
                request_serializer=rpc.WatchRequest.SerializeToString,
                response_deserializer=rpc.WatchResponse.FromString,
            )
            for channel in self._channels
        ]
        self.current = 0
        """The member that is asked first."""
        self.nearest = 0
        """The member to watch first."""
        self._silence_s = 0.0
        """For how long silence is borne just now, if that is more than the settings say."""
        self._usual_s = 0.0
        """How long an answer takes, on a moving average."""

    async def txn(self, request: rpc.TxnRequest, timeout_s: float) -> Answer:
        """Carry out a transaction that is harmless when it is repeated.

        Raises:
            JournalUnreachableError: no member answered in time. The transaction may have happened.
            NoSpaceError, RefusedError, CompactedError: as they say.
        """
        txn, is_repeated = await self._ask(lambda i, limit: self._txn[i](request, timeout=limit), timeout_s)
        return Answer(txn, is_repeated)

    async def compact(self, revision: int, timeout_s: float) -> None:
        """Let etcd forget what was overwritten or deleted up to `revision`. Raises what `txn` raises."""
        request = rpc.CompactionRequest(revision=revision)
        with contextlib.suppress(CompactedError):  # somebody else did it
            await self._ask(lambda i, limit: self._compact[i](request, timeout=limit), timeout_s)

    async def call(self, path: str, request: Any, answer: type[_M], timeout_s: float) -> tuple[_M, bool]:
        """Make any other call that is harmless when it is repeated; also returns whether it may have been repeated.

        Raises what `txn` raises.
        """
        return await self._ask(lambda i, limit: self._method(i, path, answer)(request, timeout=limit), timeout_s)

    async def first(self, path: str, request: Any, answer: type[_M], timeout_s: float) -> _M:
        """Send one message on a stream and return the first that comes back. Raises what `txn` raises."""

        async def ask(index: int, limit: float) -> _M:
            call = self._channels[index].stream_stream(
                path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
            )(timeout=limit)
            try:
                await call.write(request)
                found = await call.read()
            finally:
                call.cancel()
            if found is grpc.aio.EOF:
                raise JournalUnreachableError(f"{self.endpoints[index]} ended the stream")
            return cast(_M, found)

        found, _ = await self._ask(ask, timeout_s)
        return found

    def _method(self, index: int, path: str, answer: type[_M]) -> Any:
        return self._channels[index].unary_unary(
            path, request_serializer=_serialize, response_deserializer=answer.FromString
        )

    async def status(self, index: int, timeout_s: float) -> rpc.StatusResponse | None:
        """Ask one member how it is; None when it does not answer. Raises `RefusedError`."""
        try:
            answer: rpc.StatusResponse = await self._status[index](rpc.StatusRequest(), timeout=timeout_s)
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            return None
        except grpc.aio.AioRpcError as error:
            with contextlib.suppress(_TryNextError):
                raise self._translate(index, error, maybe_done=False) from error
            return None
        return answer

    async def watch(self, index: int, keys: bytes, keys_end: bytes, revision: int) -> AsyncGenerator[rpc.WatchResponse]:
        """Iterate over what a member tells of a range of keys from `revision` on, in order and without a gap.

        Raises:
            WatchBrokenError: the member is gone, silent, or without a leader.
            CompactedError: `revision` is compacted away.
            RefusedError: as it says.
        """
        call = self._watch[index](metadata=_LEADER_REQUIRED)
        reading: asyncio.Task[Any] | None = None
        asking: asyncio.Task[Any] | None = None
        try:
            create = rpc.WatchCreateRequest(key=keys, range_end=keys_end, start_revision=revision, fragment=True)
            await call.write(rpc.WatchRequest(create_request=create))
            while True:
                reading = asyncio.ensure_future(call.read())
                asking = await self._wait_sign_of_life(call, reading, asking)
                response = reading.result()
                if response is grpc.aio.EOF:
                    raise WatchBrokenError(f"{self.endpoints[index]} ended the watch")
                if response.canceled:
                    if response.compact_revision:
                        raise CompactedError
                    raise WatchBrokenError(f"{self.endpoints[index]}: {response.cancel_reason}")
                yield response
        except grpc.aio.AioRpcError as error:
            try:
                raise self._translate(index, error, maybe_done=False) from error
            except _TryNextError as why:
                raise WatchBrokenError(str(why)) from error
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            # Writing to a call that has ended meanwhile.
            raise WatchBrokenError(f"{self.endpoints[index]} ended the watch") from error
        except asyncio.CancelledError as error:
            # gRPC says this also of a call that it has cancelled itself, as its connection broke.
            if _is_being_cancelled():
                raise
            raise WatchBrokenError(f"{self.endpoints[index]}: the connection broke") from error
        finally:
            call.cancel()
            for task in (reading, asking):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await task

    def next_after(self, index: int) -> int:
        """Return the member that comes after another one."""
        return (index + 1) % len(self.endpoints)

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels:
            await channel.close()

    async def _wait_sign_of_life(
        self, call: Any, reading: asyncio.Task[Any], asking: asyncio.Task[Any] | None
    ) -> asyncio.Task[Any] | None:
        """Wait for the next response; ask for one after half of the time for which silence is borne.

        That is `silence_s_max`, and longer for a while after it was not enough: on a machine that is starved all
        members are slow to answer, and leaving one after the other would be no help. Returns the question, which may
        still be on its way.
        """
        settings = self._settings
        half_s = max(settings.silence_s_max, self._silence_s) / 2
        done, _ = await asyncio.wait({reading}, timeout=half_s)
        if done:
            self._silence_s *= _SILENCE_DECAY
            return asking
        # A question that is still on its way is not taken back: gRPC ends a call of which a write is cancelled.
        if asking is None or asking.done():
            question = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
            asking = asyncio.ensure_future(call.write(question))
        done, _ = await asyncio.wait({reading}, timeout=half_s)
        if asking.done() and not asking.cancelled():
            asking.exception()  # if there is one, reading says the same
        if not done:
            self._silence_s = min(4 * half_s, _SILENCE_GROWTH_MAX * settings.silence_s_max)
            raise WatchBrokenError("it went silent")
        return asking

    async def _ask(self, attempt: Callable[[int, float], Awaitable[_T]], timeout_s: float) -> tuple[_T, bool]:
        """Return the first good answer of any member, and whether other attempts may have been carried out."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        patience_s = max(self._settings.patience_s, _PATIENCE_USUAL * self._usual_s)
        index = self.current
        running: dict[asyncio.Task[_T], int] = {}
        begun: dict[int, float] = {}
        maybe_done = False
        reason = "no answer"
        failed_in_a_row = 0
        try:
            while True:
                left_s = deadline - clock()
                if left_s <= 0:
                    raise JournalUnreachableError(reason)
                for task in [task for task, member in running.items() if member == index]:
                    # What a member has sent on to a leader that died is lost, and the member does not know it: so ask
                    # it anew, instead of waiting for as long as it does.
                    maybe_done = True
                    task.cancel()
                    del running[task]
                limit = min(left_s, _ATTEMPT_S_MAX)
                begun[index] = clock()
                running[asyncio.create_task(self._attempt(attempt, index, limit))] = index
                done, _ = await asyncio.wait(
                    running, timeout=min(left_s, patience_s), return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    patience_s *= _PATIENCE_GROWTH
                # In the order in which they were asked; that of a set is another one each time.
                for task in [task for task in running if task in done]:
                    member = running.pop(task)
                    try:
                        answer = task.result()
                    except asyncio.CancelledError:
                        # By gRPC, as the connection broke: those that we cancel are not looked at any more.
                        maybe_done = True
                        continue
                    except grpc.aio.AioRpcError as error:
                        try:
                            raise self._translate(member, error, maybe_done=maybe_done or bool(running)) from error
                        except _TryNextError as why:
                            maybe_done = maybe_done or not _is_not_sent(error)
                            reason = str(why)
                            continue
                    self.current = member
                    self._usual_s += (clock() - begun[member] - self._usual_s) / _USUAL_OF
                    return answer, maybe_done or bool(running)
                index = self.next_after(index)
                if done and not running:
                    failed_in_a_row += 1
                    if failed_in_a_row >= len(self.endpoints):
                        pause = _PAUSE_S[min(failed_in_a_row - len(self.endpoints), len(_PAUSE_S) - 1)]
                        await asyncio.sleep(min(pause, max(0.0, deadline - clock())))
        finally:
            for task in running:
                task.cancel()

    async def _attempt(self, attempt: Callable[[int, float], Awaitable[_T]], index: int, limit: float) -> _T:
        return await attempt(index, limit)

    def _translate(self, index: int, error: grpc.RpcError, *, maybe_done: bool) -> Exception:
        return _translate(self.endpoints[index], error, maybe_done=maybe_done)


class BlockingClient:
    """Reading transactions, from any thread."""

    def __init__(self, settings: EtcdJournalSettings, outside: Outside = OUTSIDE) -> None:
        self._settings = settings
        self._outside = outside
        self._channels = [outside.blocking_channel(endpoint, settings.tls) for endpoint in settings.endpoints]
        self._txn = [_txn_method(channel) for channel in self._channels]
        self._current = 0
        self._closed = False

    def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        """Carry out a transaction that only reads.

        Raises:
            JournalUnreachableError: no member answered.
            JournalClosedError: the client was closed meanwhile.
            RefusedError, CompactedError: as they say.
        """
        clock = self._outside.clock
        deadline = clock() + _READ_S_MAX
        attempts = 0
        index = self._current
        # A member that hangs is given up early while there are others to ask, and late when all of them are slow.
        limit = self._settings.patience_s
        while True:
            left_s = deadline - clock()
            try:
                answer: rpc.TxnResponse = self._txn[index](request, timeout=min(limit, left_s))
            except ValueError as error:
                # What gRPC says of a channel that is closed.
                if self._closed:
                    raise JournalClosedError from error
                raise
            except grpc.RpcError as error:
                try:
                    raise _translate(self._settings.endpoints[index], error, maybe_done=False) from error
                except _TryNextError as why:
                    if clock() >= deadline:
                        raise JournalUnreachableError(str(why)) from error
            else:
                self._current = index
                return answer
            attempts += 1
            index = (index + 1) % len(self._channels)
            if attempts % len(self._channels) == 0:
                rounds = attempts // len(self._channels)
                limit = min(limit * 2, _ATTEMPT_S_MAX)
                self._outside.sleep(_PAUSE_S[min(rounds, len(_PAUSE_S)) - 1])

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        for channel in self._channels:
            channel.close()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _translate(endpoint: str, error: grpc.RpcError, *, maybe_done: bool) -> Exception:
    """Return what an error means. Raises `_TryNextError` when the next member may do better."""
    code, details = error.code(), error.details() or ""
    if _NO_SPACE in details:
        return NoSpaceError(maybe_done=maybe_done)
    if _COMPACTED in details:
        return CompactedError()
    if code in _PERMANENT:
        return RefusedError(endpoint, details)
    raise _TryNextError(f"{endpoint}: {code.name.lower()}: {details}")


def _is_not_sent(error: grpc.RpcError) -> bool:
    """Whether a request surely never reached its member."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and "failed to connect" in (error.details() or "")


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _txn_method(channel: Any) -> Any:
    return channel.unary_unary(
        "/etcdserverpb.KV/Txn",
        request_serializer=rpc.TxnRequest.SerializeToString,
        response_deserializer=rpc.TxnResponse.FromString,
    )

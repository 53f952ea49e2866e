"""The way from a node to the members of a simulated etcd: what the journal's client takes for gRPC.

Messages are handed over as they are, each after a delay of its own, so those of different calls overtake each other. A
link may be cut: then nothing passes and nothing is said, or it is refused. Or it loses single messages: before they
were carried out or after, in silence or with a broken connection, which gRPC tells in more than one way. What a watch
is told comes in order and without a gap, late or not at all, as over TCP.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from fivenines.drill.simulation.etcd_members import (
    BROKEN,
    DOWN,
    Failure,
    Member,
    Request,
    Response,
    SimulatedEtcd,
    later,
)
from fivenines.drill.simulation.etcd_store import is_reading
from fivenines.journal.etcd import Outside
from fivenines.journal.etcd import rpc_pb2 as rpc

__all__ = ["EtcdLink", "outside_of"]

_TIMED_OUT = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


class EtcdLink:
    """One node's way to one member."""

    def __init__(self, etcd: SimulatedEtcd, member: Member, delay_s: float) -> None:
        self.delay_s = delay_s
        self.lost = 0.0
        self.answers_lost = 0
        """Of writes that were carried out."""
        self.etcd = etcd
        self.member = member
        self._is_whole = True
        self._refuses = False
        self._stuck: list[Callable[[], None]] = []

    @property
    def is_whole(self) -> bool:
        """Whether anything passes."""
        return self._is_whole

    @property
    def refusal(self) -> Failure | None:
        """What one learns at once who begins to speak: that nobody is there. None: nothing, or that somebody is."""
        return DOWN if not self.member.is_up or (self._refuses and not self._is_whole) else None

    def cut(self, *, refuses: bool) -> None:
        """Let nothing pass any more."""
        self._is_whole, self._refuses = False, refuses

    def heal(self) -> None:
        """Let everything pass again, and what a watch was told meanwhile."""
        self._is_whole = True
        stuck, self._stuck = self._stuck, []
        for do in stuck:
            do()

    def draw_delay_s(self) -> float:
        """Draw how long a message takes."""
        return self.etcd.random.expovariate(1 / self.delay_s)

    def loses(self) -> bool:
        """Draw whether a message is lost."""
        return self.lost > 0 and self.etcd.random.random() < self.lost

    def when_whole(self, do: Callable[[], None]) -> None:
        """Do something once the link is whole."""
        if self._is_whole:
            do()
        else:
            self._stuck.append(do)


def outside_of(links: list[EtcdLink]) -> Outside:
    """Return the outside of a journal on these links. The number of each is its endpoint."""
    slept_s = 0.0

    def sleep(seconds: float) -> None:
        # On a virtual loop what would be in a thread takes no time. Whoever waits in there shall give up all the same.
        nonlocal slept_s
        slept_s += seconds

    return Outside(
        channel=lambda endpoint, _tls: _Channel(links[int(endpoint)]),
        blocking_channel=lambda endpoint, _tls: _BlockingChannel(links[int(endpoint)]),
        clock=lambda: asyncio.get_running_loop().time() + slept_s,
        sleep=sleep,
        random_bytes=links[0].etcd.random.randbytes,
    )


def _error(failure: Failure) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(failure.code, nothing, nothing, details=failure.details)


class _Channel:
    """In the place of a `grpc.aio.Channel`."""

    def __init__(self, link: EtcdLink) -> None:
        self._link = link

    def unary_unary(self, _path: str, **_: Any) -> Callable[..., Any]:
        async def ask(request: Request, *, timeout: float) -> Response:
            call = _Call(self._link, request)
            timer = later(timeout, call.end, _TIMED_OUT)
            try:
                found: Response = await call.future
                return found
            finally:
                timer.cancel()

        return ask

    def stream_stream(self, _path: str, **_: Any) -> Callable[..., Any]:
        return lambda metadata: _Watch(self._link, metadata)

    async def close(self) -> None:
        """Nothing is kept."""


class _Call:
    """One request, and what becomes of it."""

    def __init__(self, link: EtcdLink, request: Request) -> None:
        self.request = request
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._link = link
        delay_s = link.draw_delay_s()
        if link.refusal is not None:
            later(delay_s, self.end, link.refusal)
        elif not link.is_whole:
            pass
        elif link.loses():
            if link.etcd.random.random() < 0.5:
                later(delay_s, self.end, BROKEN)
        else:
            later(delay_s, link.member.take, self)

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.future.done()

    def answer(self, found: Response | Failure) -> None:
        """Send the answer on its way."""
        link = self._link
        link.member.asked.pop(self, None)
        if not link.is_whole or link.loses():
            if isinstance(self.request, rpc.TxnRequest) and not is_reading(self.request):
                link.answers_lost += isinstance(found, rpc.TxnResponse)
            match link.etcd.random.randrange(3) if link.is_whole else 0:
                case 1:
                    later(link.draw_delay_s(), self.end, BROKEN)
                case 2:
                    # gRPC says this, too, when a connection breaks.
                    later(link.draw_delay_s(), self._break)
            return
        later(link.draw_delay_s(), self.end, found)

    def _break(self) -> None:
        self.future.cancel()

    def end(self, found: Response | Failure) -> None:
        """Tell who waits, if somebody does."""
        if self.future.done():
            return
        if isinstance(found, Failure):
            self.future.set_exception(_error(found))
        else:
            self.future.set_result(found)


class _Watch:
    """In the place of a `grpc.aio.StreamStreamCall` for watching: both ends of it."""

    def __init__(self, link: EtcdLink, metadata: Any) -> None:
        assert ("hasleader", "true") in metadata, "a watch without it is silent when its member has lost its leader"
        self.key = self.end = b""
        self.next_revision = 0
        self.is_synced = False
        self._link = link
        self._told: deque[rpc.WatchResponse] = deque()
        self._arrived: deque[rpc.WatchResponse] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._failure: Failure | None = None
        self._is_cancelled = False

    # ---- the node's end

    async def write(self, request: rpc.WatchRequest) -> None:
        if self._failure is not None or self._is_cancelled:
            raise asyncio.InvalidStateError("the call is over")
        link = self._link
        if request.HasField("create_request"):
            create = request.create_request
            assert create.fragment
            self.key, self.end, self.next_revision = create.key, create.range_end, create.start_revision
            if link.refusal is not None:
                self.fail(link.refusal)
            else:
                later(link.draw_delay_s(), link.when_whole, self._begin)
        elif link.is_whole:
            later(link.draw_delay_s(), link.member.show_progress, self, self._show)

    async def read(self) -> rpc.WatchResponse:
        while not self._arrived:
            if self._failure is not None:
                # Of a connection that breaks gRPC says now this, now that.
                if self._failure is BROKEN and self._link.etcd.random.random() < 0.5:
                    raise asyncio.CancelledError
                raise _error(self._failure)
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._arrived.popleft()

    def cancel(self) -> None:
        self._is_cancelled = True
        self._link.member.watchers.pop(self, None)
        self._wake()

    # ---- the member's end

    def tell(self, response: rpc.WatchResponse) -> None:
        """Send a response on its way, after those before it."""
        self._told.append(response)
        # Whichever of these comes first brings the oldest: so they come in order.
        later(self._link.draw_delay_s(), self._link.when_whole, self._bring)

    def fail(self, failure: Failure) -> None:
        """End it."""
        later(self._link.draw_delay_s(), self._link.when_whole, lambda: self._fail(failure))

    def _begin(self) -> None:
        if not self._is_cancelled:
            self._link.member.watch(self)

    def _show(self, response: rpc.WatchResponse) -> None:
        later(self._link.draw_delay_s(), self._arrive, response)

    def _bring(self) -> None:
        if self._told:
            self._arrive(self._told.popleft())

    def _arrive(self, response: rpc.WatchResponse) -> None:
        if self._failure is None and not self._is_cancelled and self._link.is_whole:
            self._arrived.append(response)
            self._wake()

    def _fail(self, failure: Failure) -> None:
        # What was told and has not come by now is lost.
        self._failure = self._failure or failure
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class _BlockingChannel:
    """In the place of a `grpc.Channel`, for reading: on a virtual loop an answer is there at once, or not at all."""

    def __init__(self, link: EtcdLink) -> None:
        self._link = link

    def unary_unary(self, _path: str, **_: Any) -> Callable[..., Any]:
        return self._ask

    def _ask(self, request: rpc.TxnRequest, *, timeout: float) -> rpc.TxnResponse:  # noqa: ARG002 - it is gRPC's
        link = self._link
        if link.refusal is not None:
            raise _error(link.refusal)
        if not link.is_whole:
            raise _error(_TIMED_OUT)
        if link.loses():
            raise _error(BROKEN)
        link.etcd.go_on()
        found = link.member.read_now(request)
        if isinstance(found, rpc.TxnResponse):
            return found
        raise _error(found or _TIMED_OUT)

    def close(self) -> None:
        """Nothing is kept."""

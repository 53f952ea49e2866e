"""The lanes: how appends get into etcd, exactly once each, whatever becomes of the answers.

A lane is a key with the number of the newest piece in it. Its owner, one task of one process, has one group of pieces
on its way at a time, in one transaction:

    if the epoch is still ours, and the lane's number is still what it was:
        put the pieces; put the lane's new number

So a group that is sent twice, or that arrives after it was given up and a later one was written, changes nothing the
second time. When the comparison fails, the lane's number tells which of our groups came through. Nobody else writes to
the lane, and there is no order to agree on: several lanes, of one process or of many, go side by side, and the order of
frames is that in which etcd takes them.

A lane's key goes away when the lane was idle for as long as the journal's tail reaches back (see `trimming`). Its owner
is told by the journal, and takes a new lane; if it was not told yet, it notices at the next group, which then surely
did not happen.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from msgspec import Struct

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.client import Answer, EtcdClient, NoSpaceError, RefusedError
from fivenines.journal.etcd.errors import JournalUnreachableError
from fivenines.journal.etcd.layout import LAST, Keys, pack_piece, parse_number, split_payload
from fivenines.journal.etcd.outside import OUTSIDE
from fivenines.journal.etcd.settings import EtcdJournalSettings
from fivenines.journal.port import JournalError, JournalFailedError, JournalFullError, MaybeDoneError, Position

__all__ = ["Append", "Lanes", "epoch_is", "number_value"]

log = structlog.get_logger(__name__)

_GROUP_PIECES_MAX = 60
"""A transaction takes 128 operations by default, the comparisons apart."""


class Append(Struct, eq=False):
    """One payload on its way."""

    payload: bytes
    future: asyncio.Future[Position]
    is_sent: bool = False
    """Whether it may have happened by now."""


class _Group(Struct):
    """What one transaction brings."""

    pieces: list[tuple[int, bytes]]
    """Numbers and values."""
    ends: dict[int, Append]
    """The appends, by the number of their last piece."""

    @property
    def newest(self) -> int:
        return self.pieces[-1][0]


class Lanes:
    """The appends of one journal: a queue, and tasks that empty it, each with a lane of its own."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        settings: EtcdJournalSettings,
        epoch: int,
        fail: Callable[[str], None],
        random_bytes: Callable[[int], bytes] = OUTSIDE.random_bytes,
    ) -> None:
        self.own: dict[tuple[str, int], Append] = {}
        """Appends that were sent, by lane and number of their last piece. Whoever sees that piece in the journal takes
        the entry out and resolves the future: that, and not etcd's answer, tells the position."""
        self._client = client
        self._keys = keys
        self._settings = settings
        self._epoch = epoch
        self._fail = fail
        self._random_bytes = random_bytes
        self._queue: deque[Append] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._owned: list[_Lane] = []
        self._closing = False

    def put(self, append: Append) -> None:
        """Queue an append."""
        self._queue.append(append)
        self._wake_one()

    @property
    def revision(self) -> int:
        """The newest revision at which etcd is known to have had something of ours."""
        return max((lane.revision for lane in self._owned), default=0)

    def is_ours(self, lane: str) -> bool:
        """Whether one of our tasks writes to a lane."""
        return any(owned.id == lane for owned in self._owned)

    def forget(self, lane: str) -> None:
        """Take a new lane for what comes next, if this one is ours: etcd has it no more."""
        for owned in self._owned:
            if owned.id == lane:
                owned.is_gone = True

    def withdraw(self, append: Append) -> bool:
        """Take back an append that was not sent; False when it was."""
        if append.is_sent:
            return False
        with contextlib.suppress(ValueError):  # a lane has it, and looks again before it sends
            self._queue.remove(append)
        return True

    def close(self) -> None:
        """Take nothing more: the tasks return when the queue is empty."""
        self._closing = True
        while self._idle:
            self._wake_one()

    async def wait_all_seen(self) -> None:
        """Wait until the journal has seen all that etcd took."""
        waiting = [append.future for append in self.own.values() if not append.future.done()]
        if waiting:
            await asyncio.wait(waiting)

    async def run_one(self) -> None:
        """Carry appends to etcd, one group after another, until closed."""
        lane = _Lane(self._client, self._keys, self._settings, self._epoch, self._random_bytes)
        self._owned.append(lane)
        while await self._wait_for_work():
            await self._carry(lane)

    async def _wait_for_work(self) -> bool:
        while not self._queue:
            if self._closing:
                return False
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # The lane that worked last is woken first: under a light load one lane does it all.
            self._idle.append(waiting)
            await waiting
        return True

    def _wake_one(self) -> None:
        while self._idle:
            waiting = self._idle.pop()
            if not waiting.done():
                waiting.set_result(None)
                return

    async def _carry(self, lane: "_Lane") -> None:
        """Take appends from the queue and carry them, or say what became of them."""
        taken = self._take()
        try:
            while not await self._try_to_carry(lane, taken):
                log.info("journal.lane_was_gone", lane=lane.id)
                lane.id = ""
        except JournalError as error:
            if isinstance(error, JournalFailedError):
                self._fail(error.reason)
            for append in taken:
                if not append.future.done():
                    append.future.set_exception(error)

    async def _try_to_carry(self, lane: "_Lane", taken: list[Append]) -> bool:
        """Return False when the lane was gone, and nothing came through. Raises a `JournalError`."""
        await lane.ready()
        # Some may have run out of time meanwhile.
        for group in self._groups(lane, [append for append in taken if not append.future.done()]):
            for number, append in group.ends.items():
                self.own[lane.id, number] = append
                append.is_sent = True
            done = False
            try:
                done = await lane.send(group)
            except MaybeDoneError as error:
                if not group.ends:
                    # A frame without its last piece is none.
                    raise JournalUnreachableError(error.reason) from error
                raise
            finally:
                if not done:
                    for number, append in group.ends.items():
                        self.own.pop((lane.id, number), None)
                        append.is_sent = False
            if not done:
                return False
        return True

    def _take(self) -> list[Append]:
        """Take what makes a group: many small payloads, or one that is a group of its own or more than one."""
        taken: list[Append] = []
        room = self._settings.piece_bytes_max
        while self._queue and len(taken) < _GROUP_PIECES_MAX:
            append = self._queue[0]
            room -= len(append.payload)
            if taken and room < 0:
                break
            self._queue.popleft()
            if not append.future.done():
                taken.append(append)
        return taken

    def _groups(self, lane: "_Lane", taken: list[Append]) -> list[_Group]:
        """Number the pieces. A group has many small payloads, or one piece of a long one."""
        groups: list[_Group] = []
        number, previous = lane.next_number, lane.newest
        for append in taken:
            for flags, part in split_payload(append.payload, self._settings.piece_bytes_max):
                if not groups or len(taken) == 1:
                    groups.append(_Group([], {}))
                groups[-1].pieces.append((number, pack_piece(flags, previous, part)))
                if flags & LAST:
                    groups[-1].ends[number] = append
                previous = number
                number += 1
        lane.next_number = number
        return groups


class _Lane:
    """One lane: what its owner knows of it."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        settings: EtcdJournalSettings,
        epoch: int,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.id = ""
        self.newest = 0
        """The number of its newest piece."""
        self.revision = 0
        """The revision of the newest piece of which we were told that it was written."""
        self.next_number = 1
        """Numbers are used once, also those of groups that were given up."""
        self.is_gone = False
        """Whether we were told that etcd has it no more."""
        self._value = 0
        """What etcd has for the lane: the number of its newest piece, or one that was used to settle."""
        self._given_up = 0
        """The newest number of a group of which we do not know whether it came through; 0 if there is none."""
        self._client = client
        self._keys = keys
        self._timeout_s = settings.append_s_max
        self._epoch = epoch
        self._random_bytes = random_bytes

    async def ready(self) -> None:
        """Make sure that there is a lane, and that nothing that was given up can still come through.

        Raises `JournalUnreachableError`, `JournalFullError` or `JournalFailedError`.
        """
        if self.id and self._given_up:
            await self._settle()
        # Not left to the next group to notice: if that is sent twice, nobody can say whether the first one came before.
        if not self.id or self.is_gone:
            await self._begin()

    async def send(self, group: _Group) -> bool:
        """Write a group; return False when it surely did not happen, as the lane is gone.

        Raises a `JournalError` that says whether it happened.
        """
        try:
            answer = await self._write(group.newest, group.pieces)
        except JournalUnreachableError as error:
            self._given_up = group.newest
            raise MaybeDoneError(error.reason) from error
        except NoSpaceError as error:
            # etcd says this also of the write that took it over its quota, and that it has carried out. So look.
            self._given_up = group.newest
            if await self._read_number() == group.newest:
                self._given_up = 0
                self.newest = self._value = group.newest
                return True
            if error.maybe_done:
                raise MaybeDoneError(str(error)) from error
            self._given_up = 0
            raise JournalFullError(str(error)) from error
        if not answer.txn.succeeded:
            found = self._found(answer.txn, group.newest)
            if found is None and not answer.is_repeated:
                return False
            if found != group.newest:
                self.id = ""
                raise MaybeDoneError("the lane was gone when an attempt was repeated")
            # An attempt before this one came through, and its answer did not.
        else:
            self.revision = answer.txn.header.revision
        self.newest = self._value = group.newest
        return True

    async def _read_number(self) -> int | None:
        """Read the lane's number; raise `MaybeDoneError` when that cannot be done."""
        key = self._keys.lane(self.id)
        try:
            answer, _ = await self._client.txn(rpc.TxnRequest(success=[_get(key)]), self._timeout_s)
        except (JournalUnreachableError, RefusedError) as error:
            raise MaybeDoneError(str(error)) from error
        lane = answer.responses[0].response_range.kvs
        return parse_number(key, lane[0].value) if lane else None

    async def _settle(self) -> None:
        """Learn whether the group that was given up came through, and if it did not, see to it that it never does.

        This too may have been tried before without an answer. Then etcd has one of three numbers: the group's, the one
        of that attempt, or the one before both; and whichever we find or write, the others can no longer come.
        """
        number = self.next_number
        self.next_number += 1
        try:
            answer = await self._write(number, ())
        except NoSpaceError as error:
            raise JournalFullError(str(error)) from error
        found = number if answer.txn.succeeded else self._found(answer.txn)
        if found is None:
            self.id = ""
            return
        if found == self._given_up:
            self.newest = found
        self._value = found
        self._given_up = 0

    async def _begin(self) -> None:
        """Begin a new lane."""
        lane = self._random_bytes(8).hex()
        key = self._keys.lane(lane)
        request = rpc.TxnRequest(
            compare=[
                epoch_is(self._keys, self._epoch),
                rpc.Compare(target=rpc.Compare.CREATE, key=key, create_revision=0),
            ],
            success=[_put(key, number_value(0))],
            failure=[_get(self._keys.epoch), _get(key)],
        )
        try:
            answer = await self._client.txn(request, self._timeout_s)
        except NoSpaceError as error:
            raise JournalFullError(str(error)) from error
        except RefusedError as error:
            raise JournalFailedError(str(error)) from error
        if not answer.txn.succeeded:
            self._found(answer.txn)  # a repeated attempt, or another epoch
        self.id = lane
        self.newest = self._value = self._given_up = 0
        self.next_number = 1
        self.is_gone = False

    async def _write(self, number: int, pieces: Sequence[tuple[int, bytes]]) -> Answer:
        key = self._keys.lane(self.id)
        request = rpc.TxnRequest(
            compare=[
                epoch_is(self._keys, self._epoch),
                rpc.Compare(target=rpc.Compare.VALUE, key=key, value=number_value(self._value)),
            ],
            failure=[_get(self._keys.epoch), _get(key)],
        )
        for piece, value in pieces:
            # Made in place: a message that is added to another one is copied.
            put = request.success.add().request_put
            put.key, put.value = self._keys.piece(self.id, piece), value
        request.success.append(_put(key, number_value(number)))
        try:
            return await self._client.txn(request, self._timeout_s)
        except RefusedError as error:
            raise JournalFailedError(str(error)) from error

    def _found(self, answer: rpc.TxnResponse, hoped: int = 0) -> int | None:
        """Return the lane's number, None if it is gone.

        Raises `JournalFailedError` when the epoch is another one, unless the number is the one hoped for: then the
        write came through while the epoch was still ours.
        """
        epoch, lane = (response.response_range.kvs for response in answer.responses)
        found = parse_number(lane[0].key, lane[0].value) if lane else None
        if found != hoped and (not epoch or parse_number(epoch[0].key, epoch[0].value) != self._epoch):
            raise JournalFailedError("the journal was begun anew in another epoch")
        return found


def epoch_is(keys: Keys, epoch: int) -> rpc.Compare:
    """Return the comparison that fences those off who still write in another epoch."""
    return rpc.Compare(target=rpc.Compare.VALUE, key=keys.epoch, value=number_value(epoch))


def number_value(number: int) -> bytes:
    """Return a number as it is kept in etcd."""
    return b"%016x" % number


def _put(key: bytes, value: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))


def _get(key: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key))

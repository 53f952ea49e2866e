"""The etcd journal: many processes append to one journal, and all see the same frames at the same positions.

The journal's own **tail** task follows etcd by a watch and derives the frames (`chain`). It is what the journal knows:
`last` is where the tail is, an append is answered when the tail sees its frame, and followers are served from the
newest frames, which the tail leaves in memory, or from etcd when they are behind. Beside it run the lanes, which carry
appends to etcd (`lanes`), and a look at the members at intervals (`members`).

When its watch breaks or goes silent, the tail goes on at another member, at the revision where it was. When etcd has
compacted that away, it reads the keys. Only when the frames it needs were trimmed meanwhile is it at an end: then the
journal has *failed*, followers get a `TrimmedError`, and the node starts anew from a later snapshot.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Self

import structlog

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.chain import Chain, MissedError
from fivenines.journal.etcd.client import (
    BlockingClient,
    CompactedError,
    EtcdClient,
    NoSpaceError,
    RefusedError,
    WatchBrokenError,
)
from fivenines.journal.etcd.errors import EtcdRefusedError, JournalFencedError, JournalUnreachableError
from fivenines.journal.etcd.lanes import Append, Lanes, epoch_is
from fivenines.journal.etcd.layout import Keys, LayoutError, Place, pack_place, parse_number, parse_piece, parse_place
from fivenines.journal.etcd.members import Members
from fivenines.journal.etcd.outside import OUTSIDE, Outside
from fivenines.journal.etcd.reading import Found, Look, look, read_marks, read_notices, read_to_the_end
from fivenines.journal.etcd.settings import EtcdJournalSettings
from fivenines.journal.etcd.trimming import trim
from fivenines.journal.port import (
    Frame,
    FrameTooLargeError,
    JournalClosedError,
    JournalDamagedError,
    JournalError,
    JournalFailedError,
    JournalFullError,
    MaybeDoneError,
    Notice,
    Position,
    SharedJournal,
    TrimmedError,
)
from fivenines.journal.recent import RecentFrames, take_some

__all__ = ["EtcdJournal"]

log = structlog.get_logger(__name__)

_PAUSE_S = 0.05
"""Between two watches that both broke, so that a cluster without a majority is not asked in a tight loop."""
_CLOSE_S_MAX = 5.0
_OTHER_EPOCH = "the journal was begun anew in another epoch"
_OTHER_ETCD = "a member belongs to another etcd than the journal was opened in"


class EtcdJournal(SharedJournal):
    """A journal in etcd. Made by `open`; see `Journal` for what it promises.

    Beside that: of appends that are in flight at the same time, either may come first. An append that is called after
    another one was answered, by whomever, comes after it.
    """

    def __init__(
        self,
        settings: EtcdJournalSettings,
        client: EtcdClient,
        reader: BlockingClient,
        members: Members,
        seen: Look,
        marks: list[Place],
        chain: Chain,
        outside: Outside,
    ) -> None:
        self._settings = settings
        self._keys = Keys(settings.prefix)
        self._client = client
        self._reader = reader
        self._members = members
        self._cluster_id = seen.cluster_id
        self._epoch = seen.epoch
        self._base = seen.base
        self._marks = marks
        """Places to read from, in order. Replaced, never changed, so another thread may hold on to it."""
        self._chain = chain
        self._marked = marks[-1] if marks else seen.base
        self._next_revision = seen.revision + 1
        self._signs_behind = 0
        self._heard_s = asyncio.get_running_loop().time()
        self._notices: dict[str, Notice] = {}
        self._last, self._last_digest, self._last_bytes = chain.position, chain.digest, chain.bytes
        self._recent = RecentFrames(settings.recent_bytes_max)
        self._failed: str | None = None
        self._broken: JournalError | None = None
        """What followers are told when the tail is at an end."""
        self._is_over = False  # once another life of the journal has begun
        self._closed = False
        self._closing: asyncio.Future[None] | None = None
        self._lanes = Lanes(client, self._keys, settings, seen.epoch, self._fail, outside.random_bytes)
        self._lane_tasks = [
            asyncio.create_task(self._guard(self._lanes.run_one()), name=f"journal lane {number}")
            for number in range(settings.lanes)
        ]
        self._tasks = [
            asyncio.create_task(self._guard(self._follow_etcd()), name="journal tail"),
            asyncio.create_task(self._guard(self._members.watch(self._fail)), name="journal members"),
        ]
        self._marking: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, settings: EtcdJournalSettings, outside: Outside = OUTSIDE) -> Self:
        """Open the journal, at its end.

        Raises:
            JournalMissingError: there is none; `found` makes one.
            JournalFencedError: it goes on in another etcd.
            EtcdRefusedError: this etcd must not keep a journal.
            JournalUnreachableError: no majority of the members answers.
        """
        client, reader = EtcdClient(settings, outside), BlockingClient(settings, outside)
        try:
            members = Members(client, settings)
            await members.look()
            seen, marks, chain = await asyncio.to_thread(_read_to_the_end, reader, settings)
            # After the look: what is posted from there on is told by the watch.
            notices = await asyncio.to_thread(read_notices, reader, Keys(settings.prefix))
        except BaseException:
            reader.close()
            await client.close()
            raise
        members.expect_cluster(seen.cluster_id)
        journal = cls(settings, client, reader, members, seen, marks, chain, outside)
        journal._hear(notices)
        return journal

    # ---- what is known -------------------------------------------------------------------------------------------

    @property
    def first(self) -> Position:
        """The oldest position that can be read."""
        return self._base.position + 1

    @property
    def last(self) -> Position:
        """The newest position that this process has seen."""
        return self._last

    @property
    def last_digest(self) -> bytes:
        """The digest of the frame at `last`."""
        return self._last_digest

    @property
    def payload_bytes_max(self) -> int:
        """The longest payload that can be appended, in bytes."""
        return self._settings.payload_bytes_max

    @property
    def failed(self) -> str | None:
        """Why the journal takes no more appends until it is opened anew, or None."""
        return self._failed

    @property
    def full(self) -> str | None:
        """Why appends are refused with `JournalFullError` now, or None. It passes when the journal is trimmed."""
        return self._members.full_reason(self._last_bytes)

    @property
    def age_s(self) -> float:
        """How long ago a member has last given a sign of life, and was abreast of what others had acknowledged."""
        return asyncio.get_running_loop().time() - self._heard_s

    @property
    def cut_off(self) -> str | None:
        """Why the journal is out of reach, or None."""
        if (age_s := self.age_s) > self._settings.cut_off_s:
            return f"nothing was heard of a majority of etcd's members for {age_s:.0f} s"
        return None

    @property
    def epoch(self) -> int:
        """Which life of the journal this is: one more each time it was rebuilt in a new etcd."""
        return self._epoch

    @property
    def tail_bytes(self) -> int:
        """What the payloads of the frames from `first` to `last` amount to: what trimming makes smaller."""
        return self._last_bytes - self._base.bytes

    @property
    def fullness(self) -> float:
        """How much of the room for frames is taken."""
        return self._members.fullness(self._last_bytes)

    def position_leaving(self, tail_bytes: int) -> Position:
        """Return the oldest position up to which frames must go; the newest mark where none would do, 0 for nothing."""
        if self.tail_bytes <= tail_bytes or not self._marks:
            return 0
        enough = (mark.position for mark in self._marks if self._last_bytes - mark.bytes <= tail_bytes)
        return next(enough, self._marks[-1].position)

    # ---- appending and trimming ----------------------------------------------------------------------------------

    async def append(self, payload: bytes) -> Position:
        """Append one frame and return its position once a majority has it on disk."""
        if len(payload) > self._settings.payload_bytes_max:
            raise FrameTooLargeError(len(payload), self._settings.payload_bytes_max)
        self._check_open()
        if self._failed is not None:
            raise JournalFailedError(self._failed)
        if (full := self.full) is not None:
            raise JournalFullError(full)
        if (cut_off := self.cut_off) is not None:
            raise JournalUnreachableError(cut_off)
        append = Append(payload, asyncio.get_running_loop().create_future())
        self._lanes.put(append)
        try:
            async with asyncio.timeout(self._settings.append_s_max):
                return await append.future
        except TimeoutError:
            reason = f"no answer within {self._settings.append_s_max} s"
            if self._lanes.withdraw(append):
                raise JournalUnreachableError(reason) from None
            raise MaybeDoneError(reason) from None

    async def trim(self, before: Position) -> None:
        """Let go of frames before `before`, as far as marks allow, and of what etcd keeps of what was overwritten."""
        self._check_open()
        marks = [mark for mark in self._marks if mark.position < before]
        try:
            if not marks:
                await self._client.compact(self._next_revision - 1, self._settings.append_s_max)
                return
            base = await trim(self._client, self._keys, self._epoch, marks, self._settings.append_s_max)
        except (CompactedError, NoSpaceError, RefusedError) as error:
            raise MaybeDoneError(f"trimming: {error}") from error
        self._move_base(base)

    # ---- notices -------------------------------------------------------------------------------------------------

    @property
    def notices(self) -> Mapping[str, Notice]:
        """The newest notice of each node, as far as the tail knows."""
        return self._notices

    async def post_notice(self, name: str, content: bytes) -> None:
        """Replace the notice under a name, unless the journal has been begun anew in another epoch."""
        self._check_open()
        request = rpc.TxnRequest(
            compare=[epoch_is(self._keys, self._epoch)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=self._keys.node(name), value=content))],
        )
        try:
            answer = await self._client.txn(request, self._settings.append_s_max)
        except (CompactedError, NoSpaceError, RefusedError) as error:
            raise MaybeDoneError(f"posting a notice: {error}") from error
        if not answer.txn.succeeded:
            self._fail(_OTHER_EPOCH)
            raise JournalFailedError(_OTHER_EPOCH)

    def _hear(self, notices: Mapping[str, bytes]) -> None:
        now_s = asyncio.get_running_loop().time()
        for name, content in notices.items():
            self._notices[name] = Notice(content, now_s)

    # ---- reading -------------------------------------------------------------------------------------------------

    def read(self, start: Position) -> Iterator[Frame]:
        """Iterate over the frames from `start` to what is `last` now; blocks on etcd."""
        self._check_readable(start)
        return self._read(start, self.last)

    def follow(self, start: Position) -> AsyncGenerator[Frame, None]:
        """Iterate over the frames from `start`, waiting for new ones, until the journal is closed."""
        self._check_readable(start)
        return self._follow(start)

    def _read(self, start: Position, last: Position) -> Iterator[Frame]:
        while start <= last and (recent := self._recent.get(start)) is not None:
            yield recent
            start += 1
        if start > last:
            return
        base, marks = self._base, self._marks
        if start <= base.position:
            raise TrimmedError(start, base.position + 1)
        number = bisect_right(marks, start - 1, key=lambda mark: mark.position) - 1
        chain = Chain(marks[number] if number >= 0 else base)
        assert chain.position < start, (chain.position, start)
        try:
            for found in read_to_the_end(self._reader, self._keys, chain, look(self._reader, self._keys)):
                if found.frame.position >= start:
                    yield found.frame
                if found.frame.position >= last:
                    return
        except TrimmedError as error:
            raise TrimmedError(start, error.first) from error
        except (MissedError, LayoutError) as error:
            raise _damaged(error, chain.position + 1) from error
        except RefusedError as error:
            raise EtcdRefusedError(error.endpoint, error.reason) from error

    async def _follow(self, start: Position) -> AsyncGenerator[Frame, None]:
        while True:
            changed = self._recent.changed
            if self._closed:
                return
            if (recent := self._recent.get(start)) is not None:
                yield recent
                start += 1
            elif self._broken is not None:
                raise self._broken
            elif start <= self.last:
                reader = self._read(start, self.last)
                try:
                    while (
                        frames := await asyncio.to_thread(take_some, reader, lambda frame: frame)
                    ) and not self._closed:
                        for frame in frames:
                            yield frame
                            start += 1
                except JournalClosedError:
                    pass
                except JournalUnreachableError as error:
                    # No reason to give up: whoever follows goes on when the journal is there again.
                    log.warning("journal.follower_waits", position=start, reason=error.reason)
                    await asyncio.sleep(_PAUSE_S)
            else:
                await changed.wait()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise JournalClosedError

    def _check_readable(self, start: Position) -> None:
        self._check_open()
        if start < self.first:
            raise TrimmedError(start, self.first)

    # ---- the tail ------------------------------------------------------------------------------------------------

    async def _follow_etcd(self) -> None:
        member = self._client.nearest
        told_s = 0.0
        while self._broken is None:
            try:
                async with aclosing(
                    self._client.watch(member, self._keys.all, self._keys.all_end, self._next_revision)
                ) as responses:
                    async for response in responses:
                        self._take(response)
                        self._check_abreast(response)
                        self._heard_s = asyncio.get_running_loop().time()
            except (CompactedError, MissedError) as why:
                # Compacted, or a member left something out. The keys have it all.
                log.warning("journal.reading_again", member=self._client.endpoints[member], reason=str(why))
                with suppress(JournalUnreachableError):
                    await self._catch_up()
            except WatchBrokenError as why:
                if self._heard_s != told_s:
                    # Once for each silence, however many members are tried meanwhile.
                    log.warning("journal.watch_broke", member=self._client.endpoints[member], reason=str(why))
                    told_s = self._heard_s
                member = self._client.next_after(member)
                await asyncio.sleep(_PAUSE_S)

    def _check_abreast(self, response: rpc.WatchResponse) -> None:
        """Leave a member that gives signs of life, and does not know what others have acknowledged to us."""
        is_abreast = bool(response.events) or self._lanes.revision < self._next_revision
        self._signs_behind = 0 if is_abreast else self._signs_behind + 1
        if self._signs_behind > 1:
            self._signs_behind = 0
            raise WatchBrokenError("it is behind what others have acknowledged")

    async def _catch_up(self) -> None:
        """Read what a watch can no longer tell, and go on watching from there."""
        marks = await asyncio.to_thread(read_marks, self._reader, self._keys)
        seen = await asyncio.to_thread(look, self._reader, self._keys)
        self._hear(await asyncio.to_thread(read_notices, self._reader, self._keys))
        self._take_look(seen)
        # Pieces of frames that are not whole are read again.
        chain = Chain(self._chain.place)
        reading = _Reading(read_to_the_end(self._reader, self._keys, chain, seen))
        while batch := await asyncio.to_thread(take_some, reading, _frame_of):
            for found in batch:
                if found.frame.position > self._last:
                    self._publish(found, chain.bytes)
            self._recent.wake()
        assert reading.look is not None
        self._chain = chain
        self._next_revision = max(self._next_revision, reading.look.revision + 1)
        self._take_look(reading.look)
        for mark in marks:
            self._add_mark(mark)

    def _take_look(self, seen: Look) -> None:
        if seen.epoch != self._epoch:
            self._fail(_OTHER_EPOCH)
        if seen.cluster_id != self._cluster_id:
            raise JournalFailedError(_OTHER_ETCD)
        self._move_base(seen.base)

    def _take(self, response: rpc.WatchResponse) -> None:
        if response.header.cluster_id and response.header.cluster_id != self._cluster_id:
            raise JournalFailedError(_OTHER_ETCD)
        for event in response.events:
            self._take_event(event)
        if response.events:
            # After a fragment, the rest of its last revision is still to come.
            newest = response.events[-1].kv.mod_revision
            self._next_revision = max(self._next_revision, newest if response.fragment else newest + 1)
            self._recent.wake()

    def _take_event(self, event: rpc.Event) -> None:
        if self._is_over:
            return  # what comes now is of another life, whatever it looks like
        keys, key = self._keys, event.kv.key
        is_put = event.type == rpc.Event.PUT
        if key.startswith(keys.frames):
            if is_put:
                lane, number = keys.parse_piece(key)
                piece = parse_piece(key, event.kv.value)
                frame = self._chain.take(key, lane, number, piece, event.kv.create_revision)
                if frame is not None and frame.position > self._last:
                    self._publish(Found(lane, number, frame), self._chain.bytes)
                    self._mark_if_due(lane)
        elif key.startswith(keys.lanes):
            if not is_put:
                gone = keys.parse_lane(key)
                self._chain.forget(gone)
                self._lanes.forget(gone)
        elif key.startswith(keys.marks):
            if is_put:
                self._add_mark(parse_place(key, event.kv.value))
        elif key.startswith(keys.nodes):
            if is_put:
                self._hear({keys.parse_node(key): event.kv.value})
            else:
                self._notices.pop(keys.parse_node(key), None)
        elif key == keys.base and is_put:
            self._move_base(parse_place(key, event.kv.value))
        elif key == keys.epoch and (not is_put or parse_number(key, event.kv.value) != self._epoch):
            self._is_over = True
            self._fail(_OTHER_EPOCH)

    def _publish(self, found: Found, bytes_so_far: int) -> None:
        frame = found.frame
        assert frame.position == self._last + 1, (frame.position, self._last)
        self._last, self._last_digest, self._last_bytes = frame.position, frame.digest, bytes_so_far
        self._recent.add(frame)
        append = self._lanes.own.pop((found.lane, found.number), None)
        if append is not None and not append.future.done():
            append.future.set_result(frame.position)

    def _mark_if_due(self, lane: str) -> None:
        """Set a mark when enough has come since the last one. All think so at the same frame; its writer sets it."""
        bytes_since = self._chain.bytes - self._marked.bytes
        frames_since = self._chain.position - self._marked.position
        if bytes_since >= self._settings.mark_bytes or frames_since >= self._settings.mark_frames:
            self._marked = self._chain.place
            if self._lanes.is_ours(lane):
                task = asyncio.create_task(self._put_mark(self._marked), name=f"journal mark {self._marked.position}")
                self._marking.add(task)
                task.add_done_callback(self._marking.discard)

    async def _put_mark(self, place: Place) -> None:
        key = self._keys.mark(place.position)
        request = rpc.TxnRequest(
            compare=[
                epoch_is(self._keys, self._epoch),
                rpc.Compare(target=rpc.Compare.CREATE, key=key, create_revision=0),
            ],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=pack_place(place)))],
        )
        try:
            await self._client.txn(request, self._settings.append_s_max)
        except (JournalUnreachableError, NoSpaceError, RefusedError) as error:
            # The next mark will do.
            log.warning("journal.mark_failed", position=place.position, reason=str(error))

    def _add_mark(self, mark: Place) -> None:
        at = bisect_right(self._marks, mark.position, key=lambda known: known.position)
        is_known = at > 0 and self._marks[at - 1].position == mark.position
        if mark.position > self._base.position and not is_known:
            self._marks = [*self._marks[:at], mark, *self._marks[at:]]

    def _move_base(self, base: Place) -> None:
        if base.position > self._base.position:
            self._base = base
            self._marks = [mark for mark in self._marks if mark.position > base.position]

    # ---- ends ----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finish the appends in flight, end the followers and close the connections."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="journal closing")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._lanes.close()
        await asyncio.wait(self._lane_tasks)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S_MAX):
                await self._lanes.wait_all_seen()
        self._closed = True
        self._recent.wake()
        for task in (*self._tasks, *self._marking):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._marking, return_exceptions=True)
        await self._client.close()
        self._reader.close()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work that goes on as long as the journal; whoever waits for the journal must not wait for ever."""
        try:
            await work
        except asyncio.CancelledError:
            if self._closing is None:
                self._end(JournalFailedError("a task of the journal was cancelled"))
            raise
        except (MissedError, LayoutError) as error:
            self._end(_damaged(error, self._last + 1))
        except JournalError as error:
            self._end(error)
        except RefusedError as error:
            self._end(JournalFailedError(str(error)))
        except Exception as bug:
            log.exception("journal.broke")
            self._end(JournalFailedError(f"the journal broke: {bug!r}"))

    def _end(self, error: JournalError) -> None:
        self._broken = error
        self._fail(str(error))
        self._recent.wake()

    def _fail(self, reason: str) -> None:
        if self._failed is None:
            self._failed = reason
            log.error("journal.failed", reason=reason, last=self._last)


class _Reading(Iterator[Found]):
    """A reading to the end, and the look that it ended with."""

    def __init__(self, found: Generator[Found, None, Look]) -> None:
        self.look: Look | None = None
        self._found = found

    def __next__(self) -> Found:
        try:
            return next(self._found)
        except StopIteration as end:
            if self.look is None:
                self.look = end.value
            raise


def _frame_of(found: Found) -> Frame:
    return found.frame


def _read_to_the_end(reader: BlockingClient, settings: EtcdJournalSettings) -> tuple[Look, list[Place], Chain]:
    """Return a look, the marks and the chain at the end of the journal."""
    keys = Keys(settings.prefix)
    # The marks first: so the look is not older than any of them.
    marks = read_marks(reader, keys)
    seen = look(reader, keys)
    if seen.is_fenced:
        raise JournalFencedError(settings.prefix, seen.epoch)
    while True:
        marks = [mark for mark in marks if mark.position > seen.base.position]
        chain = Chain(marks[-1] if marks else seen.base)
        reading = _Reading(read_to_the_end(reader, keys, chain, seen))
        try:
            for _ in reading:
                pass
        except TrimmedError:
            seen = look(reader, keys)
        except (MissedError, LayoutError) as error:
            raise _damaged(error, chain.position + 1) from error
        else:
            assert reading.look is not None
            return reading.look, marks, chain


def _damaged(error: MissedError | LayoutError, position: Position) -> JournalDamagedError:
    return JournalDamagedError(Path(error.key.decode(errors="replace")), 0, position, str(error))

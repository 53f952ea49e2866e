"""The writer, with a journal of the test's own: what becomes a frame, who is told what, and when nothing is taken."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

import pytest

from fivenines.ids import IdMaker
from fivenines.journal import Frame, Journal, JournalFullError, MaybeDoneError, NotDoneError
from fivenines.ledger import Command, Hold, OpenAccount, Outcome, Posting, PostOne, RegisterAsset, State, decode
from fivenines.node import Limits, NodeSettings, OverloadedError, Receipt, Writer
from fivenines.node.replica import PositionTimeoutError, Replica


@dataclass
class HeldJournal(Journal):
    """A journal in memory that appends when the test says so, each append apart."""

    frames: list[Frame] = field(default_factory=list)
    waiting: list[tuple[bytes, "asyncio.Future[int]"]] = field(default_factory=list)
    closed: bool = False
    failed: str | None = None
    cut_off: str | None = None
    age_s: float = 0.0
    first: int = 1
    last_digest: bytes = bytes(32)
    payload_bytes_max: int = 16 * 1024 * 1024
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last(self) -> int:
        return len(self.frames)

    async def append(self, payload: bytes) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append((payload, future))
        return await future

    def let_one(self, error: Exception | None = None) -> None:
        payload, future = self.waiting.pop(0)
        if error:
            future.set_exception(error)
            return
        self.frames.append(Frame(len(self.frames) + 1, payload, bytes(32)))
        future.set_result(len(self.frames))
        self.changed.set()

    def read(self, start: int) -> Iterator[Frame]:
        return iter(self.frames[start - 1 :])

    async def follow(self, start: int) -> AsyncGenerator[Frame, None]:
        position = start
        while not self.closed:
            while position <= len(self.frames):
                yield self.frames[position - 1]
                position += 1
            self.changed.clear()
            await self.changed.wait()

    async def trim(self, before: int) -> None:
        self.first = before

    async def close(self) -> None:
        self.closed = True
        self.changed.set()


@dataclass
class Bench:
    """A writer and a replica on a journal that waits for the test."""

    journal: HeldJournal
    state: State
    writer: Writer
    replica: Replica
    now_us: int = 1_800_000_000_000_000

    def ids(self, count: int) -> list[bytes]:
        """Make ids of the time that it is."""
        return [number.to_bytes(16) for number in IdMaker(clock_ms=lambda: self.now_us // 1000).numbers(count)]

    def posts(self, count: int) -> list[Command]:
        return [PostOne(id, "a", "b", 1) for id in self.ids(count)]

    async def settle(self) -> None:
        """Let everybody who can go on do so."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def submit(self, commands: list[Command], *, durable_is_enough: bool = False) -> "asyncio.Task[Receipt]":
        """Begin a request, and let it get as far as it can."""
        task = asyncio.create_task(self.writer.submit(commands, durable_is_enough=durable_is_enough))
        await self.settle()
        return task


async def bench(settings: NodeSettings | None = None) -> tuple[Bench, "asyncio.Task[None]"]:
    journal, state = HeldJournal(), State()
    made: list[Bench] = []
    writer = Writer(journal, state, settings or NodeSettings(), lambda: made[0].now_us, bytes(16))
    replica = Replica(state, journal)
    replica.recognise(writer.batch_of)
    replica.listen(writer.on_applied)
    made.append(Bench(journal, state, writer, replica))

    async def run() -> None:
        following = asyncio.create_task(replica.run())
        await writer.run()
        await journal.close()
        await following

    running = asyncio.create_task(run())
    first = await made[0].submit([RegisterAsset("EUR/2"), *(OpenAccount(a, "EUR/2", None) for a in "ab")])
    journal.let_one()
    await first
    return made[0], running


async def finish(at: Bench, running: "asyncio.Task[None]") -> None:
    at.writer.close()
    await running


def test_what_comes_during_an_append_makes_the_next_frame() -> None:
    async def main() -> None:
        at, running = await bench()
        first = await at.submit(at.posts(1))
        later = [await at.submit(at.posts(count)) for count in (1, 3, 2)]
        assert len(at.journal.waiting) == 1
        at.journal.let_one()
        assert (await first).position == 2
        await at.settle()
        assert len(decode(at.journal.waiting[0][0]).commands) == 6
        at.journal.let_one()
        receipts = [await task for task in later]
        assert [(r.position, len(r.outcomes)) for r in receipts] == [(3, 1), (3, 3), (3, 2)]
        await finish(at, running)

    asyncio.run(main())


def test_several_appends_may_be_on_their_way_and_each_answers_its_own() -> None:
    async def main() -> None:
        at, running = await bench(NodeSettings(appends_in_flight_max=3))
        tasks = [await at.submit(at.posts(1)) for _ in range(5)]
        assert len(at.journal.waiting) == 3
        for _ in range(4):
            at.journal.let_one()
            await at.settle()
        receipts = [await task for task in tasks]
        assert [r.position for r in receipts] == [2, 3, 4, 5, 5]
        assert at.state.accounts["b"].balance == 5
        await finish(at, running)

    asyncio.run(main())


def test_a_frame_is_bounded_in_commands_and_in_bytes_but_takes_one_request_whole() -> None:
    async def main() -> None:
        at, running = await bench(NodeSettings(frame_commands_max=10))
        blocker = await at.submit(at.posts(1))
        tasks = [await at.submit(at.posts(count)) for count in (6, 4, 1, 25, 1)]
        sizes = []
        for _ in range(5):
            sizes.append(len(decode(at.journal.waiting[0][0]).commands))
            at.journal.let_one()
            await at.settle()
        assert sizes == [1, 10, 1, 25, 1]
        await asyncio.gather(blocker, *tasks)
        await finish(at, running)

    asyncio.run(main())


def test_the_queue_is_bounded_in_requests_and_in_commands() -> None:
    async def main() -> None:
        limits = Limits(queue_requests_max=3, queue_commands_max=10)
        at, running = await bench(NodeSettings(limits=limits))
        tasks = [await at.submit(at.posts(1)) for _ in range(4)]
        with pytest.raises(OverloadedError):
            await at.writer.submit(at.posts(1))
        at.journal.let_one()
        await at.settle()
        tasks.append(await at.submit(at.posts(10)))
        with pytest.raises(OverloadedError):
            await at.writer.submit(at.posts(1))
        assert (at.writer.queued_requests, at.writer.queued_commands) == (1, 10)
        for _ in range(2):
            at.journal.let_one()
            await at.settle()
        await asyncio.gather(*tasks)
        assert at.state.accounts["b"].balance == 14
        await finish(at, running)

    asyncio.run(main())


def test_durable_is_enough_does_not_wait_until_it_is_applied() -> None:
    async def main() -> None:
        at, running = await bench()
        at.replica.listen(lambda *_: at.journal.changed.clear())
        task = await at.submit(at.posts(2), durable_is_enough=True)
        assert not task.done()
        at.journal.let_one()
        receipt = await task
        assert (receipt.position, receipt.outcomes) == (2, [])
        await at.settle()
        assert at.state.accounts["b"].balance == 2
        await finish(at, running)

    asyncio.run(main())


def test_a_barrier_is_a_frame_without_commands() -> None:
    async def main() -> None:
        at, running = await bench()
        task = await at.submit([])
        assert decode(at.journal.waiting[0][0]).commands == []
        at.journal.let_one()
        assert (await task).outcomes == []
        assert at.replica.position == 2
        await finish(at, running)

    asyncio.run(main())


def test_a_request_that_nobody_waits_for_any_more_disturbs_nobody() -> None:
    async def main() -> None:
        at, running = await bench()
        tasks = [await at.submit(at.posts(1)) for _ in range(3)]
        for task in tasks[:2]:
            task.cancel()
        await at.settle()
        for _ in range(2):
            at.journal.let_one()
            await at.settle()
        assert (await tasks[2]).outcomes == [Outcome.posted]
        assert at.state.accounts["b"].balance == 3
        await finish(at, running)

    asyncio.run(main())


@pytest.mark.parametrize("error", [JournalFullError("no room"), MaybeDoneError("who knows")])
def test_a_frame_that_fails_is_told_to_all_in_it_and_the_next_goes_on(error: Exception) -> None:
    async def main() -> None:
        at, running = await bench()
        blocker = await at.submit(at.posts(1))
        failing = [await at.submit(at.posts(1)) for _ in range(2)]
        at.journal.let_one()
        await blocker
        await at.settle()
        at.journal.let_one(error)
        for task in failing:
            with pytest.raises(type(error)):
                await task
        after = asyncio.create_task(at.writer.submit(at.posts(1)))
        while not at.journal.waiting:  # noqa: ASYNC110 - the writer pauses for a while after a failure
            await asyncio.sleep(0.001)
        at.journal.let_one()
        assert (await after).outcomes == [Outcome.posted]
        assert at.writer.journal_full is None
        await finish(at, running)

    asyncio.run(main())


def test_a_full_journal_is_asked_for_room_while_nobody_writes() -> None:
    async def main() -> None:
        at, running = await bench()
        task = await at.submit(at.posts(1))
        at.journal.let_one(JournalFullError("no room"))
        with pytest.raises(JournalFullError):
            await task
        assert "no room" in str(at.writer.journal_full)
        while not at.journal.waiting:  # noqa: ASYNC110 - it asks once a second
            await asyncio.sleep(0.001)
        assert decode(at.journal.waiting[0][0]).commands == []
        at.journal.let_one()
        await at.settle()
        assert at.writer.journal_full is None
        await finish(at, running)

    asyncio.run(main())


def test_a_hold_expires_by_a_frame_of_the_writer_when_nothing_else_is_written() -> None:
    async def main() -> None:
        at, running = await bench()
        (id,) = at.ids(1)
        task = await at.submit([Hold(id, (Posting("a", "b", 7),), 500_000)])
        at.journal.let_one()
        await task
        await at.settle()
        assert (at.state.accounts["a"].held_debits, at.journal.waiting) == (7, [])
        at.now_us += 500_001
        while not at.journal.waiting:  # noqa: ASYNC110 - it looks when the hold's time should have come
            await asyncio.sleep(0.001)
        assert decode(at.journal.waiting[0][0]).commands == []
        at.journal.let_one()
        await at.settle()
        assert (at.state.accounts["a"].held_debits, len(at.state.holds), at.journal.waiting) == (0, 0, [])
        await finish(at, running)

    asyncio.run(main())


def test_a_closed_writer_writes_what_it_has_and_takes_no_more() -> None:
    async def main() -> None:
        at, running = await bench()
        tasks = [await at.submit(at.posts(1)) for _ in range(3)]
        at.writer.close()
        with pytest.raises(OverloadedError):
            await at.writer.submit(at.posts(1))
        for _ in range(2):
            at.journal.let_one()
            await at.settle()
        await asyncio.gather(*tasks)
        await running
        assert at.state.accounts["b"].balance == 3

    asyncio.run(main())


def test_a_repeat_tells_the_position_of_the_first_and_only_within_its_request() -> None:
    async def main() -> None:
        at, running = await bench()
        known = at.posts(1)
        first = await at.submit(known)
        at.journal.let_one()
        await first
        blocker = await at.submit(at.posts(1))
        one, two = await at.submit([*at.posts(2), *known]), await at.submit([*known, *at.posts(1)])
        for _ in range(2):
            at.journal.let_one()
            await at.settle()
        await blocker
        assert (await one).repeated == {2: 2}
        assert (await two).repeated == {0: 2}
        assert at.state.accounts["b"].balance == 5
        await finish(at, running)

    asyncio.run(main())


def test_waiting_for_a_position_ends_when_told_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        replica = Replica(State(), HeldJournal())
        for _ in range(100):
            with pytest.raises(PositionTimeoutError):
                await replica.wait_position(10**9, 0)
        assert len(replica._waiting) <= 2
        waiting = asyncio.create_task(replica.wait_position(5, 1_000))
        await asyncio.sleep(0)
        replica.stop_waiting()
        with pytest.raises(PositionTimeoutError):
            await waiting

    asyncio.run(main())


def test_a_journal_that_is_out_of_reach_is_said_at_once_and_nothing_is_queued() -> None:
    async def main() -> None:
        it, running = await bench()
        it.journal.cut_off = "nothing was heard for 4 s"
        with pytest.raises(NotDoneError, match="nothing was heard for 4 s"):
            await it.writer.submit(it.posts(1))
        assert it.writer.queued_requests == 0
        running.cancel()

    asyncio.run(main())


def test_who_waits_is_sent_home_when_the_journal_is_out_of_reach_and_when_the_node_leaves() -> None:
    async def main() -> None:
        it, running = await bench()
        sent = await it.submit(it.posts(1))
        waiting = await it.submit(it.posts(1))
        it.writer.refuse_waiting("cut off")
        with pytest.raises(NotDoneError, match="cut off"):
            await waiting
        assert not sent.done()
        it.writer.disown("its state differs")
        # It is on its way to the journal: nobody can say that it was not done.
        with pytest.raises(MaybeDoneError, match="its state differs"):
            await sent
        running.cancel()

    asyncio.run(main())

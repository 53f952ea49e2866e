"""What every journal promises, whatever keeps it."""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from fivenines.journal import Frame, FrameTooLargeError, Journal, JournalClosedError, TrimmedError
from fivenines.journal.format import DIGEST_NONE, pack_frame
from tests.contract.conftest import PAYLOAD_BYTES_MAX, Open


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def take(journal: Journal, start: int, count: int) -> list[Frame]:
    frames: list[Frame] = []
    async with aclosing(journal.follow(start)) as follower:
        async for frame in follower:
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


async def drain(follower: AsyncGenerator[Frame, None]) -> None:
    async for frame in follower:
        assert frame.position < 200


async def append_in_turn(journal: Journal, payloads: list[bytes]) -> list[int]:
    return [await journal.append(payload) for payload in payloads]


def some_payloads(count: int) -> list[bytes]:
    return [b"%d " % number * (number % 60) for number in range(count)]


def chained(payloads: list[bytes]) -> list[Frame]:
    """What the frames of a journal with these payloads are, from the definition."""
    frames, digest = [], DIGEST_NONE
    for position, payload in enumerate(payloads, start=1):
        _, _, digest = pack_frame(position, digest, payload)
        frames.append(Frame(position, payload, digest))
    return frames


def test_a_new_journal_is_empty(open_journal: Open) -> None:
    async def main() -> None:
        async with open_journal() as journal:
            assert (journal.first, journal.last, journal.last_digest) == (1, 0, DIGEST_NONE)
            assert list(journal.read(1)) == []
            assert journal.failed is None

    run(main())


def test_positions_count_from_one_in_the_order_of_appends_and_digests_are_chained(open_journal: Open) -> None:
    async def main() -> None:
        payloads = some_payloads(100)
        expected = chained(payloads)
        async with open_journal() as journal:
            assert await append_in_turn(journal, payloads) == list(range(1, 101))
            assert list(journal.read(1)) == expected
            assert (journal.first, journal.last, journal.last_digest) == (1, 100, expected[-1].digest)
        async with open_journal() as journal:
            assert (journal.first, journal.last, journal.last_digest) == (1, 100, expected[-1].digest)
            for start in (1, 2, 50, 99, 100, 101, 500):
                assert list(journal.read(start)) == expected[start - 1 :]
            assert await journal.append(b"more") == 101

    run(main())


def test_concurrent_appends_each_have_a_position_of_their_own(open_journal: Open) -> None:
    async def main() -> None:
        payloads = [b"payload %d" % number for number in range(200)]
        async with open_journal() as journal:
            positions = await asyncio.gather(*map(journal.append, payloads))
            assert sorted(positions) == list(range(1, 201))
            frames = list(journal.read(1))
            assert {frame.position: frame.payload for frame in frames} == dict(zip(positions, payloads, strict=True))
            assert frames == chained([frame.payload for frame in frames])

    run(main())


def test_an_append_that_was_answered_can_be_read(open_journal: Open) -> None:
    async def main() -> None:
        async with open_journal() as journal:
            for number in range(30):
                position = await journal.append(b"%d" % number)
                assert journal.last >= position
                assert [frame.payload for frame in journal.read(position)] == [b"%d" % number]

    run(main())


def test_followers_from_anywhere_see_each_frame_once_and_in_order(open_journal: Open) -> None:
    async def main() -> None:
        payloads = some_payloads(120)
        expected = chained(payloads)
        async with open_journal() as journal:
            await append_in_turn(journal, payloads[:60])
            starts = (1, 2, 30, 59, 60, 61, 90)
            followers = [asyncio.create_task(take(journal, start, 121 - start)) for start in starts]
            await append_in_turn(journal, payloads[60:])
            for start, follower in zip(starts, followers, strict=True):
                assert await follower == expected[start - 1 :]

    run(main())


def test_a_slow_follower_loses_nothing(open_journal: Open) -> None:
    async def main() -> None:
        payloads = some_payloads(150)
        async with open_journal() as journal:
            await append_in_turn(journal, payloads[:20])
            seen = []
            async with aclosing(journal.follow(1)) as follower:
                async for frame in follower:
                    seen.append(frame)
                    if len(seen) == 5:
                        await append_in_turn(journal, payloads[20:])
                    if len(seen) == 150:
                        break
            assert seen == chained(payloads)

    run(main())


@pytest.mark.parametrize("length", [0, 1, 65_536, 65_537, PAYLOAD_BYTES_MAX])
def test_payloads_of_every_length_come_back(open_journal: Open, length: int) -> None:
    async def main() -> None:
        payload = os.urandom(length)
        async with open_journal() as journal:
            await append_in_turn(journal, [b"before", payload, b"after"])
            assert list(journal.read(1)) == chained([b"before", payload, b"after"])
            assert await take(journal, 1, 3) == chained([b"before", payload, b"after"])

    run(main())


def test_a_payload_over_the_limit_is_refused_and_nothing_is_appended(open_journal: Open) -> None:
    async def main() -> None:
        async with open_journal() as journal:
            assert journal.payload_bytes_max == PAYLOAD_BYTES_MAX
            with pytest.raises(FrameTooLargeError) as refused:
                await journal.append(bytes(PAYLOAD_BYTES_MAX + 1))
            assert refused.value.payload_bytes == PAYLOAD_BYTES_MAX + 1
            assert await journal.append(b"next") == 1

    run(main())


def test_trimming_lets_go_of_old_frames_and_moves_no_position(open_journal: Open) -> None:
    async def main() -> None:
        payloads = some_payloads(200)
        expected = chained([*payloads, b"more"])
        async with open_journal() as journal:
            await append_in_turn(journal, payloads)
            while len(list(journal.read(journal.first))) == 200:
                await journal.trim(150)
                await asyncio.sleep(0)
            first = journal.first
            assert 1 < first <= 150
            assert (journal.last, journal.last_digest) == (200, expected[199].digest)
            assert list(journal.read(first)) == expected[first - 1 : 200]
            assert await journal.append(b"more") == 201
            with pytest.raises(TrimmedError) as trimmed:
                list(journal.read(first - 1))
            assert (trimmed.value.start, trimmed.value.first) == (first - 1, first)
            with pytest.raises(TrimmedError):
                await take(journal, 1, 1)
        async with open_journal() as journal:
            assert (journal.first, journal.last, journal.last_digest) == (first, 201, expected[-1].digest)
            assert await take(journal, first, 202 - first) == expected[first - 1 :]

    run(main())


def test_trimming_what_is_not_there_changes_nothing(open_journal: Open) -> None:
    async def main() -> None:
        async with open_journal() as journal:
            await journal.trim(10)
            await append_in_turn(journal, some_payloads(5))
            await journal.trim(1)
            assert (journal.first, journal.last) == (1, 5)

    run(main())


def test_a_follower_whose_frames_are_trimmed_is_told(open_journal: Open) -> None:
    async def main() -> None:
        async with open_journal() as journal:
            await append_in_turn(journal, some_payloads(100))
            follower = journal.follow(1)
            assert (await anext(follower)).position == 1
            await append_in_turn(journal, some_payloads(100))
            while journal.first < 100:
                await journal.trim(190)
                await asyncio.sleep(0)
            with pytest.raises(TrimmedError):
                await drain(follower)  # what it has in hand it may still tell

    run(main())


def test_closing_ends_the_followers_and_finishes_the_appends(open_journal: Open) -> None:
    async def main() -> None:
        async with open_journal() as journal:
            await journal.append(b"first")
            follower = asyncio.create_task(take(journal, 1, 1_000))
            appends = [asyncio.create_task(journal.append(b"%d" % number)) for number in range(20)]
            await asyncio.sleep(0)
            await journal.close()
            assert sorted(await asyncio.gather(*appends)) == list(range(2, 22))
            assert [frame.position for frame in await follower] == list(range(1, 22))[: len(follower.result())]
            await journal.close()
            with pytest.raises(JournalClosedError):
                await journal.append(b"late")
            with pytest.raises(JournalClosedError):
                journal.read(1)
        async with open_journal() as journal:
            assert journal.last == 21

    run(main())


def test_reading_from_another_thread_does_not_disturb_appends(open_journal: Open) -> None:
    async def main() -> None:
        payloads = some_payloads(80)
        async with open_journal() as journal:
            await append_in_turn(journal, payloads[:40])
            reading = asyncio.gather(*(asyncio.to_thread(list, journal.read(start)) for start in (1, 20, 40)))
            await append_in_turn(journal, payloads[40:])
            assert await reading == [chained(payloads)[start - 1 : 40] for start in (1, 20, 40)]

    run(main())

"""Streams of events: many followers cost one reading, too many are refused, and writes come first."""

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fivenines.journal import Journal
from fivenines.node import Limits, history
from tests.integration.node.served import GatedDisk, Served, one, request, served, until

STREAM = ["Accept: text/event-stream"]


async def follow(node: Served, after: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Open a stream; return it and its status line."""
    reader, writer = await node.connect()
    writer.write(request("GET", f"/v1/events?after={after}", headers=STREAM))
    head = await reader.readuntil(b"\r\n\r\n")
    return reader, writer, head.partition(b"\r\n")[0]


async def subjects(reader: asyncio.StreamReader, count: int) -> list[str]:
    """Read so many events, and return what they are about."""
    found: list[str] = []
    while len(found) < count:
        line = await reader.readline()
        assert line, found
        if line.startswith(b"data: "):
            found.append(msgspec.json.decode(line[6:])["subject"])
    return found


def test_many_followers_see_all_in_order_and_the_journal_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    events = history.events

    def counted(journal: Journal, *arguments: Any, after: int, **named: Any) -> Any:
        read.append(after)
        return events(journal, *arguments, after=after, **named)

    async def main() -> None:
        async with served(tmp_path) as node:
            await node.open_books()
            monkeypatch.setattr(history, "events", counted)
            start = node.node.replica.position
            followers = [await follow(node, start) for _ in range(30)]
            items = [one() for _ in range(40)]
            following = [asyncio.create_task(subjects(reader, len(items))) for reader, _, _ in followers]
            for item in items:
                assert (await node.post(item)).status_code == 200
            for found in await asyncio.gather(*following):
                assert found == [item["id"] for item in items]
            # As many pages as there may be, and none of them for each follower.
            assert len(read) == len(set(read)) <= len(items) + 1
            for _, writer, _ in followers:
                writer.close()

    asyncio.run(main())


def test_one_stream_too_many_is_refused_and_one_that_ends_makes_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, limits=Limits(streams_max=3)) as node:
            await node.open_books()
            streams = [await follow(node, 0) for _ in range(3)]
            assert {status for _, _, status in streams} == {b"HTTP/1.1 200 OK"}
            refused = await node.http.get("/v1/events?after=0", headers={"Accept": "text/event-stream"})
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/too_many_streams")
            assert refused.headers["Retry-After"] == "1"
            assert (await node.get("/v1/events?after=0")).status_code == 200
            streams[0][1].close()
            while b" 200 " not in (again := await follow(node, 0))[2]:
                again[1].close()
            for _, writer, _ in (*streams[1:], again):
                writer.close()

    asyncio.run(main())


def test_while_writes_queue_up_a_stream_waits_and_then_tells_all(tmp_path: Path) -> None:
    async def main() -> None:
        disk = GatedDisk()
        os.write(disk.write_end, b"12")
        async with served(tmp_path, disk=disk, limits=Limits(queue_requests_max=4)) as node:
            await node.open_books()
            writes = [asyncio.create_task(node.post(one()))]
            await until(lambda: bool(node.node.writer._in_flight))
            reader, writer, status = await follow(node, 0)
            assert status.endswith(b"200 OK")
            writes += [asyncio.create_task(node.post(one())) for _ in range(3)]
            await until(lambda: node.node.writer.is_half_full)
            _, late_writer, status = await follow(node, 0)
            assert status.endswith(b"503 Service Unavailable")
            # The page that was being made when the queue grew may still come; the stream waits after it.
            os.write(disk.write_end, b"1")
            done, _ = await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result().status_code for task in done} == {200}
            writes += [asyncio.create_task(node.post(one())) for _ in range(3)]
            await until(lambda: node.node.writer.is_half_full)
            seen = b""
            while b": later" not in seen:
                seen += await asyncio.wait_for(reader.readline(), 60)
            os.write(disk.write_end, b"1" * 8)
            missing = {answer.json()["id"] for answer in await asyncio.gather(*writes)}
            assert len(missing) == 7
            missing = {id for id in missing if id.encode() not in seen}
            assert len(missing) >= 6
            while missing:
                (id,) = await asyncio.wait_for(subjects(reader, 1), 60)
                missing.remove(id)
            for one_writer in (writer, late_writer):
                one_writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("headers", [{}, {"Accept": "text/event-stream"}])
def test_what_follows_a_position_that_is_not_there_is_not_there_yet(tmp_path: Path, headers: dict[str, str]) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            await node.open_books()
            end = node.node.replica.position
            for query in (f"after={end + 1}", f"after={2**62}", f"after={end + 1}&wait_s=1"):
                answer = await node.http.get(f"/v1/events?{query}", headers=headers)
                assert (answer.status_code, answer.json()["type"]) == (503, "/problems/not_there_yet")
                assert f"at {end}" in answer.json()["detail"]
            assert (await node.get(f"/v1/events?after={end}")).json() == {"events": [], "position": end}

    asyncio.run(main())

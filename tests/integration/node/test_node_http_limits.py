"""A node over HTTP at its limits: too much, too slow, too long, a disk that fails, a stop in the middle of it all."""

import asyncio
import errno
import gc
import os
import socket
from pathlib import Path

import pytest

from fivenines.node import Limits, NodeSettings
from fivenines.node.connections import Connection
from tests.integration.node.served import Disk, GatedDisk, Served, one, read_answer, request, served, until

QUICK = Limits(refusal_delay_ms=1)


def test_writes_beyond_the_queue_are_refused_and_those_within_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        disk = GatedDisk()
        os.write(disk.write_end, b"12")
        limits = Limits(queue_requests_max=3, refusal_delay_ms=1)
        async with served(tmp_path, disk=disk, limits=limits) as node:
            await node.open_books()
            accepted = [asyncio.create_task(node.post(one())) for _ in range(4)]
            await until(lambda: not node.node.writer.has_room)
            refused = [await node.post(one()) for _ in range(5)]
            assert {r.status_code for r in refused} == {503}
            assert {r.headers["Retry-After"] for r in refused} == {"1"}
            assert {r.json()["type"] for r in refused} == {"/problems/overloaded"}
            assert {"nothing was done" in r.json()["detail"] for r in refused} == {True}
            assert (await node.get("/v1/accounts/b")).json()["balance"] == 0
            too_much = await node.get("/v1/accounts/b?consistency=linearizable")
            assert (too_much.status_code, too_much.headers["Retry-After"]) == (503, "1")
            os.write(disk.write_end, b"x" * 100)
            answers = await asyncio.gather(*accepted)
            assert [a.status_code for a in answers] == [200] * 4
            # One was on its way to the disk; what waited for it meanwhile made one frame.
            assert len({a.json()["position"] for a in answers}) == 2
            assert await node.balance() == 4

    asyncio.run(main())


def test_how_long_a_refusal_is_held_back_is_not_how_long_it_took(tmp_path: Path) -> None:
    async def main() -> None:
        disk = GatedDisk()
        os.write(disk.write_end, b"12")
        # Held back for two to six seconds: in no bucket up to one second would it be seen.
        limits = Limits(queue_requests_max=1, refusal_delay_ms=4_000)
        async with served(tmp_path, disk=disk, limits=limits) as node:
            await node.open_books()
            accepted = [asyncio.create_task(node.post(one())) for _ in range(2)]
            await until(lambda: not node.node.writer.has_room)
            assert (await node.post(one())).status_code == 503
            text = (await node.get("/metrics")).text
            assert 'fivenines_http_requests_total{route="transactions",status="503"} 1.0' in text
            assert 'duration_seconds_bucket{le="1.0",route="transactions"} 1.0' in text
            os.write(disk.write_end, b"x" * 100)
            assert {a.status_code for a in await asyncio.gather(*accepted)} == {200}

    asyncio.run(main())


def test_the_memory_of_bodies_is_bounded_while_they_come(tmp_path: Path) -> None:
    async def main() -> None:
        limits = Limits(bodies_bytes_max=1_000_000, refusal_delay_ms=1)
        async with served(tmp_path, limits=limits) as node:
            await node.open_books()
            head = b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            slow = [await node.connect() for _ in range(3)]
            for _, writer in slow:
                writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n60000\r\n" + b" " * 0x60000 + b"\r\n")
            statuses = {status for status, _ in [await next_answer(slow)]}
            assert statuses == {503}
            for _, writer in slow:
                writer.close()
            while (await node.post(one())).status_code != 200:
                pass
            assert (await node.post(one())).status_code == 200

    async def next_answer(
        connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    ) -> tuple[int, bytes]:
        reading = [asyncio.create_task(read_answer(reader)) for reader, _ in connections]
        done, others = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        return done.pop().result()

    asyncio.run(main())


def test_a_new_connection_takes_the_place_of_one_that_is_idle(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, connections_max=5) as node:
            idle = [await node.connect() for _ in range(5)]
            for reader, writer in idle:
                writer.write(request("GET", "/live"))
                assert (await read_answer(reader))[0] == 200
            for _ in range(3):
                assert (await node.get("/live")).status_code == 200
            # The one that was idle for longest made room.
            assert await idle[0][0].read() == b""
            idle[4][1].write(request("GET", "/live"))
            assert (await read_answer(idle[4][0]))[0] == 200
            for _, writer in idle:
                writer.close()

    asyncio.run(main())


def test_with_no_idle_connection_a_request_is_refused_like_any_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, connections_max=4) as node:
            busy = [await node.connect() for _ in range(4)]
            for _, writer in busy:
                writer.write(request("GET", "/v1/events?wait_s=20"))
            await until(lambda: len(node.node.replica._waiting) == 4)
            reader, writer = await node.connect()
            writer.write(request("GET", "/live"))
            status, answer = await read_answer(reader)
            assert status == 503
            for header in (
                b"ledger-position: ",
                b"retry-after: 1",
                b"connection: close",
                b"/problems/too_many_connections",
            ):
                assert header in answer
            assert await reader.read() == b""
            for _, other in (*busy, (reader, writer)):
                other.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"\r\n",
        b"POST /v1/tr",
        b"GET /live HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
    ],
)
def test_a_request_that_never_becomes_whole_is_dropped(tmp_path: Path, beginning: bytes) -> None:
    async def main() -> None:
        async with served(tmp_path, limits=Limits(request_s_max=1)) as node:
            reader, writer = await node.connect()
            writer.write(beginning)
            assert await reader.read() == b""
            writer.close()
            assert (await node.get("/ready")).status_code == 200

    asyncio.run(main())


def test_a_disk_that_fails_leaves_it_open_whether_it_was_done_and_reads_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        disk = Disk()
        async with served(tmp_path, disk=disk, limits=QUICK) as node:
            await node.open_books()
            done = one()
            assert (await node.post(done)).status_code == 200
            disk.error = OSError(errno.EIO, "the disk is on fire")
            unknown = one()
            answer = await node.post(unknown)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/maybe_done")
            assert answer.headers["Retry-After"] == "1"
            assert "may have been done" in answer.json()["detail"]
            disk.error = None
            answer = await node.post(one())
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/journal_unavailable")
            assert "nothing was done" in answer.json()["detail"]
            ready = await node.get("/ready")
            assert (ready.status_code, "the disk is on fire" in ready.json()["detail"]) == (503, True)
            assert (await node.get("/v1/platform")).json()["ready"] is False
            assert "fivenines_ready 0.0" in (await node.get("/metrics")).text
            assert await node.balance() == 1
            assert (await node.get(f"/v1/transactions/{done['id']}")).status_code == 200
        # Opened anew, the journal says what became of it, and asking again is safe.
        async with served(tmp_path) as node:
            answer = await node.post(unknown)
            assert answer.json()["outcome"] == "posted"
            assert await node.balance() == 2

    asyncio.run(main())


def test_a_stop_ends_streams_and_waits_and_finishes_what_is_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        disk = GatedDisk()
        os.write(disk.write_end, b"12")
        results: list[asyncio.Task[tuple[int, bytes]]] = []
        async with served(tmp_path, disk=disk) as node:
            await node.open_books()
            streaming, stream_writer = await node.connect()
            stream_writer.write(request("GET", "/v1/events?after=0", headers=["Accept: text/event-stream"]))
            assert b"200 OK" in await streaming.readuntil(b"\r\n\r\n")
            connections = [await node.connect() for _ in range(4)]
            asked = [
                request("GET", "/v1/events?wait_s=20"),
                request("GET", f"/v1/accounts/a?at_least={10**9}"),
                request("POST", "/v1/transactions", one()),
            ]
            half = request("POST", "/v1/transactions", one())
            for (_, writer), whole in zip(connections, [*asked, half[:-9]], strict=True):
                writer.write(whole)
            await until(lambda: bool(node.node.writer._in_flight) and len(node.node.replica._waiting) == 3)
            results = [asyncio.create_task(read_answer(reader)) for reader, _ in connections]

            async def finish() -> None:
                # After the stop has begun.
                await until(lambda: node.node.is_stopping)
                connections[3][1].write(half[-9:])
                os.write(disk.write_end, b"x" * 10)

            finishing = asyncio.create_task(finish())
        await finishing
        answers = [await result for result in results]
        assert [status for status, _ in answers] == [200, 503, 200, 200]
        assert b'"outcome":"posted"' in answers[2][1]
        assert b'"outcome":"posted"' in answers[3][1]
        assert (await streaming.read()).endswith(b"0\r\n\r\n")
        for _, writer in (*connections, (streaming, stream_writer)):
            writer.close()
        async with served(tmp_path) as node:
            assert node.node.recovered.frames_replayed == 0
            assert await node.balance() == 2

    asyncio.run(main())


def test_who_waits_for_a_far_position_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        limits = Limits(at_least_wait_ms=1)
        async with served(tmp_path, limits=limits) as node:
            for _ in range(3):
                answers = await asyncio.gather(*(node.get(f"/v1/platform?at_least={2**60}") for _ in range(40)))
                assert {a.status_code for a in answers} == {503}
            assert len(node.node.replica._waiting) <= 1

    asyncio.run(main())


def test_reads_between_frames_never_see_half_of_one(tmp_path: Path) -> None:
    """Readers in threads look ids up while the loop adds to the same memory: each finds what was answered."""

    async def main() -> None:
        settings = NodeSettings(limits=Limits(array_items_max=10_000))
        async with served(tmp_path, settings=settings) as node:
            await node.open_books()
            done = False
            events: list[str] = []
            asked: list[str] = []

            async def write() -> None:
                for _ in range(12):
                    items = [one() for _ in range(4_000)]
                    asked.extend(str(item["id"]) for item in items)
                    answer = await node.post(items)
                    assert {item["outcome"] for item in answer.json()} == {"posted"}

            async def follow() -> None:
                after = 0
                while not done or after < node.node.replica.position:
                    page = (await node.get(f"/v1/events?after={after}&limit=1000")).json()
                    assert {event["data"]["outcome"] for event in page["events"]} <= {"posted"}
                    events.extend(event["subject"] for event in page["events"])
                    after = page["position"]

            following = asyncio.create_task(follow())
            await write()
            done = True
            await following
            assert events == asked

    asyncio.run(main())


async def never_read(node: Served) -> tuple[Connection, asyncio.StreamWriter]:
    """Ask for four megabytes on a connection that reads nothing; return both of its ends."""
    metadata = {"x": "y" * 3_900}
    accounts = [{"id": f"c:{number}", "asset": "EUR/2", "metadata": metadata} for number in range(1_000)]
    assert (await node.post(accounts, "/v1/accounts")).status_code == 200
    _reader, writer = await node.connect()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(request("GET", "/v1/accounts?prefix=c:&limit=1000"))
    unread: list[Connection] = []
    while not unread:
        await asyncio.sleep(0.01)
        found = [c for c in gc.get_objects() if isinstance(c, Connection) and c in c.connections]
        unread = [c for c in found if c.transport.get_write_buffer_size()]
    (connection,) = unread
    return connection, writer


def test_who_does_not_read_its_answer_is_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, limits=Limits(unread_s_max=1)) as node:
            await node.open_books()
            connection, writer = await never_read(node)
            await until(lambda: connection not in connection.connections)
            assert connection.transport.get_write_buffer_size() == 0
            assert (await node.post(one())).status_code == 200
            writer.close()

    asyncio.run(main())


def test_who_does_not_read_its_answer_does_not_hold_a_stop(tmp_path: Path) -> None:
    async def main() -> None:
        # So long a stop would run into the time limit of any test.
        async with served(tmp_path, limits=Limits(unread_s_max=10_000), stop_s_max=10_000) as node:
            await node.open_books()
            connection, writer = await never_read(node)
        assert connection not in connection.connections
        writer.close()

    asyncio.run(main())


def test_a_follower_that_never_reads_holds_neither_memory_nor_the_stop(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, stop_s_max=1) as node:
            await node.open_books()
            _reader, writer = await node.connect()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request("GET", "/v1/events?after=0", headers=["Accept: text/event-stream"]))
            for _ in range(40):
                assert (await node.post([one() for _ in range(500)])).status_code == 200
            (connection,) = [c for c in gc.get_objects() if isinstance(c, Connection) and not c.is_idle]
            await until(lambda: connection.transport.get_write_buffer_size() > 0)
            # A page of events, and no more.
            assert connection.transport.get_write_buffer_size() < 2_000_000
            assert await node.balance() == 20_000
        writer.close()
        async with served(tmp_path) as node:
            assert node.node.recovered.frames_replayed == 0

    asyncio.run(main())

"""What a node leaves behind that is killed: whoever asks on its behalf must be able to ask another one at once."""

import asyncio
import contextlib
import select
import socket
from pathlib import Path
from typing import cast

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from fivenines.node import Limits
from fivenines.node.connections import Connection, Door
from tests.e2e.serving import Server

CONNECTIONS = 200
GET = b"GET /v1/platform HTTP/1.1\r\nhost: a\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}


def test_a_node_that_is_killed_refuses_connections_before_it_drops_those_that_it_has(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        poll = select.poll()
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(address, timeout=10))
            connection.sendall(GET)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
            poll.register(connection, select.POLLIN)
        server.process.kill()
        assert poll.poll(10_000), "none was dropped"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10).close()


def test_head_and_body_of_an_answer_leave_in_one_piece() -> None:
    async def at_once(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"body"})

    assert asyncio.run(_pieces_of(at_once)) == [HEAD + b"body"]


def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    async def by_and_by(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"bo", "more_body": True})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"dy"})

    assert asyncio.run(_pieces_of(by_and_by)) == [HEAD, b"bo", b"dy"]


async def _pieces_of(application: ASGIApp) -> list[bytes]:
    """Return what is sent on a connection that asks an application once, each piece by itself."""
    config = uvicorn.Config(application, log_config=None, lifespan="off", server_header=False, date_header=False)
    config.load()
    connection = Connection(
        config=config,
        server_state=uvicorn.server.ServerState(),
        app_state={},
        gateway=cast("Door", application),
        limits=Limits(),
        connections_max=1,
    )
    transport = _Recorded()
    connection.connection_made(transport)
    connection.data_received(GET)
    async with asyncio.timeout(10):
        while len(b"".join(transport.pieces)) < len(HEAD + b"body"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    return transport.pieces


class _Recorded(asyncio.Transport):
    """A transport that keeps what each write was."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: object = None) -> object:  # noqa: ARG002 - as asyncio has it
        return default

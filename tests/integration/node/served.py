"""A node that serves HTTP within the test's own process, with limits of its choice and a disk that it may break."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from fivenines.ids import new_id
from fivenines.journal import FileJournal, FileJournalSettings
from fivenines.node import Limits, NodeSettings, server
from fivenines.node.http import listen
from fivenines.node.node import Node, open_node

__all__ = ["Disk", "GatedDisk", "Served", "one", "read_answer", "request", "served", "until"]


class Disk:
    """The real disk, which a test may stop or break."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.pwritev = os.pwritev
        self.fsync = os.fsync
        self.ftruncate = os.ftruncate

    def fdatasync(self, fd: int, /) -> None:
        if self.error:
            raise self.error
        os.fdatasync(fd)


class GatedDisk(Disk):
    """A disk that waits with syncing until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.read_end, self.write_end = os.pipe()

    def fdatasync(self, fd: int, /) -> None:
        os.read(self.read_end, 1)
        super().fdatasync(fd)


class Served:
    """A node that serves, and a client for it."""

    def __init__(self, node: Node, url: str, http: httpx.AsyncClient) -> None:
        self.node = node
        self.http = http
        self.port = int(url.rpartition(":")[2])

    async def post(self, body: Any, path: str = "/v1/transactions", **headers: str) -> httpx.Response:
        return await self.http.post(path, json=body, headers=headers)

    async def get(self, path: str) -> httpx.Response:
        response = await self.http.get(path)
        assert response.headers["Ledger-Position"].isdigit()
        return response

    async def open_books(self) -> None:
        """Open two accounts, a and b."""
        await self.post({"asset": "EUR/2"}, "/v1/assets")
        accounts = [{"id": id, "asset": "EUR/2", "min_balance": None} for id in "ab"]
        assert (await self.post(accounts, "/v1/accounts")).status_code == 200

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a plain connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def balance(self, account: str = "b") -> int:
        return int((await self.get(f"/v1/accounts/{account}")).json()["balance"])


def one(amount: int = 1) -> dict[str, Any]:
    """Return a transaction from a to b."""
    return {"id": new_id(), "postings": [{"source": "a", "destination": "b", "amount": amount}]}


@asynccontextmanager
async def served(
    directory: Path,
    *,
    disk: Disk | None = None,
    connections_max: int = 100,
    stop_s_max: int = 20,
    segment_bytes: int = 64 * 1024 * 1024,
    limits: Limits | None = None,
    settings: NodeSettings | None = None,
) -> AsyncIterator[Served]:
    """Serve a node until the end of the block, and then stop it as SIGTERM does."""
    node_settings = settings or NodeSettings(limits=limits or Limits())
    serve_settings = server.ServeSettings(
        directory=directory, connections_max=connections_max, stop_s_max=stop_s_max, node=node_settings
    )
    listener = listen("127.0.0.1", 0)
    journal = FileJournal.open(directory, disk=disk or os, settings=FileJournalSettings(segment_bytes=segment_bytes))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    try:
        async with open_node(directory, journal, node_settings) as node:
            serving = asyncio.create_task(
                server._serve_http(node, listener, serve_settings, lambda _node, url: ready.set_result(url))
            )
            url = await ready
            try:
                async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                    yield Served(node, url, http)
            finally:
                os.kill(os.getpid(), 15)
                await serving
    finally:
        await journal.close()
        listener.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer, and return its status and all of its bytes."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    (length,) = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
    return int(head.split(b" ", 2)[1]), head + await reader.readexactly(length)


def request(method: str, path: str, body: Any = None, *, headers: Sequence[str] = ()) -> bytes:
    """Write a request by hand."""
    content = b"" if body is None else msgspec.json.encode(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


async def until(condition: Callable[[], bool]) -> None:
    """Let the node run until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for are numbers, which wake nobody
        await asyncio.sleep(0.001)

"""A small HTTP server that a test can order about, as a process of its own: `small_node.py NAME HOST PORT`.

It answers `/ready` as it was told, streams events at `/v1/events`, and notes every other request before it answers.
`/control?delay_s=1&status=503` changes what it does, `/seen` tells what it noted; both are asked directly, never
through an edge.
"""

import asyncio
import hashlib
import json
import sys
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_HEAD = "HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\n{rest}\r\n"


class _Node:
    def __init__(self, name: str) -> None:
        self.name = name
        self.control: dict[str, float] = {"delay_s": 0.0, "status": 200, "ready": 1, "events": 3, "told": 99}
        self.seen: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.strip().split("\r\n")
        method, target, _ = request.split(" ")
        headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        body = await self._body(reader, headers)
        parts = urlsplit(target)
        if parts.path == "/ready":
            self._send(writer, 200 if self.control["ready"] else 503, {"ready": bool(self.control["ready"])})
        elif parts.path == "/control":
            self.control |= {key: float(value) for key, value in parse_qsl(parts.query)}
            self._send(writer, 200, self.control)
        elif parts.path == "/seen":
            self._send(writer, 200, self.seen)
        elif parts.path == "/v1/events":
            await self._stream(writer)
            return False
        else:
            sha = hashlib.sha256(body).hexdigest()
            note = {"method": method, "path": target, "bytes": len(body), "sha": sha, "headers": headers}
            self.seen.append(note)
            await asyncio.sleep(self.control["delay_s"])
            self._send(writer, int(self.control["status"]), {"node": self.name, "bytes": len(body), "sha": sha})
        await writer.drain()
        return True

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        rest = "connection: close\r\ntransfer-encoding: chunked\r\n"
        writer.write(_HEAD.format(status=200, kind="text/event-stream", rest=rest).encode())
        for number in range(int(self.control["events"])):
            text = f"id: {number}\ndata: {self.name}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(text), text))
            await writer.drain()
            await asyncio.sleep(self.control["delay_s"])
            while self.control["told"] <= number:  # noqa: ASYNC110  # the event is an HTTP request
                await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _send(self, writer: asyncio.StreamWriter, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        rest = f"content-length: {len(body)}\r\nledger-position: 7\r\n"
        writer.write(_HEAD.format(status=status, kind="application/json", rest=rest).encode() + body)


async def _main(name: str, host: str, port: str) -> None:
    server = await asyncio.start_server(_Node(name).serve, host, int(port), limit=64 * 1024 * 1024)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


asyncio.run(_main(*sys.argv[1:4]))

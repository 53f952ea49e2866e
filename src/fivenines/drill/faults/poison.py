"""Poisoned requests: what no honest client sends. A node or an edge must refuse each, and live.

Each one is bytes, sent as they are on a connection of its own. What is checked is nothing but that whoever gets it
lives on; an answer is welcome, silence and a closed connection are allowed.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

__all__ = ["POISON", "Poison", "count", "send", "send_all"]

_PATIENCE_S = 3.0
_ANSWER_BYTES_MAX = 256 * 1024


class Poison(Struct, frozen=True):
    """One hostile request."""

    name: str
    data: bytes
    then_closes: bool = False
    """Whether the client goes away in the middle of it."""


def _post(path: str, body: bytes, content_type: str = "application/json", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: poison\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}Connection: close\r\n\r\n".encode() + body


def _get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: poison\r\n{more}Connection: close\r\n\r\n".encode("latin-1")


def _transaction(amount: bytes, source: bytes = b'"a"') -> bytes:
    return b'{"postings":[{"source":' + source + b',"destination":"b","amount":' + amount + b"}]}"


_T = "/v1/transactions"
POISON: tuple[Poison, ...] = (
    Poison("broken JSON", _post(_T, b'{"postings": [{')),
    Poison("no JSON at all", _post(_T, b"\x00\x01\x02\xff" * 100)),
    Poison("an empty body", _post(_T, b"")),
    Poison("deep nesting", _post(_T, b"[" * 200_000 + b"]" * 200_000)),
    Poison("deep nesting in metadata", _post(_T, b'{"metadata":{"a":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_002)),
    Poison("a huge number", _post(_T, _transaction(b"9" * 100_000))),
    Poison("an amount of 2^127", _post(_T, _transaction(str(2**127).encode()))),
    Poison("a negative amount", _post(_T, _transaction(b"-1"))),
    Poison("a fraction", _post(_T, _transaction(b"1.5"))),
    Poison("a number with a huge exponent", _post(_T, _transaction(b"1e999999999"))),
    Poison("NaN", _post(_T, _transaction(b"NaN"))),
    Poison("invalid UTF-8", _post(_T, _transaction(b"1", b'"\xc3\x28\xed\xa0\x80"'))),
    Poison("a lone surrogate", _post(_T, _transaction(b"1", b'"\\ud800"'))),
    Poison("a null byte in an id", _post(_T, _transaction(b"1", b'"a\\u0000b"'))),
    Poison("a very long id", _post(_T, _transaction(b"1", b'"' + b"a" * 100_000 + b'"'))),
    Poison("a repeated key", _post(_T, b'{"id":"1","id":"2","postings":[],"postings":[]}')),
    Poison("two thousand postings", _post(_T, b'{"postings":[' + b",".join([b'{"source":"a"}'] * 2_000) + b"]}")),
    Poison("a hundred thousand items", _post(_T, b"[" + b",".join([b"{}"] * 100_000) + b"]")),
    Poison("XML", _post(_T, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "application/xml")),
    Poison("msgpack that promises 4 GiB", _post(_T, b"\xdd\xff\xff\xff\xff", "application/msgpack")),
    Poison("msgpack of nested arrays", _post(_T, b"\x91" * 100_000, "application/msgpack")),
    Poison("JSON said to be msgpack", _post(_T, _transaction(b"1"), "application/msgpack")),
    Poison("a content type of nonsense", _post(_T, _transaction(b"1"), ";;;=/")),
    Poison("said to be gzip", _post(_T, b"\x1f\x8b" + b"\x00" * 50, more="Content-Encoding: gzip\r\n")),
    Poison("oversized headers", _get("/v1/platform", f"X-Large: {'a' * 200_000}\r\n")),
    Poison("thousands of headers", _get("/v1/platform", "X-Many: 1\r\n" * 5_000)),
    Poison("a header that is no text", _get("/v1/platform", "X-Bytes: \xff\xfe\x00\r\n")),
    Poison("a very long path", _get("/v1/accounts/" + "a" * 100_000)),
    Poison("a path that climbs", _get("/v1/accounts/../../../../etc/passwd")),
    Poison("a path of escapes", _get("/v1/accounts/%00%ff%2e%2e%2f%0d%0aX-Injected:%201")),
    Poison("a huge position", _get("/v1/accounts/a?at_least=" + "9" * 5_000)),
    Poison("a negative length", b"POST /v1/transactions HTTP/1.1\r\nHost: p\r\nContent-Length: -1\r\n\r\n"),
    Poison(
        "a huge length", b"POST /v1/transactions HTTP/1.1\r\nHost: p\r\nContent-Length: 99999999999999999999\r\n\r\n{}"
    ),
    Poison(
        "two lengths that differ",
        b"POST /v1/transactions HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\nContent-Length: 50\r\n\r\n{}",
    ),
    Poison(
        "smuggling by length and chunks",
        b"POST /v1/transactions HTTP/1.1\r\nHost: p\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: p\r\n\r\n",
    ),
    Poison(
        "smuggling by two codings",
        b"POST /v1/transactions HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n"
        b"0\r\n\r\n",
    ),
    Poison(
        "chunks with a length of nonsense",
        b"POST /v1/transactions HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n{}\r\n0\r\n\r\n",
    ),
    Poison("line ends that are none", b"GET /v1/platform HTTP/1.1\nHost: p\n\n"),
    Poison("a method of nonsense", b"\x00\x01\x02 / HTTP/1.1\r\n\r\n"),
    Poison("a version of nonsense", b"GET / HTTP/9.9\r\nHost: p\r\n\r\n"),
    Poison("TLS to a port without", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100),
    Poison("the beginning of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 100),
    Poison("an upgrade to a websocket", _get("/v1/events", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")),
    Poison("a request that ends in its head", b"POST /v1/transactions HTTP/1.1\r\nHost", then_closes=True),
    Poison("a request that ends in its body", _post(_T, b'{"postings":[]}')[:-5], then_closes=True),
)
"""The catalogue. New ones are added at its end."""


async def send(host: str, port: int, poison: Poison, *, patience_s: float = _PATIENCE_S) -> str:
    """Send one, and return what came of it: a status such as "400", "closed" or "silence". Raises OSError."""
    reader, writer = await asyncio.open_connection(host, port)
    answer = b""
    try:
        async with asyncio.timeout(patience_s):
            with suppress(ConnectionError):
                writer.write(poison.data)
                if poison.then_closes:
                    return "left"
                # An answer may come, and the connection be reset, before all of it is sent.
                while len(answer) < _ANSWER_BYTES_MAX and (chunk := await reader.read(64 * 1024)):
                    answer += chunk
                    if b"\r\n" in answer:
                        break
    except TimeoutError:
        return "silence"
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
    words = answer.split(b" ", 2)
    return words[1][:3].decode(errors="replace") if answer.startswith(b"HTTP/") and len(words) > 1 else "closed"


async def send_all(host: str, port: int, poisons: Sequence[Poison] = POISON) -> dict[str, str]:
    """Send all of them, one after the other, and return what came of each; "unreachable" where nobody is there."""
    came = {}
    for each in poisons:
        try:
            came[each.name] = await send(host, port, each)
        except OSError:
            came[each.name] = "unreachable"
    return came


def count(came: dict[str, str]) -> dict[str, float]:
    """Say how often each kind of answer came, for the facts of a fault."""
    kinds = Counter(f"answers_{each[0]}xx" if each[:1].isdigit() else each for each in came.values())
    return {"sent": float(len(came)), **{kind: float(number) for kind, number in sorted(kinds.items())}}

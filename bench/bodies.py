"""Request bodies that are made once and sent many times, with fresh ids each time.

Building 8,000 transactions anew for each request would cost more than the server spends on them. All rows of a template
have one length, so that the ids stand at fixed distances. Those of one body differ in their last two bytes, which are a
row's number and stay; the fourteen before are the same in all rows, and are replaced column by column, by slice
assignments with a stride. Only the bytes that change since the last time are touched.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.ids import uuid7_bytes

__all__ = ["JSON_ARRAY", "MSGPACK_ROWS", "ROWS_MAX", "BodyFormat", "Template"]

ROWS_MAX = 65_536


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """How an array of transactions is written."""

    content_type: str
    head: Callable[[int], bytes]
    """What stands before the rows, from their number."""
    row: Callable[[bytes, str, str, int], bytes]
    """A row, from id, source, destination and an amount of two digits."""
    separator: bytes
    tail: bytes
    id_offset: int
    """Where in a row the id begins."""
    id_written: Callable[[bytes], bytes]
    prefix_bytes: int
    """How much of a written id all rows of a body share."""


class Template:
    """A body of transactions between random pairs of accounts, whose ids can be renewed."""

    def __init__(self, form: BodyFormat, names: Sequence[str], *, rows: int, seed: int) -> None:
        if not 0 < rows <= ROWS_MAX:
            raise ValueError(f"{rows} rows; there may be 1 to {ROWS_MAX}")
        chance = random.Random(seed)
        pairs = [chance.sample(names, 2) for _ in range(rows)]
        made = [
            form.row(uuid7_bytes(0, 0, number), source, destination, chance.randint(10, 99))
            for number, (source, destination) in enumerate(pairs)
        ]
        head = form.head(rows)
        self.body = bytearray(head + form.separator.join(made) + form.tail)
        self.rows = rows
        self._form = form
        self._start = len(head) + form.id_offset
        self._stride = len(made[0]) + len(form.separator)
        self._prefix = form.id_written(uuid7_bytes(0, 0, 0))[: form.prefix_bytes]

    def renew(self, *, time_ms: int, salt: int, counter: int) -> None:
        """Give all rows ids of a time; `counter` tells bodies of one `salt` apart."""
        prefix = self._form.id_written(uuid7_bytes(time_ms, salt, counter * ROWS_MAX))[: self._form.prefix_bytes]
        past_last = (self.rows - 1) * self._stride + 1
        for index, (old, new) in enumerate(zip(self._prefix, prefix, strict=True)):
            if old != new:
                first = self._start + index
                self.body[first : first + past_last : self._stride] = bytes((new,)) * self.rows
        self._prefix = prefix


def id_text(id: bytes) -> bytes:
    """Write an id as JSON has it."""
    text = id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()


def json_row(id: bytes, source: str, destination: str, amount: int) -> bytes:
    """Write a transaction as a JSON object."""
    posting = f'{{"source":"{source}","destination":"{destination}","amount":{amount}}}'
    return b'{"id":"' + id_text(id) + b'","postings":[' + posting.encode() + b"]}"


def msgpack_row(id: bytes, source: str, destination: str, amount: int) -> bytes:
    """Write a transaction as a msgpack array of four; names are below 32 bytes, the amount is below 128."""
    names = b"".join(bytes((0xA0 | len(name),)) + name.encode() for name in (source, destination))
    return b"\x94\xc4\x10" + id + names + bytes((amount,))


JSON_ARRAY = BodyFormat(
    content_type="application/json",
    head=lambda _rows: b"[",
    row=json_row,
    separator=b",",
    tail=b"]",
    id_offset=len(b'{"id":"'),
    id_written=id_text,
    prefix_bytes=32,
)

MSGPACK_ROWS = BodyFormat(
    content_type="application/msgpack",
    head=lambda rows: b"\xdd" + rows.to_bytes(4, "big"),
    row=msgpack_row,
    separator=b"",
    tail=b"",
    id_offset=3,
    id_written=bytes,
    prefix_bytes=14,
)

"""What runner and worker say to each other: msgpack, each message behind its length in four bytes.

The runner writes `Call`; the worker answers each with `Done` or `Failed`. Before, the worker says once what functions
there are (`Loaded`), or why there are none (`Failed`).
"""

import struct
from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["HEADER", "Call", "Done", "Failed", "Loaded", "Message", "Named", "decode", "encode"]

HEADER = struct.Struct(">I")


class Named(Struct, frozen=True):
    """A function, as the runner knows it."""

    name: str
    types: tuple[str, ...]
    where: dict[str, Any] | None
    """Conditions that the runner looks at itself."""


class Loaded(Struct, frozen=True, tag="loaded"):
    """The module is loaded."""

    functions: list[Named]


class Call(Struct, frozen=True, tag="call"):
    """Call a function."""

    function: str
    event: bytes
    """As JSON."""
    position: int
    item: int
    attempt: int
    is_replay: bool


class Done(Struct, frozen=True, tag="done"):
    """It returned."""


class Failed(Struct, frozen=True, tag="failed"):
    """It raised."""

    reason: str


Message = Loaded | Call | Done | Failed

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def encode(message: Message) -> bytes:
    """Write a message, with its length in front."""
    body = _encode(message)
    return HEADER.pack(len(body)) + body


def decode(body: bytes) -> Message:
    """Read a message."""
    found: Message = _decode(body)
    return found

"""Bytes of a frame <-> a `Batch`: one byte that names the schema, then the batch in msgpack.

A frame that was ever written can be read for ever. The current schema is read straight into the structs of `commands`;
an older one is read into plain lists first and lifted, one version at a time, by the functions of `upcasters`. Adding a
field with a default is a new schema too: an older node must refuse a frame it cannot fully understand, never guess.

So a node does not write a schema because it can, but because the rules in force say so (`Rules.schema`): while nodes
of an older release run beside it, it lowers what it writes by the functions of `downcasters`, and refuses commands that
the older schema cannot say (`need_of`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from fivenines.ledger.commands import Batch, ChangeAccount, Command, Hold, OpenAccount, Post, Posting, PostOne, Settle
from fivenines.ledger.downcasters import DOWNCASTERS
from fivenines.ledger.upcasters import UPCASTERS

__all__ = ["NEEDS", "SCHEMA", "CodecError", "Need", "decode", "encode", "need_of"]

SCHEMA = 2
"""The newest schema, which the structs of `commands` are the wire form of."""


class Need(NamedTuple):
    """What a command needs the schema in force to be."""

    schema: int
    field: str
    """The field that older schemas do not have, as a JSON path from the command."""


NEEDS: Mapping[type, Callable[[Any], Need | None]] = {}
"""For each kind of command that grew after schema 2: what one needs, None if it says nothing that is new."""


def need_of(command: Command, *, needs: Mapping[type, Callable[[Any], Need | None]] = NEEDS) -> Need | None:
    """Return what a command needs beyond the oldest schema that is still written, None for nothing."""
    look = needs.get(type(command))
    return look(command) if look else None


class CodecError(ValueError):
    """The bytes are no frame that this version can read. `schema` is the version that they name, None if none."""

    def __init__(self, reason: str, *, schema: int | None) -> None:
        super().__init__(reason)
        self.schema = schema


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)
# `Batch.commands` is declared as a sequence of the union; msgspec reads that as a list.


def encode(
    batch: Batch,
    *,
    schema: int = SCHEMA,
    downcasters: Mapping[int, Callable[[list[Any]], list[Any]]] = DOWNCASTERS,
) -> bytes:
    """Encode `batch` in a schema, the newest one unless told otherwise.

    Raises `OverflowError` where an integer of it is beyond 128 bits.
    """
    try:
        body = _encoder.encode(batch)
    except OverflowError:
        body = _encoder.encode(
            msgspec.structs.replace(batch, commands=[_map_wide(c, _to_wire) for c in batch.commands])
        )
    if schema != SCHEMA:
        lists = msgspec.msgpack.decode(body)
        for newer in range(SCHEMA, schema, -1):
            lists = downcasters[newer](lists)
        body = _encoder.encode(lists)
    return b"%c%b" % (schema, body)


def decode(payload: bytes, *, upcasters: dict[int, Callable[[list[Any]], list[Any]]] = UPCASTERS) -> Batch:
    """Decode what `encode` of this or of an older version made.

    Raises:
        CodecError: the schema is unknown (written by a newer version), or the body is not of that schema.
    """
    if not payload:
        raise CodecError("an empty payload", schema=None)
    schema = payload[0]
    if schema != SCHEMA and schema not in upcasters:
        raise CodecError(f"schema {schema} is unknown here: this version reads up to {SCHEMA}", schema=schema)
    body: bytes | memoryview = memoryview(payload)[1:]
    try:
        for older in range(schema, SCHEMA):
            body = _encoder.encode(upcasters[older](msgspec.msgpack.decode(body)))
        batch = _decoder.decode(body)
    except (msgspec.DecodeError, ValueError, LookupError, TypeError, RecursionError) as error:
        # ValueError is for text that is not UTF-8, RecursionError for lists within lists within lists.
        raise CodecError(f"not a batch of schema {schema}: {error}", schema=schema) from error
    return _without_wire_integers(batch)


def _without_wire_integers(batch: Batch) -> Batch:
    # A frame of the short form only, which nearly all are, has none: one pass in C finds that out.
    if set(map(type, batch.commands)) <= {PostOne} or not any(map(_has_wire_integer, batch.commands)):
        return batch
    return msgspec.structs.replace(batch, commands=[_map_wide(c, _from_wire) for c in batch.commands])


def _wide_fields(command: Command) -> Iterable[object]:
    if isinstance(command, Post | Hold | Settle):
        return (posting.amount for posting in command.postings)
    if isinstance(command, OpenAccount):
        return (command.min_balance, command.max_balance)
    if isinstance(command, ChangeAccount):
        return command.limits or ()
    return ()


def _has_wire_integer(command: Command) -> bool:
    return any(isinstance(value, bytes) for value in _wide_fields(command))


def _map_wide(command: Command, change: Callable[[Any], Any]) -> Command:
    """Pass every integer of `command` that may be beyond 64 bits through `change`."""
    if isinstance(command, Post | Hold | Settle):
        postings = tuple(Posting(p.source, p.destination, change(p.amount)) for p in command.postings)
        return cast(Command, msgspec.structs.replace(command, postings=postings))
    if isinstance(command, OpenAccount):
        return msgspec.structs.replace(
            command, min_balance=change(command.min_balance), max_balance=change(command.max_balance)
        )
    if isinstance(command, ChangeAccount) and command.limits is not None:
        return msgspec.structs.replace(command, limits=(change(command.limits[0]), change(command.limits[1])))
    return command


def _to_wire(value: int | None) -> int | bytes | None:
    if value is None or -(2**63) <= value < 2**64:
        return value
    return value.to_bytes(16, "big", signed=True)


def _from_wire(value: int | bytes | None) -> int | None:
    return int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value

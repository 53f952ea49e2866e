"""The image of a state: the one canonical way to write it down, and so the definition of its digest.

An image is a sequence of chunks in msgpack, each small enough to be checked and handled alone: a head, then accounts,
open holds, and the two memories of ids. Accounts are written column by column, which reads back several times faster
than object by object. Two states are equal exactly if their images are, so `digest` is the SHA-256 of the chunks.

Whoever stores an image guards it with a checksum. `restore` checks, beyond that, what it can check cheaply: types,
that the money adds up, and whatever `apply` relies on, so that no image makes it fail later. It does not look into the
order within a block of ids.
"""

import sys
from array import array
from collections.abc import Container, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from fivenines.ledger.accounts import Account, Asset, HeldPosting, OpenHold, Status
from fivenines.ledger.commands import AMOUNT_MAX
from fivenines.ledger.decided import Block, DecidedIds
from fivenines.ledger.machine import RulesUnsupportedError
from fivenines.ledger.outcomes import Outcome
from fivenines.ledger.state import RULES, State

__all__ = ["IMAGE_VERSION", "ImageError", "digest", "image", "image_of_accounts", "restore"]

IMAGE_VERSION = 1

_ACCOUNTS_PER_CHUNK = 8_192
_HOLDS_PER_CHUNK = 1_024

_T = TypeVar("_T")

_encode = msgspec.msgpack.Encoder().encode

_Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
_Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Word = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_Wide = int | Annotated[bytes, Meta(min_length=16, max_length=16)]
# What stands in the chunks of each kind. The head of another version of images may be anything.
_Head = tuple[
    int, int, _Natural, _Natural, _Id, Annotated[bytes, Meta(min_length=32, max_length=32)], list[str], int, int
]
_Columns = tuple[
    list[str],
    list[_Natural],
    list[_Natural],
    list[int],
    list[_Wide],
    list[_Wide],
    list[_Wide],
    list[_Wide],
    list[_Wide | None],
    list[_Wide | None],
    list[bytes | None],
    list[str],
]
_Holds = list[tuple[_Id, _Natural | None, list[tuple[str, str, _Wide]]]]
_Ids = tuple[bytes, int, bytes, list[_Word], list[_Natural]]
_Block = tuple[_Natural, bytes, bytes, bytes]

_decode_head = msgspec.msgpack.Decoder(list[Any]).decode
_decode_columns = msgspec.msgpack.Decoder(_Columns).decode
_decode_holds = msgspec.msgpack.Decoder(_Holds).decode
_decode_ids = msgspec.msgpack.Decoder(_Ids).decode
_decode_block = msgspec.msgpack.Decoder(_Block).decode

_DECISIONS = frozenset(Outcome)
_ENDINGS = frozenset({Outcome.settled, Outcome.released, Outcome.hold_expired})


class ImageError(ValueError):
    """The chunks are no image that this version can read."""


def image(state: State) -> Iterator[bytes]:
    """Yield the image of `state`, chunk by chunk. The state must not change meanwhile."""
    yield _encode(
        [
            IMAGE_VERSION,
            state.rules.version,
            state.position,
            state.time_us,
            state.horizon,
            state.outcomes_digest,
            [asset.name for asset in state.assets.values()],
            len(state.accounts),
            len(state.holds),
        ]
    )
    for accounts in _slices(state.accounts.values(), _ACCOUNTS_PER_CHUNK):
        yield image_of_accounts(accounts)
    for holds in _slices(state.holds.values(), _HOLDS_PER_CHUNK):
        yield _encode(
            [
                [
                    hold.id,
                    hold.expires_us,
                    [
                        (held.source.id, held.destination.id, _to_wire(held.remaining))
                        for held in hold.postings.values()
                    ],
                ]
                for hold in holds
            ]
        )
    for ids in (state.decided, state.ended_holds):
        yield from _image_of_ids(ids)


def image_of_accounts(accounts: Sequence[Account]) -> bytes:
    """Return the part of an image that says everything about some accounts."""
    columns: list[list[Any]] = [[getattr(account, name) for account in accounts] for name in _ACCOUNT_COLUMNS]
    columns.append([account.asset.code for account in accounts])
    try:
        return _encode(columns)
    except OverflowError:
        return _encode([list(map(_to_wire, column)) for column in columns])


def digest(state: State) -> bytes:
    """Return the 32 bytes that stand for the whole state: equal for two states exactly if everything in them is."""
    whole = sha256()
    for chunk in image(state):
        whole.update(b"%d:" % len(chunk))
        whole.update(chunk)
    return whole.digest()


def restore(chunks: Iterable[bytes]) -> State:
    """Make the state anew from its image.

    Raises:
        ImageError: the chunks are not an image, or one of a version that this release does not have.
        RulesUnsupportedError: rules are in force in it that this release does not have.
    """
    stream = iter(chunks)
    try:
        state = _restore(stream)
    except ImageError:
        raise
    except (msgspec.DecodeError, StopIteration, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ImageError(f"not an image of a ledger: {error!r}") from error
    if next(stream, None) is not None:
        raise ImageError("the image goes on after its end")
    return state


def _restore(stream: Iterator[bytes]) -> State:
    head = _decode_head(next(stream))
    if head[:1] != [IMAGE_VERSION]:
        raise ImageError(f"image version {head[:1]}; this release reads {IMAGE_VERSION}")
    _, rules, position, time_us, horizon, outcomes_digest, assets, accounts_count, holds_count = msgspec.convert(
        head, _Head
    )
    if rules not in RULES:
        raise RulesUnsupportedError(rules)
    state = State(RULES[rules], position, time_us, horizon, outcomes_digest)
    for name in assets:
        asset = Asset(name)
        state.assets[asset.code] = asset
    while len(state.accounts) < accounts_count:
        _restore_accounts(state, _decode_columns(next(stream)))
    while len(state.holds) < holds_count:
        _restore_holds(state, _decode_holds(next(stream)))
    if (len(state.accounts), len(state.holds)) != (accounts_count, holds_count):
        raise ImageError(f"not the {accounts_count} accounts and {holds_count} holds that the head tells of")
    state.rebuild_expiries(state.holds.values())
    _restore_ids(state.decided, _DECISIONS, stream)
    _restore_ids(state.ended_holds, _ENDINGS, stream)
    _check_money(state)
    return state


def _check_money(state: State) -> None:
    if imbalances := state.imbalances():
        raise ImageError(f"balances that do not add up to zero: {imbalances}")
    debits: dict[str, int] = {}
    credits: dict[str, int] = {}
    for hold in state.holds.values():
        for held in hold.postings.values():
            debits[held.source.id] = debits.get(held.source.id, 0) + held.remaining
            credits[held.destination.id] = credits.get(held.destination.id, 0) + held.remaining
    for account in state.accounts.values():
        id = account.id
        if account.held_debits != debits.get(id, 0) or account.held_credits != credits.get(id, 0):
            raise ImageError(f"account {id} has other held totals than its open holds")


_ACCOUNT_COLUMNS = (
    "id",
    "salt",
    "opened_as",
    "status",
    "debits",
    "credits",
    "held_debits",
    "held_credits",
    "min_balance",
    "ceiling",
    "metadata",
)


def _restore_accounts(state: State, columns: Iterable[list[Any]]) -> None:
    *plain, codes = (
        list(map(_from_wire, column)) if index in _WIDE_COLUMNS and bytes in set(map(type, column)) else column
        for index, column in enumerate(columns)
    )
    for index in _TOTAL_COLUMNS:
        if min(plain[index], default=0) < 0 or max(plain[index], default=0) > AMOUNT_MAX:
            raise ImageError(f"{_ACCOUNT_COLUMNS[index]} out of range")
    accounts, assets = state.accounts, state.assets
    for code, id, salt, opened_as, status, debits, credits, held_debits, held_credits, floor, ceiling, metadata in zip(
        codes, *plain, strict=True
    ):
        account = Account(id, assets[code], salt=salt, opened_as=opened_as)
        account.debits = debits
        account.credits = credits
        account.limit(floor, ceiling)
        if status or held_debits or held_credits or metadata is not None:
            account.status = Status(status)
            account.held_debits = held_debits
            account.held_credits = held_credits
            account.metadata = metadata
        account.settle_lane()
        accounts[id] = account


_TOTAL_COLUMNS = range(_ACCOUNT_COLUMNS.index("debits"), _ACCOUNT_COLUMNS.index("held_credits") + 1)
_WIDE_COLUMNS = range(_ACCOUNT_COLUMNS.index("debits"), _ACCOUNT_COLUMNS.index("ceiling") + 1)


def _restore_holds(state: State, holds: _Holds) -> None:
    for id, expires_us, postings in holds:
        if id in state.holds:
            raise ImageError(f"hold {id.hex()} is there twice")
        hold = state.holds[id] = OpenHold(id, {}, expires_us)
        for source, destination, wire in postings:
            remaining = _from_wire(wire)
            if not 0 < remaining <= AMOUNT_MAX or (source, destination) in hold.postings:
                raise ImageError(f"hold {id.hex()} has nothing left from {source} to {destination}, or has it twice")
            hold.postings[source, destination] = HeldPosting(
                state.accounts[source], state.accounts[destination], remaining
            )


def _image_of_ids(ids: DecidedIds) -> Iterator[bytes]:
    yield _encode([ids.top, len(ids.blocks), b"".join(ids.tail_ids), ids.tail_values, ids.tail_positions])
    for block in ids.blocks:
        yield _encode(
            [block.base, block.ids, _little_endian(block.values), _little_endian(array("I", block.distances))]
        )


def _restore_ids(ids: DecidedIds, outcomes: Container[int], stream: Iterator[bytes]) -> None:
    ids.top, blocks, tail, ids.tail_values, ids.tail_positions = _decode_ids(next(stream))
    ids.tail_ids = [tail[at : at + 16] for at in range(0, len(tail), 16)]
    last = b""
    for _ in range(blocks):
        base, keys, values, distances = _decode_block(next(stream))
        if not keys or not (len(keys) == 4 * len(values) == 4 * len(distances)):
            raise ImageError("a block of ids has columns of different lengths")
        block = Block(keys, _from_little_endian(values), _from_little_endian(distances), base)
        first, last_before, last = keys[:16], last, block.last
        if not last_before < first <= last:
            raise ImageError("a block of ids that is not above the one before it")
        if not all(byte >> 2 in outcomes for byte in set(values[3::4])):  # the highest byte of each number
            raise ImageError("a block of ids with an unknown outcome")
        ids.append_block(block)
    if len(tail) != 16 * len(ids.tail_values) or len(ids.tail_values) != len(ids.tail_positions):
        raise ImageError("the newest ids have columns of different lengths")
    if ids.tail_ids != sorted({*ids.tail_ids}) or not last <= min(ids.tail_ids, default=last):
        raise ImageError("the newest ids are not in order, or not above the blocks")
    if ids.top < max(last, *ids.tail_ids[-1:], b""):
        raise ImageError("an id is above the highest")
    if not all(value >> 26 in outcomes for value in ids.tail_values):
        raise ImageError("an id has an unknown outcome")


def _little_endian(numbers: "array[int]") -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _from_little_endian(data: bytes) -> "array[int]":
    numbers = array("I")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _slices(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _to_wire(value: Any) -> Any:
    # msgpack ends at 64 bits: an integer beyond is sixteen bytes, as in frames.
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return value.to_bytes(16, "big", signed=True)
    return value


def _from_wire(value: Any) -> Any:
    return int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value

"""The image of a state: the one canonical way to write it down, and so the definition of its digest.

An image is a sequence of chunks in msgpack, each small enough to be checked and handled alone: a head, then accounts,
open holds, and the two memories of ids. Accounts are written column by column, which reads back several times faster
than object by object. Two states are equal exactly if their images are, so `digest` is the SHA-256 of the chunks.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar

import msgspec

from fivenines.ledger.accounts import Account, Asset, HeldPosting, OpenHold, Status
from fivenines.ledger.decided import Block, DecidedIds
from fivenines.ledger.state import RULES, State

__all__ = ["IMAGE_VERSION", "ImageError", "digest", "image", "restore"]

IMAGE_VERSION = 1

_ACCOUNTS_PER_CHUNK = 8_192
_HOLDS_PER_CHUNK = 1_024

_T = TypeVar("_T")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


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
            state.outcomes_digest,
            [asset.name for asset in state.assets.values()],
            len(state.accounts),
            len(state.holds),
        ]
    )
    for accounts in _slices(state.accounts.values(), _ACCOUNTS_PER_CHUNK):
        columns: list[list[Any]] = [[getattr(account, name) for account in accounts] for name in _ACCOUNT_COLUMNS]
        columns.append([account.asset.code for account in accounts])
        try:
            yield _encode(columns)
        except OverflowError:
            yield _encode([list(map(_to_wire, column)) for column in columns])
    for holds in _slices(state.holds.values(), _HOLDS_PER_CHUNK):
        yield _encode(
            [
                [
                    hold.id,
                    hold.expires_us,
                    [(held.source.id, held.destination.id, _to_wire(held.remaining)) for held in hold.postings],
                ]
                for hold in holds
            ]
        )
    for ids in (state.decided, state.ended_holds):
        yield from _image_of_ids(ids)


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
        ImageError: the chunks are not an image, or one of a version or with rules that this release does not have.
    """
    stream = iter(chunks)
    try:
        return _restore(stream)
    except (msgspec.DecodeError, StopIteration, LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"not an image of a ledger: {error!r}") from error


def _restore(stream: Iterator[bytes]) -> State:
    version, *head = _decode(next(stream))
    if version != IMAGE_VERSION:
        raise ImageError(f"image version {version}; this release reads {IMAGE_VERSION}")
    rules, position, time_us, outcomes_digest, assets, accounts_count, holds_count = head
    if rules not in RULES:
        raise ImageError(f"rules {rules} are in force in it; this release runs {sorted(RULES)}")
    state = State(RULES[rules], position, time_us, outcomes_digest)
    for name in assets:
        asset = Asset(name)
        state.assets[asset.code] = asset
    while len(state.accounts) < accounts_count:
        _restore_accounts(state, _decode(next(stream)))
    while len(state.holds) < holds_count:
        for id, expires_us, postings in _decode(next(stream)):
            held = [
                HeldPosting(state.accounts[source], state.accounts[destination], _from_wire(remaining))
                for source, destination, remaining in postings
            ]
            state.holds[id] = OpenHold(id, held, expires_us)
    state.rebuild_expiries(state.holds.values())
    for ids in (state.decided, state.ended_holds):
        _restore_ids(ids, stream)
    return state


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


def _restore_accounts(state: State, columns: list[list[Any]]) -> None:
    *plain, codes = (
        list(map(_from_wire, column)) if index in _WIDE_COLUMNS and bytes in set(map(type, column)) else column
        for index, column in enumerate(columns)
    )
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


_WIDE_COLUMNS = frozenset(range(_ACCOUNT_COLUMNS.index("debits"), _ACCOUNT_COLUMNS.index("ceiling") + 1))


def _image_of_ids(ids: DecidedIds) -> Iterator[bytes]:
    yield _encode([ids.top, len(ids.blocks), b"".join(ids.tail_ids), ids.tail_values, ids.tail_positions])
    for block in ids.blocks:
        yield _encode([block.base, block.ids, _little_endian(block.values), _little_endian(block.distances)])


def _restore_ids(ids: DecidedIds, stream: Iterator[bytes]) -> None:
    ids.top, blocks, tail, ids.tail_values, ids.tail_positions = _decode(next(stream))
    ids.tail_ids = [tail[at : at + 16] for at in range(0, len(tail), 16)]
    for _ in range(blocks):
        base, keys, values, distances = _decode(next(stream))
        ids.append_block(Block(keys, _from_little_endian(values), _from_little_endian(distances), base))


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

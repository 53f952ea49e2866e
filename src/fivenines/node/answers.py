"""From what became of a request to the bytes of its answer."""

from typing import Any, cast

import msgspec

from fivenines.api import Accepted, ItemResult, RowResult
from fivenines.ids import as_text
from fivenines.ledger import Activate, Command, OpenAccount, Outcome, PostOne, RegisterAsset
from fivenines.node.problems import Answer, refusal
from fivenines.node.requests import Parsed
from fivenines.node.writer import Receipt

__all__ = ["accepted", "results", "row_results"]

_NAMES = {int(outcome): outcome.name for outcome in Outcome}
_FIRST_REFUSAL = min(outcome for outcome in Outcome if outcome.is_refusal)
_ID_HERE = bytes(range(16))  # stands for an id while an answer is laid out

_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


def results(parsed: Parsed, receipt: Receipt, *, is_msgpack: bool) -> Answer:
    """Answer with an outcome for each command; a single one that was refused is a problem."""
    position, repeated, made = receipt.position, receipt.repeated, parsed.made
    items = [
        ItemResult(_name_of(command), _NAMES[outcome], repeated.get(i, position), i not in made)
        for i, (command, outcome) in enumerate(zip(parsed.commands, receipt.outcomes, strict=True))
    ]
    if parsed.is_array:
        return _answer(200, items, is_msgpack=is_msgpack)
    outcome = receipt.outcomes[0]
    if outcome >= _FIRST_REFUSAL:
        return refusal(Outcome(outcome), id=items[0].id, position=items[0].position)
    return _answer(200, items[0], is_msgpack=is_msgpack)


def row_results(parsed: Parsed, receipt: Receipt) -> Answer:
    """Answer with an outcome for each row."""
    commands = cast(list[PostOne], parsed.commands)
    position, repeated = receipt.position, receipt.repeated
    if repeated or len(set(receipt.outcomes)) > 1:
        pairs = zip(commands, receipt.outcomes, strict=True)
        items = [RowResult(c.id, _NAMES[o], repeated.get(i, position)) for i, (c, o) in enumerate(pairs)]
        return _answer(200, items, is_msgpack=True)
    # Nearly always all rows fare alike: then the answer is their ids, with the same bytes between each two of them.
    item = _encode_msgpack(RowResult(_ID_HERE, _NAMES[receipt.outcomes[0]], position))
    before, after = item.split(_ID_HERE)
    body = _array_head(len(commands)) + before + (after + before).join([c.id for c in commands]) + after
    return Answer(200, body, b"application/msgpack")


def _array_head(count: int) -> bytes:
    """Return how msgpack begins an array of so many items."""
    assert 0 < count < 2**16, count
    return bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")


def accepted(parsed: Parsed, receipt: Receipt, *, is_msgpack: bool) -> Answer:
    """Answer that what was asked is durable."""
    names = [_name_of(command) for command in parsed.commands]
    content = Accepted(receipt.position, names, safe_to_retry=not parsed.made)
    return _answer(202, content, is_msgpack=is_msgpack, headers=((b"preference-applied", b"respond-async"),))


def _name_of(command: Command) -> str:
    if isinstance(command, OpenAccount):
        return command.account
    if isinstance(command, RegisterAsset):
        return command.asset
    assert not isinstance(command, Activate), "no request activates rules"
    return as_text(command.id)


def _answer(status: int, content: Any, *, is_msgpack: bool, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    if is_msgpack:
        return Answer(status, _encode_msgpack(content), b"application/msgpack", headers)
    return Answer(status, _encode_json(content), headers=headers)

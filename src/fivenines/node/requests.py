"""From the bytes of a request to commands, once, at the border: behind this module everything is typed and in range.

What is wrong is refused with the field and the reason (`InvalidRequestError`). What only the books can judge, such as
an unknown account, is left to them. A request is refused whole: nothing of it has been done then.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from fivenines.api import (
    ACCOUNT_ID_PATTERN,
    METADATA_BYTES_MAX,
    POSTINGS_MAX,
    AccountChange,
    Asset,
    NewAccount,
    NewTransaction,
    Posting,
    RulesWanted,
)
from fivenines.ids import new_ids16
from fivenines.ledger import (
    AMOUNT_MAX,
    POST_ONE_AMOUNT_MAX,
    ChangeAccount,
    Command,
    Hold,
    OpenAccount,
    Post,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
    Status,
)
from fivenines.ledger import Posting as LedgerPosting
from fivenines.node.settings import Limits

__all__ = [
    "InvalidRequestError",
    "Parsed",
    "Row",
    "account_change",
    "accounts",
    "asset",
    "id_of_text",
    "is_rows",
    "number_in",
    "rows",
    "rules_wanted",
    "transactions",
]


class InvalidRequestError(Exception):
    """A request that is refused whole. `field` is a JSON path, None where the body as such is wrong."""

    def __init__(self, field: str | None, reason: str, *, status: int = 422) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason
        self.status = status


class Row(Struct, array_like=True, frozen=True, gc=False):
    """A transaction of one posting as a msgpack array: id (16 bytes), source, destination, amount."""

    id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    source: Annotated[str, Meta(min_length=1, max_length=128)]
    destination: Annotated[str, Meta(min_length=1, max_length=128)]
    amount: Annotated[int, Meta(ge=1, le=POST_ONE_AMOUNT_MAX)]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a request asks for."""

    commands: list[Command]
    is_array: bool
    made: frozenset[int] = frozenset()
    """The commands whose ids were made here: to send those again would do them again."""


class _Decoders:
    def __init__(self, type: Any) -> None:
        self.json_one = msgspec.json.Decoder(type)
        self.json_many = msgspec.json.Decoder(list[type])
        self.msgpack_one = msgspec.msgpack.Decoder(type)
        self.msgpack_many = msgspec.msgpack.Decoder(list[type])


_TRANSACTIONS = _Decoders(NewTransaction)
_ACCOUNTS = _Decoders(NewAccount)
_ASSETS = _Decoders(Asset)
_CHANGES = _Decoders(AccountChange)
_RULES = msgspec.json.Decoder(RulesWanted)
_ROWS = msgspec.msgpack.Decoder(list[Row])


def transactions(body: bytes, *, is_msgpack: bool, limits: Limits) -> Parsed:
    """Read a body with one transaction, or with an array of them."""
    found, is_array = _decode(_TRANSACTIONS, body, is_msgpack=is_msgpack, limits=limits)
    made = frozenset(index for index, item in enumerate(found) if item.id is None)
    if is_array:
        count = sum([len(item.postings) for item in found])
        if count > limits.array_postings_max:
            reason = f"the array has {count} postings; at most {limits.array_postings_max} are taken at once"
            raise InvalidRequestError("$", reason, status=413)
        return Parsed([_transaction(item, f"$[{index}]") for index, item in enumerate(found)], True, made)
    return Parsed([_transaction(found[0], "$")], False, made)


def is_rows(body: bytes) -> bool:
    """Return whether a msgpack body is an array of arrays, so of `Row`s."""
    if not body:
        return False
    start = {0xDC: 3, 0xDD: 5}.get(body[0], 1 if body[0] & 0xF0 == 0x90 else 0)
    return 0 < start < len(body) and body[start] & 0xF0 == 0x90


def rows(body: bytes, *, limits: Limits) -> Parsed:
    """Read an array of rows, the quick form for bulk."""
    found = _decoded(_ROWS, body)
    _check_count(len(found), limits)
    # Version and variant of all ids at once: the bytes that hold them, without those that are right, must be nothing.
    ids = b"".join([row.id for row in found])
    if ids[6::16].translate(None, _VERSION_7) or ids[8::16].translate(None, _VARIANT):
        for index, row in enumerate(found):
            if row.id[6] not in _VERSION_7 or row.id[8] not in _VARIANT:
                raise InvalidRequestError(f"$[{index}][0]", "is not a UUIDv7")
    return Parsed([PostOne(row.id, row.source, row.destination, row.amount) for row in found], is_array=True)


def accounts(body: bytes, *, is_msgpack: bool, limits: Limits) -> Parsed:
    """Read a body with one account, or with an array of them."""
    found, is_array = _decode(_ACCOUNTS, body, is_msgpack=is_msgpack, limits=limits)
    paths = (f"$[{index}]" for index in range(len(found))) if is_array else ("$",)
    return Parsed([_open_account(item, path) for item, path in zip(found, paths, strict=True)], is_array)


def asset(body: bytes, *, is_msgpack: bool) -> Parsed:
    """Read a body with one asset."""
    found: Asset = _decoded(_ASSETS.msgpack_one if is_msgpack else _ASSETS.json_one, body)
    return Parsed([RegisterAsset(found.asset)], is_array=False)


def account_change(account_id: str, body: bytes, *, is_msgpack: bool) -> Parsed:
    """Read a body that changes an account."""
    if not re.fullmatch(ACCOUNT_ID_PATTERN, account_id):
        raise InvalidRequestError("id", _NO_ACCOUNT_ID)
    change: AccountChange = _decoded(_CHANGES.msgpack_one if is_msgpack else _CHANGES.json_one, body)
    if change.status is UNSET and change.metadata is UNSET and change.min_balance is change.max_balance is UNSET:
        raise InvalidRequestError("$", "changes nothing: give a status, metadata, or min_balance and max_balance")
    limits = None
    if change.min_balance is not UNSET or change.max_balance is not UNSET:
        if change.min_balance is UNSET or change.max_balance is UNSET:
            raise InvalidRequestError("$", "min_balance and max_balance are changed together: give both")
        limits = (_limit(change.min_balance, "$.min_balance"), _limit(change.max_balance, "$.max_balance"))
    command = ChangeAccount(
        id_of_text(change.id) if change.id is not None else new_ids16(1)[0],
        account_id,
        status=None if change.status is UNSET else int(Status[change.status]),
        limits=limits,
        metadata=None if isinstance(change.metadata, UnsetType) else _metadata(change.metadata, "$.metadata") or b"{}",
    )
    return Parsed([command], is_array=False, made=frozenset() if change.id is not None else frozenset({0}))


def rules_wanted(body: bytes) -> RulesWanted:
    """Read a body that asks for rules to be put in force."""
    wanted: RulesWanted = _decoded(_RULES, body)
    return wanted


def number_in(text: str, name: str, *, least: int, most: int) -> int:
    """Return the number that a text is. Raises `InvalidRequestError` unless it is one between the bounds."""
    if not text.isascii() or not text.isdigit() or len(text) > 20 or not least <= int(text) <= most:
        raise InvalidRequestError(name, f"is not a number from {least} to {most}")
    return int(text)


def id_of_text(text: str) -> bytes:
    """Return the 16 bytes of a UUID that was checked to be one."""
    return bytes.fromhex(text.replace("-", ""))


_NO_ACCOUNT_ID = "is not an account id: 1 to 128 characters of A-Z a-z 0-9 : _ . -"
_DOTS = frozenset({".", ".."})
_VERSION_7 = bytes(range(0x70, 0x80))
_VARIANT = bytes(range(0x80, 0xC0))
_AMOUNT = re.compile(r"[0-9]{1,39}")
_LIMIT = re.compile(r"-?[0-9]{1,39}")


def _decode(decoders: _Decoders, body: bytes, *, is_msgpack: bool, limits: Limits) -> tuple[list[Any], bool]:
    if is_msgpack:
        is_array = bool(body) and (body[0] & 0xF0 == 0x90 or body[0] in {0xDC, 0xDD})
        decoder: Any = decoders.msgpack_many if is_array else decoders.msgpack_one
    else:
        is_array = body.lstrip(b" \t\r\n")[:1] == b"["
        decoder = decoders.json_many if is_array else decoders.json_one
    found = _decoded(decoder, body)
    if not is_array:
        return [found], False
    _check_count(len(found), limits)
    return found, True


def _decoded(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        raise InvalidRequestError(path.rstrip("`") or "$", _plain(reason)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = _HALF_A_PAIR if _has_half_a_pair(body) else str(error)
        raise InvalidRequestError(None, f"the body cannot be read: {reason}", status=400) from error
    except RecursionError as error:
        raise InvalidRequestError(None, "the body is nested too deeply", status=400) from error


_LOOKED_AT_BYTES_MAX = 65_536  # a body that cannot be read is worth no more time than that takes
_HALF_A_PAIR = "a text has half of a surrogate pair (\\ud800 to \\udfff), which is no character"


def _has_half_a_pair(body: bytes) -> bool:
    r"""Return whether a body that could not be read has a lone surrogate, such as "\ud800", and is JSON otherwise.

    msgspec looks for the other half behind the end of the text, and reports what it finds there.
    """
    if b"\\u" not in body or len(body) > _LOOKED_AT_BYTES_MAX:
        return False
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def _plain(reason: str) -> str:
    """Say what msgspec says so that it helps whoever wrote the request."""
    if repr(ACCOUNT_ID_PATTERN) in reason:  # as msgspec quotes it
        return _NO_ACCOUNT_ID
    if "-7[0-9a-fA-F]" in reason:
        return "is not a UUIDv7, such as 01932c07-209c-7d2f-8f0e-5b6a1c2d3e4f"
    if "[A-Z][A-Z0-9]" in reason:
        return "is not an asset: a code in capitals, a slash and the number of decimals, such as EUR/2"
    return reason[:1].lower() + reason[1:].replace("`", "")


def _check_count(count: int, limits: Limits) -> None:
    if count == 0:
        raise InvalidRequestError("$", "the array is empty")
    if count > limits.array_items_max:
        reason = f"the array has {count} items; at most {limits.array_items_max} are taken at once"
        raise InvalidRequestError("$", reason, status=413)


def _transaction(item: NewTransaction, path: str) -> Command:
    id = id_of_text(item.id) if item.id is not None else new_ids16(1)[0]
    extras = (
        item.effective_date.isoformat() if item.effective_date else None,
        item.reference,
        _metadata(item.metadata, f"{path}.metadata"),
    )
    if item.kind != "hold" and item.timeout_s is not None:
        raise InvalidRequestError(f"{path}.timeout_s", f"a {item.kind} has no timeout; only a hold has")
    if item.kind != "settle" and not item.final:
        raise InvalidRequestError(f"{path}.final", f"a {item.kind} is never not final; only a settle may be")
    if item.kind in {"post", "hold"}:
        if item.hold is not None:
            raise InvalidRequestError(f"{path}.hold", f"a {item.kind} refers to no hold; a settle or a release does")
        if not item.postings:
            raise InvalidRequestError(f"{path}.postings", f"a {item.kind} has at least one posting")
        if item.kind == "hold":
            timeout_us = item.timeout_s * 1_000_000 if item.timeout_s is not None else None
            return Hold(id, _postings(item.postings, path), timeout_us, *extras)
        if len(item.postings) == 1 and extras == (None, None, None):
            posting = item.postings[0]
            amount = _amount(posting.amount, f"{path}.postings[0].amount")
            if amount <= POST_ONE_AMOUNT_MAX:
                return PostOne(id, posting.source, posting.destination, amount)
        return Post(id, _postings(item.postings, path), *extras)
    if item.hold is None:
        raise InvalidRequestError(f"{path}.hold", f"a {item.kind} names the hold that it is about")
    hold = id_of_text(item.hold)
    if item.kind == "settle":
        return Settle(id, hold, _postings(item.postings, path), item.final, *extras)
    if item.postings:
        raise InvalidRequestError(f"{path}.postings", "a release has no postings: it gives back all that is held")
    return Release(id, hold, *extras)


def _postings(postings: Sequence[Posting], path: str) -> tuple[LedgerPosting, ...]:
    if len(postings) > POSTINGS_MAX:
        raise InvalidRequestError(
            f"{path}.postings", f"a transaction has at most {POSTINGS_MAX} postings, not {len(postings)}"
        )
    return tuple(
        LedgerPosting(p.source, p.destination, _amount(p.amount, f"{path}.postings[{index}].amount"))
        for index, p in enumerate(postings)
    )


def _amount(value: int | str, field: str) -> int:
    if isinstance(value, str):
        if not _AMOUNT.fullmatch(value):
            raise InvalidRequestError(
                field, "is not an amount: an integer in the smallest unit, such as 1250 or '1250'"
            )
        value = int(value)
    if not 0 < value <= AMOUNT_MAX:
        raise InvalidRequestError(field, "is out of range: an amount is above 0 and below 2^127")
    return value


def _limit(value: int | str | None, field: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        if not _LIMIT.fullmatch(value):
            raise InvalidRequestError(field, "is not a balance: an integer in the smallest unit, or null for no limit")
        value = int(value)
    if abs(value) > AMOUNT_MAX:
        raise InvalidRequestError(field, "is out of range: a balance is between -2^127 and 2^127")
    return value


def _open_account(item: NewAccount, path: str) -> OpenAccount:
    if item.id in _DOTS:
        # As a part of a URL these mean another folder: clients would take them away, and could never ask for it.
        raise InvalidRequestError(f"{path}.id", "may be neither '.' nor '..', which no URL can name")
    min_balance = _limit(item.min_balance, f"{path}.min_balance")
    max_balance = _limit(item.max_balance, f"{path}.max_balance")
    if min_balance is not None and min_balance > 0:
        raise InvalidRequestError(f"{path}.min_balance", "a new account has nothing: its min_balance is 0 or below")
    if max_balance is not None and max_balance < 0:
        raise InvalidRequestError(f"{path}.max_balance", "a new account has nothing: its max_balance is 0 or above")
    return OpenAccount(item.id, item.asset, min_balance, max_balance, _metadata(item.metadata, f"{path}.metadata"))


_METADATA_DEPTH_MAX = 32
"""Far below the depth at which JSON can no longer be read back, which depends on who reads."""


def _metadata(metadata: dict[str, Any], field: str) -> bytes | None:
    if not metadata:
        return None
    _check_json(metadata, field, _METADATA_DEPTH_MAX)
    text = msgspec.json.encode(metadata, order="deterministic")
    if len(text) > METADATA_BYTES_MAX:
        raise InvalidRequestError(field, f"is {len(text)} bytes of JSON; at most {METADATA_BYTES_MAX} are kept")
    return text


def _check_json(value: Any, field: str, depth_left: int) -> None:
    """Refuse what msgpack can say and JSON cannot, and what is nested too deeply."""
    match value:
        case None | bool() | str() | int():
            return
        case float():
            if not isfinite(value):
                raise InvalidRequestError(field, "holds a number that is not finite, which JSON cannot say")
        case list() | dict():
            if depth_left == 0:
                raise InvalidRequestError(field, f"is nested too deeply; at most {_METADATA_DEPTH_MAX} levels are kept")
            if isinstance(value, dict):
                if not all(isinstance(key, str) for key in value):
                    raise InvalidRequestError(field, "has a key that is no text")
                value = value.values()
            for item in value:
                _check_json(item, field, depth_left - 1)
        case _:
            raise InvalidRequestError(field, f"holds a {type(value).__name__}, which JSON cannot say")

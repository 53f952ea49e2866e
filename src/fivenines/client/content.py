"""Metadata as the caller gave it, checked before anything is sent: what JSON cannot say is refused, never changed.

An encoder would write NaN as null, bytes as base64 and a number that names something as text: the ledger would keep for
ever what nobody meant.
"""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["as_object"]

_DEPTH_MAX = 100
"""Deeper than anybody means it, and far from where an encoder gives up."""


def as_object(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return metadata as a dict that JSON can say as it is; None is an empty one.

    Raises:
        ValueError: something in it is no JSON; the sentence names the place.
    """
    if not metadata and isinstance(metadata, dict | None):
        return {}
    if not isinstance(metadata, Mapping):
        raise ValueError(f"metadata must be an object of JSON, not {type(metadata).__name__}")  # noqa: TRY004 - one kind of error for all
    content = dict(metadata)
    _check(content, "metadata", depth=0)
    return content


def _check(value: Any, place: str, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise ValueError(f"metadata is nested more than {_DEPTH_MAX} deep")
    match value:
        case None | bool() | int():
            return
        case str():
            _check_text(value, place)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{place} is {value}, which JSON has no way to say")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ValueError(f"{place} has a key that is no text: {key!r}")  # noqa: TRY004 - the same
                _check_text(key, f"a key of {place}")
                _check(item, f"{place}[{key!r}]", depth + 1)
        case list() | tuple():
            for number, item in enumerate(value):
                _check(item, f"{place}[{number}]", depth + 1)
        case _:
            raise ValueError(f"{place} is of type {type(value).__name__}, which is no JSON")


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place} is no Unicode text: {error.reason}") from None

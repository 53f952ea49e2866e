"""Drills as files for programs: all of it with a schema version and back, and the short form.

`encode` and `decode` are each other's inverse, and `encode` of the same report gives the same bytes, so that their
SHA-256 ties a page to its file. JSON has no word for a number without end, as the pause of a request that was never
answered: it is written as the text "Infinity", and read back as the number.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from fivenines.drill.reporting.summary import guarantees_of
from fivenines.drill.results import DrillResult, Guarantee, Verdict

__all__ = ["SCHEMA", "Report", "ReportUnreadableError", "Short", "decode", "encode", "encode_short", "fingerprint"]

SCHEMA = 1
"""Of drills-full.json. A field more, with a default, needs no new one; any other change does."""

_HALVES = re.compile("[\ud800-\udfff]")


class ReportUnreadableError(ValueError):
    """A file is no report of drills, or one of a later schema; the sentence says where."""


class Report(Struct, frozen=True, kw_only=True):
    """All of drills-full.json."""

    schema: int
    written_at: float
    """Unix time."""
    commands: tuple[str, ...] = ()
    """What repeats all of it."""
    results: tuple[DrillResult, ...]


class Short(Struct, frozen=True, kw_only=True):
    """One drill in drills.json."""

    name: str
    verdict: Verdict
    guarantee: list[Guarantee]
    failed_requests: int
    lost: int
    doubled: int
    longest_pause_s: float


class _Head(Struct):
    schema: int


def encode(report: Report) -> bytes:
    """Write a report as JSON, with a line for each drill."""
    head = _fit(msgspec.to_builtins(report))
    lines = b",\n".join(msgspec.json.encode(each) for each in head.pop("results"))
    return msgspec.json.encode(head)[:-1] + b',"results":[\n' + lines + b"\n]}\n"


def decode(data: bytes) -> Report:
    """Read what `encode` wrote.

    Raises:
        ReportUnreadableError: it is something else, or of a later schema.
    """
    try:
        schema = msgspec.json.decode(data, type=_Head).schema
        if schema != SCHEMA:
            raise ReportUnreadableError(f"schema is {schema}; this version of fivenines reads {SCHEMA}")
        # Not strict only so that "Infinity" is taken for the number.
        return msgspec.convert(msgspec.json.decode(data), type=Report, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReportUnreadableError(f"not a report of drills: {error}") from None


def encode_short(results: Sequence[DrillResult]) -> bytes:
    """Write the short form: a list with an object for each drill."""
    listed = [
        Short(
            name=each.name,
            verdict=each.verdict,
            guarantee=guarantees_of(each),
            failed_requests=each.failed_requests,
            lost=each.lost,
            doubled=each.doubled,
            longest_pause_s=each.longest_pause_s,
        )
        for each in results
    ]
    return msgspec.json.format(msgspec.json.encode(_fit(msgspec.to_builtins(listed))), indent=2) + b"\n"


def fingerprint(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _fit(value: Any) -> Any:
    """Put words for what JSON has no number for, and U+FFFD for what is no character."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case str():
            return _HALVES.sub("\ufffd", value)
        case dict():
            return {_fit(key): _fit(each) for key, each in value.items()}
        case list() | tuple():
            return [_fit(each) for each in value]
        case _:
            return value

"""Requests and replies as data, and the judgement of one reply. Nothing here does I/O.

`Request` is what a call wants to have answered, `Reply` and `Failure` are what came of one try, and `judge` says what
that means: an answer, an error for the caller, or another try.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from fivenines.api import Problem
from fivenines.client.errors import InvalidRequestError, LedgerError, NotFoundError, RefusedError

__all__ = [
    "JSON",
    "MSGPACK",
    "Answer",
    "Failure",
    "NoAnswer",
    "Reader",
    "Reply",
    "Request",
    "array_body",
    "judge",
    "path",
    "reader",
]

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Reader = Callable[[bytes, str], T]
"""Reads an answer's body, given its media type; raises `msgspec.MsgspecError` on one that makes no sense."""

_REASON_MAX: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a call wants to have answered. The same request may be sent any number of times."""

    method: Literal["GET", "POST", "PATCH"]
    path: str
    """With its query, quoted."""
    body: bytes = b""
    media_type: str = JSON
    """Of the body, and of the answer where the server can."""
    ids: Sequence[str | bytes] = ()
    """Of a write: the ids of its commands. Empty for a read."""
    names: str = ""
    """The one id that it is about, where it is about one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answered, whole."""

    status: int
    media_type: str = ""
    """In lower case, without parameters."""
    body: bytes = b""
    position: int | None = None
    """`Ledger-Position`; a server that is no node of ours sends none."""
    retry_after: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What kept one try from an answer."""

    kind: Literal["unreached", "timed_out", "cut_off", "garbled", "busy_here"]
    """unreached    no connection: the server surely took nothing in
    timed_out    connected, but no answer in time
    cut_off      the connection broke before the answer was whole; an idle one may have been closed by the server
    garbled      something came that is no answer
    busy_here    all connections of this client are in use
    """
    reason: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """The call is answered."""

    value: T_co


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """This try came to nothing."""

    reason: str
    maybe_done: bool
    """Whether the server may have taken the command in."""
    url: Literal["leave", "keep", "keep_once"] = "leave"
    """Whether the next try should go to another server. `keep_once`: only if it happens a second time."""
    not_before_s: float = 0.0
    """How long the server asked not to be troubled."""
    is_final: bool = False
    """Whether another try is pointless."""


def judge(request: Request, came: Reply | Failure, read: Reader[T]) -> Answer[T] | NoAnswer:
    """Say what one try means for the call.

    A 429 or a 503 *from a node* means that the command was not taken in, unless it says otherwise. One without
    `Ledger-Position` comes from something in between, which may have handed the command on before.

    Raises:
        LedgerError: the server's final word.
    """
    if isinstance(came, Failure):
        return _judge_failure(came)
    status = came.status
    if 200 <= status < 300:
        return _judge_success(request, came, read)
    if status in {429, 502, 503, 504}:
        return NoAnswer(
            reason=_said(came),
            maybe_done=bool(request.ids) and not _is_from_a_node_that_did_nothing(came),
            url="keep" if status == 429 else "leave",
            not_before_s=_retry_after_s(came),
        )
    if status >= 500:
        # A server that fails inside will most likely fail again on the same request, and take the next node with it.
        return NoAnswer(reason=_said(came), maybe_done=bool(request.ids), is_final=True)
    raise _error(request, came)


def _judge_failure(failure: Failure) -> NoAnswer:
    match failure.kind:
        case "unreached":
            return NoAnswer(reason=failure.reason, maybe_done=False)
        case "busy_here":
            return NoAnswer(reason=failure.reason, maybe_done=False, url="keep")
        case "cut_off":
            return NoAnswer(reason=failure.reason, maybe_done=True, url="keep_once")
        case "timed_out" | "garbled":
            return NoAnswer(reason=failure.reason, maybe_done=True)


def _judge_success(request: Request, reply: Reply, read: Reader[T]) -> Answer[T] | NoAnswer:
    try:
        return Answer(read(reply.body, reply.media_type))
    except msgspec.MsgspecError as error:
        reason = f"HTTP status {reply.status} with a body that is no answer of a ledger ({error})"
        return NoAnswer(reason=reason, maybe_done=bool(request.ids))


def _is_from_a_node_that_did_nothing(reply: Reply) -> bool:
    problem = _problem(reply)
    said_maybe = problem is not None and problem.type.endswith("/maybe_done")
    return reply.status in {429, 503} and reply.position is not None and not said_maybe


def _error(request: Request, reply: Reply) -> LedgerError:
    problem = _problem(reply)
    if problem is not None and problem.outcome is not None:
        said = problem.detail or problem.title
        return RefusedError(problem.outcome, id=problem.id or request.names, position=problem.position, detail=said)
    if reply.status == 404 and request.method == "GET" and reply.position is not None:
        return NotFoundError(request.names, detail=problem.detail if problem else None)
    if problem is not None:
        return InvalidRequestError(problem.detail or problem.title, field=problem.field, status=reply.status)
    return InvalidRequestError(_said(reply), status=reply.status)


def _said(reply: Reply) -> str:
    problem = _problem(reply)
    if problem is not None:
        return f"HTTP status {reply.status}: {problem.detail or problem.title}"
    text = reply.body[:_REASON_MAX].decode(errors="replace").strip()
    return f"HTTP status {reply.status} with {text!r}" if text else f"HTTP status {reply.status}"


def _problem(reply: Reply) -> Problem | None:
    if "json" not in reply.media_type:
        return None
    try:
        return msgspec.json.decode(reply.body, type=Problem)
    except msgspec.MsgspecError:
        return None


def _retry_after_s(reply: Reply) -> float:
    """Read Retry-After: seconds, or a date, which is compared with the server's own clock."""
    value = (reply.retry_after or "").strip()
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(reply.date or "")
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def reader(type: type[T]) -> Reader[T]:
    """Make a reader of bodies of one type. Amounts that are written as strings become ints."""
    as_json = msgspec.json.Decoder(type, strict=False)
    as_msgpack = msgspec.msgpack.Decoder(type, strict=False)

    def read(body: bytes, media_type: str) -> T:
        return as_msgpack.decode(body) if media_type == MSGPACK else as_json.decode(body)

    return read


def array_body(items: Sequence[Any]) -> tuple[bytes, str]:
    """Encode an array of commands, and return its media type: msgpack, or JSON where an integer is too large for it."""
    try:
        return msgspec.msgpack.encode(items), MSGPACK
    except OverflowError:
        return msgspec.json.encode(items), JSON


def path(*segments: str, **query: str | int | None) -> str:
    """Build a path of quoted segments, with a query of what is not None."""
    base = "/" + "/".join(quote(segment, safe="") for segment in segments)
    asked = urlencode({key: value for key, value in query.items() if value is not None})
    return f"{base}?{asked}" if asked else base

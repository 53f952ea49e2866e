"""The gateway's write path: a bare ASGI application, with the rest of the API behind it.

A framework would cost each write about as much as deciding it does, so requests that change the books are read and
answered here by hand; everything else goes to `pages`, an ordinary Starlette application.

Overload is met in three steps. While the queue before the journal is full, a request is refused before its body is
read. A refusal is held back for about half a second: a client that tries again at once waits, and costs little.
And what is being received or waiting is bounded in bytes.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fivenines.journal import FrameTooLargeError, JournalError, JournalFullError, NotDoneError
from fivenines.node import answers, requests
from fivenines.node.metrics import Metrics
from fivenines.node.node import Node
from fivenines.node.problems import Answer, problem
from fivenines.node.requests import InvalidRequestError, Parsed
from fivenines.node.settings import Limits
from fivenines.node.writer import OverloadedError, RulesNotInForceError

__all__ = ["Gateway", "send_answer"]

# To be named, always: a browser sends a body without a type, or as a form, to any address that a web page likes.
_JSON = {b"application/json"}
_MSGPACK = {b"application/msgpack", b"application/x-msgpack", b"application/vnd.msgpack"}

_ACCOUNT = "/v1/accounts/"
_POSITION = b"ledger-position"
_AGE = b"ledger-age"
"""How long ago this node last heard of the end of a journal that it shares, in seconds: how old a read may be."""


class _HungUpError(Exception):
    """The client hung up before its request was whole: nothing was done, and nobody is there to be told."""


class _TooLargeError(Exception):
    """The body is longer than we take."""


class Gateway:
    """The ASGI application of a node."""

    def __init__(self, node: Node, pages: ASGIApp, metrics: Metrics) -> None:
        self._node = node
        self._pages = pages
        self._metrics = metrics
        self._limits = node.settings.limits
        self._bodies_bytes = 0
        self._refusals_waiting = 0
        self._refusals = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if method == "POST" and path == "/v1/transactions":
            await self._write("transactions", _parse_transactions, scope, receive, send)
        elif method == "POST" and path == "/v1/accounts":
            await self._write("accounts", _parse_accounts, scope, receive, send)
        elif method == "POST" and path == "/v1/assets":
            await self._write("assets", _parse_asset, scope, receive, send)
        elif method == "PATCH" and path.startswith(_ACCOUNT) and path != _ACCOUNT and "/" not in path[len(_ACCOUNT) :]:
            await self._write("account", _parse_change, scope, receive, send)
        else:
            await self._pages(scope, receive, self._with_position(send))

    @property
    def position(self) -> int:
        """The position that an answer of now shows."""
        return self._node.replica.position

    async def refuse_connection(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer a request on a connection that is one too many."""
        answer = problem(
            503,
            "too_many_connections",
            "This node has as many connections as it can bear.",
            detail="nothing was done; try again, after a while, with the same ids",
            retry_after_s=self._limits.retry_after_s,
            headers=((b"connection", b"close"),),
        )
        self._metrics.observe("connection", answer.status, 0)
        await send_answer(send, answer, self.position)

    def _with_position(self, send: Send) -> Send:
        async def send_with_position(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if _POSITION not in dict(headers):
                    headers = [*headers, (_POSITION, b"%d" % self.position)]
                if self._node.fleet is not None:
                    headers = [*headers, (_AGE, b"%.3f" % self._node.journal.age_s)]
                message["headers"] = headers
            await send(message)

        return send_with_position

    async def _write(
        self,
        route: str,
        parse: "Callable[[Scope, bytes, bool, Limits], Parsed]",
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        began = time.perf_counter()
        try:
            answer = await self._answer(parse, scope, receive)
        except _HungUpError:
            return
        took_s = time.perf_counter() - began
        if answer.status == 503:
            answer = await self._hold_back(answer)
        self._metrics.observe(route, answer.status, took_s)
        await send_answer(send, answer, self._node.replica.position)

    async def _answer(
        self, parse: "Callable[[Scope, bytes, bool, Limits], Parsed]", scope: Scope, receive: Receive
    ) -> Answer:
        content_type = length = prefer = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                length = value
            elif name == b"prefer":
                prefer = value if not prefer else prefer + b"," + value
        kind = content_type.partition(b";")[0].strip().lower()
        is_msgpack = kind in _MSGPACK
        if not is_msgpack and kind not in _JSON:
            return problem(
                415,
                "media_type",
                "The body must be application/json or application/msgpack.",
                detail="the header Content-Type says what it is; with curl: --json instead of --data",
            )
        size = int(length) if length.isdigit() else 0
        if size > self._limits.body_bytes_max:
            return self._too_large()
        if not self._node.writer.has_room or self._bodies_bytes + size > self._limits.bodies_bytes_max:
            return self._overloaded()

        try:
            body = await self._receive(receive)
        except _TooLargeError:
            return self._too_large()
        except OverloadedError:
            return self._overloaded()
        self._bodies_bytes += len(body)
        try:
            parsed = parse(scope, body, is_msgpack, self._limits)
            is_async = bool(prefer) and _prefers_async(prefer)
            try:
                receipt = await self._node.writer.submit(
                    parsed.commands, size_bytes=len(body), durable_is_enough=is_async
                )
            except RulesNotInForceError as error:
                return problem(
                    *(409, "rules_not_in_force", "The rules in force cannot say this."),
                    detail=str(error),
                    field=f"$[{error.index}]{error.field[1:]}" if parsed.is_array else error.field,
                )
        except InvalidRequestError as error:
            return problem(
                error.status, "invalid_request", "The request is not valid.", detail=error.reason, field=error.field
            )
        except OverloadedError:
            return self._overloaded()
        except FrameTooLargeError:
            return self._too_large()
        except JournalError as error:
            return self._not_written(error)
        finally:
            self._bodies_bytes -= len(body)
        if is_async:
            return answers.accepted(parsed, receipt, is_msgpack=is_msgpack)
        if is_msgpack and requests.is_rows(body):
            return answers.row_results(parsed, receipt)
        return answers.results(parsed, receipt, is_msgpack=is_msgpack)

    async def _receive(self, receive: Receive) -> bytes:
        """Return the body. What comes of it is counted as it comes: a slow sender's share is memory, too."""
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) > self._limits.body_bytes_max:
                raise _TooLargeError
            return body
        parts: list[bytes] = []
        size = 0
        try:
            while message["type"] == "http.request":
                part = message.get("body", b"")
                size += len(part)
                self._bodies_bytes += len(part)
                if size > self._limits.body_bytes_max:
                    raise _TooLargeError
                if self._bodies_bytes > self._limits.bodies_bytes_max:
                    raise OverloadedError
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
                message = await receive()
        finally:
            self._bodies_bytes -= size
        raise _HungUpError

    async def _hold_back(self, answer: Answer) -> Answer:
        if self._refusals_waiting >= self._limits.refusals_waiting_max:
            return msgspec.structs.replace(answer, headers=(*answer.headers, (b"connection", b"close")))
        self._refusals_waiting += 1
        self._refusals += 1
        # Longer, the more there are, so that they never come back as more than a steady trickle; and each a little
        # differently (by the golden ratio, which spreads any number of them evenly), so that they come as no wave.
        delay_s = max(self._limits.refusal_delay_ms / 1000, self._refusals_waiting / self._limits.refusals_per_s_max)
        try:
            await asyncio.sleep(delay_s * (0.5 + self._refusals * 0.618034 % 1.0))
        finally:
            self._refusals_waiting -= 1
        return answer

    def _too_large(self) -> Answer:
        most = self._limits.body_bytes_max
        return problem(
            413,
            "body_too_large",
            "The body is too large.",
            detail=f"at most {most} bytes are taken at once; send the array in parts",
            headers=((b"connection", b"close"),),
        )

    def _overloaded(self) -> Answer:
        return problem(
            503,
            "overloaded",
            "This node has as much to do as it can bear.",
            detail="nothing was done; try again, after a while, with the same ids",
            retry_after_s=self._limits.retry_after_s,
        )

    def _not_written(self, error: JournalError) -> Answer:
        if isinstance(error, JournalFullError):
            name, title = "journal_full", "There is no room in the journal."
        else:
            name, title = "journal_unavailable", "The journal takes no writes now."
        is_not_done = isinstance(error, NotDoneError)
        return problem(
            503,
            name if is_not_done else "maybe_done",
            title,
            detail=(
                f"nothing was done ({error}); try again with the same ids"
                if is_not_done
                else f"it may have been done ({error}); trying again with the same ids is safe, with others it is not"
            ),
            retry_after_s=self._limits.retry_after_s,
        )


# --- requests --------------------------------------------------------------------------------------------------------


def _parse_transactions(_scope: Scope, body: bytes, is_msgpack: bool, limits: Limits) -> Parsed:
    if is_msgpack and requests.is_rows(body):
        return requests.rows(body, limits=limits)
    return requests.transactions(body, is_msgpack=is_msgpack, limits=limits)


def _parse_accounts(_scope: Scope, body: bytes, is_msgpack: bool, limits: Limits) -> Parsed:
    return requests.accounts(body, is_msgpack=is_msgpack, limits=limits)


def _parse_asset(_scope: Scope, body: bytes, is_msgpack: bool, _limits: Limits) -> Parsed:
    return requests.asset(body, is_msgpack=is_msgpack)


def _parse_change(scope: Scope, body: bytes, is_msgpack: bool, _limits: Limits) -> Parsed:
    return requests.account_change(scope["path"].removeprefix("/v1/accounts/"), body, is_msgpack=is_msgpack)


def _prefers_async(prefer: bytes) -> bool:
    """Return whether a `Prefer` header has the preference `respond-async`, among others and with what it may carry."""
    return any(part.partition(b";")[0].strip().lower() == b"respond-async" for part in prefer.split(b","))


async def send_answer(send: Send, answer: Answer, position: int) -> None:
    """Send an answer, with the position that it shows."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (b"content-type", answer.content_type),
                (b"content-length", b"%d" % len(answer.body)),
                (_POSITION, b"%d" % position),
                *answer.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})

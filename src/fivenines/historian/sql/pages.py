"""The SQL history over HTTP: the same paths and forms as a node's, for all time and not only its window.

    GET /v1/accounts/{id}/history?before=&limit=
    GET /v1/accounts/{id}/statement?from=&to=&after=&limit=
    GET /v1/accounts/{id}/balance?position=|time=
    GET /v1/transactions?reference=&metadata.KEY=&before=&limit=
    GET /v1/transactions/{id}

`Ledger-Position` says up to where the history told when it answered. What is wrong with a request is told by the field.
While the database is away, the answer is 503 and when to come again. SQL blocks, so it runs in threads.
"""

import asyncio
import datetime
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from fivenines.api import TRANSACTION_ID_PATTERN
from fivenines.historian.sql.answers import Answer, Cursor, LineCursor
from fivenines.historian.sql.errors import HistoryUnavailableError
from fivenines.historian.sql.queries import NotYetError, Queries
from fivenines.node.problems import problem, response_of
from fivenines.node.requests import InvalidRequestError, id_of_text, number_in

__all__ = ["pages"]

T = TypeVar("T")

_PAGE_MAX = 1_000
_QUERIES_MAX = 8
_RETRY_AFTER_S = 1
_DETAIL_CHARACTERS_MAX = 200
_UUID = re.compile(TRANSACTION_ID_PATTERN)
_METADATA = "metadata."

_encode = msgspec.json.Encoder().encode


def pages(queries: Queries) -> Router:
    """Make the router that serves the history."""
    views = _Views(queries)
    return Router(
        [
            Route("/v1/accounts/{id}/history", views.safely(views.history)),
            Route("/v1/accounts/{id}/statement", views.safely(views.statement)),
            Route("/v1/accounts/{id}/balance", views.safely(views.balance)),
            Route("/v1/transactions", views.safely(views.search)),
            Route("/v1/transactions/{id}", views.safely(views.transaction)),
        ],
        redirect_slashes=False,
    )


class _Views:
    """One method for each page."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._slots = asyncio.Semaphore(_QUERIES_MAX)  # so that slow queries leave threads to others

    def safely(self, view: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a page: what may go wrong with each."""

        async def serve(request: Request) -> Response:
            try:
                return await view(request)
            except InvalidRequestError as error:
                title = "The request is not valid."
                return response_of(
                    problem(error.status, "invalid_request", title, detail=error.reason, field=error.field)
                )
            except HistoryUnavailableError as error:
                is_early = isinstance(error, NotYetError)
                name = "not_there_yet" if is_early else "history_unavailable"
                title = "The history has not come so far." if is_early else "The history cannot be read now."
                detail = str(error)[:_DETAIL_CHARACTERS_MAX]
                return response_of(problem(503, name, title, detail=detail, retry_after_s=_RETRY_AFTER_S))

        return serve

    async def history(self, request: Request) -> Response:
        id = request.path_params["id"]
        before, limit = _cursor(request), _limit(request)
        answer = await self._ask(lambda: self._queries.account_history(id, before=before, limit=limit))
        return _found(answer, f"there is no account {id[:128]!r}")

    async def statement(self, request: Request) -> Response:
        id = request.path_params["id"]
        first, last, limit = _date(request, "from"), _date(request, "to"), _limit(request)
        if first > last:
            raise InvalidRequestError("to", "is before `from`")
        after: LineCursor | None = None
        if (text := request.query_params.get("after")) is not None and (after := LineCursor.parse(text)) is None:
            raise InvalidRequestError("after", "is not what `next` of a page was")
        answer = await self._ask(lambda: self._queries.statement(id, first, last, after=after, limit=limit))
        return _found(answer, f"there is no account {id[:128]!r}")

    async def balance(self, request: Request) -> Response:
        id = request.path_params["id"]
        position = _number(request, "position", default=None, least=0, most=2**63 - 1)
        time_us = _time_us(request)
        if position is not None and time_us is not None:
            raise InvalidRequestError("time", "cannot be given together with `position`")
        answer = await self._ask(lambda: self._queries.balance_as_of(id, position=position, time_us=time_us))
        return _found(answer, f"there is, or was then, no account {id[:128]!r}")

    async def search(self, request: Request) -> Response:
        parameters = request.query_params
        reference = parameters.get("reference")
        metadata = {key[len(_METADATA) :]: text for key, text in parameters.items() if key.startswith(_METADATA)}
        if reference is None and not metadata:
            raise InvalidRequestError("reference", "must be given, or else `metadata.KEY`")
        for name in parameters:
            if len(parameters.getlist(name)) > 1:
                raise InvalidRequestError(name, "is given twice")
        before, limit = _cursor(request), _limit(request)
        answer = await self._ask(
            lambda: self._queries.search(reference=reference, metadata=metadata, before=before, limit=limit)
        )
        return _found(answer, "")

    async def transaction(self, request: Request) -> Response:
        text = request.path_params["id"]
        if not _UUID.fullmatch(text):
            raise InvalidRequestError("id", "is not a UUIDv7, such as 01932c07-209c-7d2f-8f0e-5b6a1c2d3e4f")
        answer = await self._ask(lambda: self._queries.transaction(id_of_text(text)))
        return _found(answer, "no such transaction was decided, or it is not in the history yet")

    async def _ask(self, query: Callable[[], T]) -> T:
        async with self._slots:
            return await asyncio.to_thread(query)


def _found(answer: Answer[Any], missing: str) -> Response:
    headers = {"Ledger-Position": str(answer.position)}
    if answer.content is None:
        return response_of(problem(404, "not_found", "There is no such thing.", detail=missing), headers)
    return Response(_encode(answer.content), media_type="application/json", headers=headers)


def _cursor(request: Request) -> Cursor | None:
    text = request.query_params.get("before")
    if text is None:
        return None
    found = Cursor.parse(text)
    if found is None:
        raise InvalidRequestError("before", "is neither a position nor what `next` of a page was")
    return found


def _limit(request: Request) -> int:
    return _number(request, "limit", default=100, least=1, most=_PAGE_MAX) or 100


def _number(request: Request, name: str, *, default: int | None, least: int, most: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    return number_in(text, name, least=least, most=most)


def _date(request: Request, name: str) -> datetime.date:
    text = request.query_params.get(name, "")
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError  # noqa: TRY301 one answer for all that is no date
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise InvalidRequestError(name, "is not a date, such as 2026-01-31") from None


def _time_us(request: Request) -> int | None:
    text = request.query_params.get("time")
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequestError("time", "is not a moment with its zone, such as 2026-01-31T23:59:59.999999Z")
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)

"""The feed over HTTP: events as a node tells them, and webhooks.

    GET    /v1/events?after=&limit=&wait_s=&type=&account=     a page, a long poll, or a stream (text/event-stream)
    POST   /v1/webhooks                    {"url", "secret", "types", "accounts", "after"}: 201
    GET    /v1/webhooks                    all, with how far they are; never a secret
    GET    /v1/webhooks/{id}
    DELETE /v1/webhooks/{id}               204; its dead letters go with it
    GET    /v1/webhooks/{id}/dead-letters?after=&limit=
    POST   /v1/webhooks/{id}/replay        {"events": ["7-0"]}, or an empty body for all: 202

What is wrong with a request is told by the field. While the database or the source is away the answer is 503.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router

from fivenines.api import Event, Events
from fivenines.historian.feed.ordering import Key
from fivenines.historian.feed.signing import SecretError
from fivenines.historian.feed.source import EventSource, EventsTrimmedError, SourceError
from fivenines.historian.feed.store import DeadLetter, StoreUnavailableError, Subscription
from fivenines.historian.feed.webhooks import Webhooks
from fivenines.node.filters import EventFilter
from fivenines.node.problems import problem, response_of
from fivenines.node.requests import InvalidRequestError, number_in

__all__ = ["feed_pages"]

_PAGE_MAX = 1_000
_STREAMS_MAX = 64
_BODY_BYTES_MAX = 64 * 1024
_STREAM_WAIT_S = 20.0
_URL_CHARACTERS_MAX = 2_000
_RETRY_AFTER_S = 1
_encode = msgspec.json.Encoder().encode


class NewWebhook(Struct, frozen=True, forbid_unknown_fields=True):
    """A subscription that is asked for."""

    url: str
    secret: str
    """The name of the secret that it is signed with."""
    types: list[str] = []
    accounts: list[str] = []
    after: int | None = None
    """The position after which it begins; left out: now."""


class Replay(Struct, frozen=True, forbid_unknown_fields=True):
    """Dead letters that are to be delivered again."""

    events: list[str] | None = None
    """Their ids; left out: all."""


class Webhook(Struct, frozen=True, kw_only=True):
    """A subscription, and how it is."""

    id: str
    url: str
    secret: str
    """The name of its secret."""
    types: tuple[str, ...]
    accounts: tuple[str, ...]
    after: int
    """The position after which it began."""
    position: int
    """Everything up to here is delivered, or a dead letter."""
    dead_letters: int
    waiting: int | None = None
    """How many events wait, where it is delivered from here."""
    failing: int | None = None
    """How many of them were tried and not taken yet."""
    problem: str | None = None
    """Why it does not go on, null if it does."""


class DeadLetterShown(Struct, frozen=True, kw_only=True):
    """An event that was given up."""

    event: Event
    tries: int
    reason: str
    time_s: int
    """When it was given up, unix time."""
    is_waiting: bool
    """Whether it is to be delivered again."""


def feed_pages(source: EventSource, webhooks: Webhooks | None = None) -> Router:
    """Make the router that serves events and, where there are, webhooks."""
    views = _Views(source, webhooks)
    routes = [Route("/v1/events", views.safely(views.events))]
    if webhooks is not None:
        routes += [
            Route("/v1/webhooks", views.safely(views.subscribe), methods=["POST"]),
            Route("/v1/webhooks", views.safely(views.subscriptions)),
            Route("/v1/webhooks/{id}", views.safely(views.subscription)),
            Route("/v1/webhooks/{id}", views.safely(views.unsubscribe), methods=["DELETE"]),
            Route("/v1/webhooks/{id}/dead-letters", views.safely(views.dead_letters)),
            Route("/v1/webhooks/{id}/replay", views.safely(views.replay), methods=["POST"]),
        ]
    return Router(routes, redirect_slashes=False)


class _Views:
    """One method for each page."""

    def __init__(self, source: EventSource, webhooks: Webhooks | None) -> None:
        self._source = source
        self._given = webhooks
        self._streams = 0

    @property
    def _webhooks(self) -> Webhooks:
        assert self._given is not None
        return self._given

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
            except _MissingError:
                return response_of(problem(404, "not_found", "There is no such webhook."))
            except EventsTrimmedError as error:
                title = "What was asked for has been trimmed away."
                return response_of(problem(410, "trimmed", title, detail=str(error), field="after"))
            except (SourceError, StoreUnavailableError) as error:
                is_early = isinstance(error, _NotThereYetError)
                name = "not_there_yet" if is_early else "feed_unavailable"
                title = "The events have not come so far." if is_early else "This cannot be had now."
                answer = problem(503, name, title, detail=str(error), retry_after_s=_RETRY_AFTER_S)
                return response_of(answer)

        return serve

    # --- events ------------------------------------------------------------------------------------------------------

    async def events(self, request: Request) -> Response:
        asked = request.query_params
        wanted = EventFilter.of(asked.getlist("type"), asked.getlist("account"))
        end = await self._source.end()
        after = _number(asked.get("after"), "after", default=end, least=0, most=2**63)
        limit = _number(asked.get("limit"), "limit", default=100, least=1, most=_PAGE_MAX)
        wait_s = _number(asked.get("wait_s"), "wait_s", default=0, least=0, most=60)
        if "text/event-stream" in request.headers.get("accept", "") and request.method == "GET":
            after = _number(request.headers.get("last-event-id"), "Last-Event-ID", default=after, least=0, most=2**63)
            _check_there(after, end)
            if self._streams >= _STREAMS_MAX:
                detail = f"{_STREAMS_MAX} are open; /v1/events?after=...&wait_s=20 gives the same in pages"
                title = "As many streams of events are open as can be borne."
                return response_of(problem(503, "too_many_streams", title, detail=detail, retry_after_s=_RETRY_AFTER_S))
            return StreamingResponse(self._stream(after, wanted), media_type="text/event-stream")
        _check_there(after, end)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        while True:
            events, position = await self._source.after(after, limit)
            found = [event for event in events if wanted.matches(event)]
            left_s = end_s - loop.time()
            if found or left_s <= 0 or (wanted.is_all and position > after):
                return _json(Events(found, position), headers={"Ledger-Position": str(max(end, position))})
            if position == after:
                await self._source.wait(position, left_s)
            after = position

    async def _stream(self, after: int, wanted: EventFilter) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            while True:
                events, position = await self._source.after(after, _PAGE_MAX)
                if position == after:
                    yield b": still here\n\n"
                    await self._source.wait(position, _STREAM_WAIT_S)
                    continue
                after = position
                told = [
                    b"event: %b\ndata: %b\n\n" % (event.type.encode(), _encode(event))
                    for event in events
                    if wanted.matches(event)
                ]
                yield b"".join([*told, b"id: %d\n\n" % position])
        except SourceError as error:
            yield b": " + str(error).replace("\n", " ").encode() + b"\n\n"
        finally:
            self._streams -= 1

    # --- webhooks ----------------------------------------------------------------------------------------------------

    async def subscribe(self, request: Request) -> Response:
        wanted = await _body(request, NewWebhook)
        url = _checked_url(wanted.url)
        events = EventFilter.of(wanted.types, wanted.accounts, fields=("types", "accounts"))
        if wanted.after is not None and not 0 <= wanted.after < 2**63:
            raise InvalidRequestError("after", "is not a position")
        try:
            made = await self._webhooks.add(url, wanted.secret, events, wanted.after)
        except SecretError as error:
            raise InvalidRequestError("secret", str(error)) from error
        return _json(self._shown(made, {}, {}), 201, {"Location": f"/v1/webhooks/{made.id}"})

    async def subscriptions(self, _request: Request) -> Response:
        return _json({"webhooks": await self._all()})

    async def subscription(self, request: Request) -> Response:
        return _json(await self._found(request))

    async def unsubscribe(self, request: Request) -> Response:
        if not await self._webhooks.remove(request.path_params["id"]):
            raise _MissingError
        return Response(status_code=204)

    async def dead_letters(self, request: Request) -> Response:
        found = await self._found(request)
        limit = _number(request.query_params.get("limit"), "limit", default=100, least=1, most=_PAGE_MAX)
        after = None
        if (text := request.query_params.get("after")) is not None:
            after = _event_key(text, "after")
        letters = await self._webhooks.dead_letters(found.id, after=after, limit=limit)
        more = letters[-1].event.id if len(letters) == limit else None
        return _json({"dead_letters": [shown_letter(letter) for letter in letters], "next": more})

    async def replay(self, request: Request) -> Response:
        found = await self._found(request)
        wanted = await _body(request, Replay, empty=Replay())
        keys = None
        if wanted.events is not None:
            if not 1 <= len(wanted.events) <= _PAGE_MAX:
                raise InvalidRequestError("events", f"are 1 to {_PAGE_MAX} ids of events")
            keys = [_event_key(text, f"events[{number}]") for number, text in enumerate(wanted.events)]
        return _json({"replayed": await self._webhooks.replay(found.id, keys)}, 202)

    async def _found(self, request: Request) -> Webhook:
        id = request.path_params["id"]
        for each in await self._all():
            if each.id == id:
                return each
        raise _MissingError

    async def _all(self) -> list[Webhook]:
        store = self._webhooks.store
        cursors, dead = await asyncio.to_thread(store.cursors), await asyncio.to_thread(store.count_dead)
        return [self._shown(each, cursors, dead) for each in await self._webhooks.all()]

    def _shown(self, subscription: Subscription, cursors: dict[str, int], dead: dict[str, int]) -> Webhook:
        lane, status = f"webhook:{subscription.id}", self._webhooks.status(subscription.id)
        return Webhook(
            id=subscription.id,
            url=subscription.url,
            secret=subscription.secret,
            types=subscription.types,
            accounts=subscription.accounts,
            after=subscription.start,
            position=cursors.get(lane, subscription.start),
            dead_letters=dead.get(lane, 0),
            waiting=status.waiting if status is not None else None,
            failing=status.failing if status is not None else None,
            problem=status.problem if status is not None else None,
        )


def shown_letter(letter: DeadLetter) -> DeadLetterShown:
    """Return a dead letter as it is shown."""
    return DeadLetterShown(
        event=letter.event,
        tries=letter.tries,
        reason=letter.reason,
        time_s=letter.dead_s,
        is_waiting=letter.is_waiting,
    )


class _MissingError(Exception):
    """There is no such webhook."""


class _NotThereYetError(SourceError):
    """The events have not come so far."""


def _check_there(after: int, end: int) -> None:
    """Refuse to go on after a position that is not there: who waits for it may wait for ever."""
    if after > end:
        raise _NotThereYetError(f"events are at position {end}, not yet at {after}")


def _checked_url(text: str) -> str:
    if len(text) > _URL_CHARACTERS_MAX:
        raise InvalidRequestError("url", f"is longer than {_URL_CHARACTERS_MAX} characters")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise InvalidRequestError("url", "is no URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidRequestError("url", "is no http:// or https:// URL")
    if url.userinfo or url.fragment:
        raise InvalidRequestError("url", "must have no user, no password and no fragment in it")
    return text


async def _body(request: Request, kind: type[Any], *, empty: Any = None) -> Any:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY_BYTES_MAX:
            raise InvalidRequestError(None, f"the body is larger than {_BODY_BYTES_MAX} bytes", status=413)
    if not body and empty is not None:
        return empty
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequestError(None, "the body must be application/json", status=415)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        raise InvalidRequestError(path.rstrip("`").removeprefix("$.") or None, reason) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(None, f"the body cannot be read: {error}", status=400) from error


def _event_key(text: str, field: str) -> Key:
    key = Key.parse(text)
    if key is None:
        raise InvalidRequestError(field, "is no id of an event, such as 7-0")
    return key


def _number(text: str | None, name: str, *, default: int, least: int, most: int) -> int:
    return default if text is None else number_in(text, name, least=least, most=most)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(content), status, media_type="application/json", headers=headers)

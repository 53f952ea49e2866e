"""Everything a node serves besides writes: reads of the books, history, events, health, metrics, documentation.

A read is answered from the replica's memory, at the position that its `Ledger-Position` names. It may ask for
`at_least=POSITION`, to see a write that was acknowledged elsewhere, or for `consistency=linearizable`, which goes once
through the journal first.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.resources import as_file, files
from typing import Any, BinaryIO, Literal

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import fivenines
from fivenines.api import TRANSACTION_ID_PATTERN, Account, Accounts, Event, Events, History, Platform, RulesInForce
from fivenines.journal import JournalDamagedError, JournalError, NotDoneError, TrimmedError
from fivenines.ledger import RULES, SCHEMA, Outcome, Status
from fivenines.ledger import Account as LedgerAccount
from fivenines.node import history, snapshots
from fivenines.node.activation import RulesNotRunnableError, activate
from fivenines.node.filters import EventFilter
from fivenines.node.history import json_number
from fivenines.node.joining import SNAPSHOT_PATH
from fivenines.node.listing import AccountListing
from fivenines.node.metrics import Metrics
from fivenines.node.node import Node
from fivenines.node.openapi import document
from fivenines.node.problems import Answer, problem, response_of
from fivenines.node.replica import PositionTimeoutError
from fivenines.node.requests import InvalidRequestError, id_of_text, number_in, rules_wanted
from fivenines.node.streams import EventPages, EventStream, rest
from fivenines.node.writer import OverloadedError

__all__ = ["pages"]

_log = structlog.get_logger("fivenines.node")

_PAGE_MAX = 1_000
_SCANS_MAX = 2  # requests that look through the journal at once, so that they leave threads and time to all others
_TOLD_MAX = 1_000  # errors of reading that are logged, each once: clients ask again and again
_SNAPSHOT_CHUNK_BYTES = 1024 * 1024
_SMALL_BODY_BYTES_MAX = 1_024
_STREAM_LATER_S = 0.5  # how often a stream is told that it will go on, while writes queue up
_ONLY_WRITTEN = frozenset({"/v1/transactions", "/v1/assets", "/v1/platform/rules"})
_ALSO_WRITTEN = {"/v1/accounts": ", POST", "/v1/accounts/{id}": ", PATCH"}
_UUID = re.compile(TRANSACTION_ID_PATTERN)
_DOCS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>fivenines API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true})</script>
</body></html>
"""

_SCANS = frozenset({"account.history", "events", "transaction.read"})
"""Reads that look through frames, in the place of memory: they wait while writes queue up."""

_STATUSES: dict[Status, Literal["open", "frozen", "closed"]] = {
    Status.open: "open",
    Status.frozen: "frozen",
    Status.closed: "closed",
}

_encode = msgspec.json.Encoder().encode


def pages(node: Node, metrics: Metrics) -> Starlette:
    """Make the application that serves everything but writes."""
    views = _Views(node, metrics)
    assets = files("swagger_ui_bundle") / "vendor"
    with as_file(assets) as folder:
        newest = max(folder.glob("swagger-ui-*"))
    routes = [
        Route("/", lambda _request: RedirectResponse("/docs")),
        Route("/v1/accounts", views.timed("accounts.list", views.accounts)),
        Route("/v1/accounts/{id}", views.timed("account.read", views.account)),
        Route("/v1/accounts/{id}/history", views.timed("account.history", views.account_history)),
        Route("/v1/transactions/{id}", views.timed("transaction.read", views.transaction)),
        Route("/v1/events", views.timed("events", views.events)),
        Route("/v1/platform", views.timed("platform", views.platform)),
        Route("/v1/platform/rules", views.timed("rules", views.rules), methods=["POST"]),
        Route(SNAPSHOT_PATH, views.timed("snapshot", views.snapshot)),
        Route("/live", views.live),
        Route("/ready", views.ready),
        Route("/metrics", views.metrics),
        Route("/openapi.json", views.openapi),
        Route("/docs", lambda _request: HTMLResponse(_DOCS)),
        Mount("/docs/assets", StaticFiles(directory=newest)),
    ]
    handlers = {404: views.not_found, 405: views.bad_method, OSError: views.disk_error}
    application = Starlette(routes=routes, exception_handlers=handlers)
    application.router.redirect_slashes = False
    return application


class _Views:
    """One method for each page."""

    def __init__(self, node: Node, metrics: Metrics) -> None:
        self._node = node
        self._metrics = metrics
        self._limits = node.settings.limits
        self._openapi = _encode(document(self._limits))
        self._listing = AccountListing(node.state)
        self._scans = asyncio.Semaphore(_SCANS_MAX)
        self._known_holds = history.KnownHolds()
        self._event_pages = EventPages(node, self._scans, self._known_holds)
        self._told: set[str] = set()

    def timed(
        self, route: str, view: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a read: what may be asked of all reads, what may go wrong with each, and its metrics."""

        async def serve(request: Request) -> Response:
            began = asyncio.get_running_loop().time()
            try:
                await self._reach(request, is_scan=route in _SCANS)
                response = await view(request)
            except InvalidRequestError as error:
                answer = problem(
                    error.status, "invalid_request", "The request is not valid.", detail=error.reason, field=error.field
                )
                response = self._response(answer)
            except (PositionTimeoutError, OverloadedError, JournalError, OSError) as error:
                response = self._response(self._not_read(error))
            self._metrics.observe(route, response.status_code, asyncio.get_running_loop().time() - began)
            return response

        return serve

    def _not_read(self, error: Exception) -> Answer:
        """Answer that something cannot be read now, or never again; the latter somebody must look after, so it is told.

        Whoever asks for damaged frames again gets the same: that is no reason to say when to try again. Another node's
        copy may be whole.
        """
        if isinstance(error, JournalDamagedError):
            self._tell_not_read("damaged", error)
            return problem(503, "journal_damaged", "What was asked for is damaged on the disk.", detail=str(error))
        if isinstance(error, OSError):
            self._tell_not_read("disk", error)
            name, title = "disk_unavailable", "The disk cannot be read now."
        else:
            name, title = "not_there_yet", "The state that was asked for cannot be had now."
        return problem(
            503,
            name,
            title,
            detail=(error.strerror if isinstance(error, OSError) else str(error))
            or "this node has as much to do as it can bear",
            retry_after_s=self._limits.retry_after_s,
        )

    def _tell_not_read(self, reason: Literal["damaged", "disk"], error: Exception) -> None:
        self._metrics.count_failed_read(reason)
        text = str(error)
        if text not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(text)
            _log.error("read.failed", cause=reason, reason=text)

    async def disk_error(self, _request: Request, error: Exception) -> Response:
        """Answer where no read of the books failed, but one of a file that is served as it is."""
        return self._response(self._not_read(error))

    async def account(self, request: Request) -> Response:
        id = request.path_params["id"]
        account = self._node.state.accounts.get(id)
        if account is None:
            return self._missing(f"there is no account {id[:128]!r}")
        return self._json(_account(account))

    async def accounts(self, request: Request) -> Response:
        prefix, after = request.query_params.get("prefix", ""), request.query_params.get("after", "")
        limit = _number(request, "limit", default=100, least=1, most=_PAGE_MAX)
        state = self._node.state
        if (wanted := request.query_params.get("ids")) is not None:
            ids = wanted.split(",")
            if len(ids) > _PAGE_MAX:
                raise InvalidRequestError("ids", f"names {len(ids)} accounts; at most {_PAGE_MAX} are read at once")
            return self._json(Accounts([_account(state.accounts[id]) for id in ids if id in state.accounts], None))
        found, more = self._listing.page(prefix=prefix, after=after, limit=limit)
        return self._json(Accounts([_account(state.accounts[id]) for id in found], more))

    async def account_history(self, request: Request) -> Response:
        id, journal = request.path_params["id"], self._node.journal
        if id not in self._node.state.accounts:
            return self._missing(f"there is no account {id[:128]!r}")
        newest = self._node.replica.position + 1
        before = _number(request, "before", default=newest, least=1, most=2**63)
        limit = _number(request, "limit", default=100, least=1, most=_PAGE_MAX)
        async with self._scans:
            found, more = await asyncio.to_thread(
                history.account_history,
                journal,
                self._node.replica.decision,
                id,
                before=min(before, newest),
                limit=limit,
                known=self._known_holds,
            )
        return self._json(History(found, more))

    async def transaction(self, request: Request) -> Response:
        text = request.path_params["id"]
        if not _UUID.fullmatch(text):
            raise InvalidRequestError("id", "is not a UUIDv7, such as 01932c07-209c-7d2f-8f0e-5b6a1c2d3e4f")
        id = id_of_text(text)
        known = self._node.state.decision(id)
        if known is None or known.position is None:
            return self._missing("no such transaction was decided, or it is older than what this node remembers")
        try:
            found = await asyncio.to_thread(
                history.transaction_at, self._node.journal, known.position, id, known.outcome
            )
        except TrimmedError:
            outcome = Outcome(known.outcome).name
            return self._missing(
                f"it was decided ({outcome}, position {known.position}); its details were trimmed away"
            )
        if found is None:
            return self._missing("this id is of a change of an account")
        return self._json(history.with_hold_state(found, self._node.state, id))

    async def events(self, request: Request) -> Response:
        after = _number(request, "after", default=self._node.replica.position, least=0, most=2**63)
        limit = _number(request, "limit", default=100, least=1, most=_PAGE_MAX)
        asked = request.query_params
        wanted = EventFilter.of(asked.getlist("type"), asked.getlist("account"))
        try:
            if "text/event-stream" in request.headers.get("accept", "") and request.method == "GET":
                if (last_id := request.headers.get("last-event-id")) is not None:
                    after = number_in(last_id, "Last-Event-ID", least=0, most=2**63)
                self._check_after(after)
                if self._event_pages.open_streams >= self._limits.streams_max:
                    return self._response(self._too_many_streams())
                stream = self._stream(after, wanted)
                return EventStream(self._event_pages, stream, media_type="text/event-stream", headers=self._headers())
            wait_s = min(
                _number(request, "wait_s", default=0, least=0, most=60), self._limits.long_poll_wait_ms // 1000
            )
            return self._json(await self._poll_events(after, limit, wanted, wait_s))
        except TrimmedError:
            return self._response(self._trimmed(after))

    async def _poll_events(self, after: int, limit: int, wanted: EventFilter, wait_s: int) -> Events:
        """Return a page of events; none at hand, wait for the first one. Raises `TrimmedError`."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        while True:
            if after >= self._node.replica.position and wait_s:
                try:
                    await self._wait_position(after + 1, max(0.0, end_s - loop.time()))
                except PositionTimeoutError:
                    self._check_after(after)
                    return Events([], after)
            self._check_after(after)
            found, position = await self._events_after(after, limit, wanted)
            is_over = loop.time() >= end_s or self._node.is_stopping or self._node.writer.is_half_full
            if found or wanted.is_all or is_over:
                return Events(found, position)
            after = position
            if after >= self._node.replica.position:
                await rest()

    async def platform(self, _request: Request) -> Response:
        node, state, fleet = self._node, self._node.state, self._node.fleet
        return self._json(
            Platform(
                name="fivenines",
                version=fivenines.__version__,
                position=state.position,
                time=history.rfc3339(state.time_us),
                rules=state.rules.version,
                schema=SCHEMA,
                outcomes_digest=state.outcomes_digest.hex(),
                assets=[asset.name for asset in state.assets.values()],
                accounts=len(state.accounts),
                holds_open=len(state.holds),
                journal_first=node.journal.first,
                journal_last=node.journal.last,
                snapshot_position=node.statistics.snapshot_position,
                ready=node.unready_reason is None,
                unready_reason=node.unready_reason,
                node=fleet.identity.name if fleet else None,
                region=fleet.identity.region if fleet else None,
                journal_age_s=round(node.journal.age_s, 3),
                runs_rules=sorted(RULES),
                nodes=fleet.described() if fleet else [],
            )
        )

    async def rules(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return self._response(problem(415, "media_type", "The body must be application/json."))
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _SMALL_BODY_BYTES_MAX:
                return self._response(problem(413, "body_too_large", "The body is too large."))
        wanted = rules_wanted(body)
        try:
            position = await activate(self._node, wanted.version)
        except RulesNotRunnableError as error:
            answer = problem(409, "rules_not_runnable", "Not every node can run these rules.", detail=str(error))
            return self._response(answer)
        except JournalError as error:
            is_not_done = isinstance(error, NotDoneError)
            answer = problem(
                *(503, "journal_unavailable" if is_not_done else "maybe_done", "The journal takes no writes now."),
                detail=f"{'nothing was done' if is_not_done else 'it may have been done'} ({error}); ask again",
                retry_after_s=self._limits.retry_after_s,
            )
            return self._response(answer)
        return self._json(RulesInForce(wanted.version, position))

    async def snapshot(self, _request: Request) -> Response:
        found = snapshots.paths(self._node.directory)
        if not found:
            return self._missing("this node has no snapshot yet")
        # An open file stays whole, though the node may delete its name meanwhile.
        file = await asyncio.to_thread(found[0].open, "rb")
        return StreamingResponse(_chunks(file), media_type="application/octet-stream", headers=self._headers())

    async def live(self, _request: Request) -> Response:
        return self._json({"live": True})

    async def ready(self, _request: Request) -> Response:
        reason = self._node.unready_reason
        if reason is None:
            return self._json({"ready": True})
        answer = problem(503, "not_ready", "This node should get no writes.", detail=reason, retry_after_s=1)
        return self._response(answer)

    async def metrics(self, _request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4", headers=self._headers())

    async def openapi(self, _request: Request) -> Response:
        return Response(self._openapi, media_type="application/json", headers=self._headers())

    async def not_found(self, request: Request, error: Exception) -> Response:
        if request.url.path in _ONLY_WRITTEN:
            return await self.bad_method(request, error)
        return self._missing(f"there is nothing at {request.url.path[:200]!r}; /docs shows what there is")

    async def bad_method(self, request: Request, _error: Exception) -> Response:
        answer = problem(405, "method", f"{request.method[:16]} is not possible here.", detail="/docs shows what is")
        path = request.url.path
        if path in _ONLY_WRITTEN:
            allowed = "POST"
        else:
            is_account = path.startswith("/v1/accounts/") and path.count("/") == 3
            allowed = "GET, HEAD" + _ALSO_WRITTEN.get("/v1/accounts/{id}" if is_account else path, "")
        response = self._response(answer)
        response.headers["Allow"] = allowed
        return response

    async def _reach(self, request: Request, *, is_scan: bool) -> None:
        """Wait for the state that the request asks for."""
        if is_scan and self._node.writer.is_half_full:
            raise OverloadedError
        at_least = _number(request, "at_least", default=0, least=0, most=2**63)
        if at_least > self._node.replica.position:
            await self._wait_position(at_least, self._limits.at_least_wait_ms / 1000)
        consistency = request.query_params.get("consistency")
        if consistency == "linearizable":
            await self._node.writer.submit([])
        elif consistency is not None:
            raise InvalidRequestError("consistency", "may be 'linearizable', or left out for this node's own state")

    async def _wait_position(self, position: int, wait_s: float) -> None:
        if self._node.is_stopping:
            wait_s = 0
        await self._node.replica.wait_position(position, wait_s)

    def _too_many_streams(self) -> Answer:
        return problem(
            503,
            "too_many_streams",
            "This node serves as many streams of events as it can bear.",
            detail=f"{self._limits.streams_max} are open; /v1/events?after=...&wait_s=20 gives the same in pages",
            retry_after_s=self._limits.retry_after_s,
        )

    def _check_after(self, after: int) -> None:
        """Refuse to go on after a position that is trimmed away, or that is not there.

        Another node may have been there: then this one will be, too. To answer that nothing has come yet would leave
        those waiting for ever who are after the end of another journal.
        """
        if after > self._node.replica.position:
            raise PositionTimeoutError(after, self._node.replica.position)
        first = self._node.journal.first
        if after + 1 < first:
            raise TrimmedError(after + 1, first)

    def _trimmed(self, after: int) -> Answer:
        """Answer that what followed a position is kept here no more, and who may have it."""
        fleet, first = self._node.fleet, self._node.journal.first
        kept = [each.url for each in fleet.described() if each.role == "historian" and each.url] if fleet else []
        elsewhere = f"; history is kept at {', '.join(kept)}" if kept else ""
        detail = f"what followed position {after} was trimmed away: begin at {first - 1}{elsewhere}"
        return problem(410, "trimmed", "What was asked for has been trimmed away.", detail=detail, field="after")

    async def _events_after(self, after: int, limit: int, wanted: EventFilter) -> tuple[list[Event], int]:
        replica = self._node.replica
        async with self._scans:
            return await asyncio.to_thread(
                history.events,
                self._node.journal,
                replica.decision,
                after=after,
                last=replica.position,
                limit=limit,
                source="/v1/events",
                wanted=wanted,
                known=self._known_holds,
            )

    async def _stream(self, after: int, wanted: EventFilter) -> AsyncIterator[bytes]:
        while not self._node.is_stopping:
            if self._node.writer.is_half_full:
                # What is told later is told all the same: writes come first.
                yield b": later\n\n"
                await asyncio.sleep(_STREAM_LATER_S)
                continue
            try:
                await self._wait_position(after + 1, self._limits.long_poll_wait_ms / 1000)
                page = await self._event_pages.after(after)
            except PositionTimeoutError:
                yield b": still here\n\n"
                continue
            except (JournalError, OSError) as error:
                if isinstance(error, JournalDamagedError | OSError):
                    self._tell_not_read("disk" if isinstance(error, OSError) else "damaged", error)
                # Trimmed away from a reader who is far behind, or closed. To ask again tells which.
                yield b": " + str(error).encode() + b"\n\n"
                return
            after = page.position
            yield page.text(wanted)
            if after >= self._node.replica.position:
                await rest()

    def _headers(self) -> dict[str, str]:
        return {"Ledger-Position": str(self._node.replica.position)}

    def _json(self, content: Any) -> Response:
        return Response(_encode(content), media_type="application/json", headers=self._headers())

    def _response(self, answer: Answer) -> Response:
        return response_of(answer, self._headers())

    def _missing(self, detail: str) -> Response:
        return self._response(problem(404, "not_found", "There is no such thing.", detail=detail))


def _account(account: LedgerAccount) -> Account:
    return Account(
        id=account.id,
        asset=account.asset.name,
        status=_STATUSES[account.status],
        balance=json_number(account.balance),
        available=json_number(account.available),
        debits=json_number(account.debits),
        credits=json_number(account.credits),
        held_debits=json_number(account.held_debits),
        held_credits=json_number(account.held_credits),
        min_balance=None if account.min_balance is None else json_number(account.min_balance),
        max_balance=None if account.ceiling is None else json_number(account.ceiling),
        metadata=msgspec.json.decode(account.metadata) if account.metadata else {},
    )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_SNAPSHOT_CHUNK_BYTES):
            yield chunk


def _number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name)
    return default if text is None else number_in(text, name, least=least, most=most)

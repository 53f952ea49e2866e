"""Webhooks: events that are posted to a URL, signed, at least once, in order for each account.

A subscription has a lane (see `lane`): a slow or broken receiver holds up nobody but itself, and of itself only the
accounts whose events it does not take. Taken is what it answers with a 2xx within the timeout. Redirects are not
followed: a secret's signature goes to the URL that was given, and nowhere else.

What a subscription may reach is the network of whoever runs this: let only those subscribe who may send requests from
there.
"""

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import msgspec
import structlog
from sqlalchemy import Engine

from fivenines.api import Event
from fivenines.historian.feed import signing
from fivenines.historian.feed.lane import Delivery, Lane, LaneSettings, LaneStatus, NotDeliveredError
from fivenines.historian.feed.ordering import Key
from fivenines.historian.feed.signing import SecretError, Secrets
from fivenines.historian.feed.source import EventSource, SharedSource
from fivenines.historian.feed.store import DeadLetter, Store, StoreUnavailableError, Subscription
from fivenines.ids import new_id
from fivenines.node.filters import EventFilter

__all__ = ["WebhookSettings", "Webhooks"]

_log = structlog.get_logger("fivenines.feed")

_ANSWER_BYTES_MAX = 64 * 1024
_LOOK_S = 1.0
_SECRET_S = 1.0  # a secret that was changed is signed with after so long
_AGENT = "fivenines-webhooks/1"
_encode = msgspec.json.Encoder().encode
_ASKS_FOR_A_PAUSE = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """How webhooks are sent."""

    timeout_s: float = 15.0
    lane: LaneSettings = field(default_factory=LaneSettings)


class Webhooks:
    """All subscriptions of a database, and who delivers them.

    Args:
        engine: of the database that keeps them; `install` creates the tables.
        source: where events come from.
        secrets: what they are signed with.
        owner: the name of this deliverer, its own, and the same after a restart. Several may share a database: each
            subscription is delivered by one of them.
    """

    def __init__(
        self,
        engine: Engine,
        source: EventSource,
        secrets: Secrets,
        *,
        owner: str,
        settings: WebhookSettings | None = None,
    ) -> None:
        self.store = Store(engine)
        self.secrets = secrets
        self._source = SharedSource(source)
        self._owner = owner
        self._settings = settings or WebhookSettings()
        self._lanes: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._tls = httpx.create_ssl_context()

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            await self._run()
        finally:
            await _cancel([task for _, task in self._lanes.values()])
            self._lanes.clear()
            await self._source.close()

    async def _run(self) -> None:
        is_installed = False
        while True:
            self._changed.clear()
            try:
                if not is_installed:
                    await asyncio.to_thread(self.store.install)
                    is_installed = True
                wanted = {each.id: each for each in await asyncio.to_thread(self.store.webhooks)}
            except StoreUnavailableError as error:
                _log.warning("webhooks.wait", reason=str(error))
            else:
                await self._begin_and_end(wanted)
            for _, task in self._lanes.values():
                if task.done():
                    task.result()  # a lane ends only by an error of ours
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _begin_and_end(self, wanted: dict[str, Subscription]) -> None:
        for id in self._lanes.keys() - wanted.keys():
            _, task = self._lanes.pop(id)
            await _cancel([task])
        for id in wanted.keys() - self._lanes.keys():
            subscription = wanted[id]
            receiver = _Receiver(subscription, self.secrets, self._tls, self._settings.timeout_s)
            lane = Lane(
                lane_of(id),
                self._source,
                receiver,
                self.store,
                wanted=EventFilter(subscription.types, subscription.accounts).matches,
                owner=self._owner,
                settings=self._settings.lane,
            )
            self._lanes[id] = lane, asyncio.create_task(_run_and_close(lane, receiver), name=lane.name)

    # --- what is asked of it; all methods raise `StoreUnavailableError` ----------------------------------------------

    async def add(self, url: str, secret: str, events: EventFilter, after: int | None) -> Subscription:
        """Subscribe a URL to what comes after a position; None: from now on. Raises `SourceError`, `SecretError`."""
        await asyncio.to_thread(self.secrets.find, secret)
        start = await self._source.end() if after is None else after
        subscription = Subscription(new_id(), url, secret, events.types, events.account_prefixes, start)
        await asyncio.to_thread(self.store.add_webhook, subscription, lane_of(subscription.id))
        self._changed.set()
        return subscription

    async def remove(self, id: str) -> bool:
        """Forget a subscription, with its dead letters; return whether there was one."""
        found = await asyncio.to_thread(self.store.remove_webhook, id, lane_of(id))
        self._changed.set()
        return found

    async def all(self) -> list[Subscription]:
        """Return all subscriptions, the oldest first."""
        return await asyncio.to_thread(self.store.webhooks)

    async def dead_letters(self, id: str, *, after: Key | None, limit: int) -> list[DeadLetter]:
        """Return what was given up, the oldest first."""
        return await asyncio.to_thread(self.store.dead_letters, lane_of(id), after=after, limit=limit)

    async def replay(self, id: str, keys: Sequence[Key] | None) -> int:
        """Have dead letters delivered again, all or these; return how many."""
        return await asyncio.to_thread(self.store.replay, lane_of(id), keys)

    def status(self, id: str) -> LaneStatus | None:
        """How a subscription is that is delivered from here."""
        return self._lanes[id][0].status if id in self._lanes else None


def lane_of(id: str) -> str:
    """Return the name of a subscription's lane."""
    return f"webhook:{id}"


class _Receiver:
    """The URL of a subscription, as the target of a lane. To be closed."""

    def __init__(self, subscription: Subscription, secrets: Secrets, tls: ssl.SSLContext, timeout_s: float) -> None:
        self._subscription = subscription
        self._secrets = secrets
        self._known: tuple[float, list[bytes]] = (0.0, [])
        self._tls = tls
        self._timeout_s = timeout_s
        # One client for each connection: to look for one that is free in a pool takes longer than all the rest.
        self._free: list[httpx.AsyncClient] = []

    async def deliver(self, delivery: Delivery) -> None:
        """Post an event. Raises `NotDeliveredError`."""
        body = body_of(delivery.event)
        try:
            secrets = await self._find_secrets()
        except SecretError as error:
            raise NotDeliveredError(str(error)) from error
        headers = signing.headers(secrets, delivery.event.id, int(time.time()), body)
        headers["Content-Type"] = "application/cloudevents+json"
        http = self._free.pop() if self._free else self._client()
        try:
            # A timeout of httpx is one of each read; this one is of the whole.
            async with asyncio.timeout(self._timeout_s):
                await self._post(http, body, headers)
        except TimeoutError:
            raise NotDeliveredError(f"no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotDeliveredError(str(error) or type(error).__name__) from error
        finally:
            self._free.append(http)

    async def close(self) -> None:
        """Let go of the connections."""
        for http in self._free:
            await http.aclose()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=self._timeout_s, verify=self._tls, trust_env=False, headers={"User-Agent": _AGENT}
        )

    async def _find_secrets(self) -> list[bytes]:
        now_s = asyncio.get_running_loop().time()
        if now_s > self._known[0]:
            self._known = now_s + _SECRET_S, await asyncio.to_thread(self._secrets.find, self._subscription.secret)
        return self._known[1]

    async def _post(self, http: httpx.AsyncClient, body: bytes, headers: dict[str, str]) -> None:
        async with http.stream("POST", self._subscription.url, content=body, headers=headers) as response:
            if not response.is_success:
                asked = response.headers.get("retry-after", "") if response.status_code in _ASKS_FOR_A_PAUSE else ""
                pause_s = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 8 else 0.0
                raise NotDeliveredError(f"it answered {response.status_code}", retry_after_s=pause_s)
            size = 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > _ANSWER_BYTES_MAX:
                    break  # it took the event; the connection is not worth reading on


def body_of(event: Event) -> bytes:
    """Return what is posted: the event as a CloudEvent in structured mode."""
    return _encode(event)


async def _run_and_close(lane: Lane, receiver: _Receiver) -> None:
    try:
        await lane.run()
    finally:
        await receiver.close()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""What a historian says of itself over HTTP: whether it is well, how far it is, metrics."""

from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from fivenines.node.gateway import send_answer
from fivenines.node.problems import problem

__all__ = ["HistorianDoor", "HistorianStatus", "StoreStatus"]


class StoreStatus(Struct, frozen=True, kw_only=True):
    """How a store is."""

    name: str
    archived: int
    """Up to which position everything is there."""
    problem: str | None
    """Why something waits, None if nothing does."""


class HistorianStatus(Struct, frozen=True, kw_only=True):
    """How a historian is."""

    name: str
    region: str
    version: str
    epoch: int
    """Which life of the journal it keeps."""
    position: int
    """Up to which frames are applied here."""
    sealed: int
    """Up to which frames are in the stores, or on this disk on the way there."""
    problem: str | None
    """Why it does not keep history now, None if it does."""
    spool_bytes: int
    """What waits on its disk for a store."""
    segments: int
    snapshots: int
    snapshots_failed: int
    gaps: int
    sql_problem: str | None
    """Why history in SQL is not abreast, None if it is, or none is kept."""
    sql_positions: dict[int, int]
    """Where each version of it is."""
    archived_bytes: int
    scrubbed: int
    repaired: int
    damaged: int
    """Objects of which no store has a good copy."""
    stores: list[StoreStatus]


class HistorianDoor:
    """The ASGI application of a historian.

    Args:
        status: says how it is now.
        routes: what else it serves.
    """

    def __init__(self, status: Callable[[], HistorianStatus], routes: list[BaseRoute]) -> None:
        self._status = status
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Metrics(status))
        self._app = Starlette(
            routes=[
                Route("/live", lambda _request: _json({"live": True})),
                Route("/ready", self._ready),
                Route("/v1/historian", lambda _request: _json(status())),
                Route(
                    "/metrics",
                    lambda _request: Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST),
                ),
                *routes,
            ]
        )

    @property
    def position(self) -> int:
        """The position that an answer of now shows."""
        return self._status().position

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, send)

    async def refuse_connection(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer a request on a connection that is one too many."""
        answer = problem(503, "too_many_connections", "This historian has as many connections as it can bear.")
        await send_answer(send, answer, self.position)

    async def _ready(self, _request: Request) -> Response:
        status = self._status()
        is_ready = status.problem is None
        return _json({"ready": is_ready, "reason": status.problem}, status=200 if is_ready else 503)


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


class _Metrics(Collector):
    """A historian's metrics, read from its status when they are asked for."""

    def __init__(self, status: Callable[[], HistorianStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        status = self._status()
        for name, help_text, value in (
            ("position", "Position up to which frames are applied.", status.position),
            ("sealed_position", "Position up to which frames are archived or spooled.", status.sealed),
            ("spool_bytes", "Bytes that wait on disk for a store.", status.spool_bytes),
            ("damaged_objects", "Archived objects of which no store has a good copy.", status.damaged),
            ("ready", "1 while history is kept.", status.problem is None),
        ):
            yield GaugeMetricFamily(f"fivenines_historian_{name}", help_text, value=float(value))
        for name, help_text, value in (
            ("segments", "Segments sealed.", status.segments),
            ("snapshots", "Snapshots taken.", status.snapshots),
            ("snapshots_failed", "Snapshots that could not be written.", status.snapshots_failed),
            ("gaps", "Gaps left in history.", status.gaps),
            ("journal_bytes", "Bytes of frames taken in.", status.archived_bytes),
            ("scrubbed", "Archived objects checked.", status.scrubbed),
            ("repaired", "Archived objects written anew from another store.", status.repaired),
        ):
            yield CounterMetricFamily(f"fivenines_historian_{name}", help_text, value=float(value))
        archived = GaugeMetricFamily(
            "fivenines_historian_archived_position", "Position up to which a store has everything.", labels=["store"]
        )
        reachable = GaugeMetricFamily(
            "fivenines_historian_store_reachable", "1 while nothing is in the way to a store.", labels=["store"]
        )
        for store in status.stores:
            archived.add_metric([store.name], store.archived)
            reachable.add_metric([store.name], float(store.problem is None))
        projected = GaugeMetricFamily(
            "fivenines_historian_sql_position", "Position up to which history in SQL is stored.", labels=["version"]
        )
        for version, position in status.sql_positions.items():
            projected.add_metric([str(version)], position)
        yield projected
        yield archived
        yield reachable

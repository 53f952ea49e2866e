"""The agent's hold on its region's edge: its settings from the topology, and what nodes and services get there."""

import hashlib
import tempfile
from pathlib import Path

from fivenines.control.observed import ServerSeen
from fivenines.platform.local.program import Program
from fivenines.platform.local.seen import EdgeSeen
from fivenines.platform.topology import PORTS, RegionPlace, Topology
from fivenines.traffic.edge import (
    EdgeSettings,
    EdgeUnreachableError,
    RateLimit,
    Runtime,
    Server,
    Service,
)
from fivenines.traffic.edge import config as haproxy_config

__all__ = ["Edging", "config_file", "edge_settings", "socket_file"]

_SOCKET_BYTES_MAX = 90
_BURST_S = 2
"""What a client may ask for at once, in seconds of its limit."""


def config_file(topology: Topology, region: str) -> Path:
    """Name the file of an edge's settings."""
    return topology.path / region / "edge" / "haproxy.cfg"


def socket_file(topology: Topology, region: str) -> Path:
    """Name the socket of an edge's runtime API: in its folder, or where that is too deep a short one."""
    path = topology.path / region / "edge" / "admin.sock"
    if len(bytes(path)) <= _SOCKET_BYTES_MAX:
        return path
    return Path(tempfile.gettempdir()) / f"fn-{hashlib.sha256(bytes(path)).hexdigest()[:16]}.sock"


def edge_settings(topology: Topology, place: RegionPlace) -> EdgeSettings:
    """Say what a region's edge is to do."""
    limit = topology.spec.traffic.rate_limit_per_s
    others = [each for each in topology.others(place.name) if each.nodes]
    return EdgeSettings(
        region=place.name,
        host=place.host,
        port=PORTS.edge,
        nodes=tuple(Server(name=node, host=place.host, port=place.node_port(node)) for node in place.nodes),
        elsewhere=tuple(Server(name=each.name, host=each.host, port=PORTS.edge) for each in others),
        services=tuple(_service(topology, place, each.name) for each in topology.spec.services),
        admin_socket=socket_file(topology, place.name),
        statistics_port=PORTS.edge_stats,
        rate_limit=None if limit is None else RateLimit(requests_per_s=limit, burst=_BURST_S * limit),
    )


def _service(topology: Topology, place: RegionPlace, name: str) -> Service:
    """Say what an edge does with a service. Its name leads to all regions, so each edge takes it, with a copy or not.

    What speaks tcp cannot say that it was sent on before. So only an edge without a copy sends it on, and only to edges
    that have one, which keep it: it cannot go round.
    """
    declared = topology.service(name)
    here = tuple(
        Server(name=copy.name, host=place.host, port=copy.port) for copy in place.services if copy.service == name
    )
    there = tuple(
        Server(name=each.name, host=each.host, port=declared.edge_port)
        for each in topology.others(place.name)
        if any(copy.service == name for copy in each.services)
    )
    is_http = declared.protocol == "http"
    return Service(
        name=name,
        mode=declared.protocol,
        port=declared.edge_port,
        servers=here if is_http else here or there,
        elsewhere=there if is_http else (),
        health_path=declared.probes.readiness.path,
        repeat_safe="POST" in declared.safe_to_repeat,
    )


class Edging:
    """The edge of one region, as its agent leads it.

    Args:
        topology: of the platform.
        region: which one.
    """

    def __init__(self, topology: Topology, region: str) -> None:
        self._topology, self._place = topology, topology.region(region)
        self._runtime = Runtime(socket_file(topology, region))
        self._names = frozenset((*self._place.nodes, *(each.name for each in self._place.services)))
        self._drained: dict[str, bool] = {}
        """What was last ordered of a workload, whether or not the edge has heard it."""
        self._writes_remote = False
        self.weights: dict[str, int] = {}
        """Percent of the usual share, where it is not all of it."""

    def write(self) -> None:
        """Write the settings for HAProxy."""
        path = config_file(self._topology, self._place.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(haproxy_config(edge_settings(self._topology, self._place)), encoding="utf-8")

    async def ready(self, program: Program) -> None:
        """Let a workload have traffic; an edge that is away, or hangs, is told when it is back: see `reconcile`."""
        self._drained[program.name] = False
        try:
            await self._runtime.ready(program.name)
        except EdgeUnreachableError:
            return

    async def drain(self, program: Program) -> None:
        """Send a workload nothing new; an edge that is away sends nothing at all, one that hangs is told again."""
        self._drained[program.name] = True
        try:
            await self._runtime.drain(program.name)
        except EdgeUnreachableError:
            return

    async def in_flight(self, program: Program) -> int:
        """Return how many requests a workload still has."""
        try:
            servers = await self._runtime.servers()
        except EdgeUnreachableError:
            return 0
        return sum(each.in_flight for each in servers if each.name == program.name)

    async def weigh(self, workload: str, percent: int) -> None:
        """Change a workload's share. Raises `EdgeUnreachableError`."""
        await self._runtime.weight(workload, percent)
        self.weights[workload] = percent

    async def send_writes(self, *, remote: bool) -> None:
        """Say where writes go. Raises `EdgeUnreachableError`."""
        await self._runtime.set_writes_remote(remote)
        self._writes_remote = remote

    async def reconcile(self) -> None:
        """Order what the edge does not know: it hung when it was told, or another process has begun in its place.

        No answer says nothing of an order, and after a reload the old process may be the one that answers. So what was
        ordered is held against what the edge knows, and not against what we once told it.

        Raises:
            EdgeUnreachableError: nothing is known now, neither.
            RefusedError: it does not do it.
        """
        known = await self._runtime.orders()
        if known.are_writes_remote != self._writes_remote:
            await self._runtime.set_writes_remote(self._writes_remote)
        for name in sorted(self._names):
            rows = [each for each in known.servers if each.name == name and not each.is_in_maintenance]
            # What is wanted is read after the look: it may have changed while the edge was asked.
            wanted, percent = self._drained.get(name), self.weights.get(name, 100)
            if wanted is not None and any(each.is_drained != wanted for each in rows):
                await (self._runtime.drain(name) if wanted else self._runtime.ready(name))
            if any(each.weight not in {None, percent} for each in rows):
                await self._runtime.weight(name, percent)

    async def look(self) -> EdgeSeen:
        """Return what the edge sees of nodes and services, and what came in. Raises `EdgeUnreachableError`."""
        servers, totals = await self._runtime.look()
        return EdgeSeen(
            servers=[
                ServerSeen(
                    name=each.name,
                    pool=each.pool,
                    is_up=each.is_up,
                    weight=each.weight,
                    is_drained=each.is_drained,
                    requests=each.requests,
                    errors=each.errors,
                    latency_ms=each.latency_ms,
                    in_flight=each.in_flight,
                )
                for each in servers
                if each.name in self._names  # and not another region's edge
            ],
            totals=totals,
        )

import asyncio
import time
from pathlib import Path
from typing import Any, cast

import httpx

from fivenines.control.desired import Timings
from fivenines.control.observed import Report, ServerSeen, WorkloadSeen
from fivenines.platform.local.controlling import _Sensors
from fivenines.platform.local.seen import AgentSeen, EdgeSeen
from fivenines.platform.spec import Platform, Region
from fivenines.platform.topology import make_topology
from fivenines.traffic.edge import EdgeTotals

SPEC = Platform(platform="bank", regions=(Region(name="a", provider="local", nodes=3),))
TOPOLOGY = make_topology(SPEC, Path("/data"), home=Path("/home"))
NODES = TOPOLOGY.region("a").nodes
SERVER = ServerSeen(name=NODES[0], is_up=True, weight=100, requests=1, errors=0, latency_ms=1.0, in_flight=0)


class Agent:
    """The agent of a region with three nodes, whose edge may hang."""

    def __init__(self, *, edge_hangs: bool = False) -> None:
        self._edge_hangs = edge_hangs

    async def seen(self, region: str) -> AgentSeen:
        workloads = [WorkloadSeen(name=node, role="node", state="unready", since=0.0) for node in NODES]
        journal = WorkloadSeen(name="a-journal", role="journal", state="ready", since=0.0)
        return AgentSeen(region=region, pid=1, workloads=[*workloads, journal])

    async def edge(self, region: str) -> EdgeSeen:  # noqa: ARG002 - as it is asked
        if self._edge_hangs:
            await asyncio.Event().wait()
        totals = EdgeTotals(
            requests=1,
            failed=0,
            requests_per_s=9.0,
            failed_per_s=0.0,
            in_flight=0,
            refused=0,
            elsewhere=0,
            repeats=0,
            p50_ms=1.0,
            p99_ms=5.0,
        )
        return EdgeSeen(servers=[SERVER], totals=totals)


def look(agent: Agent, *hang: str) -> tuple[Report, float]:
    """What is seen of the region, and how long it took; `hang`: the nodes that do not answer."""
    place = TOPOLOGY.region("a")
    positions = {place.node_port(node): 10 + number for number, node in enumerate(NODES)}
    hanging = {place.node_port(node) for node in hang}

    async def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.port is not None
        if request.url.port in hanging:
            await asyncio.Event().wait()
        return httpx.Response(503, headers={"Ledger-Position": str(positions[request.url.port])})

    async def scenario() -> tuple[Report, float]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            sensors = _Sensors(TOPOLOGY, "a", cast("Any", agent), http)
            began = time.monotonic()
            async with asyncio.timeout(Timings().probe_timeout_s):
                report = await sensors.look()
            return report, time.monotonic() - began

    return asyncio.run(scenario())


def positions_in(report: Report) -> list[int | None]:
    return [seen.position for seen in report.workloads if seen.role == "node"]


def test_nodes_tell_their_positions_ready_or_not() -> None:
    report, _ = look(Agent())
    assert (positions_in(report), report.position) == ([10, 11, 12], 12)
    assert report.workloads[-1].position is None
    assert report.servers == (SERVER,)


def test_nodes_that_hang_do_not_blind_their_region() -> None:
    report, took_s = look(Agent(), *NODES[:2])
    assert positions_in(report) == [None, None, 12]
    assert (report.position, report.servers, report.requests_per_s) == (12, (SERVER,), 9.0)
    assert took_s < 0.8, "they are asked at once"


def test_an_edge_that_hangs_does_not_hide_the_workloads() -> None:
    report, _ = look(Agent(edge_hangs=True), NODES[1])
    assert len(report.workloads) == 4
    assert report.servers == ()

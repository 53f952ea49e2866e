"""The controller of a region as a process: its eyes and hands on this machine, and what it tells over HTTP.

    GET /live          is it there?
    GET /ready         does it go round, with the shared store at hand?
    GET /v1/view       everything that it knew in its last round
    GET /v1/timeline   what was seen, decided and done, the newest last

Its eyes are the agent of its region, and the edge as that sees it. Its hands are the agent's.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fivenines.client.shell import unused_tls
from fivenines.control.actions import (
    Action,
    AddMember,
    DrainNode,
    RaiseIncident,
    RemoveMember,
    ReplaceWorkload,
    SetNodeWeight,
    SetPhase,
    UndrainNode,
)
from fivenines.control.etcd_store import EtcdStore
from fivenines.control.loop import ActionFailedError, Controller, Steering
from fivenines.control.observed import Report
from fivenines.control.probing import Prober
from fivenines.control.store import StoreError
from fivenines.journal.etcd import EtcdJournalSettings
from fivenines.platform.desires import to_desired
from fivenines.platform.local.agent_client import AgentError, Agents
from fivenines.platform.local.programs import table_file
from fivenines.platform.local.serving import json_answer, problem, serving
from fivenines.platform.local.view import View
from fivenines.platform.steering import declared_table
from fivenines.platform.topology import PORTS, Topology

__all__ = ["make_store", "serve_controller"]

_NODE_LOOK_S = 0.3
"""What a node gets to tell its position; all are asked at once, and who is late is left out of the report."""
_EDGE_LOOK_S = 0.8
"""Likewise of the edge: a whole look has to be done within `probe_timeout_s`, or nothing of the region is known."""
_FOLLOW_S = 0.2
_READY_S = 5.0
"""A controller that has not gone round for so long is not ready."""


def make_store(topology: Topology, *, here: str = "") -> EtcdStore:
    """Open what all controllers share; with `here` for the controller of a region, else to look and to give orders."""
    region = here or topology.regions[0].name
    return EtcdStore(
        EtcdJournalSettings(endpoints=topology.journal_endpoints(region)),
        here=here,
        peer_urls={
            place.name: f"http://{place.host}:{PORTS.journal_peer}" for place in topology.regions if place.has_journal
        },
    )


class _Sensors:
    """What looks at a region of this machine."""

    def __init__(self, topology: Topology, region: str, agents: Agents, http: httpx.AsyncClient) -> None:
        self._place, self._agents, self._http = topology.region(region), agents, http

    async def look(self) -> Report:
        """Ask the agent, and through it the edge."""
        here = self._place.name
        seen, edge, positions = await asyncio.gather(
            self._agents.seen(here),
            asyncio.wait_for(self._agents.edge(here), _EDGE_LOOK_S),
            self._positions(),
            return_exceptions=True,
        )
        if isinstance(seen, BaseException):
            raise seen
        found = {} if isinstance(positions, BaseException) else positions
        report = Report(
            region=here,
            at=time.time(),
            workloads=tuple(
                msgspec.structs.replace(each, position=found.get(each.name)) if each.role == "node" else each
                for each in seen.workloads
            ),
            position=max(found.values(), default=0),
        )
        if isinstance(edge, BaseException):
            return report  # it is being begun again, or hangs, and its probes tell
        return msgspec.structs.replace(
            report,
            servers=tuple(edge.servers),
            requests_per_s=edge.totals.requests_per_s,
            failed_per_s=edge.totals.failed_per_s,
            p99_ms=edge.totals.p99_ms,
        )

    async def _positions(self) -> dict[str, int]:
        """Return the positions of the nodes that answer at once, ready or not."""
        nodes = self._place.nodes
        found = await asyncio.gather(*(self._position(node) for node in nodes))
        return {node: position for node, position in zip(nodes, found, strict=True) if position is not None}

    async def _position(self, node: str) -> int | None:
        url = f"http://{self._place.host}:{self._place.node_port(node)}/ready"
        with contextlib.suppress(httpx.HTTPError, ValueError, TimeoutError):
            async with asyncio.timeout(_NODE_LOOK_S):
                answer = await self._http.get(url, timeout=_NODE_LOOK_S)
            return int(answer.headers.get("Ledger-Position", ""))
        return None


class _Driver:
    """What carries out actions in a region of this machine."""

    def __init__(self, region: str, agents: Agents) -> None:
        self._region, self._agents = region, agents

    async def act(self, action: Action) -> None:
        """Have the agent do it. Raises `ActionFailedError`."""
        try:
            match action:
                case ReplaceWorkload(workload=workload) if workload == f"{self._region}-journal":
                    await self._agents.join_journal(self._region)
                case ReplaceWorkload(workload=workload):
                    await self._agents.change(self._region, workload, "replace")
                case SetNodeWeight(workload=workload, percent=percent):
                    await self._agents.weigh(self._region, workload, percent)
                case DrainNode(workload=workload):
                    await self._agents.change(self._region, workload, "drain")
                case UndrainNode(workload=workload):
                    await self._agents.change(self._region, workload, "undrain")
                case SetPhase() | AddMember() | RemoveMember() | RaiseIncident():
                    raise AssertionError(f"no driver does this: {action}")
        except AgentError as error:
            raise ActionFailedError(str(error)) from error


async def serve_controller(topology: Topology, region: str, *, on_ready: Callable[[str], None]) -> None:
    """Run the controller of a region until SIGTERM or SIGINT. Raises OSError: its address cannot be had."""
    place = topology.region(region)
    workloads = tuple(workload for each in topology.regions for workload in each.workloads())
    desired = to_desired(topology.spec, workloads=workloads)
    prober = Prober(
        region, {each.name: topology.edge_url(each.name) for each in topology.regions if each.nodes}, desired.timings
    )
    store = make_store(topology, here=region)
    async with Agents(topology) as agents, httpx.AsyncClient(trust_env=False, verify=unused_tls()) as http:
        controller = Controller(
            region,
            lambda: desired,
            sensors=_Sensors(topology, region, agents, http),
            driver=_Driver(region, agents),
            store=store,
            prober=prober,
            steering=Steering(path=table_file(topology, region), declared=declared_table(topology, region)),
        )
        tasks = [
            asyncio.create_task(prober.run(), name="probing"),
            asyncio.create_task(_follow(controller, agents), name="following"),
            asyncio.create_task(controller.run(), name="controlling"),
        ]
        async with serving(_application(controller, store), place.host, PORTS.controller) as server:
            on_ready(topology.controller_url(region))
            await server.wait_told_to_stop(tasks)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _follow(controller: Controller, agents: Agents) -> None:
    """Keep the edge at what all agreed on: a region that is coming back takes reads first, and sends writes on."""
    is_remote: bool | None = None  # what a controller before this one has said is not known
    while True:
        observed = controller.observed
        if observed is not None and observed.here in observed.states:
            wanted = observed.states[observed.here].phase == "reads"
            if wanted != is_remote:
                with contextlib.suppress(AgentError):
                    await agents.send_writes(observed.here, remote=wanted)
                    is_remote = wanted
        await asyncio.sleep(_FOLLOW_S)


def _application(controller: Controller, store: EtcdStore) -> Starlette:
    last: tuple[int, float] = (0, time.monotonic())

    def ready(_request: Request) -> Response:
        nonlocal last
        if controller.rounds != last[0]:
            last = (controller.rounds, time.monotonic())
        observed = controller.observed
        reason = ""
        if observed is None or time.monotonic() - last[1] > _READY_S:
            reason = "it does not go round"
        elif not observed.has_majority:
            reason = f"the shared store has not answered for {observed.alone_s:.1f} s"
        return json_answer({"ready": not reason, "reason": reason}, 503 if reason else 200)

    def view(_request: Request) -> Response:
        observed, shared = controller.observed, controller.shared
        if observed is None:
            return problem(503, "it has not gone round yet")
        return json_answer(
            View(
                region=controller.here,
                is_leader=observed.is_leader,
                has_majority=observed.has_majority,
                states=observed.states,
                reports=observed.reports,
                members=observed.members,
                orders=shared.orders,
                books=shared.books,
                table=controller.table,
            )
        )

    async def timeline(request: Request) -> Response:
        limit = request.query_params.get("limit", "100")
        if not limit.isdecimal() or not 0 < int(limit) <= 10_000:
            return problem(400, f"limit is 1 to 10000, not {limit!r}")
        try:
            events = await store.timeline(int(limit))
        except StoreError as error:
            return problem(503, str(error))
        return json_answer(events)

    return Starlette(
        routes=[
            Route("/live", lambda _request: json_answer({"live": True})),
            Route("/ready", ready),
            Route("/v1/view", view),
            Route("/v1/timeline", timeline),
        ]
    )

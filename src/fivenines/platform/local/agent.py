"""The agent of a region: supervises its workloads, leads its edge, and does what it is asked over HTTP.

    GET  /live                                is the agent there?
    GET  /v1/workloads                        how everything is that runs here
    GET  /v1/edge                             what the edge sees of its nodes and services
    GET  /metrics                             what all parts here measure, for Prometheus
    POST /v1/workloads/{name}/{what}          restart, replace, drain or undrain; answered when it is done
    POST /v1/workloads/{name}/weight?percent= its share at the edge; 0 ejects it
    POST /v1/writes?to=local|remote           where the edge sends writes
    POST /v1/journal/join                     begin the region's member anew, empty, in the present cluster
    POST /v1/stop?keep=ROLE,...               stop all workloads, in order, but those of these roles

It decides nothing but what a machine's init would: to begin again what has ended. Whoever may reach this address may do
all of it, so it is a loopback address, or one of the region's own network.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fivenines.control.desired import Role
from fivenines.platform.local.collecting import collect, sources
from fivenines.platform.local.edging import Edging
from fivenines.platform.local.logs import PlatformLog
from fivenines.platform.local.probing import Prober
from fivenines.platform.local.programs import founded_file, journal_program, programs, table_file
from fivenines.platform.local.seen import AgentSeen, EdgeSeen
from fivenines.platform.local.serving import json_answer, problem, serving
from fivenines.platform.local.supervising import NoEdge, NotEmptiedError, Workload
from fivenines.platform.steering import declared_table
from fivenines.platform.topology import PORTS, Topology
from fivenines.traffic.edge import EdgeUnreachableError, RefusedError
from fivenines.traffic.table import write_table

__all__ = ["serve_agent"]

_LOOK_S = 0.1
_TELL_S = 0.25
"""Between two looks at whether the edge knows what was ordered."""
_STOP_ORDER: tuple[frozenset[Role], ...] = (
    frozenset({"controller"}),  # first, or it would mend what is being stopped
    frozenset({"service", "historian"}),
    frozenset({"edge"}),
    frozenset({"node"}),
    frozenset({"nameserver"}),
    frozenset({"journal"}),  # last: nodes write what they have taken
)


class AgentBrokenError(Exception):
    """Something here has ended by an error that should not have: a region that nobody minds is begun again instead."""

    def __init__(self, task: str, error: BaseException) -> None:
        super().__init__(f"{task}: {error!r}")


class Agent:
    """The workloads of one region.

    Args:
        topology: of the platform.
        region: which one.
        before: what stands before each command, so that its process dies with us.
    """

    def __init__(self, topology: Topology, region: str, *, before: tuple[str, ...]) -> None:
        self._topology, self._place = topology, topology.region(region)
        self._log = PlatformLog(topology.path / "platform.log", region)
        self._prober = Prober()
        self._edging = Edging(topology, region)
        self.workloads = {
            program.name: Workload(
                program,
                edge=self._edging if program.is_in_edge else NoEdge(),
                log=self._log,
                prober=self._prober,
                gate=self._wait_journal if program.needs == "journal" else _pass,
                before=before,
            )
            for program in programs(topology, self._place)
        }
        self._edging.write()
        table = table_file(topology, region)
        if not table.exists():  # until a controller has looked at things, what was declared counts
            table.parent.mkdir(parents=True, exist_ok=True)
            write_table(table, declared_table(topology, region))
        self._running: list[asyncio.Task[None]] = []

    def seen(self) -> AgentSeen:
        """Return how everything is."""
        weights = self._edging.weights
        return AgentSeen(
            region=self._place.name,
            pid=os.getpid(),
            workloads=[
                msgspec.structs.replace(each.seen(), weight=weights.get(name, 100))
                for name, each in self.workloads.items()
            ],
        )

    def start(self) -> None:
        """Start everything."""
        for name, workload in self.workloads.items():
            self._running.append(asyncio.create_task(workload.run(), name=name))
        self._running.append(asyncio.create_task(self._keep_edge_told(), name="keeping the edge told"))

    async def stop(self, keep: frozenset[str] = frozenset()) -> None:
        """Stop everything in order, but workloads of the roles to be kept."""
        for roles in _STOP_ORDER:
            going = [each for each in self.workloads.values() if each.program.role in roles - keep]
            await asyncio.gather(*(each.stop() for each in going))

    async def close(self) -> None:
        """Let go of everything, once it is stopped."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._prober.close()
        self._log.close()

    async def edge(self) -> EdgeSeen:
        """Return what the edge sees. Raises `EdgeUnreachableError`."""
        return await self._edging.look()

    async def metrics(self) -> bytes:
        """Return what all parts measure, in the text format of Prometheus."""
        parts = sources(self._place, (each.program for each in self.workloads.values()))
        return await collect(self._place.name, parts)

    async def weigh(self, workload: str, percent: int) -> None:
        """Change a workload's share at the edge. Raises `EdgeUnreachableError`."""
        await self._edging.weigh(workload, percent)

    async def send_writes(self, *, remote: bool) -> None:
        """Say where the edge sends writes. Raises `EdgeUnreachableError`."""
        await self._edging.send_writes(remote=remote)

    async def join_journal(self) -> None:
        """Begin the journal's member anew, empty, in the cluster that there is. Raises as `Workload.replace` does."""
        workload = self.workloads[f"{self._place.name}-journal"]
        await workload.replace(journal_program(self._topology, self._place, is_joining=True))

    async def wait_broken(self) -> None:
        """Wait until something that is to go on for as long as we live ends by an error.

        Raises:
            AgentBrokenError: it has.
        """
        done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._log.event("agent", "agent.broken", task=task.get_name(), reason=repr(error))
                raise AgentBrokenError(task.get_name(), error) from error

    async def _wait_journal(self) -> None:
        """Wait until the journal was founded: a node that finds none takes it for an error."""
        founded = founded_file(self._topology)
        while not founded.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(_LOOK_S)

    async def _keep_edge_told(self) -> None:
        """Tell the edge again what it has missed: it hung meanwhile, or was started anew."""
        while True:
            with contextlib.suppress(EdgeUnreachableError, RefusedError):
                await self._edging.reconcile()
            await asyncio.sleep(_TELL_S)


async def serve_agent(
    topology: Topology, region: str, *, before: tuple[str, ...], on_ready: Callable[[str], None]
) -> None:
    """Run a region until SIGTERM or SIGINT, then stop it in order.

    Raises:
        AgentBrokenError: a part of the agent has failed; all was stopped, and who started the agent begins it again.
        OSError: the agent's address cannot be had.
    """
    agent = Agent(topology, region, before=before)
    async with serving(_application(agent), topology.region(region).host, PORTS.agent) as server:
        agent.start()
        breaking = asyncio.create_task(agent.wait_broken(), name="minding ourselves")
        on_ready(topology.agent_url(region))
        await server.wait_told_to_stop([breaking])
        await agent.stop()
    await agent.close()
    if breaking.done():
        breaking.result()
    breaking.cancel()


def _application(agent: Agent) -> Starlette:
    views = _Views(agent)
    return Starlette(
        routes=[
            Route("/live", lambda _request: json_answer({"live": True})),
            Route("/v1/workloads", lambda _request: json_answer(agent.seen())),
            Route("/v1/edge", views.edge),
            Route("/metrics", views.metrics),
            Route("/v1/workloads/{name}/weight", views.weigh, methods=["POST"]),
            Route("/v1/workloads/{name}/{what}", views.change, methods=["POST"]),
            Route("/v1/writes", views.writes, methods=["POST"]),
            Route("/v1/journal/join", views.join, methods=["POST"]),
            Route("/v1/stop", views.stop, methods=["POST"]),
        ],
        exception_handlers={EdgeUnreachableError: _unreachable, TimeoutError: _late, NotEmptiedError: _stuck},
    )


class _Views:
    """One method for each request."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def edge(self, _request: Request) -> Response:
        return json_answer(await self._agent.edge())

    async def metrics(self, _request: Request) -> Response:
        return Response(await self._agent.metrics(), media_type=CONTENT_TYPE_LATEST)

    async def change(self, request: Request) -> Response:
        name, what = request.path_params["name"], request.path_params["what"]
        workload = self._agent.workloads.get(name)
        if workload is None:
            return problem(404, f"{name!r} does not run here")
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "restart": workload.restart,
            "replace": workload.replace,
            "drain": workload.drain,
            "undrain": workload.undrain,
        }
        if what not in ways:
            return problem(404, f"{what!r} is none of {', '.join(ways)}")
        if what in {"drain", "undrain"} and not workload.program.is_in_edge:
            return problem(409, f"{name} is a {workload.program.role}: no edge sends it anything")
        await ways[what]()
        return json_answer(workload.seen())

    async def weigh(self, request: Request) -> Response:
        name, percent = request.path_params["name"], request.query_params.get("percent", "")
        workload = self._agent.workloads.get(name)
        if workload is None or not workload.program.is_in_edge:
            return problem(404, f"{name!r} is nothing that the edge knows")
        if not percent.isdecimal() or int(percent) > 100:
            return problem(400, f"percent is 0 to 100, not {percent!r}")
        await self._agent.weigh(name, int(percent))
        return json_answer({})

    async def writes(self, request: Request) -> Response:
        to = request.query_params.get("to")
        if to not in {"local", "remote"}:
            return problem(400, f"to is local or remote, not {to!r}")
        await self._agent.send_writes(remote=to == "remote")
        return json_answer({})

    async def join(self, _request: Request) -> Response:
        await self._agent.join_journal()
        return json_answer({})

    async def stop(self, request: Request) -> Response:
        keep = frozenset(filter(None, request.query_params.get("keep", "").split(",")))
        await self._agent.stop(keep)
        return json_answer({})


async def _pass() -> None:
    """Wait for nothing."""


async def _unreachable(_request: Request, error: Exception) -> Response:
    return problem(503, str(error))


async def _stuck(_request: Request, error: Exception) -> Response:
    return problem(500, str(error))


async def _late(_request: Request, _error: Exception) -> Response:
    return problem(504, "it did not become ready in time; it is still being tried")

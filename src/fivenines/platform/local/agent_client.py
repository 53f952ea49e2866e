"""How controllers, commands and drills reach the agents of a platform, and its controllers."""

from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from fivenines.client.shell import unused_tls
from fivenines.control.observed import WorkloadSeen
from fivenines.control.timeline import Event
from fivenines.platform.local.seen import AgentSeen, EdgeSeen
from fivenines.platform.local.view import View
from fivenines.platform.topology import Topology

__all__ = ["AgentError", "AgentRefusedError", "AgentUnreachableError", "Agents"]

_T = TypeVar("_T")
_LOOK_S = 2.0
_ACT_S = 120.0
"""Longer than any drain and start together."""


class AgentError(Exception):
    """An agent did not do what it was asked.

    AgentUnreachableError   it gave no answer: it may have done it
    AgentRefusedError       it said why not
    """


class AgentUnreachableError(AgentError):
    """No answer."""

    def __init__(self, region: str, reason: str) -> None:
        super().__init__(f"the agent of {region} gives no answer: {reason}")


class AgentRefusedError(AgentError):
    """The agent's own words."""

    def __init__(self, region: str, said: str) -> None:
        super().__init__(f"the agent of {region}: {said}")


class Agents:
    """The agents of all regions. An asynchronous context manager."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._http = httpx.AsyncClient(trust_env=False, verify=unused_tls())

    async def seen(self, region: str) -> AgentSeen:
        """Ask how a region's workloads are. Raises `AgentError`."""
        return await self._ask("GET", region, "/v1/workloads", AgentSeen, timeout_s=_LOOK_S)

    async def edge(self, region: str) -> EdgeSeen:
        """Ask what a region's edge sees. Raises `AgentError`."""
        return await self._ask("GET", region, "/v1/edge", EdgeSeen, timeout_s=_LOOK_S)

    async def change(self, region: str, workload: str, what: str) -> WorkloadSeen:
        """Restart, replace, drain or undrain a workload, and return when that is done. Raises `AgentError`."""
        return await self._ask("POST", region, f"/v1/workloads/{workload}/{what}", WorkloadSeen)

    async def weigh(self, region: str, workload: str, percent: int) -> None:
        """Change the share of a node or service at its edge. Raises `AgentError`."""
        await self._ask("POST", region, f"/v1/workloads/{workload}/weight?percent={percent}", dict)

    async def send_writes(self, region: str, *, remote: bool) -> None:
        """Say where a region's edge sends writes. Raises `AgentError`."""
        await self._ask("POST", region, f"/v1/writes?to={'remote' if remote else 'local'}", dict, timeout_s=_LOOK_S)

    async def join_journal(self, region: str) -> None:
        """Begin a region's member of the journal anew, in the cluster that there is. Raises `AgentError`."""
        await self._ask("POST", region, "/v1/journal/join", dict)

    async def stop(self, region: str, *, keep: str) -> None:
        """Stop a region's workloads, but those of the roles in `keep`. Raises `AgentError`."""
        await self._ask("POST", region, f"/v1/stop?keep={keep}", dict)

    async def view(self, region: str) -> View:
        """Ask a region's controller for all that it knows. Raises `AgentError`."""
        url = self._topology.controller_url(region)
        return await self._ask("GET", region, "/v1/view", View, timeout_s=_LOOK_S, at=url)

    async def timeline(self, region: str, *, limit: int) -> list[Event]:
        """Ask a region's controller for the newest events, in their order. Raises `AgentError`."""
        url = self._topology.controller_url(region)
        return await self._ask("GET", region, f"/v1/timeline?limit={limit}", list[Event], timeout_s=_LOOK_S, at=url)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(
        self, method: str, region: str, path: str, type: type[_T], *, timeout_s: float = _ACT_S, at: str = ""
    ) -> _T:
        try:
            answer = await self._http.request(
                method, (at or self._topology.agent_url(region)) + path, timeout=timeout_s
            )
        except httpx.HTTPError as error:
            raise AgentUnreachableError(region, str(error) or repr(error)) from error
        if answer.status_code != 200:
            raise AgentRefusedError(region, _detail(answer.content) or f"HTTP status {answer.status_code}")
        try:
            return msgspec.json.decode(answer.content, type=type)
        except msgspec.MsgspecError as error:
            raise AgentRefusedError(region, f"an answer that makes no sense ({error})") from error


def _detail(body: bytes) -> str:
    try:
        said: Any = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return ""
    return str(said.get("detail", "")) if isinstance(said, dict) else ""

"""What agents do about their parts while a drill goes on: controllers hear of it later, or never.

A part that was killed is begun again by its agent, which asks nobody; in the controllers' timeline nothing of it shows.
So agents are asked a few times a second how their parts are, and say themselves since when.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Self

from fivenines.control.observed import WorkloadSeen
from fivenines.drill.results import Moment, MomentKind
from fivenines.drill.running import RunningPlatform
from fivenines.platform.local.agent_client import AgentError

__all__ = ["Watcher", "changes"]

_LOOK_S = 0.25
_KINDS: Mapping[str, MomentKind] = {
    "unready": "detected",
    "backoff": "detected",
    "stopped": "detected",
    "stopping": "decided",
    "draining": "decided",
    "starting": "decided",
    "ready": "done",
}


def changes(
    before: Mapping[str, WorkloadSeen], after: Sequence[WorkloadSeen], *, region: str, began_at: float
) -> list[Moment]:
    """Say what has changed with the parts of a region. Pure.

    Args:
        before: how they were, by name.
        after: how they are.
        region: whose they are.
        began_at: when the drill began, unix time.
    """
    found = []
    for seen in after:
        old = before.get(seen.name)
        if old is None or (old.state, old.since) == (seen.state, seen.since):
            continue
        at, what = round(seen.since - began_at, 3), f"{seen.name} is {seen.state}"
        if old.pid != seen.pid and seen.state in {"starting", "ready"}:
            # It ended and began between two looks, or has been begun: the agent did both.
            found.append(
                Moment(at=at, kind="decided", what=f"{seen.name} is begun again", target=seen.name, region=region)
            )
        kind = _KINDS.get(seen.state)
        if kind is not None and not (kind == "decided" and found and found[-1].target == seen.name):
            found.append(Moment(at=at, kind=kind, what=what, target=seen.name, region=region, why=seen.reason))
    return found


class Watcher:
    """Asks agents while a block runs. An asynchronous context manager.

    Args:
        platform: whose agents.
        began_at: when the drill began, unix time.
    """

    def __init__(self, platform: RunningPlatform, began_at: float) -> None:
        self._platform, self._began_at = platform, began_at
        self.moments: list[Moment] = []
        self._last: dict[str, dict[str, WorkloadSeen]] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._look()
        self._task = asyncio.create_task(self._go_on(), name="watching the parts")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._look()

    async def _look(self) -> None:
        await asyncio.gather(*map(self._look_at, self._platform.regions))

    async def _look_at(self, region: str) -> None:
        with contextlib.suppress(AgentError):  # it is down; what it did then it tells when it is back
            seen = (await self._platform.agents.seen(region)).workloads
            before = self._last.get(region, {})
            self.moments += changes(before, seen, region=region, began_at=self._began_at)
            self._last[region] = {each.name: each for each in seen}

"""Clients without our library: they ask the edge of a region once, and take what it says for the answer.

Ours try again, and at another region where they must, so an edge that hands on every failure of a node hardly shows in
what they are told. These wait for a position that no node has come to yet: some of their requests are always under way
at every node, and what breaks off breaks off in the middle of one.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Final, Self

import httpx
import msgspec

__all__ = ["PlainClients"]

_AHEAD: Final = 10
"""Positions: at a hundred requests a second some tenths of a second."""
_PATIENCE_S: Final = 10.0
_FAILED: Final = 500
_REST_S: Final = 0.05


class _Platform(msgspec.Struct):
    position: int


class PlainClients:
    """Clients who ask while a block runs. An asynchronous context manager.

    Args:
        edges: the URLs of edges, by the names of their regions.
        each: how many clients ask each of them.
    """

    def __init__(self, edges: Mapping[str, str], *, each: int) -> None:
        self._edges, self.each = dict(edges), each
        self._tasks: list[asyncio.Task[None]] = []
        self.answered = 0
        self.failures: list[str] = []
        """Of every request that was not answered, or with 500 or more: the region, and what came in its place."""

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._go_on(region, url), name=f"plain client {number} of {region}")
            for region, url in self._edges.items()
            for number in range(self.each)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _go_on(self, region: str, url: str) -> None:
        at_least = 0
        async with httpx.AsyncClient(trust_env=False, timeout=_PATIENCE_S) as http:
            while True:
                began = time.monotonic()
                position = await self._ask(http, region, url, at_least)
                at_least = at_least if position is None else position + _AHEAD
                await asyncio.sleep(max(0.0, began + _REST_S - time.monotonic()))

    async def _ask(self, http: httpx.AsyncClient, region: str, url: str, at_least: int) -> int | None:
        try:
            answer = await http.get(f"{url}/v1/platform", params={"at_least": at_least})
            position = msgspec.json.decode(answer.content, type=_Platform).position if answer.is_success else None
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            self.failures.append(f"{region}: {str(error) or repr(error)}")
            return None
        if answer.status_code >= _FAILED:
            self.failures.append(f"{region}: {answer.status_code} {answer.text[:200]}")
        self.answered += 1
        return position

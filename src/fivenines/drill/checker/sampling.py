"""Take samples while a load runs: all accounts of every node, in one request each, every so often.

What is wrong for a moment only would be gone by the end. A node that does not answer is not asked again until its next
turn: it may be the one that a drill has killed.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self

import httpx

from fivenines.drill.checker.gathering import SOMETHING_WRONG, ask_page

if TYPE_CHECKING:
    from fivenines.drill.checker.evidence import NodeSaid

__all__ = ["Sampling"]

_TIMEOUT_S: Final = 2.0


class Sampling:
    """Samples of nodes. An asynchronous context manager.

    Args:
        nodes: their URLs, by name.
        every_s: how long between two samples of a node.
    """

    def __init__(self, nodes: Mapping[str, str], *, every_s: float = 2.0) -> None:
        if every_s <= 0:
            raise ValueError(f"every_s must be above 0, not {every_s}")
        self._nodes = dict(nodes)
        self._every_s = every_s
        self._tasks: list[asyncio.Task[None]] = []
        self.said: list[NodeSaid] = []
        """The samples so far."""

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._sample(name, url, number), name=f"samples of {name}")
            for number, (name, url) in enumerate(self._nodes.items())
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sample(self, name: str, url: str, number: int) -> None:
        await asyncio.sleep(self._every_s * number / len(self._nodes))  # not all of them at once
        async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S) as http:
            while True:
                with contextlib.suppress(*SOMETHING_WRONG):
                    self.said.append(await ask_page(http, name, url))
                await asyncio.sleep(self._every_s)

"""What a runner needs, narrow: where events come from, who runs a function, and what was given up.

`EventSource` and `Store` are those of the feed. Another way to run functions, such as containers of a cluster, is an
`Invoker`: it starts what it needs when calls wait, and lets go of it when none do.
"""

from typing import Protocol

from fivenines.api import Event
from fivenines.functions.registry import Context
from fivenines.historian.feed.source import EventSource
from fivenines.historian.feed.store import Store

__all__ = ["EventSource", "InvocationError", "Invoker", "Store"]


class InvocationError(Exception):
    """A function failed, took too long, or its process died; the message says what happened."""


class Invoker(Protocol):
    """Runs functions."""

    async def invoke(self, function: str, event: Event, context: Context) -> None:
        """Return when a function has returned. Raises `InvocationError`.

        Whatever it raised for has ended: the function does nothing any more.
        """
        ...

"""Both shells of the client behind one face, so that a test is written once and run with each."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from fivenines import AsyncLedger, Ledger
from fivenines.client import Limits

QUICK = Limits(try_timeout_s=0.5, connect_timeout_s=0.5, backoff_s_min=0.001, backoff_s_max=0.01, avoid_s=0.05)
"""Limits for servers on this machine that hang on purpose."""


class Ticks:
    """A clock that goes half a second further each time it is read: a deadline is a number of tries with it.

    `TWO_TRIES` has room for two of them, however slow the machine is. (A call reads the clock at its begin, after each
    try and after each wait.)
    """

    TWO_TRIES = 1.9

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 0.5
        return self._now


Open = Callable[..., Any]


class AwaitedLedger:
    """An `AsyncLedger` that is used like a `Ledger`: each method runs an event loop until it has its answer."""

    def __init__(self, *urls: str, **options: Any) -> None:
        self._ledger = AsyncLedger(*urls, **options)
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ledger, name)
        if not callable(found):
            return found

        def method(*args: Any, **kwargs: Any) -> Any:
            asked = found(*args, **kwargs)
            return self._runner.run(_collect(asked) if hasattr(asked, "__aiter__") else asked)

        return method

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._ledger.close())
        self._runner.close()


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]


SHELLS: tuple[Open, ...] = (Ledger, AwaitedLedger)

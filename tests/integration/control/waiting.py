"""Waiting for what processes do, as nobody tells a test of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fivenines.control.store import StoreUnreachableError

WAIT_S_MAX = 60.0


async def wait_until(is_so: Callable[[], Awaitable[bool]], what: str, *, every_s: float = 0.05) -> float:
    """Ask until it is so, and return how many seconds it took; a store out of reach says no."""
    began = time.monotonic()
    for _ in range(int(WAIT_S_MAX / every_s)):
        try:
            if await is_so():
                return time.monotonic() - began
        except StoreUnreachableError:
            pass
        await asyncio.sleep(every_s)
    raise AssertionError(f"this did not come: {what}")

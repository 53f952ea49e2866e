"""The load of a drill, whoever makes it: begun, listened to, ended."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fivenines.drill.events import load_for
from fivenines.drill.load.asked import Asked
from fivenines.drill.running import RunningPlatform
from fivenines.drill.steady import SteadyLoad

__all__ = ["DrillLoad"]


class DrillLoad:
    """Clients who ask DNS and go on whatever happens, in a process of their own.

    Args:
        platform: whom they ask.
        rate_per_s: how many requests a second, of all of them together.
        seed: what they ask is drawn from it.
        name: their accounts are their own.
        log: for what goes wrong with them.
    """

    def __init__(self, platform: RunningPlatform, *, rate_per_s: float, seed: int, name: str, log: Path) -> None:
        del seed
        self.rate_per_s = rate_per_s
        self._load = SteadyLoad(load_for(platform, rate_per_s=rate_per_s, name=name), log)
        self._asked: list[Asked] = []

    @property
    def asked(self) -> Sequence[Asked]:
        """Requests that have ended, in the order of their ends."""
        for each in self._load.asked[len(self._asked) :]:
            self._asked.append(
                Asked(
                    due=each.due,
                    client=each.client,
                    kind="post" if each.id else "read",
                    id=each.id,
                    source="bank",
                    destination=each.account,
                    amount=each.amount,
                    sent=each.due,
                    ended=each.ended,
                    outcome=each.outcome,
                    position=each.position,
                    error=each.error,
                )
            )
        return self._asked

    async def start(self) -> None:
        """Begin, and return when requests go out."""
        await self._load.start()

    async def wait_ended(self, moment: float) -> None:
        """Wait until a moment is over, and all that was due before it has ended."""
        await self._load.wait_ended(moment)

    async def stop(self) -> None:
        """Ask nothing more, and return when all that was asked has ended."""
        await self._load.stop()

    async def discard(self) -> None:
        """Leave no process behind."""
        await asyncio.shield(self._load.discard())

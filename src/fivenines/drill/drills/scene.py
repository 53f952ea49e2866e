"""What a drill's probes and actions get: the platform, what the clients saw so far, and the faults in force."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from fivenines.drill.drills.plain_clients import PlainClients
from fivenines.drill.faults import OVER_AFTER, InForce, in_force
from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Moment
from fivenines.drill.running import RunningPlatform

__all__ = ["SERVED_AFTER", "FaultGone", "Loading", "Scene"]

_SAME = "that of "
SERVED_AFTER = "served_after_s"
"""The fact of a fault that says after how long somebody served again, where clients could not be asked."""


class Loading(Protocol):
    """A load that runs."""

    @property
    def asked(self) -> Sequence[Asked]:
        """Requests that have ended."""

    async def wait_ended(self, moment: float) -> None:
        """Wait until a moment of the monotonic clock is over, and all that was due before it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultGone:
    """A fault that was begun, and what is known of it. Times are of the monotonic clock."""

    name: str
    """Of the action."""
    fault: str
    target: str
    began: float
    ended: float
    facts: dict[str, float]


@dataclass(slots=True)
class _Held:
    stack: AsyncExitStack
    fault: InForce


@dataclass(slots=True, kw_only=True)
class Scene:
    """Where a drill takes place."""

    platform: RunningPlatform
    load: Loading
    rate_per_s: float
    chance: random.Random
    began: float
    """When the drill's clients were first looked at, on the monotonic clock."""
    plain: PlainClients
    """Clients without our library; none of them where the drill asks for none."""
    end_load: Callable[[], Awaitable[None]] | None = None
    """Ends the clients and has them judged, when there will be nobody to ask afterwards; None where that may not be."""
    log_began: int = 0
    """How long the platform's log was when the drill began, in bytes."""
    is_over: bool = False
    """Whether the clients have ended, and the platform with them: nobody expects answers any more."""
    chance_to_look: random.Random = field(default_factory=random.Random)
    """For what may differ from one run to the next: where the guard looks."""
    moments: list[Moment] = field(default_factory=list)
    gone: list[FaultGone] = field(default_factory=list)
    _held: dict[str, _Held] = field(default_factory=dict)

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def since_began(self) -> list[Asked]:
        """What clients asked since then, as far as it has ended."""
        return [each for each in self.load.asked if each.due >= self.began]

    def note(self, kind: Any, what: str, *, target: str = "", why: str = "", at: float | None = None) -> None:
        """Write down something that happened."""
        self.moments.append(
            Moment(
                at=round(self.now if at is None else at - self.began, 3), kind=kind, what=what, target=target, why=why
            )
        )

    def _hit_by(self, name: str) -> str:
        """Return what the fault of an earlier action hit."""
        held = {name: each.fault.target for name, each in self._held.items()}
        return (held | {each.name: each.target for each in self.gone})[name]

    def facts_of(self, name: str) -> dict[str, float]:
        """Return what is known of the fault that the action of this name began. Raises KeyError: there is none."""
        if name in self._held:
            return {fact: float(value) for fact, value in self._held[name].fault.facts.items()}
        return {each.name: each.facts for each in self.gone}[name]

    @property
    def in_force(self) -> list[str]:
        """The names of the actions whose faults go on."""
        return list(self._held)

    async def begin_fault(self, name: str, fault: str, arguments: dict[str, Any]) -> None:
        """Put a fault in force under a name. Raises whatever speaks against it."""
        stack = AsyncExitStack()
        if str(target := arguments.get("target", "")).startswith(_SAME):
            arguments = {**arguments, "target": self._hit_by(str(target).removeprefix(_SAME))}
        begun = await stack.enter_async_context(in_force(fault, self.platform, chance=self.chance, **arguments))
        self._held[name] = _Held(stack, begun)
        self.note("fault", fault.replace("_", " "), target=begun.target, at=begun.began)

    async def end_fault(self, name: str) -> None:
        """End the fault of a name. Raises what its end raises: it may be that it stays."""
        held = self._held.pop(name)
        try:
            await held.stack.aclose()
        finally:
            fault = held.fault
            ended = fault.began + fault.facts.get(OVER_AFTER, time.monotonic() - fault.began)
            self.gone.append(
                FaultGone(
                    name=name,
                    fault=fault.name,
                    target=fault.target,
                    began=fault.began,
                    ended=ended,
                    facts={name: float(value) for name, value in fault.facts.items()},
                )
            )
            self.note("fault over", fault.name.replace("_", " "), target=fault.target, at=ended)

    async def end_all(self) -> list[str]:
        """End all faults, the last one first; returns what went wrong with that."""
        wrong = []
        for name in reversed(list(self._held)):
            try:
                await self.end_fault(name)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - one that stays must not keep the others in force
                wrong.append(f"{name}: {error}")
        return wrong

"""What a fault is before it happens: its name, its parameters, what it needs, and how it begins."""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fivenines.drill.faults.errors import BadFaultError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.targets import Target
from fivenines.drill.running import RunningPlatform

__all__ = ["FaultKind", "Happening", "Parameter", "Value"]

Value = float | int | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a fault."""

    default: Value
    """Its type is the parameter's."""
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def read(self, name: str, value: Any) -> Value:
        """Return a value if it may be one. Raises `BadFaultError`."""
        wanted = type(self.default)
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise BadFaultError(f"{name}: a {wanted.__name__} is wanted, not {value!r}")
        if self.choices and value not in self.choices:
            raise BadFaultError(f"{name}: {value!r} is none of {', '.join(self.choices)}")
        found: Value = value
        if isinstance(found, float | int):
            if self.low is not None and found < self.low:
                raise BadFaultError(f"{name}: {found!r} is less than {self.low:g}")
            if self.high is not None and found > self.high:
                raise BadFaultError(f"{name}: {found!r} is more than {self.high:g}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """All that a fault has to know to begin."""

    fault: InForce
    platform: RunningPlatform
    target: Target
    chance: random.Random
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One kind of fault."""

    name: str
    summary: str
    target: str
    """The role that is hit where nobody says otherwise."""
    begin: Callable[[Happening], Awaitable[None]]
    undone: str
    """How it is undone, for people."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    needs: str = ""
    """What it needs of the machine, for people; empty: nothing."""
    possible: Callable[[], str | None] = lambda: None
    takes_netns: bool = False
    """Whether regions must be in networks of their own."""

    def why_not(self, platform: RunningPlatform | None = None) -> str | None:
        """Say why it cannot be done on this machine, and to this platform where one is given; or return None."""
        if platform is not None and self.takes_netns and platform.topology.isolation != "netns":
            return "regions share one network: 'fivenines up --isolation netns' gives each its own"
        return self.possible()

    def read(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Return all parameters, the default where none is given. Raises `BadFaultError`."""
        if unknown := set(given) - set(self.parameters):
            known = ", ".join(self.parameters) or "none"
            raise BadFaultError(f"{self.name} has no parameter {min(unknown)!r}; it has: {known}")
        return {
            name: parameter.read(f"{self.name}: {name}", given[name]) if name in given else parameter.default
            for name, parameter in self.parameters.items()
        }

"""A drill as it is written: the open experiment format of Chaos Toolkit, as types.

What is read is what https://chaostoolkit.org/reference/api/experiment/ describes, so a file may be carried over as it
is: title, description, tags, configuration, steady-state hypothesis, method, rollbacks, runtime, extensions. `secrets`
and `controls` have no use here and are refused rather than ignored, as is whatever else is not known.

Ours is in the list of extensions, in the entry named `fivenines`: where other tools do not look.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = [
    "FAULTS",
    "STRATEGIES",
    "Activity",
    "Experiment",
    "Guard",
    "Hypothesis",
    "Ours",
    "Pauses",
    "Provider",
    "Runtime",
    "RuntimeHypothesis",
    "When",
]

FAULTS = "fivenines.drill.faults"
"""The module that an action names whose function is a fault."""

Seconds = Annotated[float, Meta(ge=0, le=86_400, description="seconds")]
Text = Annotated[str, Meta(min_length=1)]
Strategy = Literal["default", "before-method-only", "after-method-only", "during-method-only", "continuously"]


class When(StrEnum):
    """When a hypothesis is looked at."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


STRATEGIES: dict[Strategy, frozenset[When]] = {
    "default": frozenset({When.BEFORE, When.AFTER}),
    "before-method-only": frozenset({When.BEFORE}),
    "after-method-only": frozenset({When.AFTER}),
    "during-method-only": frozenset({When.DURING}),
    "continuously": frozenset(When),
}
"""What each strategy means. Ours is `continuously` where none is named: whoever looks only before and after sees no
pause."""


class Pauses(Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait around an activity."""

    before: Seconds = 0.0
    after: Seconds = 0.0


class Provider(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an activity does. Which fields it has depends on its type; `checking` sees to it."""

    type: Literal["python", "process", "http"]
    module: str = ""
    """python: the module, and in `func` the function in it."""
    func: str = ""
    path: str = ""
    """process: the program."""
    url: str = ""
    """http: what is asked."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[str, str] = {}
    expected_status: int | None = None
    arguments: dict[str, Any] | list[Any] | str = {}
    """python: by name; process: a list, one text, or by name; http: the body, as JSON, or the query of a GET."""
    timeout: Seconds | None = None


class Activity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step: a probe looks, an action does."""

    type: Literal["probe", "action"]
    name: Text
    provider: Provider
    tolerance: Any = UNSET
    """What a probe may find; see `tolerance`."""
    background: bool = False
    """Whether the next one begins while this one goes on; all have ended when the method has."""
    pauses: Pauses = Pauses()

    @property
    def has_tolerance(self) -> bool:
        """Whether a tolerance stands there."""
        return not isinstance(self.tolerance, UnsetType)

    @property
    def is_fault(self) -> bool:
        """Whether this begins a fault, which is then in force until the method is over, or ended by name."""
        return self.provider.type == "python" and self.provider.module == FAULTS


class Hypothesis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the platform is when all is well."""

    title: Text
    probes: tuple[Activity, ...] = ()


class RuntimeHypothesis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the hypothesis is looked at."""

    strategy: Strategy = "continuously"


class Runtime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the drill is carried out."""

    hypothesis: RuntimeHypothesis = RuntimeHypothesis()


class Guard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is real harm: a drill that does more is stopped at once, and undone."""

    budget_s: Annotated[float, Meta(ge=0)] = 10.0
    """Seconds of the error budget."""
    failed: Annotated[int, Meta(ge=0)] = 10
    """Requests that failed."""
    pause_s: Annotated[float, Meta(ge=0)] = 20.0
    """How long nobody may be answered anything."""


class Ours(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Chaos Toolkit has no word for."""

    name: Literal["fivenines"]
    bound: str = ""
    """What clients may see at most, for people."""
    platform: Literal["shared", "own"] = "shared"
    """Whether others may use the platform after this drill."""
    needs: tuple[Literal["netns", "root"], ...] = ()
    """What the machine must be able to do."""
    guard: Guard = Guard()
    load: Annotated[float, Meta(gt=0, le=100)] = 1.0
    """How many times the usual rate."""
    plain_clients: Annotated[int, Meta(ge=0, le=100)] = 0
    """How many clients without our library ask each edge beside that load: see `plain_clients`."""
    warm_s: Seconds = 2.0
    """How long the load goes before anything is done."""
    limit_s: Seconds | None = None
    """After so long no further step of the method begins."""
    settle_s: Seconds = 90.0
    """How long the platform may take until it is whole again."""


class Experiment(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """A drill, as it is written."""

    title: Text
    description: str
    method: tuple[Activity, ...]
    version: str = "1.0.0"
    tags: tuple[str, ...] = ()
    configuration: dict[str, Any] = {}
    """Values that are written ${name} elsewhere; or where in the environment one is found: {type: env, key, default}.
    """
    contributions: dict[str, str] = {}
    steady_state_hypothesis: Hypothesis | None = None
    rollbacks: tuple[Activity, ...] = ()
    runtime: Runtime = Runtime()
    extensions: tuple[dict[str, Any], ...] = ()

    @property
    def when(self) -> frozenset[When]:
        """When the hypothesis is looked at."""
        return STRATEGIES[self.runtime.hypothesis.strategy]

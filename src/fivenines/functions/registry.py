"""`on`: a function says which events it wants. Cheap to import: each worker does, before the first event.

What `where` may hold, where it is no function of its own; all of it must be so:

    account, source, destination    the beginning of an account's id, or a list of them
    amount_at_least                 of one posting, in the smallest unit
    kind                            post, hold, settle or release
    reference                       exactly

An event tells no asset, so there is no condition on one: an account has one asset, and its name may begin with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fivenines.api import Event

__all__ = ["CONDITIONS", "Context", "Function", "Where", "functions", "on"]

F = TypeVar("F", bound=Callable[..., Any])

Where = Mapping[str, Any] | Callable[[Event], bool]

CONDITIONS = frozenset({"account", "source", "destination", "amount_at_least", "kind", "reference"})

_registered: dict[str, "Function"] = {}


@dataclass(frozen=True, slots=True)
class Context:
    """What a function is told besides the event.

    An event may come again, after a failure or a kill. For effects that happen once, keep in the same transaction as
    the effect either `event_id`, as a unique key, or (`position`, `item`) for each account, and do nothing when it is
    there already, or not later than what is kept: the events of an account come in this order, but for replays.
    """

    event_id: str
    """The same at every try."""
    position: int
    """Of the frame that decided it: pass it as `at_least` to read the books as they were after it, or later."""
    item: int
    """Which of the events of its frame it is."""
    attempt: int
    """From 1 on, since the runner started."""
    is_replay: bool
    """Whether it is a dead letter that somebody has delivered again; events after it were delivered before."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function, and what it wants."""

    name: str
    call: Callable[[Event, Context], Any]
    types: tuple[str, ...]
    where: Where | None


def on(*types: str, where: Where | None = None, name: str | None = None) -> Callable[[F], F]:
    """Have a function called, as `f(event, context)`, for each event of these types.

    Args:
        types: such as "transaction.posted"; "transaction.*" for all.
        where: which of them: conditions as a dict, which is looked at without starting a process; or a function that
            takes the event and returns whether it is wanted, which runs in the process of the function.
        name: under which it is known, and how far it is is kept; that of the function unless given.
    """
    if not types:
        raise ValueError("on() needs a type of event, such as 'transaction.posted'")
    if isinstance(where, Mapping) and (unknown := where.keys() - CONDITIONS):
        raise ValueError(
            f"there is no condition {', '.join(sorted(unknown))}; there are {', '.join(sorted(CONDITIONS))}"
        )

    def register(function: F) -> F:
        known_as = name or function.__name__
        if known_as in _registered and _registered[known_as].call is not function:
            raise ValueError(f"there is a function {known_as!r} already: give one of them another name")
        _registered[known_as] = Function(known_as, function, types, where)
        return function

    return register


def functions() -> dict[str, Function]:
    """Return what was registered in this process, by name."""
    return dict(_registered)

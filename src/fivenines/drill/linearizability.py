"""Judge whether what concurrent clients saw could have come from one copy of the thing, asked one at a time.

A history is linearizable when each operation can be given one moment between its invocation and its return, so that
the operations in the order of these moments are what a single copy would have answered. An operation without a return
has an unknown outcome: it may have taken effect at any later moment, or never.

The algorithm is that of Wing and Gong (Testing and Verifying Concurrent Objects, 1993): search through the orders that
the intervals allow, and go back where the model refuses an answer. With what others added:

- Lowe (Testing for Linearizability, 2017): what was reached before, the same operations done and the same state, is not
  searched again, and the operations that are left are a list of which one is lifted out and put back in no time;
- Horn and Kroening (Faster Linearizability Checking via P-Compositionality, 2015): a history of things that have
  nothing to do with each other is linearizable when each part is, and the model says what the parts are;
- an operation that never changes the state is taken as soon as it fits, and no other moment is tried for it: where a
  later moment would do, this one does too.

What is found wrong is made small (`Violation`). Each step of that only forgets something: a history from which nothing
but a constraint was taken away, and which is still wrong, shows that the whole was wrong. So no write is dropped whose
loss might itself be what is wrong with the rest.

Nothing here does I/O, looks at a clock, or depends on chance: the same history gets the same verdict and the same
witness.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Protocol, Self, TypeVar

__all__ = ["Model", "Operation", "TooManyConfigurationsError", "Violation", "check"]

In = TypeVar("In")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)
Out_contra = TypeVar("Out_contra", contravariant=True)
State = TypeVar("State")

CONFIGURATIONS_MAX: Final = 2_000_000
"""Enough for thousands of operations of some sixteen clients; a few hundred bytes of memory for each."""
SHRINK_CONFIGURATIONS_MAX: Final = 300_000
"""Seconds of work to make a witness small. It is one before, only longer."""


@dataclass(frozen=True, kw_only=True)
class Operation(Generic[In, Out]):
    """What one client asked, when, and what it was told."""

    client: int
    invoked: float
    """By a clock that all clients share. Operations that meet at one moment are concurrent."""
    returned: float | None
    """None: without an answer, so it may take effect at any later moment, or never. With an output it has that one, if
    it takes effect."""
    input: In
    output: Out | None
    """None: unknown."""


class Model(Protocol[In, Out, State]):
    """One copy of the thing, asked one at a time. Frozen; states are hashable and are never changed."""

    @property
    def initial(self) -> State:
        """The state before any operation."""

    def step(self, state: State, operation: Operation[In, Out]) -> State | None:
        """Return the state after an operation, None when it could not have had its output in this state."""

    def is_read(self, operation: Operation[In, Out]) -> bool:
        """Say whether it leaves every state as it is in which it can happen at all."""

    def parts(self, operations: Sequence[Operation[In, Out]]) -> list[tuple[Self, list[Operation[In, Out]]]]:
        """Return parts that have nothing to do with each other, each with a model of its own."""

    def weaker(self, operations: Sequence[Operation[In, Out]]) -> Iterator[tuple[Self, list[Operation[In, Out]]]]:
        """Yield smaller histories that are linearizable if this one is, the smallest first."""


class TooManyConfigurationsError(Exception):
    """The search was given up: too much happened at once for a verdict in reasonable time."""

    def __init__(self, configurations_max: int) -> None:
        super().__init__(f"no verdict after {configurations_max} configurations: let fewer operations overlap")


@dataclass(frozen=True, slots=True)
class Violation(Generic[In, Out]):
    """A history that no single copy could have given, as small as it could be made.

    From the initial state of `model` there is no order for these operations. Together they show what is wrong, and
    each still says no more than what really happened, or less.
    """

    model: Model[In, Out, Any]
    operations: tuple[Operation[In, Out], ...]
    stuck: Operation[In, Out]
    """Whatever order is chosen, one gets no further than to before this one returned."""

    def __str__(self) -> str:
        start = min(operation.invoked for operation in self.operations)
        lines = [f"no order explains these operations, which begin with {self.model}:"]
        for each in sorted(self.operations, key=lambda operation: operation.invoked):
            until = "..." if each.returned is None else f"{each.returned - start:.6f}"
            told = "?" if each.output is None else str(each.output)
            mark = "  <- no order gets beyond this answer" if each is self.stuck else ""
            lines.append(f"  {each.invoked - start:.6f} - {until}  client {each.client}: {each.input} -> {told}{mark}")
        return "\n".join(lines)


def check(
    model: Model[In, Out, Any],
    operations: Sequence[Operation[In, Out]],
    *,
    configurations_max: int = CONFIGURATIONS_MAX,
) -> Violation[In, Out] | None:
    """Return what is wrong with a history, None when it is linearizable.

    Raises:
        TooManyConfigurationsError: neither could be shown.
    """
    for part, members in model.parts(operations):
        budget = _Budget(configurations_max)
        if (stuck := _search(part, members, budget)) is not None:
            return _shrunk(part, _until(part, members, stuck), stuck)
    return None


@dataclass(slots=True)
class _Budget:
    """How much may be looked at yet."""

    configurations_max: int
    used: int = 0

    def take(self) -> None:
        self.used += 1
        if self.used > self.configurations_max:
            raise TooManyConfigurationsError(self.configurations_max)


# --- the search


class _Remaining:
    """The operations that have no moment yet, as a list of their beginnings and ends, in the order of time.

    Operations are numbers, in the order of their returns; those that never returned come last. The first end in the
    list belongs to the operation with the lowest number left, which is what makes configurations small to write down.
    """

    def __init__(self, operations: Sequence[Operation[Any, Any]]) -> None:
        count = len(operations)
        # At one moment beginnings come before ends: those who meet are concurrent.
        events = [(each.invoked, 0, number) for number, each in enumerate(operations)]
        events += [(each.returned, 1, number) for number, each in enumerate(operations) if each.returned is not None]
        events.sort()
        # Node number: beginning of operation i; count + number: its end; 2 * count: both ends of the list.
        order = [number + count * is_end for _, is_end, number in events]
        self._count = count
        self._head = 2 * count
        self._next = [0] * (2 * count + 1)
        self._previous = [0] * (2 * count + 1)
        for one, other in zip([self._head, *order], [*order, self._head], strict=True):
            self._next[one] = other
            self._previous[other] = one
        self._is_open = [each.returned is None for each in operations]

    def candidates(self) -> list[int]:
        """The operations that may come next: none that is left had returned before they were invoked."""
        found = []
        node = self._next[self._head]
        while node < self._count:
            found.append(node)
            node = self._next[node]
        # The most urgent first: what returns first must have its moment first. What never returned is tried last.
        found.sort()
        return found

    def first(self) -> int | None:
        """The one that returns first; None when none of those left returned."""
        node = self._next[self._head]
        while node < self._count:
            node = self._next[node]
        return None if node == self._head else node - self._count

    def lift(self, operation: int) -> None:
        """Take one out."""
        self._unlink(operation)
        if not self._is_open[operation]:
            self._unlink(operation + self._count)

    def put_back(self, operation: int) -> None:
        """Put back the one that was taken out last."""
        if not self._is_open[operation]:
            self._link(operation + self._count)
        self._link(operation)

    def _unlink(self, node: int) -> None:
        before, after = self._previous[node], self._next[node]
        self._next[before], self._previous[after] = after, before

    def _link(self, node: int) -> None:
        self._next[self._previous[node]] = self._previous[self._next[node]] = node


@dataclass(slots=True)
class _Choice:
    """One operation that was given its moment, the reads that followed at once, and what else might come after."""

    state: Any
    """After it."""
    lifted: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    """What may come next and was not tried yet, the most urgent last."""


def _search(
    model: Model[In, Out, Any], operations: Sequence[Operation[In, Out]], budget: _Budget
) -> Operation[In, Out] | None:
    """Return the operation beyond whose return no order gets, None when there is an order.

    The orders are searched depth first. A configuration is a set of operations done and the state that they left. All
    operations that returned before the first that is left are done, so it is written down as that one's number, the
    few done beyond it, the few done that never returned, and the state.
    """
    ordered = sorted(operations, key=_by_return)
    reads = [model.is_read(each) for each in ordered]
    closed = sum(each.returned is not None for each in ordered)
    remaining = _Remaining(ordered)
    seen: set[tuple[int, int, int, Any]] = set()
    done = 0
    furthest = -1

    def enter(choice: _Choice) -> bool:
        """Look at what can follow; return whether nothing need follow."""
        nonlocal done, furthest
        fits = True
        while fits:
            fits = False
            choice.left = remaining.candidates()
            for number in choice.left:
                if reads[number] and model.step(choice.state, ordered[number]) is not None:
                    remaining.lift(number)
                    choice.lifted.append(number)
                    done |= 1 << number
                    fits = True
        choice.left = [number for number in reversed(choice.left) if not reads[number]]
        first = remaining.first()
        if first is None:
            return True
        furthest = max(furthest, first)
        return False

    choices = [_Choice(model.initial)]
    if enter(choices[0]):
        return None
    while choices:
        choice = choices[-1]
        if not choice.left:
            for number in reversed(choice.lifted):
                remaining.put_back(number)
                done ^= 1 << number
            choices.pop()
            continue
        number = choice.left.pop()
        state = model.step(choice.state, ordered[number])
        if state is None:
            continue
        remaining.lift(number)
        done |= 1 << number
        first = remaining.first()
        if first is None:
            return None
        configuration = (first, (done & ((1 << closed) - 1)) >> first, done >> closed, state)
        if configuration in seen:
            remaining.put_back(number)
            done ^= 1 << number
            continue
        budget.take()
        seen.add(configuration)
        choices.append(_Choice(state, [number]))
        if enter(choices[-1]):
            return None
    return ordered[furthest]


def _by_return(operation: Operation[Any, Any]) -> float:
    return float("inf") if operation.returned is None else operation.returned


# --- the witness


def _until(
    model: Model[In, Out, Any], operations: Sequence[Operation[In, Out]], stuck: Operation[In, Out]
) -> list[Operation[In, Out]]:
    """End a history where the wrong answer was there: what came later can have no part in it.

    What had begun by then may have taken effect, or not yet. It must not be asked to have: it could do so only together
    with what came later.
    """
    assert stuck.returned is not None
    found = []
    for each in operations:
        if each is stuck or (each.returned is not None and each.returned <= stuck.returned):
            found.append(each)
        elif each.invoked <= stuck.returned and not model.is_read(each):
            found.append(each if each.returned is None else replace(each, returned=None))
    return found


def _shrunk(
    model: Model[In, Out, Any], operations: list[Operation[In, Out]], stuck: Operation[In, Out]
) -> Violation[In, Out]:
    """Forget what is not needed, a lot at once if possible, for as long as the rest is wrong by itself."""
    budget = _Budget(SHRINK_CONFIGURATIONS_MAX)
    try:
        while True:
            for smaller, rest in _smaller(model, operations):
                if (found := _search(smaller, rest, budget)) is not None:
                    model, stuck, operations = smaller, found, _until(smaller, rest, found)
                    break
            else:
                break
    except TooManyConfigurationsError:
        pass  # then it stays as long as it is
    operations.sort(key=lambda operation: operation.invoked)
    return Violation(model, tuple(operations), stuck)


def _smaller(
    model: Model[In, Out, Any], operations: list[Operation[In, Out]]
) -> Iterator[tuple[Model[In, Out, Any], list[Operation[In, Out]]]]:
    """Yield histories that forget something of this one: what the model can do without, then reads, fewer each time."""
    yield from model.weaker(operations)
    reads = [number for number, each in enumerate(operations) if model.is_read(each)]
    length = len(reads)
    while length:
        for begin in range(0, len(reads), length):
            dropped = set(reads[begin : begin + length])
            yield model, [each for number, each in enumerate(operations) if number not in dropped]
        length //= 2

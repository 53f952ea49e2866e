"""What must be right about a drill beyond its types: each provider, tolerance, tag and name that it refers to.

Functions are looked up, and their arguments held against their parameters, so that a slip of the pen is found by
`fivenines drill check` and not in the middle of a drill.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from fivenines.drill.drills import tolerance
from fivenines.drill.drills.experiment import Activity, Experiment
from fivenines.drill.drills.substituting import names_in
from fivenines.drill.faults import FAULTS, BadFaultError, FaultKind
from fivenines.drill.results import Guarantee
from fivenines.platform.loading import Path_

__all__ = ["Mistake", "check", "find_function"]

Mistake = tuple[Path_, str, str]
"""Where, why, and what would be right."""
_TAG = "guarantee: "
_SCENE = "scene"
_FIELDS = {
    "python": ({"module", "func"}, {"arguments", "timeout"}),
    "process": ({"path"}, {"arguments", "timeout"}),
    "http": ({"url"}, {"method", "headers", "expected_status", "arguments", "timeout"}),
}
"""What a provider of each type must have, and may have."""
_OF_A_FAULT = {"end_fault", "fault_fact"}
"""They name the action that began it."""


def check(said: Experiment) -> Iterator[Mistake]:
    """Yield all that is wrong with a drill that has the right types."""
    yield from _check_tags(said.tags)
    yield from _check_configuration(said)
    if said.steady_state_hypothesis is not None:
        for number, probe in enumerate(said.steady_state_hypothesis.probes):
            at = ("steady-state-hypothesis", "probes", number)
            if probe.type != "probe":
                yield (*at, "type"), "must be a probe: a hypothesis looks, and does nothing", ""
            if not probe.has_tolerance:
                yield at, "has no 'tolerance'", "say what may be found, such as tolerance: 0"
            yield from _check_activity(probe, at)
    for part, activities in (("method", said.method), ("rollbacks", said.rollbacks)):
        for number, activity in enumerate(activities):
            yield from _check_activity(activity, (part, number))
    yield from _check_names(said)
    yield from _check_references(said)


def _check_tags(tags: Iterable[str]) -> Iterator[Mistake]:
    known = get_args(Guarantee)
    for number, tag in enumerate(tags):
        if tag.startswith(_TAG) and (name := tag.removeprefix(_TAG)) not in known:
            yield ("tags", number), f"{name!r} is no guarantee", _near(name, known, "there are")


def _check_configuration(said: Experiment) -> Iterator[Mistake]:
    for name, value in said.configuration.items():
        if isinstance(value, dict) and "type" in value:
            if value["type"] != "env":
                at = ("configuration", name, "type")
                yield at, f"{value['type']!r} is no type that is known here", "there is 'env'"
            elif not isinstance(value.get("key"), str):
                yield ("configuration", name), "has no 'key'", "name the variable of the environment"


def _check_activity(activity: Activity, at: Path_) -> Iterator[Mistake]:
    provider, here = activity.provider, (*at, "provider")
    needed, allowed = _FIELDS[provider.type]
    defaults: dict[str, Any] = {"method": "GET", "headers": {}, "expected_status": None}
    for name in sorted(needed):
        if not getattr(provider, name):
            yield here, f"has no {name!r}", f"a provider of type {provider.type} needs it"
    for name in ("module", "func", "path", "url", "method", "headers", "expected_status"):
        if name not in needed | allowed and getattr(provider, name) != defaults.get(name, ""):
            yield (*here, name), f"means nothing to a provider of type {provider.type}", "leave it out"
    if activity.has_tolerance:
        if activity.type == "action":
            yield (*at, "tolerance"), "means nothing to an action", "make it a probe"
        for path, reason, hint in tolerance.mistakes(activity.tolerance):
            yield (*at, "tolerance", *path), reason, hint
    if provider.type == "python" and provider.module and provider.func:
        yield from _check_function(activity, here)


def _check_function(activity: Activity, here: Path_) -> Iterator[Mistake]:
    provider = activity.provider
    arguments = provider.arguments
    if not isinstance(arguments, dict):
        yield (*here, "arguments"), "must be fields with values: a function is given its arguments by name", ""
        return
    if activity.is_fault:
        if provider.func not in FAULTS:
            yield (*here, "func"), f"{provider.func!r} is no fault", _near(provider.func, FAULTS, "there are")
            return
        if activity.type != "action":
            yield (*here[:-1], "type"), "must be an action: a fault does something", ""
        yield from _check_fault(FAULTS[provider.func], arguments, here)
        return
    try:
        function = find_function(provider.module, provider.func)
    except LookupError as error:
        yield (*here, "module" if "module" in str(error) else "func"), str(error), ""
        return
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C
        return
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    names = [name for name in parameters if name != _SCENE]
    for name in arguments:
        if name not in names and not takes_any:
            yield (*here, "arguments", name), "is not known here", _near(name, names, "it takes")
    for name in names:
        each = parameters[name]
        is_needed = each.default is each.empty and each.kind not in {each.VAR_KEYWORD, each.VAR_POSITIONAL}
        if is_needed and name not in arguments:
            yield here, f"{provider.func} is given no {name!r}", ""


def _check_fault(fault: FaultKind, arguments: dict[str, Any], here: Path_) -> Iterator[Mistake]:
    known = ["target", "limit_s", *fault.parameters]
    for name, value in arguments.items():
        at = (*here, "arguments", name)
        if name not in known:
            yield at, "is not known here", _near(name, known, f"{fault.name} takes")
        elif name == "target":
            if not isinstance(value, str):
                yield at, f"must be text, not {value!r}", f"such as {fault.target!r}"
        elif name in fault.parameters and not any(names_in(value)):
            try:
                fault.parameters[name].read(name, value)
            except BadFaultError as error:
                yield at, str(error).removeprefix(f"{name}: "), fault.parameters[name].meaning


def _check_names(said: Experiment) -> Iterator[Mistake]:
    """A fault is ended, and asked for what it counted, by the name of its action, so no two may have the same."""
    seen: dict[str, int] = {}
    for number, activity in enumerate(said.method):
        if activity.name in seen:
            yield ("method", number, "name"), f"is that of activity {seen[activity.name] + 1}, too", "give it its own"
        seen.setdefault(activity.name, number)
        if activity.provider.func in _OF_A_FAULT and isinstance(activity.provider.arguments, dict):
            meant = activity.provider.arguments.get("name")
            begun = [each.name for each in said.method[:number] if each.is_fault]
            if meant not in begun:
                at = ("method", number, "provider", "arguments", "name")
                yield at, f"no fault was begun by {meant!r}", _near(str(meant), begun, "begun are") if begun else ""


def _check_references(said: Experiment) -> Iterator[Mistake]:
    probes = said.steady_state_hypothesis.probes if said.steady_state_hypothesis else ()
    places: list[tuple[Path_, Activity]] = [
        *((("steady-state-hypothesis", "probes", number), each) for number, each in enumerate(probes)),
        *((("method", number), each) for number, each in enumerate(said.method)),
        *((("rollbacks", number), each) for number, each in enumerate(said.rollbacks)),
    ]
    for at, each in places:
        provider = each.provider
        values = (("provider", provider.arguments), ("provider", provider.url), ("provider", provider.path))
        for part, value in (*values, ("tolerance", each.tolerance)):
            for name in names_in(value):
                if name not in said.configuration:
                    hint = _near(name, said.configuration, "it has") if said.configuration else "it has none"
                    yield (*at, part), f"${{{name}}} is not in the configuration", hint


def find_function(module: str, name: str) -> Callable[..., Any]:
    """Return a function. Raises LookupError with the reason."""
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise LookupError(f"the module {module!r} cannot be imported: {error}") from error
    if not callable(found):
        raise LookupError(f"{module} has no function {name!r}")  # noqa: TRY004 - it was not found
    return found  # type: ignore[no-any-return]


def _near(word: str, known: Iterable[str], introduction: str) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"{introduction} {', '.join(names) or 'none'}"

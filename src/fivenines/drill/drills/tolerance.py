"""What a probe may find. Pure.

As in Chaos Toolkit: a scalar must be equal, a list of two is a range with both ends, a longer list has all that is
allowed, and a mapping is a `range`, a `regex` or a `jsonpath`. Where a probe finds a mapping with a `status`, as those
of processes and of HTTP do, a number is held against that; `target` names another part of it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["holds", "mistakes", "select", "told"]

Step = tuple[str | int, ...]
_NUMBER = (int, float)
_TYPES = ("range", "regex", "jsonpath")
_STEP = re.compile(r"\.(?P<name>[\w-]+)|\[(?P<index>\d+)\]|\[(?P<quoted>'[^']*'|\"[^\"]*\")\]|(?P<all>\[\*\]|\.\*)")


def mistakes(tolerance: Any) -> Iterator[tuple[Step, str, str]]:
    """Yield what is wrong with how a tolerance is written: where in it, why, and what would be right."""
    if tolerance is None:
        yield (), "says nothing", "write true, a number, a word, [0, 1.5], or {type: regex, pattern: ...}"
    elif isinstance(tolerance, list):
        if not tolerance:
            yield (), "allows nothing", "write what is allowed, or two numbers for a range"
        elif len(tolerance) == 2 and _are_numbers(tolerance) and tolerance[0] > tolerance[1]:
            yield (), f"is a range that ends before it begins: {tolerance}", f"write [{tolerance[1]}, {tolerance[0]}]"
    elif isinstance(tolerance, dict):
        yield from _mistakes_of_mapping(tolerance)


def _mistakes_of_mapping(tolerance: dict[str, Any]) -> Iterator[tuple[Step, str, str]]:
    kind = tolerance.get("type")
    if kind not in _TYPES:
        at = ("type",) if "type" in tolerance else ()
        yield at, f"{kind!r} is no type of tolerance" if at else "has no 'type'", f"there are: {', '.join(_TYPES)}"
        return
    known = {"type", "target"} | {
        "range": {"range"},
        "regex": {"pattern"},
        "jsonpath": {"path", "expect", "count"},
    }[kind]
    for key in tolerance.keys() - known:
        yield (key,), "is not known here", f"it takes {', '.join(sorted(known))}"
    match kind:
        case "range":
            ends = tolerance.get("range")
            if not (isinstance(ends, list) and len(ends) == 2 and _are_numbers(ends) and ends[0] <= ends[1]):
                yield ("range",), "must be two numbers, the lower one first", "such as [0, 1.5]"
        case "regex":
            pattern: Any = tolerance.get("pattern")
            try:
                re.compile(pattern)
            except (TypeError, re.error) as error:
                yield ("pattern",), f"{pattern!r} is no regular expression: {error}", ""
        case "jsonpath":
            path = tolerance.get("path")
            if not isinstance(path, str) or _steps(path) is None:
                yield (
                    ("path",),
                    f"{path!r} is no path that is understood here",
                    "such as $.stores[0].archived or $.*.id",
                )


def holds(tolerance: Any, value: Any) -> bool:
    """Whether what was found is within a tolerance. What is not comparable is not."""
    if isinstance(tolerance, dict):
        return _holds_mapping(tolerance, value)
    if isinstance(value, dict) and "status" in value:
        value = value["status"]
    if isinstance(tolerance, list):
        if len(tolerance) == 2 and _are_numbers(tolerance):
            return _is_number(value) and tolerance[0] <= value <= tolerance[1]
        return any(_equal(each, value) for each in tolerance)
    return _equal(tolerance, value)


def _holds_mapping(tolerance: dict[str, Any], value: Any) -> bool:
    if isinstance(value, dict) and "target" in tolerance:
        value = value.get(tolerance["target"], value)
    match tolerance["type"]:
        case "range":
            lower, upper = tolerance["range"]
            if isinstance(value, str):
                try:
                    value = float(value)
                except ValueError:
                    return False
            return _is_number(value) and bool(lower <= value <= upper)
        case "regex":
            return re.search(tolerance["pattern"], value if isinstance(value, str) else _shown(value)) is not None
        case _:
            found = select(tolerance["path"], value)
            if "count" in tolerance and len(found) != tolerance["count"]:
                return False
            if "expect" in tolerance:
                expected = tolerance["expect"]
                return found == (expected if isinstance(expected, list) else [expected])
            return "count" in tolerance or bool(found)


def select(path: str, value: Any) -> list[Any]:
    """Return what stands at a path such as $.stores[0].archived or $.*.id; a text is read as JSON first.

    A part of JSONPath (RFC 9535): names, indices and wildcards, which is what tolerances take.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    found = [value]
    for step in _steps(path) or ():
        if step is None:
            found = [each for one in found for each in _children(one)]
        elif isinstance(step, int):
            found = [one[step] for one in found if isinstance(one, list) and step < len(one)]
        else:
            found = [one[step] for one in found if isinstance(one, dict) and step in one]
    return found


def told(tolerance: Any) -> str:
    """Say what is wanted, for people."""
    match tolerance:
        case [lower, upper] if _are_numbers(tolerance):
            return _told_range(lower, upper)
        case list():
            return "one of " + ", ".join(map(_shown, tolerance))
        case {"type": "range", "range": [lower, upper]}:
            return _told_range(lower, upper) + _of(tolerance)
        case {"type": "regex", "pattern": pattern}:
            return f"matches {pattern}" + _of(tolerance)
        case {"type": "jsonpath", "path": path}:
            wanted = f" = {_shown(tolerance['expect'])}" if "expect" in tolerance else ""
            wanted += f", {tolerance['count']} of them" if "count" in tolerance else ""
            return f"{path}{wanted}" + _of(tolerance)
        case _:
            return _shown(tolerance)


def _told_range(lower: float, upper: float) -> str:
    if lower == upper:
        return f"{lower:g}"
    return f"{lower:g} to {upper:g}" if lower else f"at most {upper:g}"


def _of(tolerance: dict[str, Any]) -> str:
    return f" ({tolerance['target']})" if "target" in tolerance else ""


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _equal(wanted: Any, value: Any) -> bool:
    # True is 1 to Python, and to nobody who reads a tolerance.
    return isinstance(wanted, bool) == isinstance(value, bool) and bool(wanted == value)


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool)


def _are_numbers(values: list[Any]) -> bool:
    return all(map(_is_number, values))


def _children(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []


def _steps(path: str) -> list[str | int | None] | None:
    """Take a path apart: names, indices, and None for all; None where it is no path."""
    if not path.startswith("$"):
        return None
    at, steps = 1, list[str | int | None]()
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return None
        name, index, quoted = found["name"], found["index"], found["quoted"]
        steps.append(name if name is not None else int(index) if index else quoted[1:-1] if quoted else None)
        at = found.end()
    return steps

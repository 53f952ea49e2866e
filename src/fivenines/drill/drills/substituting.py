"""Put configured values in the place of ${name}. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["configure", "names_in", "substitute"]

_NAME = re.compile(r"\$\{(\w+)\}")


def configure(
    declared: Mapping[str, Any], environment: Mapping[str, str], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Work out the values of a configuration.

    Args:
        declared: what the drill says.
        environment: of this process.
        given: what whoever runs the drill says, which comes before what it says itself.

    Returns:
        The values by name, and for each that has none its name, and why.
    """
    values: dict[str, Any] = {}
    missing: list[tuple[str, str]] = []
    for name, said in declared.items():
        match said:
            case _ if name in given:
                values[name] = given[name]
            case {"type": "env", "key": str(key)} if key in environment:
                values[name] = environment[key]
            case {"type": "env", "key": _, "default": default}:
                values[name] = default
            case {"type": "env", "key": key}:
                missing.append((name, f"there is no {key} in the environment, and it has no default"))
            case {"type": kind}:
                missing.append((name, f"{kind!r} is no type that is known here: there is 'env'"))
            case _:
                values[name] = said
    return values, missing


def substitute(value: Any, values: Mapping[str, Any]) -> Any:
    """Return a value with every ${name} replaced; where one is all there is, what it stands for keeps its type."""
    match value:
        case str():
            if (whole := _NAME.fullmatch(value)) and whole[1] in values:
                return values[whole[1]]
            return _NAME.sub(lambda found: str(values.get(found[1], found[0])), value)
        case list():
            return [substitute(each, values) for each in value]
        case dict():
            return {key: substitute(each, values) for key, each in value.items()}
        case _:
            return value


def names_in(value: Any) -> Iterator[str]:
    """Yield the names that a value refers to."""
    match value:
        case str():
            yield from _NAME.findall(value)
        case list():
            for each in value:
                yield from names_in(each)
        case dict():
            for each in value.values():
                yield from names_in(each)

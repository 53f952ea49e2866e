"""The JSON schema of `platform.yaml`, and the tables of its reference: both are made from the types in `spec`.

What is said below a field there is a string literal, which Python forgets; it is read from the source again. So there
is one place for a field's name, type, bounds, default and meaning. `fivenines schema` prints the schema for editors,
and docs/platform.schema.json is the same, kept so by a test; so are the tables of docs/platform-yaml.md.
"""

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from fivenines.control.desired import Timings
from fivenines.platform.distance import PLACES, Point
from fivenines.platform.spec import (
    Archive,
    Journal,
    LivenessProbe,
    Network,
    Platform,
    Probe,
    Probes,
    Region,
    Risk,
    Scaling,
    Service,
    StartupProbe,
    Traffic,
)

__all__ = ["DIALECT", "TYPES", "field_docs", "json_schema", "reference", "renew"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPES: tuple[type[Struct], ...] = (
    Platform,
    Region,
    Point,
    Journal,
    Archive,
    Service,
    Probes,
    StartupProbe,
    Probe,
    LivenessProbe,
    Traffic,
    Network,
    Scaling,
    Timings,
)
"""In the order of the reference."""


def field_docs(wanted: type[Struct]) -> dict[str, str]:
    """Return what is said below each field of a type, on one line each."""
    body = ast.parse(textwrap.dedent(inspect.getsource(wanted))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    name = None
    for node in body.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=field)):
                name = field
            case ast.Expr(value=ast.Constant(value=str(text))) if name is not None:
                found[name], name = " ".join(text.split()), None
            case _:
                name = None
    return found


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of `platform.yaml`, draft 2020-12."""
    (schema,), parts = msgspec.json.schema_components([Platform], ref_template="#/$defs/{name}")
    for each in TYPES:
        part = parts[each.__name__]
        part["additionalProperties"] = False  # the loader refuses unknown fields everywhere
        docs = field_docs(each)
        for name, field in part["properties"].items():
            part["properties"][name] = _field_schema(field, docs.get(name, ""))
    parts["Place"] = {"description": "A well-known place.", "enum": sorted(PLACES)}
    _suggest_places(parts["Region"]["properties"]["location"])
    _suggest_places(parts["Network"]["properties"]["location"])
    parts["Platform"]["properties"]["accepts"]["propertyNames"] = {"enum": list(get_args(Risk))}
    return {"$schema": DIALECT, "title": "platform.yaml", **schema, "$defs": parts}


def _field_schema(field: dict[str, Any], doc: str) -> dict[str, Any]:
    """Give a field its sentence; the default of a struct is told by its own fields' defaults."""
    if isinstance(field.get("default"), dict):
        field = {key: value for key, value in field.items() if key != "default"}
    form = field.pop("description", "")
    said = f"{doc} ({form[0].upper()}{form[1:]}.)" if form and doc else doc or form
    return {"description": said, **field} if said else field


def _suggest_places(field: dict[str, Any]) -> None:
    """Let editors offer the well-known places; others are latitude and longitude."""
    field["anyOf"] = [
        {"$ref": "#/$defs/Place"} if choice.get("type") == "string" else choice for choice in field["anyOf"]
    ]


def reference() -> str:
    """Return the tables of docs/platform-yaml.md: each type with its fields, in Markdown."""
    return "\n".join(_table(each) for each in TYPES)


_BEGIN, _END = "<!-- made from the types: begin -->\n", "<!-- made from the types: end -->\n"


def renew(page: Path) -> None:
    """Put today's tables into the page of the reference, between its two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    page.write_text(f"{before}{_BEGIN}\n{reference()}\n{_END}{after}", encoding="utf-8")


def _table(wanted: type[Struct]) -> str:
    hints = get_type_hints(wanted, include_extras=True)
    docs = field_docs(wanted)
    lines = [f"### {wanted.__name__}", "", (inspect.getdoc(wanted) or "").strip(), ""]
    lines += ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(wanted):
        kind = _type_text(hints[field.name])
        lines.append(f"| `{field.encode_name}` | {kind} | {_default_text(field)} | {docs.get(field.name, '')} |")
    return "\n".join([*lines, ""])


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "**needed**"
    default: Any = field.default
    if default is NODEFAULT:
        default = field.default_factory() if field.default_factory is not NODEFAULT else None
    match default:
        case None | "" | Struct():
            return ""
        case str():
            return f"`{default}`"
        case tuple() | dict():
            return f"`{', '.join(map(str, default))}`" if default else ""
        case bool() | int() | float():
            return f"{default:g}" if default < 10_000 and default == round(default, 4) else str(default)
        case _:
            return str(default)


def _type_text(hint: Any) -> str:
    metas: list[Meta] = []
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        metas += [each for each in more if isinstance(each, Meta)]
    origin = get_origin(hint)
    if origin in {Union, UnionType}:
        return " or ".join(_type_text(each) for each in get_args(hint) if each is not type(None))
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in get_args(hint))
    if origin is tuple:
        return f"list of {_type_text(get_args(hint)[0])}"
    if origin is not None:  # the mappings
        key, value = get_args(hint)
        return f"{_type_text(key)}: {_type_text(value)}"
    if isinstance(hint, type) and issubclass(hint, Struct):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    text = {int: "whole number", float: "number", str: "text", bool: "true or false"}[hint]
    return text + _bounds_text(metas)


def _bounds_text(metas: list[Meta]) -> str:
    parts = [
        f"{word} {bound:,}"
        for meta in metas
        for word, bound in (("≥", meta.ge), (">", meta.gt), ("≤", meta.le), ("<", meta.lt))
        if bound is not None
    ]
    return f", {', '.join(parts)}" if parts else ""


if __name__ == "__main__":
    renew(Path(sys.argv[1]))

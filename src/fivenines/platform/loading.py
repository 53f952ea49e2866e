"""Read `platform.yaml`: from text to `Platform`, with the line and column of everything that is wrong.

Three steps. `_compose` lets PyYAML parse, which gives nodes with marks and never builds an object. `_Reader` turns
nodes into plain data and remembers where each value stood; it reads by the core schema of YAML 1.2, so `no` and `off`
are words, `1:30` is text and `010` is ten, and it refuses keys that come twice, tags and merges. `_Judge` walks the
types of `spec` beside the data and collects all that does not fit, so that one run tells everything; what fits is
built.

Places are written as in `regions[1].weight`, counted from 0, and kept as tuples `("regions", 1, "weight")`.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
import yaml
from msgspec import Struct

from fivenines.platform.distance import PLACES, place
from fivenines.platform.spec import Platform

__all__ = ["Declared", "Mark", "Path_", "PlatformFileError", "Problem", "Written", "load", "parse", "read", "shown"]

_T = TypeVar("_T")
Path_ = tuple[str | int, ...]
"""Where a value stands in the file, from its root on."""
VALUES_MAX = 100_000
"""Aliases can make a short file endless; nobody's platform has more values."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a file."""

    file: str
    mark: Mark | None
    """None: the file as a whole."""
    path: str
    """Such as regions[1].weight; empty: the whole."""
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        place_ = f"{self.file}:{self.mark.line}:{self.mark.column}" if self.mark else self.file
        told = f"{place_}: {self.path}: {self.reason}" if self.path else f"{place_}: {self.reason}"
        return f"{told}; {self.hint}" if self.hint else told


class PlatformFileError(Exception):
    """A file is no `platform.yaml`; `problems` tells everything that is wrong with it, in the order of its lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A platform, and where in its file everything stands."""

    platform: Platform
    file: str
    marks: Mapping[Path_, Mark] = field(repr=False)

    def mark(self, path: Path_) -> Mark | None:
        """Return where a value stands; where it is left out, where that stands which it would be a part of."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path)


def load(path: Path | str) -> Platform:
    """Read a file. Raises `PlatformFileError` with all that is wrong, and OSError where it cannot be read."""
    return read(path).platform


def read(path: Path | str) -> Declared:
    """Read a file, and keep where everything stands. Raises what `load` does."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = Problem(file=str(path), mark=None, path="", reason=f"is not text in UTF-8: {error.reason}")
        raise PlatformFileError((problem,)) from None
    return parse(text, file=str(path))


def parse(text: str, *, file: str = "platform.yaml") -> Declared:
    """Read a text, as `load` does a file. `file` is what errors call it."""
    written = Written(text, file=file, smallest=_SMALLEST)
    platform = written.value(Platform)
    written.check()
    assert platform is not None  # else there was a problem
    return Declared(platform=platform, file=file, marks=written.marks)


class Written:
    """What is written in a text in YAML, to be read as types. It collects all that is wrong, until `check` tells it.

    Args:
        text: the text.
        file: what problems call it.
        smallest: what to say where there is nothing in it.

    Raises:
        PlatformFileError: it is no YAML, or empty.
    """

    def __init__(self, text: str, *, file: str, smallest: str = "") -> None:
        self._file = file
        self._problems: list[Problem] = []
        reader = _Reader(file, self._problems)
        root = _compose(text, file)
        if root is None:
            raise PlatformFileError((Problem(file=file, mark=None, path="", reason="is empty", hint=smallest),))
        self._data = reader.value(root, ())
        self.marks: Mapping[Path_, Mark] = reader.marks
        """Where each value stands."""

    def value(self, wanted: type[_T], path: Path_ = ()) -> _T | None:
        """Read what stands at a place, or note what does not fit and return None."""
        data = self._data
        for step in path:
            data = data[step]
        before = len(self._problems)
        if path or isinstance(data, dict) or not self._problems:
            _Judge(self._file, self.marks, self._problems).judge(wanted, data, path)
        if len(self._problems) > before or (not path and self._problems):
            return None
        # Nothing is left to find for it; if there is, this still tells it, only without a line.
        try:
            return msgspec.convert(data, wanted)
        except msgspec.ValidationError as error:
            self.refuse(path, str(error))
            return None

    def refuse(self, path: Path_, reason: str, hint: str = "") -> None:
        """Note something that is wrong with what stands at a place."""
        at = path
        while at and at not in self.marks:
            at = at[:-1]
        self._problems.append(
            Problem(file=self._file, mark=self.marks.get(at), path=shown(path), reason=reason, hint=hint)
        )

    def check(self) -> None:
        """Raise `PlatformFileError` with all that was found to be wrong, if there is anything."""
        if self._problems:
            raise PlatformFileError(tuple(sorted(set(self._problems), key=_by_line)))


def shown(path: Path_) -> str:
    """Write a place for people: regions[1].weight."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


_SMALLEST = "the smallest one names a platform and its regions: see docs/platform-yaml.md"


def _by_line(problem: Problem) -> tuple[int, int]:
    return (problem.mark.line, problem.mark.column) if problem.mark else (0, 0)


# --- from text to nodes -----------------------------------------------------------------------------------------------


class _CoreLoader(yaml.SafeLoader):
    """Parses; what a plain scalar means follows from the core schema of YAML 1.2 (spec 1.2.2, section 10.3.2)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML has it


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
):
    # PyYAML's own stubs say that `first` is a list of characters; an empty scalar is looked up under "".
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), ["" if each == "\0" else each for each in _first]
    )


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Mark(mark.line + 1, mark.column + 1) if mark else None
        told = " ".join(each for each in (error.problem, error.context and f"({error.context})") if each)
        hint = "indent with spaces" if "\\t" in told else ""
        problem = Problem(file=file, mark=where, path="", reason=f"is no YAML: {told}", hint=hint)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        problem = Problem(
            file=file, mark=Mark(line, column), path="", reason=f"is no YAML: the character {error.character!r}"
        )
    except RecursionError:
        problem = Problem(file=file, mark=None, path="", reason="is nested too deeply")
    raise PlatformFileError((problem,)) from None


# --- from nodes to plain data -----------------------------------------------------------------------------------------


class _Reader:
    """Turns nodes into plain data, and remembers where each value stood."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.marks: dict[Path_, Mark] = {}
        self._file = file
        self._problems = problems
        self._within: list[yaml.Node] = []
        self._values = 0

    def value(self, node: yaml.Node, path: Path_) -> Any:
        mark = Mark(node.start_mark.line + 1, node.start_mark.column + 1)
        self.marks.setdefault(path, mark)
        self._values += 1
        if self._values > VALUES_MAX:
            self._refuse(mark, path, f"has more than {VALUES_MAX:,} values")
            raise PlatformFileError(tuple(self._problems))
        if any(node is each for each in self._within):
            return self._refuse(mark, path, f"is within itself, by the alias of line {mark.line}")
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind not in {"map", "seq", "str", "int", "float", "bool", "null"}:
            return self._refuse(mark, path, f"has the tag {node.tag!r}", "tags have no meaning here: leave it out")
        self._within.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(each, (*path, number)) for number, each in enumerate(node.value)]
            return self._scalar(kind, str(node.value), mark, path)
        finally:
            self._within.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = Mark(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(mark, path, "has a key that is no word")
                continue
            key = str(key_node.value)
            if key in data:
                first = self.marks[*path, key]
                self._refuse(mark, (*path, key), f"is there twice, first in line {first.line}", "keep one of the two")
                continue
            # The key's place rather than the value's: it is where a reader looks first.
            self.marks[*path, key] = mark
            data[key] = self.value(value_node, (*path, key))
        return data

    def _scalar(self, kind: str, text: str, mark: Mark, path: Path_) -> Any:
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    base = {"0o": 8, "0x": 16}.get(text[:2].lower(), 10)
                    return int(text, base)
                case "float":
                    number = float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower()))
                    if number - number != 0:
                        return self._refuse(mark, path, f"{text} is no number that can be used here")
                    return number
                case _:
                    return text
        except (ValueError, KeyError, OverflowError):
            return self._refuse(mark, path, f"{text[:40]!r} is no {kind}")

    def _refuse(self, mark: Mark, path: Path_, reason: str, hint: str = "") -> Any:
        self._problems.append(Problem(file=self._file, mark=mark, path=shown(path), reason=reason, hint=hint))
        return _REFUSED


_REFUSED: Any = object()
"""In the place of a value that was refused already, so that it is not refused twice."""


# --- from plain data to a platform ------------------------------------------------------------------------------------


class _Judge:
    """Holds data against types, and collects everything that does not fit."""

    def __init__(self, file: str, marks: Mapping[Path_, Mark], problems: list[Problem]) -> None:
        self._file = file
        self._marks = marks
        self._problems = problems

    def judge(self, wanted: Any, data: Any, path: Path_) -> None:
        if data is _REFUSED:
            return
        bare = _bare(wanted)
        origin = get_origin(bare)
        if _is_struct(bare) and isinstance(data, dict):
            self._struct(bare, data, path)
        elif origin is tuple and isinstance(data, list):
            for number, each in enumerate(data):
                self.judge(get_args(bare)[0], each, (*path, number))
            self._bounds(wanted, [0] * len(data), path)
        elif origin is Mapping or origin is dict:
            self._mapping(wanted, bare, data, path)
        elif origin in {Union, UnionType}:
            structs = [each for each in get_args(bare) if _is_struct(_bare(each))]
            if isinstance(data, dict) and structs:
                self.judge(structs[0], data, path)
            else:
                self._leaf(wanted, data, path)
        else:
            self._leaf(wanted, data, path)

    def _struct(self, wanted: type[Struct], data: dict[str, Any], path: Path_) -> None:
        types = get_type_hints(wanted, include_extras=True)
        fields = {each.encode_name: each for each in msgspec.structs.fields(wanted)}
        for key, value in data.items():
            if key in fields:
                self.judge(types[fields[key].name], value, (*path, key))
            else:
                self._refuse((*path, key), "is not known here", _suggestion(key, fields, "it takes"))
        for name, each in fields.items():
            if each.required and name not in data:
                self._refuse(path, f"has no {name!r}", f"it needs {_listed(_needed(wanted))}")
        for name in ("location",):  # the words that are no enumeration, as there are too many
            if isinstance(value := data.get(name), str) and name in fields and place(value) is None:
                hint = _suggestion(value, PLACES, "", "write latitude and longitude: {latitude: 50.1, longitude: 8.7}")
                self._refuse((*path, name), f"{value!r} is no well-known place", hint)

    def _mapping(self, wanted: Any, bare: Any, data: Any, path: Path_) -> None:
        if not isinstance(data, dict):
            self._leaf(wanted, data, path)
            return
        key_type, value_type = get_args(bare)
        choices = get_args(_bare(key_type)) if get_origin(_bare(key_type)) is Literal else ()
        for key, value in data.items():
            if choices and key not in choices:
                self._refuse((*path, key), "is not known here", _suggestion(key, choices, "it takes"))
            else:
                self.judge(value_type, value, (*path, key))

    def _bounds(self, wanted: Any, stand_ins: list[int], path: Path_) -> None:
        """Check the length of a list apart from what is in it."""
        metas = getattr(wanted, "__metadata__", ())
        if metas:
            self._leaf(Annotated[(list[int], *metas)], stand_ins, path)

    def _leaf(self, wanted: Any, data: Any, path: Path_) -> None:
        try:
            msgspec.convert(data, wanted)
        except msgspec.ValidationError as error:
            reason, hint = _told(wanted, data, str(error))
            self._refuse(path, reason, hint)

    def _refuse(self, path: Path_, reason: str, hint: str) -> None:
        at = path
        while at and at not in self._marks:
            at = at[:-1]
        self._problems.append(
            Problem(file=self._file, mark=self._marks.get(at), path=shown(path), reason=reason, hint=hint)
        )


def _bare(wanted: Any) -> Any:
    while get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    return wanted


def _is_struct(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, Struct)


def _needed(wanted: type[Struct]) -> list[str]:
    return [each.encode_name for each in msgspec.structs.fields(wanted) if each.required]


def _listed(names: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    *firsts, last = names
    return f"{', '.join(firsts)} and {last}" if firsts else last


def _suggestion(word: str, known: Any, introduction: str, otherwise: str = "") -> str:
    """Say which word was meant, or else which words there are."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return otherwise or f"{introduction} {', '.join(known)}"


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "fields with values",
    "null": "nothing",
}


def _told(wanted: Any, data: Any, said: str) -> tuple[str, str]:
    """Put msgspec's reason into the words of our readers. Returns the reason, and a hint or nothing."""
    said = said.split(" - at `", maxsplit=1)[0]
    choices = _choices(wanted)
    if choices and isinstance(data, str):
        hint = _suggestion(data, choices, "")
        return f"{data!r} is none of {', '.join(choices)}", hint if hint.startswith("did") else ""
    if found := re.match(r"Expected `([a-z| ]+)`, got `([a-z]+)`$", said):
        kinds = [_KINDS.get(each.strip(), each.strip()) for each in found[1].split("|") if each.strip() != "null"]
        hint = ""
        if "str" in found[1] and found[2] in {"int", "float", "bool"}:
            hint = f'put it in quotes: "{str(data).lower() if isinstance(data, bool) else data}"'
        elif found[2] == "str" and isinstance(data, str) and ("bool" in found[1]):
            hint = "write true or false"
        got = "nothing" if data is None else _KINDS.get(found[2], found[2])
        if isinstance(data, bool):
            got = str(data).lower()
        elif isinstance(data, str | int | float):
            got += f" ({data!r})"
        return f"must be {' or '.join(kinds)}, not {got}", hint
    if found := re.match(r"Expected `(\w+)` (>=|<=|>|<) (\S+)$", said):
        words = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
        return f"must be {words[found[2]]} {found[3].removesuffix('.0')}, not {data!r}", ""
    if "matching regex" in said:
        form = _description(wanted) or f"a match of {said.split('matching regex ')[1]}"
        return f"{data!r} is not {form}", ""
    if found := re.match(r"Expected `(\w+)` of length (>=|<=) (\d+)$", said):
        if found[2] == ">=" and found[3] == "1":
            return "must not be empty", ""
        what = {"str": "characters", "array": "items"}.get(found[1], "items")
        return f"must have at {'least' if found[2] == '>=' else 'most'} {found[3]} {what}", ""
    return said, ""


def _description(wanted: Any) -> str:
    """Return what a form is called, where its type says so."""
    while get_origin(wanted) in {Union, UnionType}:
        wanted = get_args(wanted)[0]
    for meta in reversed(getattr(wanted, "__metadata__", ())):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description
    return ""


def _choices(wanted: Any) -> tuple[str, ...]:
    bare = _bare(wanted)
    if get_origin(bare) is Literal:
        return cast("tuple[str, ...]", get_args(bare))
    return ()

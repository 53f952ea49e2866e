import io
import re
import types
from html.parser import HTMLParser
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from defusedxml import ElementTree as Xml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fivenines.drill.reporting import print_results
from fivenines.drill.reporting.formats import SCHEMA, Report, decode, encode, encode_short
from fivenines.drill.reporting.junit import junit
from fivenines.drill.reporting.markup import shown
from fivenines.drill.reporting.page import page
from fivenines.drill.results import DrillResult

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "]]>",
    "<!--",
    "--><b>",
    "</title></style></script>",
    "&lt;&#x0;&nbsp;",
    "javascript:alert(1)",
    "[bold red]x[/]",
    "\x00\x1b[31m\x7f\x9b",
    "\u202etxet\u202c",
    "\ud800",
    "\ufffe",
    "a\r\nb\tc",
    "x" * 400,
    "漢字" * 30,
    "{{7*7}}",
    "$(reboot); `reboot`",
)
texts = st.sampled_from(HOSTILE) | st.text(max_size=12)


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Make values of a type, with the worst texts and numbers that it allows."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is str:
        return texts
    if kind is int:
        return st.integers(min_value=0, max_value=2**53)
    if kind is float:
        return st.floats() | st.floats(min_value=0, max_value=300)
    if kind is bool:
        return st.booleans()
    if kind is type(None):
        return st.none()
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(anything(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(anything(args[0]), anything(args[1]), max_size=2)
    if origin in {Union, types.UnionType}:
        return st.one_of(*(anything(each) for each in args))
    assert issubclass(kind, msgspec.Struct), kind
    return st.builds(kind, **{name: anything(of) for name, of in get_type_hints(kind).items()})


reports = st.builds(
    Report,
    schema=st.just(SCHEMA),
    written_at=st.floats(min_value=0, max_value=2e9),
    commands=st.lists(texts, max_size=2).map(tuple),
    results=st.lists(anything(DrillResult), max_size=3).map(tuple),
)
ELEMENTS = frozenset(
    {
        *("html", "head", "meta", "title", "style", "body", "script", "main", "section", "article", "header", "footer"),
        *("h1", "h2", "h3", "h4", "p", "a", "span", "strong", "bdi", "pre", "code", "ul", "ol", "li", "dl", "dt", "dd"),
        *("div", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
        *("svg", "desc", "g", "path", "rect", "text"),
    }
)


class Tags(HTMLParser):
    """What a browser makes of a page: the elements, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.seen.append(tag)


@given(reports)
@settings(deadline=None, max_examples=25)
def test_no_text_of_a_drill_becomes_markup(report: Report) -> None:
    text = page(report, sha256="0" * 64)
    text.encode()

    root = Xml.fromstring(text)

    names = [each.tag for each in root.iter()]
    assert set(names) <= ELEMENTS
    assert (names.count("script"), names.count("style")) == (1, 1)
    for each in root.iter():
        assert not [key for key in each.attrib if key.startswith("on") or key in {"src", "style", "srcdoc"}]
        assert each.get("href", "#").startswith("#")
        if each.tag in {"path", "rect", "text", "svg"}:
            drawn = " ".join(each.get(key, "") for key in ("d", "x", "y", "width", "height", "transform", "viewBox"))
            assert not re.search("nan|inf|e[+-]", drawn)
    parser = Tags()
    parser.feed(text)
    assert parser.seen == names
    told = "".join(root.itertext())
    for result in report.results:
        for reason in result.reasons:
            assert shown(reason).replace("\r\n", "\n").replace("\r", "\n") in told


@given(reports)
@settings(deadline=None, max_examples=25)
def test_what_is_written_is_read_back_the_same(report: Report) -> None:
    once = encode(decode(encode(report)))

    assert encode(decode(once)) == once
    assert len(msgspec.json.decode(encode_short(report.results))) == len(report.results)
    back = decode(once)
    assert [each.verdict for each in back.results] == [each.verdict for each in report.results]
    assert [len(each.slices) for each in back.results] == [len(each.slices) for each in report.results]


@given(reports)
@settings(deadline=None, max_examples=25)
def test_junit_is_read_by_a_strict_parser(report: Report) -> None:
    root = Xml.fromstring(junit(report.results, written_at=report.written_at))

    cases = root.findall("testsuite/testcase")
    assert len(cases) == int(root.get("tests")) == len(report.results)
    assert {each.tag for each in root.iter()} <= {
        *("testsuites", "testsuite", "properties", "property", "testcase"),
        *("failure", "error", "skipped", "system-out"),
    }


@given(st.lists(anything(DrillResult), max_size=2))
@settings(deadline=None, max_examples=25)
def test_no_text_of_a_drill_steers_the_terminal(results: list[DrillResult]) -> None:
    told = io.StringIO()

    print_results(results, Console(file=told, width=100, force_terminal=False))

    assert not re.search("[\x00\x1b\x7f-\x9f\u202e\ud800]", told.getvalue())
    for result in results:
        if result.name == "[bold red]x[/]":
            assert "[/]" in told.getvalue()

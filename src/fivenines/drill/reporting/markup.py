"""Markup that cannot be broken from within: text is escaped unless it was made here.

`tag` makes an element of HTML or SVG. What is given to it as plain text, as a child or as an attribute, is made safe;
only `Markup`, which nothing but this module and our own style and script make, goes in as it is. What comes out is
well-formed XML too, so a test can read a page with a strict parser, whatever the drills had in their texts.

Characters that no document may hold (controls, halves of surrogate pairs) and those that turn the direction of the text
around them, so that a line would read otherwise than it is, become U+FFFD, which everybody can see.
"""

import re
from collections.abc import Iterable
from html import escape

__all__ = ["Child", "Markup", "join", "shown", "tag"]

_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_EMPTY = frozenset({"meta", "br", "col", "path", "rect", "line", "circle", "use"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


_One = str | float | None
Child = _One | Iterable[_One]
"""None is left out, a number is written in short, text is escaped, markup stays."""


def shown(text: str) -> str:
    """Put U+FFFD for each character that no document may hold, or that turns the direction of others."""
    return _UNFIT.sub("\ufffd", text)


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Make an element.

    Args:
        name: of the element.
        children: what is in it.
        attributes: `class_` stands for `class`, `aria_label` for `aria-label`; None and False are left out, and True is
            an attribute without a value of its own.
    """
    told = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY:
        return Markup(f"<{name}{told}/>")
    return Markup(f"<{name}{told}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Write one after the other."""
    return Markup("".join(_written(child) for child in children))


def _written(child: Child) -> str:
    match child:
        case None:
            return ""
        case Markup():
            return child
        case str():
            return escape(shown(child))
        case int() | float():
            return number(child)
        case _:
            return "".join(_written(each) for each in child)


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    text = name if value is True else number(value) if isinstance(value, int | float) else escape(shown(value))
    return f' {name}="{text}"'


def number(value: float) -> str:
    """Write a coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")

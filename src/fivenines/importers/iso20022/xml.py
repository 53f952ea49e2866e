"""Read an ISO 20022 document from a file that may be hostile.

No DTD, hence no entities and nothing external; a bounded size, depth and number of elements. A message is recognised by
the namespace of its Document alone, which names its type and version, and everything is looked up in that namespace.
"""

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element as ParsedElement
from xml.etree.ElementTree import ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from fivenines.importers.port import ImportRefusedError

__all__ = ["BYTES_MAX", "DEPTH_MAX", "ELEMENTS_MAX", "TAG_BYTES_MAX", "Element", "read_document"]

BYTES_MAX = 64 * 1024 * 1024
DEPTH_MAX = 64
"""The deepest path of these messages has about twenty elements."""
ELEMENTS_MAX = 1_000_000
"""Some 30,000 payments; at a few hundred bytes an element, what a machine can well hold."""

TAG_BYTES_MAX = 1024 * 1024
"""The longest tag or comment. The parser starts over with each chunk of an unfinished one: time would be squared."""

_CHUNK_BYTES = 64 * 1024
_NAMESPACE = re.compile(
    r"(?:urn:iso:std:iso:20022:tech:xsd:|urn:swift:xsd:|https?://[^\s{}]+/)"
    r"(?P<type>[a-z]{4}\.[0-9]{3})\.[0-9]{3}\.(?P<version>[0-9]{2})(?:\.[a-z]{2,3}\.[0-9]{2})?(?:\.xsd)?"
)


class _TooMuchError(Exception):
    """The document passes a bound; the sentence says which."""


class _BoundedBuilder(TreeBuilder):
    """Builds the tree, and stops when it grows too deep or too large."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ParsedElement:
        self._depth += 1
        self._elements += 1
        if self._depth > DEPTH_MAX:
            raise _TooMuchError(f"elements are nested more than {DEPTH_MAX} deep")
        if self._elements > ELEMENTS_MAX:
            raise _TooMuchError(f"there are more than {ELEMENTS_MAX} elements")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ParsedElement:
        self._depth -= 1
        return super().end(tag)


class Element:
    """An element that knows its path and its file, so that it can be refused by name."""

    __slots__ = ("_element", "_file", "_namespace", "path")

    def __init__(self, element: ParsedElement, path: str, namespace: str, file: Path) -> None:
        self._element = element
        self._namespace = namespace
        self._file = file
        self.path = path

    @property
    def text(self) -> str:
        """What stands in the element, without the space around it."""
        return (self._element.text or "").strip()

    def attribute(self, name: str) -> str:
        """An attribute, or an empty string."""
        return (self._element.get(name) or "").strip()

    def all(self, tag: str) -> Iterator["Element"]:
        """The children of a name, in order."""
        for number, child in enumerate(self._element.findall(f"{self._namespace}{tag}"), 1):
            yield Element(child, f"{self.path}/{tag}[{number}]", self._namespace, self._file)

    def first(self, path: str) -> "Element | None":
        """The first element at a path such as `GrpHdr/MsgId`."""
        found = self._element.find("/".join(f"{self._namespace}{tag}" for tag in path.split("/")))
        return None if found is None else Element(found, f"{self.path}/{path}", self._namespace, self._file)

    def need(self, path: str) -> "Element":
        """The first element at a path, which must be there."""
        found = self.first(path)
        if found is None:
            raise self.refused(path, "this element is missing")
        return found

    def value(self, path: str) -> str:
        """The text of the first element at a path, or an empty string."""
        found = self.first(path)
        return "" if found is None else found.text

    def only_child(self) -> "Element":
        """The element's only child."""
        children = list(self._element)
        if len(children) != 1 or not children[0].tag.startswith(self._namespace):
            raise self.refused("", "it must hold one message of its own namespace")
        tag = children[0].tag.removeprefix(self._namespace)
        return Element(children[0], f"{self.path}/{tag}", self._namespace, self._file)

    def date(self, *paths: str) -> datetime.date | None:
        """The first date at one of the paths, itself or as Dt or DtTm; a time keeps its own calendar day."""
        for path in paths:
            for place in (f"{path}/Dt", f"{path}/DtTm", path):
                text = self.value(place)
                if text:
                    try:
                        return datetime.date.fromisoformat(text[:10])
                    except ValueError:
                        raise self.refused(place, f"{text[:40]!r} is not a date") from None
        return None

    def refused(self, field: str, reason: str) -> ImportRefusedError:
        """The error that says what is wrong here."""
        return ImportRefusedError(self._file, where=self.path, field=field, reason=reason)


def read_document(path: Path) -> tuple[Element, str, int]:
    """Read a file; give its Document, the type of its message such as `pain.001`, and the version.

    Raises:
        ImportRefusedError: it is no XML, or hostile, or holds no Document whose namespace names a message.
    """
    root = _parse(path)
    documents = list(_documents(root))
    if len(documents) != 1:
        reason = f"it must hold one Document, and holds {len(documents)}; the root is {_plain(root.tag)}"
        raise ImportRefusedError(path, where="file", field="Document", reason=reason)
    namespace, brace, _ = documents[0].tag.rpartition("}")
    match = _NAMESPACE.fullmatch(namespace[1:])
    if match is None:
        found = f"the namespace {namespace[1:120]!r} names no message" if brace else "it has no namespace"
        reason = f"{found}, so neither its type nor its version are known"
        raise ImportRefusedError(path, where="/Document", reason=reason)
    return Element(documents[0], "/Document", namespace + brace, path), match["type"], int(match["version"])


def _documents(element: ParsedElement) -> Iterator[ParsedElement]:
    """The Documents that are in no other: supplementary data may hold whole messages, which are not ours to read."""
    if _plain(element.tag) == "Document":
        yield element
    else:
        for child in element:
            yield from _documents(child)


def _parse(path: Path) -> ParsedElement:
    builder = _BoundedBuilder()
    parser = DefusedXMLParser(target=builder, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    size = 0
    try:
        with path.open("rb") as file:
            while size <= BYTES_MAX and (chunk := file.read(_CHUNK_BYTES)):
                size += len(chunk)
                parser.feed(chunk)
                if size - parser.parser.CurrentByteIndex > TAG_BYTES_MAX:
                    reason = f"a tag, a comment or the like is longer than {TAG_BYTES_MAX} bytes"
                    raise ImportRefusedError(path, where=f"byte {size}", reason=reason)
        if size > BYTES_MAX:
            raise ImportRefusedError(path, where=f"byte {size}", reason=f"it is larger than {BYTES_MAX} bytes")
        root: ParsedElement = parser.close()
    except DefusedXmlException as error:
        reason = "it has a document type definition or entities, which no ISO 20022 message needs"
        raise ImportRefusedError(path, where=f"byte {size}", reason=reason) from error
    except _TooMuchError as error:
        raise ImportRefusedError(path, where=f"byte {size}", reason=str(error)) from error
    except ParseError as error:
        line, _ = error.position
        raise ImportRefusedError(path, where=f"line {line}", reason=f"it is not well-formed XML: {error}") from error
    except (ValueError, LookupError) as error:  # an encoding that expat or Python does not know
        raise ImportRefusedError(path, where="line 1", reason=f"it cannot be decoded: {error}") from error
    except OSError as error:
        raise ImportRefusedError(path, where="file", reason=error.strerror or str(error)) from error
    return root


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2][:64]

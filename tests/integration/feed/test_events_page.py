"""What docs/events.md shows is so."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from fivenines.functions import registry
from fivenines.historian.feed import signing
from fivenines.node.filters import EVENT_TYPES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "events.md").read_text()
SECRET = b"a secret of more than sixteen bytes"


def shown(word: str) -> dict[str, Any]:
    """Run the Python of the page that has this word in it, and return its names."""
    (block,) = [each for each in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if word in each]
    names: dict[str, Any] = {}
    exec(compile(block, "events.md", "exec"), names)
    return names


def test_the_check_of_a_signature_takes_ours_and_nothing_else() -> None:
    is_genuine = shown("is_genuine")["is_genuine"]
    body, now_s = b'{"id":"7-0"}', int(time.time())
    sent = signing.headers([SECRET, b"another one of sixteen bytes"], "7-0", now_s, body)
    assert is_genuine(SECRET, sent, body)
    assert is_genuine(b"another one of sixteen bytes", sent, body)
    assert not is_genuine(b"a third one of sixteen bytes", sent, body)
    assert not is_genuine(SECRET, sent, body + b" ")
    assert not is_genuine(SECRET, sent | {"webhook-id": "8-0"}, body)
    assert not is_genuine(SECRET, sent | {"webhook-timestamp": "soon"}, body)
    assert not is_genuine(SECRET, signing.headers([SECRET], "7-0", now_s - 1_000, body), body)


def test_the_function_on_the_page_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    shown("fivenines.on")
    assert registry.functions()["tell"].where == {"account": "customers:", "amount_at_least": 100_000}


def test_the_page_lists_all_types_of_events() -> None:
    assert re.findall(r"^\| `(fivenines\.[a-z.]+)` \|", PAGE, re.MULTILINE) == list(EVENT_TYPES)


def test_the_page_names_tests_that_are_there() -> None:
    root = Path(__file__).resolve().parents[3]
    named = re.findall(r"`((?:tests|bench)/[\w/.]+)`", PAGE)
    assert named
    assert [path for path in named if not (root / path).exists()] == []

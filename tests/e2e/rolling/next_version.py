"""The release after this one, made of this one's source by a few edits, each of which must fit exactly once.

It does what a release does that changes a command: a new schema with an upcaster and a downcaster, a field that needs
it, and rules that name it and decide a little differently.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["FIELD", "NEXT_RULES", "NEXT_VERSION", "install"]

ROOT = Path(__file__).resolve().parents[3]
NEXT_VERSION = "0.2.0"
NEXT_RULES = 2
FIELD = "channel"

_NEEDS = "NEEDS: Mapping[type, Callable[[Any], Need | None]] = {"
_UPCASTERS = "UPCASTERS: dict[int, Callable[[list[Any]], list[Any]]] = {"
_DOWNCASTERS = "DOWNCASTERS: dict[int, Callable[[list[Any]], list[Any]]] = {"
_POST = "return Post(id, _postings(item.postings, path), *extras"
_EDITS: Mapping[str, Sequence[tuple[str, str]]] = {
    "__init__.py": [('__version__ = "0.1.0"', f'__version__ = "{NEXT_VERSION}"')],
    "ledger/commands.py": [
        ('the books only carry it."""\n\n\nclass Hold', 'it."""\n    channel: str | None = None\n\n\nclass Hold'),
    ],
    "ledger/codec.py": [
        ("SCHEMA = 2\n", "SCHEMA = 3\n"),
        (_NEEDS, _NEEDS + 'Post: lambda post: None if post.channel is None else Need(3, "$.channel")'),
    ],
    "ledger/upcasters.py": [
        (_UPCASTERS, _UPCASTERS + "2: lambda b: [*b[:3], [[*c, None] if c[0] == 1 else c for c in b[3]], *b[4:]], "),
    ],
    "ledger/downcasters.py": [
        (_DOWNCASTERS, _DOWNCASTERS + "3: lambda b: [*b[:3], [c[:6] if c[0] == 1 else c for c in b[3]], *b[4:]]"),
    ],
    "ledger/state.py": [
        ("= {1: Rules(version=1)}", "= {1: Rules(version=1), 2: Rules(version=2, schema=3, id_ahead_ms_max=60_000)}"),
    ],
    "api.py": [
        (
            "metadata: dict[str, Any] = {}\n\n\nclass ItemResult",
            "metadata: dict[str, Any] = {}\n    channel: str | None = None\n\n\nclass ItemResult",
        ),
    ],
    "node/requests.py": [
        ("extras == (None, None, None):", "(*extras, item.channel) == (None, None, None, None):"),
        (_POST, _POST + ", item.channel"),
    ],
}


def install(folder: Path, *, is_next: bool) -> Path:
    """Install this release, or the next one, and return the folder that it is in. It needs no network."""
    source, target = folder / "source", folder / "installed"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source / name)
    if is_next:
        for name, edits in _EDITS.items():
            path = source / "src" / "fivenines" / name
            text = path.read_text()
            for before, after in edits:
                assert text.count(before) == 1, f"{name}: {before!r} is there {text.count(before)} times"
                text = text.replace(before, after)
            path.write_text(text)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
            *("--disable-pip-version-check", "--no-compile", "--target", str(target), str(source)),
        ],
        check=True,
        capture_output=True,
    )
    return target

"""All logs of a platform in one file: one line each, JSON, with the region and the part.

Every agent appends to the same file. A line goes out in one write, and files that are opened for appending keep such
writes whole, so no lock is needed.
"""

import os
import time
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["PlatformLog"]

_LINE_BYTES_MAX = 16 * 1024
_encode = msgspec.json.Encoder().encode


class PlatformLog:
    """Writes what the parts of one region say.

    Args:
        path: the file; made if it is not there.
        region: in which all of it happens.
    """

    def __init__(self, path: Path, region: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._region = region

    def event(self, part: str, event: str, **fields: Any) -> None:
        """Write an event of ours."""
        self._write(part, {"timestamp": _now(), "event": event, **fields})

    def line(self, part: str, line: bytes) -> None:
        """Write a line that a process has said: its own fields where it is a JSON object, else as text."""
        text = line.rstrip(b"\r\n")[:_LINE_BYTES_MAX]
        if not text:
            return
        try:
            said = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = None
        if not isinstance(said, dict):
            said = {"timestamp": _now(), "event": text.decode(errors="replace")}
        self._write(part, said)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, part: str, said: dict[str, Any]) -> None:
        os.write(self._file, _encode({"region": self._region, "part": part, **said}) + b"\n")


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"

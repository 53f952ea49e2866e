"""All logs of a platform in one file: one line each, JSON, with the region and the part.

Every agent appends to the same file. A line goes out in one write, and files that are opened for appending keep such
writes whole, so no lock is needed.

Nothing here raises once the file is open: a full disk costs lines, never the supervision of a process. What was dropped
is counted, and told as soon as lines are taken again.
"""

import errno
import os
import time
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["PlatformLog"]

_LINE_BYTES_MAX = 16 * 1024
_CLOSED = -1
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
        self._dropped, self._reason = 0, ""
        self._is_torn = False
        """Whether the file ends with a part of a line of ours."""

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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None
        if not isinstance(said, dict):
            said = {"timestamp": _now(), "event": text.decode(errors="replace")}
        self._write(part, said)

    def close(self) -> None:
        """Close the file. What is said from then on is dropped."""
        file, self._file = self._file, _CLOSED
        os.close(file)

    def _write(self, part: str, said: dict[str, Any]) -> None:
        try:
            if self._dropped:
                told = {"timestamp": _now(), "event": "log.dropped", "lines": self._dropped, "reason": self._reason}
                self._write_whole({"region": self._region, "part": "agent", **told})
                self._dropped = 0
            self._write_whole({"region": self._region, "part": part, **said})
        except OSError as error:
            self._drop(error.strerror or repr(error))
        except (ValueError, TypeError, RecursionError) as error:  # it is nothing that JSON can say
            self._drop(repr(error))

    def _drop(self, reason: str) -> None:
        self._dropped += 1
        self._reason = reason

    def _write_whole(self, said: dict[str, Any]) -> None:
        """Write a line. Raises OSError: it is not in the file, or not all of it."""
        line = _encode(said) + b"\n"
        if self._is_torn:
            line = b"\n" + line
        written = os.write(self._file, line)
        if written < len(line):
            self._is_torn = written > 0 or self._is_torn
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._is_torn = False


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"

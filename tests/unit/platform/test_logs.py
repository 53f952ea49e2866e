"""The log of a platform costs lines, and never the process that is supervised, when it cannot be written."""

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fivenines.platform.local.logs import PlatformLog


class Disk:
    """Stands in for `os.write`: takes so many bytes, None being all there are."""

    def __init__(self) -> None:
        self.room: int | None = None
        self._write = os.write

    def write(self, file: int, data: bytes) -> int:
        """Write what there is room for, or raise ENOSPC, as a disk does."""
        if self.room is None:
            return self._write(file, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(file, data[: self.room])
        self.room -= written
        return written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr(os, "write", found.write)
    return found


def read(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_lines_that_a_full_disk_does_not_take_are_counted_and_told(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "platform.log"
    log = PlatformLog(path, "eu-west")
    log.event("small", "first")
    disk.room = 0
    log.event("small", "second")
    log.line("small", b"third\n")
    disk.room = None
    log.event("small", "fourth")
    log.event("small", "fifth")
    log.close()
    told = read(path)
    assert [each["event"] for each in told] == ["first", "log.dropped", "fourth", "fifth"]
    assert (told[1]["lines"], told[1]["reason"]) == (2, "No space left on device")
    assert (told[1]["region"], told[1]["part"]) == ("eu-west", "agent")


def test_a_line_that_is_torn_by_a_full_disk_spoils_no_other(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "platform.log"
    log = PlatformLog(path, "eu-west")
    disk.room = 10
    log.event("small", "torn")
    log.event("small", "dropped")
    disk.room = None
    log.event("small", "whole")
    log.close()
    torn, dropped, whole = path.read_bytes().splitlines()
    assert torn == b'{"region":'
    assert msgspec.json.decode(dropped)["lines"] == 2
    assert msgspec.json.decode(whole)["event"] == "whole"


@pytest.mark.parametrize("line", [b'{"a":' + b"[" * 8_000 + b"]" * 8_000 + b"}", b'{"a":"\\ud800"}', b"\xff\x00"])
def test_whatever_a_process_says_is_taken(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "platform.log"
    log = PlatformLog(path, "eu-west")
    log.line("small", line)
    log.close()
    assert [each["part"] for each in read(path)] == ["small"]


def test_what_json_cannot_say_is_dropped_and_told(tmp_path: Path) -> None:
    path = tmp_path / "platform.log"
    log = PlatformLog(path, "eu-west")
    log.event("small", "bad", reason="\udcff")
    log.event("small", "good")
    log.close()
    assert [each["event"] for each in read(path)] == ["log.dropped", "good"]


def test_nothing_raises_after_it_was_closed(tmp_path: Path) -> None:
    log = PlatformLog(tmp_path / "platform.log", "eu-west")
    log.close()
    log.event("small", "late")
    assert (tmp_path / "platform.log").read_bytes() == b""

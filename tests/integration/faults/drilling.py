"""Drills for tests of faults: a process that begins one and then waits for its own end, and processes to be hit.

`python -m tests.integration.faults.drilling FOLDER LIMIT_S MODULE.FUNCTION WORDS...` calls one of the functions of
`tests.integration.faults` with the fault and the words, says `begun`, and sleeps. What it has begun must be undone
whatever becomes of it.
"""

import asyncio
import contextlib
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from fivenines.drill.faults.book import Book
from fivenines.drill.faults.force import begun
from fivenines.drill.faults.processes import Process, process_of

__all__ = ["Writing", "check_within", "drilling", "running", "wait_until_watched_no_more", "writing"]

_ROOT = Path(__file__).resolve().parents[3]
_WITHIN_S = 30.0


def check_within(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something that has to come, long enough for any machine."""
    until = time.monotonic() + _WITHIN_S
    while not is_so():
        assert time.monotonic() < until, f"{what}: not within {_WITHIN_S:g} s"
        time.sleep(0.02)


@contextmanager
def running(*command: str, **options: int) -> Iterator[Process]:
    """Run a process for as long as the block runs."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=_ROOT, **options)  # type: ignore[call-overload]
    try:
        yield process_of(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait()


class Writing:
    """A Python process that adds a line to a file, again and again, and syncs it.

    What it notes goes by shared memory: its files may be those that it cannot write.
    """

    def __init__(self, path: Path, process: Process, notes: mmap.mmap) -> None:
        self.path, self.process, self._notes = path, process, notes

    @property
    def took_s(self) -> float:
        """How long the last write took."""
        return float(struct.unpack_from("d", self._notes, 8)[0])

    @property
    def error(self) -> int:
        """The last error that it met; 0: none."""
        return int(struct.unpack_from("q", self._notes, 0)[0])

    def check_goes_on(self) -> None:
        """Wait until it writes."""
        size = self.path.stat().st_size
        check_within(lambda: self.path.stat().st_size > size, "it writes")


@contextmanager
def writing(path: Path) -> Iterator[Writing]:
    """Run a process that writes for as long as the block runs."""
    path.parent.mkdir(exist_ok=True)
    notes = path.parent.parent / f"{path.name}.notes"
    notes.write_bytes(bytes(16))
    program = f"""
import mmap, os, struct, time
with open({str(notes)!r}, "r+b") as told:
    notes = mmap.mmap(told.fileno(), 16)
with open({str(path)!r}, "ab", buffering=0) as file:
    while True:
        began = time.monotonic()
        try:
            file.write(b"line\\n")
            os.fsync(file.fileno())
        except OSError as error:
            struct.pack_into("q", notes, 0, error.errno)
        struct.pack_into("d", notes, 8, time.monotonic() - began)
        time.sleep(0.005)
"""
    with (
        notes.open("r+b") as file,
        mmap.mmap(file.fileno(), 16) as shared,
        running(sys.executable, "-c", program) as process,
    ):
        check_within(lambda: path.exists() and path.stat().st_size > 0, "it writes")
        yield Writing(path, process, shared)


@contextmanager
def drilling(folder: Path, function: str, *words: object, limit_s: float = 60.0) -> Iterator[subprocess.Popen[bytes]]:
    """Run a drill as a process, which has begun its fault."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder), str(limit_s), function, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        wait_until_watched_no_more(folder)


def wait_until_watched_no_more(folder: Path) -> None:
    """Wait until the watchdog of a folder has ended, which it does when nothing is in force."""
    book = Book(folder)
    check_within(lambda: not book.entries() and not (book.path / "watchdog.json").exists(), "the watchdog ends")


async def _drill(folder: Path, limit_s: float, function: str, words: list[str]) -> None:
    module, _, name = function.rpartition(".")
    begin = getattr(import_module(f"tests.integration.faults.{module}"), name)
    async with begun(folder, name, "a process of a test", limit_s=limit_s) as fault:
        await begin(fault, *words)
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_drill(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4:]))

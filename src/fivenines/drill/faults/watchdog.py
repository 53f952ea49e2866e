"""The watchdog: a small process that undoes faults when their drill is gone, or their time is over.

`python -m fivenines.drill.faults.watchdog FOLDER` is started with the first fault, in a session of its own, so that
neither Ctrl-C nor the end of the drill takes it along. It reads the book, a few times a second, and ends by itself when
nothing has been in force for a while.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from fivenines.drill.faults.book import Book
from fivenines.drill.faults.processes import Process, ourselves, process_of

__all__ = ["ensure_watchdog", "main"]

_LOOK_S = 0.1
_LINGER_S = 2.0
"""So long after the last fault: another one often follows."""
_TRIES_S = 60.0
"""What cannot be undone in so long is left to people; it stays in the book."""
_ours: list[int] = []
"""Those that we have started: somebody has to hear of their end."""


def ensure_watchdog(book: Book) -> None:
    """Start the watchdog of a book unless it runs. Blocks. Raises OSError."""
    for pid in list(_ours):
        with suppress(ChildProcessError):
            if not os.waitpid(pid, os.WNOHANG)[0]:
                continue
        _ours.remove(pid)
    with book.alone():
        if _running(book) is not None:
            return
        log = str(book.path / "watchdog.log")
        pid = os.posix_spawn(  # it outlives us, which `subprocess` takes for a mistake
            sys.executable,
            [sys.executable, "-P", "-m", "fivenines.drill.faults.watchdog", str(book.path.parent)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        _ours.append(pid)
        (book.path / "watchdog.json").write_bytes(msgspec.json.encode(process_of(pid)))


def main(folder: Path) -> None:
    """Watch until there is nothing to do."""
    book = Book(folder)
    idle_since = time.monotonic()
    failing_since: dict[str, float] = {}
    while book.path.is_dir():
        entries = book.entries()
        for entry in reversed(entries):
            if not entry.is_over() or time.monotonic() - failing_since.get(entry.id, time.monotonic()) > _TRIES_S:
                continue
            why = "its time is over" if entry.owner.is_alive() else "its drill is gone"
            still = book.undo(entry)
            if still:
                failing_since.setdefault(entry.id, time.monotonic())
            print(f"{entry.fault} ({entry.target}): {why}; {'; '.join(still) or 'undone'}", flush=True)
        given_up = {id for id, since in failing_since.items() if time.monotonic() - since > _TRIES_S}
        if any(each.id not in given_up for each in entries):
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > _LINGER_S and _has_ended(book, given_up):
            return
        time.sleep(_LOOK_S)


def _has_ended(book: Book, given_up: set[str]) -> bool:
    """Strike us off the book, unless something has come meanwhile."""
    with book.alone():
        if any(each.id not in given_up for each in book.entries()):
            return False
        if _running(book) == ourselves():
            (book.path / "watchdog.json").unlink(missing_ok=True)
        return True


def _running(book: Book) -> Process | None:
    try:
        found = msgspec.json.decode((book.path / "watchdog.json").read_bytes(), type=Process)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found.is_alive() else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A worker: a process that loads a module and calls its functions, one event at a time.

    python -m fivenines.functions.worker MODULE FD [LOCK_FD]

FD is a socket to the runner. It ends when the runner lets go of it, even in the middle of a function: whatever a runner
that was killed has left behind is gone before the next one calls a function. To make sure, a worker holds LOCK_FD, the
lock on the runner's folder, for as long as it lives. Imports no more than it needs: it is started when events wait.
"""

import importlib
import inspect
import os
import socket
import sys
import threading
import traceback
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from fivenines.api import Event
from fivenines.functions import wire
from fivenines.functions.registry import Context, Function, functions

__all__ = ["main"]

_REASON_CHARACTERS_MAX = 2_000
_decode_event = msgspec.json.Decoder(Event).decode


class _Inbox:
    """Reads calls in a thread of its own, so that the end of the runner is seen at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._calls: deque[bytes] = deque()
        self._arrived = threading.Semaphore(0)
        threading.Thread(target=self._read, name="fivenines-runner", daemon=True).start()

    def next(self) -> bytes:
        """Wait for a call."""
        self._arrived.acquire()
        return self._calls.popleft()

    def _read(self) -> None:
        while (header := self._exactly(wire.HEADER.size)) and (body := self._exactly(*wire.HEADER.unpack(header))):
            self._calls.append(body)
            self._arrived.release()
        # The runner is gone, or has no more use for us: nobody would learn what a function did from now on.
        os._exit(0)

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            try:
                part = self._connection.recv(size - len(found))
            except OSError:
                return b""
            if not part:
                return b""
            found += part
        return found


def main(module: str, fd: int, lock_fds: list[int]) -> None:
    """Serve until the runner lets go."""
    for each in (fd, *lock_fds):
        os.set_inheritable(each, False)  # what a function starts shall not hold them
    # What functions print is for people; stdout may be read by a program.
    os.dup2(2, 1)
    connection = socket.socket(fileno=fd)
    inbox = _Inbox(connection)
    try:
        _load(module)
    except Exception as error:  # noqa: BLE001 whatever a module does wrong is told to who wanted it
        connection.sendall(wire.encode(wire.Failed(_told(error))))
        inbox.next()
    known = functions()
    connection.sendall(wire.encode(wire.Loaded([_named(each) for each in known.values()])))
    while True:
        call = wire.decode(inbox.next())
        assert isinstance(call, wire.Call)
        connection.sendall(wire.encode(_answer(known.get(call.function), call)))


def _load(module: str) -> None:
    """Import a module by its name or by its path."""
    if not module.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        importlib.import_module(module)
        return
    path = Path(module).resolve()
    sys.path.insert(0, str(path.parent))
    importlib.import_module(path.stem)


def _named(function: Function) -> wire.Named:
    return wire.Named(function.name, function.types, None if callable(function.where) else dict(function.where or {}))


def _answer(function: Function | None, call: wire.Call) -> wire.Message:
    if function is None:
        return wire.Failed(f"the module has no function {call.function!r} any more")
    event = _decode_event(call.event)
    context = Context(event.id, call.position, call.item, call.attempt, call.is_replay)
    try:
        if callable(function.where) and not function.where(event):
            return wire.Done()
        _finish(function.call(event, context))
    except Exception as error:  # noqa: BLE001 whatever a function does wrong is told, and tried again
        traceback.print_exc()
        return wire.Failed(_told(error))
    return wire.Done()


def _finish(result: Any) -> None:
    """Run what an `async def` returned."""
    if inspect.isawaitable(result):
        import asyncio

        async def wait() -> None:
            await result

        asyncio.run(wait())


def _told(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()[-_REASON_CHARACTERS_MAX:]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(each) for each in sys.argv[3:]])

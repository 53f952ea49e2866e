"""Processes, so named that a number which the kernel has given to another one meanwhile is never hit.

A process id alone says little: the kernel uses it again. Together with the time at which its process started it says
which one is meant for as long as the machine runs. All of it is read from Linux's /proc.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

__all__ = ["Process", "ourselves", "process_of", "tree"]

_STATE, _PARENT, _STARTED = 0, 1, 19
"""Fields of /proc/PID/stat, counted from the state on."""
_DEAD = "ZXx"


class Process(Struct, frozen=True):
    """One process of this machine."""

    pid: int
    started: int
    """In ticks since the machine came up."""

    def state(self) -> str:
        """Return the kernel's letter for what it does, such as R, S or T (stopped); empty when it has ended."""
        fields = _stat(self.pid)
        if fields is None or int(fields[_STARTED]) != self.started or fields[_STATE] in _DEAD:
            return ""
        return fields[_STATE]

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return bool(self.state())

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal, and nobody else; returns whether it was there."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.is_alive():
                return False
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
                return True
            return False
        finally:
            os.close(handle)

    def environment(self) -> dict[str, str]:
        """Return the environment that it was started with; empty when it has ended, or is somebody else's."""
        found = {}
        with suppress(OSError):
            for each in Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0"):
                name, _, value = each.decode(errors="replace").partition("=")
                found[name] = value
        return found

    def program(self) -> str:
        """Return the name of the file that it runs; empty when it has ended."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/exe").readlink().name
        return ""


def process_of(pid: int) -> Process:
    """Return which process has an id now. Raises ProcessLookupError."""
    fields = _stat(pid)
    if fields is None:
        raise ProcessLookupError(f"no process has the id {pid}")
    return Process(pid, int(fields[_STARTED]))


def ourselves() -> Process:
    """Return which process we are."""
    return process_of(os.getpid())


def tree(pid: int) -> list[Process]:
    """Return a process, and all that it has started, and so on. Raises ProcessLookupError."""
    children: dict[int, list[Process]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(path.name))
        if fields is not None:
            children.setdefault(int(fields[_PARENT]), []).append(Process(int(path.name), int(fields[_STARTED])))
    found = [process_of(pid)]
    for each in found:  # grows meanwhile
        found += children.get(each.pid, [])
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        # The name comes before, in brackets, and may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None

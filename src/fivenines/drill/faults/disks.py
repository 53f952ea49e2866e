"""Disks that are slow, broken or full, for one process alone: its own system calls are meddled with.

`strace` can hold a call back, or have it fail, in any running process, one written in Go as well, which no preloaded
library reaches. It takes its hands off when it is told to end, and also when it is killed, so ending one helper undoes
all of it. While it looks it slows each system call of the process a little.

What is synced is always data. What is written may be an answer to a client, so there only calls count that are about
files of the process's own folder: those that are there when the fault begins, and those that etcd makes ahead. New
files of a Python process are kept from growing by a limit of the kernel (RLIMIT_FSIZE), which it is told as "file too
large".
"""

import asyncio
import functools
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.limits import limit
from fivenines.drill.faults.processes import Process, process_of
from fivenines.drill.faults.undoing import Untraced

__all__ = ["CALLS", "disk_full", "files_of", "io_errors", "slow_fsync", "why_not"]

CALLS = {
    "sync": "fsync,fdatasync",
    "write": "write,writev,pwrite64,pwritev,pwritev2,fallocate,ftruncate",
    "read": "read,readv,pread64,preadv,preadv2",
}
"""The system calls that fail together."""
_AHEAD = ("member/wal/0.tmp", "member/wal/1.tmp")
"""The files that etcd makes ahead, below its folder."""
_FILES_MAX = 200
_ATTACH_S = 5.0
_LOOK_S = 0.02


async def slow_fsync(fault: InForce, processes: Sequence[Process], *, delay_s: float) -> None:
    """Hold each sync back. Raises `FaultImpossibleError`."""
    calls = CALLS["sync"]
    await _meddle(fault, processes, [f"trace={calls}", f"inject={calls}:delay_enter={int(delay_s * 1e6)}"], ())


async def io_errors(
    fault: InForce, processes: Sequence[Process], folder: Path, *, calls: str = "sync", every: int = 1
) -> None:
    """Have calls fail with EIO.

    Args:
        fault: that they suffer from.
        processes: who is hit.
        folder: their data.
        calls: one of `CALLS`.
        every: each so many-th of them fails, the first one too.

    Raises:
        FaultImpossibleError: it cannot be done.
    """
    paths = () if calls == "sync" else files_of(processes, folder)
    names = CALLS[calls]
    await _meddle(fault, processes, [f"trace={names}", f"inject={names}:error=EIO:when=1+{every}"], paths)


async def disk_full(fault: InForce, processes: Sequence[Process], folder: Path) -> None:
    """Have the disk be full for processes. Raises `FaultImpossibleError`."""
    python = [each for each in processes if each.program().startswith("python")]
    for each in python:
        await limit(fault, each, resource.RLIMIT_FSIZE, 0)
    names, paths = CALLS["write"], files_of(processes, folder)
    if paths:
        await _meddle(fault, processes, [f"trace={names}", f"inject={names}:error=ENOSPC"], paths)
    elif not python:
        raise FaultImpossibleError(fault.name, f"nothing has files in {folder}")


def files_of(processes: Iterable[Process], folder: Path) -> tuple[str, ...]:
    """Return the files below a folder that processes have open, those that lie there, and those that etcd will make."""
    found: dict[str, None] = {}
    inside = f"{folder.resolve()}{os.sep}"
    for each in processes:
        with suppress(OSError):
            for link in Path(f"/proc/{each.pid}/fd").iterdir():
                with suppress(OSError):
                    name = str(link.readlink())
                    if name.startswith(inside):
                        found[name] = None
    if (folder / "member").is_dir():
        found |= dict.fromkeys(str(folder.resolve() / name) for name in _AHEAD)
    lying = sorted((path for path in folder.resolve().rglob("*") if path.is_file()), key=_changed, reverse=True)
    found |= dict.fromkeys(map(str, lying))
    return tuple(found)[:_FILES_MAX]


@functools.cache
def why_not() -> str | None:
    """Say why no process can be meddled with here, or return None. Tried, with a process of our own. Blocks."""
    if sys.platform != "linux":
        return "it takes Linux's ptrace"
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed: Debian has it in the package strace"
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL) as hit:
        try:
            with subprocess.Popen(
                [strace, "-qq", "-o", os.devnull, "-p", str(hit.pid)], stderr=subprocess.PIPE
            ) as tracer:
                try:
                    until = time.monotonic() + _ATTACH_S
                    while tracer.poll() is None and time.monotonic() < until:
                        if Untraced(process_of(hit.pid)).still():
                            return None
                        time.sleep(_LOOK_S)
                finally:
                    tracer.terminate()
                assert tracer.stderr is not None
                return f"a process may not be traced here: {tracer.stderr.read().decode(errors='replace').strip()}"
        finally:
            hit.kill()


async def _meddle(fault: InForce, processes: Sequence[Process], rules: list[str], paths: Sequence[str]) -> None:
    alive = [each for each in processes if each.is_alive()]
    strace = shutil.which("strace")
    if strace is None or not alive:
        raise FaultImpossibleError(fault.name, "strace is not installed" if alive else "the process has ended")
    words = [strace, "-f", "-qq", "-o", os.devnull]
    words += [word for rule in rules for word in ("-e", rule)]
    words += [word for path in paths for word in ("-P", path)]
    words += [word for each in alive for word in ("-p", str(each.pid))]
    await fault.promise(*(Untraced(each) for each in alive))
    helper = await fault.helper(*words)
    until = time.monotonic() + _ATTACH_S
    while not all(Untraced(each).still() or not each.is_alive() for each in alive):
        if not helper.is_alive() or time.monotonic() > until:
            raise FaultImpossibleError(fault.name, f"strace does not take hold: {fault.told() or 'it says nothing'}")
        await asyncio.sleep(_LOOK_S)


def _changed(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0

"""Processes that a benchmark starts, and the disk they live on.

Whatever a benchmark starts it stops again by the process's own id, when it ends, fails or is interrupted; the folder it
worked in goes with it. Servers get a session of their own, so that an interrupt from the keyboard reaches the benchmark
alone, which then stops them in order.
"""

import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

__all__ = ["BenchError", "filesystem_of", "free_port", "leave_on_sigterm", "running", "work_folder"]

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
DISK_FOR_ALL = Path("/var/tmp")  # noqa: S108 - only ever the parent of a folder with a fresh name
MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs"})


class BenchError(Exception):
    """A benchmark cannot run, or what it measured is not what it was meant to measure."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def filesystem_of(path: Path) -> str:
    """Name the type of the filesystem that holds `path`, as in `ext4`; `unknown` where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    resolved = path.resolve()
    best, best_type = Path(), "unknown"
    for line in mounts:
        _device, point_text, kind, *_rest = line.split(" ")
        point = Path(point_text.encode().decode("unicode_escape"))
        # A later mount on the same point hides an earlier one, hence >=.
        if resolved.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, best_type = point, kind
    return best_type


@contextmanager
def work_folder(build: Path) -> Iterator[Path]:
    """Lend an empty folder on a real disk, for data that is written through: gone afterwards.

    It lies under `build`. Where other users may not enter that (a checkout in a private home, run by root, whose
    PostgreSQL must run as somebody else), it lies in /var/tmp instead.
    """
    build.mkdir(parents=True, exist_ok=True)
    place = build if os.geteuid() != 0 or others_may_enter(build) else DISK_FOR_ALL
    if filesystem_of(place) in MEMORY_FILESYSTEMS:
        raise BenchError(f"{place} is held in memory: durable writes would cost nothing there. Run on a real disk.")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def others_may_enter(folder: Path) -> bool:
    """Tell whether a user without any rights of ours may pass through to `folder`."""
    resolved = folder.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (resolved, *resolved.parents))


@contextmanager
def running(
    argv: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for as long as the block lasts, which begins once `ready` answers yes.

    Raises BenchError, with the end of the server's log, when it ends by itself or is not ready in time.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
        )
    try:
        wait_ready(process, ready, name=Path(argv[0]).name, log=log)
        yield process
    finally:
        stop(process, stop_signal)


def wait_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool], *, name: str, log: Path) -> None:
    """Return once `ready` answers yes."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not ready():
        tail = log.read_text(encoding="utf-8", errors="replace")[-2_000:]
        if process.poll() is not None:
            raise BenchError(f"{name} ended with {process.returncode} before it was ready:\n{tail}")
        if time.monotonic() > deadline:
            raise BenchError(f"{name} was not ready in {READY_TIMEOUT_S:.0f} s:\n{tail}")
        time.sleep(0.05)


def leave_on_sigterm() -> None:
    """Let SIGTERM end this program in order, so that nothing that it started stays behind."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    """Stop a server, gently at first; its workers, which share its session, go with it."""
    if process.poll() is None:
        process.send_signal(stop_signal)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # The session was made for this process alone, so its id names nothing but what this process left behind.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

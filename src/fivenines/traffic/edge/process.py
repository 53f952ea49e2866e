"""HAProxy as a process: where it is, how it is started and reloaded, and whether it takes a configuration.

It runs in the foreground without a master: who supervises it starts and ends it like any other process. A reload is
the start of a second process, which asks the first one for its listening sockets over the admin socket, and then tells
it to finish (`-x`, `-sf`). No connection is refused meanwhile, and the first process ends when its requests have.
"""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["ConfigRefusedError", "check", "command", "find_haproxy"]

_CHECK_S_MAX = 20
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")


class ConfigRefusedError(Exception):
    """HAProxy does not take a configuration; the message is what it says."""


def find_haproxy() -> str | None:
    """Return the path of HAProxy; None if it is not installed. It is often where a user's PATH does not lead."""
    return shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_FOLDERS]))


def command(haproxy: str, config: Path, *, reload_of: int | None = None, socket: Path | None = None) -> list[str]:
    """Return the command that runs an edge in the foreground.

    Args:
        haproxy: its path.
        config: the path of its configuration.
        reload_of: the process that it takes over from, which then ends by itself. None: there is none.
        socket: the admin socket of that one. Without it, or when that process is gone, the ports are bound anew.
    """
    words = [haproxy, "-db", "-f", str(config)]
    if reload_of is not None:
        words += ["-sf", str(reload_of)]
        if socket is not None:
            words += ["-x", str(socket)]
    return words


def check(config: Path, *, haproxy: str | None = None) -> None:
    """Have HAProxy read a configuration; nothing is started.

    Raises:
        ConfigRefusedError: it does not take it, and says why; or there is no HAProxy.
    """
    program = haproxy or find_haproxy()
    if program is None:
        raise ConfigRefusedError("haproxy is not installed, neither on the PATH nor in " + ", ".join(_FOLDERS))
    try:
        done = subprocess.run(
            [program, "-c", "-f", str(config)], capture_output=True, check=False, timeout=_CHECK_S_MAX, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigRefusedError(f"{program} could not be asked: {error}") from error
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if "[ALERT]" in line]
        raise ConfigRefusedError("\n".join(said) or f"{program} ended with {done.returncode}: {done.stderr.strip()}")

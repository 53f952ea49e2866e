"""Processes that die with the one that started them, however it dies."""

import shutil
import sys

__all__ = ["dying_with_us"]


def dying_with_us() -> tuple[str, ...]:
    """What to put before a command so that the kernel kills its process when we die, by SIGKILL too; may be nothing.

    By util-linux, which all of Debian has, and not by a function between fork and exec: here are threads of gRPC, which
    a fork in Python can bring to a halt. It ends the process when the *thread* that started it ends, so it is not for
    what a worker thread starts.
    """
    program = shutil.which("setpriv") if sys.platform == "linux" else None
    return (program, "--pdeathsig", "KILL") if program else ()

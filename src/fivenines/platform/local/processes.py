"""What a process leaves behind: its children, in the group that it led."""

import asyncio
import os
import signal
import time

__all__ = ["end_group"]

_LOOK_S = 0.02
_KILLED_S = 1.0
"""Killed processes are gone after so long, but for zombies that nobody collects, which hold no port."""


async def end_group(group: int, *, number: int, patience_s: float) -> bool:
    """End what is left of a process's group, and return whether anything was.

    Args:
        group: the id of the process that led it, which has ended, just now, and was waited for.
        number: the signal that asks them to end.
        patience_s: after so long they are killed.
    """
    if not _send(group, number):
        return False
    if not await _is_gone(group, patience_s) and _send(group, signal.SIGKILL):
        await _is_gone(group, _KILLED_S)
    return True


async def _is_gone(group: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while _send(group, 0):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


def _send(group: int, number: int) -> bool:
    """Send a signal to a group without its leader; return whether it has members.

    As long as it has any, the system gives its id to no new process. So if there is a process of that id, our group is
    gone, and another one is not to be hit.
    """
    try:
        os.kill(group, 0)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    else:
        return False
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True

"""Processes that stand still: they keep what they have, connections included, and do nothing."""

import asyncio
import signal
import time
from collections.abc import Sequence

from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.processes import Process
from fivenines.drill.faults.undoing import Resume

__all__ = ["stop"]

_LOOK_S = 0.005
_TAKES_S_MAX = 10.0


async def stop(fault: InForce, processes: Sequence[Process]) -> None:
    """Stop processes, and wait until each that has not ended stands still.

    A signal is taken when its process next runs, which may be a while on a busy machine.

    Raises:
        FaultImpossibleError: one does not stand still: the kernel holds it in a call that it cannot leave.
    """
    await fault.promise(*(Resume(each) for each in processes))
    for each in processes:
        each.send(signal.SIGSTOP)
    until = time.monotonic() + _TAKES_S_MAX
    for each in processes:
        while (state := each.state()) not in {"T", "t", ""}:  # t: while a tracer looks on
            if time.monotonic() > until:
                reason = f"process {each.pid} does not stand still within {_TAKES_S_MAX:g} s: its state is {state}"
                raise FaultImpossibleError(fault.name, reason)
            await asyncio.sleep(_LOOK_S)

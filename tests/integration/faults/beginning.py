"""What drills of tests begin, by name: thin ways to faults on processes, for `drilling`."""

import signal

from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.processes import process_of
from fivenines.drill.faults.starving import starve
from fivenines.drill.faults.undoing import Resume

__all__ = ["slow", "stop"]


async def stop(fault: InForce, pid: str) -> None:
    """Stop a process."""
    process = process_of(int(pid))
    await fault.promise(Resume(process))
    process.send(signal.SIGSTOP)


async def slow(fault: InForce, pid: str, share: str, by: str) -> None:
    """Starve a process."""
    await starve(fault, [process_of(int(pid))], share=float(share), by=by)

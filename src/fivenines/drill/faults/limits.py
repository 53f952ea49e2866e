"""Limits of the kernel on a running process: file descriptors that run out, memory that is refused."""

import asyncio
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.processes import Process
from fivenines.drill.faults.undoing import Undo, Unlimit

__all__ = ["few_descriptors", "limit", "little_memory"]

_PAGE_BYTES = resource.getpagesize()


async def limit(fault: InForce, process: Process, kind: int, soft: int) -> None:
    """Limit a process in one kind of `resource.RLIMIT_...`; what it may ask for itself stays. Raises as below."""
    try:
        before, hard = resource.prlimit(process.pid, kind)
        others = await fault.others()
        before = await asyncio.to_thread(_without, process, kind, before, others)
        await fault.promise(Unlimit(process, kind, before, hard))
        resource.prlimit(process.pid, kind, (soft if hard < 0 else min(soft, hard), hard))
    except ProcessLookupError:
        return
    except (OSError, ValueError) as error:
        raise FaultImpossibleError(fault.name, f"process {process.pid}: {error}") from error


async def few_descriptors(fault: InForce, process: Process, *, spare: int) -> int:
    """Let a process open only so many files and connections more; returns how many it has.

    The kernel limits the numbers that it gives, not their count, so gaps below the highest one are open, too.
    Raises `FaultImpossibleError`.
    """

    def opened() -> list[int]:
        with suppress(OSError):
            return [int(each.name) for each in Path(f"/proc/{process.pid}/fd").iterdir()]
        return []

    numbers = await asyncio.to_thread(opened)
    free = (number for number in range(len(numbers) + spare + 1) if number not in set(numbers))
    highest = [next(free) for _ in range(spare)]
    # Those that it has stay open, whatever their numbers.
    await limit(fault, process, resource.RLIMIT_NOFILE, highest[-1] + 1 if highest else 0)
    return len(numbers)


async def little_memory(fault: InForce, process: Process, *, spare_bytes: int) -> int:
    """Let a process have only so many bytes of address space more; returns how many it has. Raises as above."""
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
    except (OSError, IndexError):
        return 0
    await limit(fault, process, resource.RLIMIT_AS, pages * _PAGE_BYTES + spare_bytes)
    return pages * _PAGE_BYTES


def _without(process: Process, kind: int, soft: int, others: Sequence[Undo]) -> int:
    """Say what a process might have if it had not inherited the limit of one that another fault has limited."""
    for each in others:
        if isinstance(each, Unlimit) and each.kind == kind and process in each.heirs():
            return each.soft
    return soft

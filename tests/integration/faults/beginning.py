"""What drills of tests begin, by name: thin ways to faults on processes and files, for `drilling`."""

import random
import resource
from pathlib import Path

from fivenines.drill.faults import disks, limits, rotting, stopping
from fivenines.drill.faults.clocks import Clock
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.processes import process_of
from fivenines.drill.faults.starving import starve
from fivenines.drill.faults.undoing import PointServer

__all__ = [
    "clock_jump",
    "corrupt_file",
    "disk_full",
    "fd_exhaustion",
    "io_errors",
    "memory_pressure",
    "mislead",
    "no_files",
    "slow",
    "slow_fsync",
    "stop",
]


async def stop(fault: InForce, pid: str) -> None:
    """Stop a process."""
    await stopping.stop(fault, [process_of(int(pid))])


async def slow(fault: InForce, pid: str, share: str, by: str) -> None:
    """Starve a process."""
    await starve(fault, [process_of(int(pid))], share=float(share), by=by)


async def slow_fsync(fault: InForce, pid: str, _folder: str) -> None:
    """Hold the syncs of a process back."""
    await disks.slow_fsync(fault, [process_of(int(pid))], delay_s=0.3)


async def io_errors(fault: InForce, pid: str, folder: str) -> None:
    """Have writes of a process fail."""
    await disks.io_errors(fault, [process_of(int(pid))], Path(folder), calls="write")


async def disk_full(fault: InForce, pid: str, folder: str) -> None:
    """Have the disk of a process be full."""
    await disks.disk_full(fault, [process_of(int(pid))], Path(folder))


async def fd_exhaustion(fault: InForce, pid: str) -> None:
    """Let a process open nothing more."""
    await limits.few_descriptors(fault, process_of(int(pid)), spare=0)


async def memory_pressure(fault: InForce, pid: str) -> None:
    """Give a process no more memory."""
    await limits.little_memory(fault, process_of(int(pid)), spare_bytes=0)


async def no_files(fault: InForce, pid: str) -> None:
    """Let a process write nothing more to files."""
    await limits.limit(fault, process_of(int(pid)), resource.RLIMIT_FSIZE, 0)


async def corrupt_file(fault: InForce, path: str) -> None:
    """Turn a bit of a file round."""
    await rotting.flip_byte(fault, Path(path), random.Random(1))


async def clock_jump(fault: InForce, folder: str, offset_s: str) -> None:
    """Have a clock be wrong that a process was started with."""
    clock = Clock(fault, Path(folder), "hit")
    await clock.prepare()
    await clock.jump(float(offset_s))


async def mislead(fault: InForce, admin: str, server: str, port: str, wrong: str) -> None:
    """Have an edge send what is for a server to another port."""
    undo = PointServer(admin, server, "127.0.0.1", int(port))
    await fault.promise(undo)
    PointServer(admin, server, "127.0.0.1", int(wrong)).undo()

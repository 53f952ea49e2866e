"""A byte of a file at rest that turns bad, as disks do it: without a word, and without touching the file's times."""

import os
import random
from collections.abc import Sequence
from pathlib import Path

from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.undoing import PutByteBack

__all__ = ["flip_byte", "newest"]


def newest(folder: Path, patterns: Sequence[str]) -> Path | None:
    """Return the newest file that fits one of the patterns, or None."""
    found = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file() and path.stat().st_size]
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


async def flip_byte(fault: InForce, path: Path, chance: random.Random) -> int:
    """Turn one bit of a file round; returns the byte's offset. Raises `FaultImpossibleError`."""
    try:
        with path.open("r+b") as file:
            status = os.fstat(file.fileno())
            if not status.st_size:
                raise FaultImpossibleError(fault.name, f"{path} is empty")
            offset = chance.randrange(status.st_size)
            good = os.pread(file.fileno(), 1, offset)[0]
            bad = good ^ (1 << chance.randrange(8))
            await fault.promise(PutByteBack(str(path), offset, good, bad, status.st_ino))
            os.pwrite(file.fileno(), bytes([bad]), offset)
            os.fsync(file.fileno())
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError as error:
        raise FaultImpossibleError(fault.name, f"{path}: {error.strerror}") from error
    return offset

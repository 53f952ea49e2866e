"""A process that gets too little of the processor: by a control group, or by stopping it again and again.

Both versions of Linux's control groups can say how much of each tenth of a second a group may run. Where we may not
make a group, a helper (`duty`) stops the processes and lets them go on, many times a second, with the same share.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.processes import Process
from fivenines.drill.faults.undoing import LeaveGroup, Resume

__all__ = ["Groups", "find_groups", "starve"]

_PERIOD_US = 100_000
_QUOTA_US_MIN = 1_000
"""The kernel takes nothing smaller."""
_MOUNTS = Path("/proc/self/mounts")


@dataclass(frozen=True, slots=True)
class Groups:
    """Where control groups for the processor are."""

    root: Path
    version: int

    def home(self, process: Process) -> Path:
        """Return the folder of the group that a process is in. Raises OSError."""
        for line in Path(f"/proc/{process.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if (self.version == 2 and not controllers) or (self.version == 1 and "cpu" in controllers.split(",")):
                return self.root / path.lstrip("/")
        return self.root

    def make(self, group: Path, share: float) -> None:
        """Make a group that may run for so much of one processor's time. Raises OSError."""
        quota_us = max(_QUOTA_US_MIN, int(share * _PERIOD_US))
        if self.version == 2:
            (self.root / "cgroup.subtree_control").write_text("+cpu")
        group.mkdir()
        if self.version == 2:
            (group / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))


def find_groups(mounts: Path = _MOUNTS) -> Groups | None:
    """Find where control groups for the processor can be made; None where we may not."""
    for line in mounts.read_text().splitlines() if mounts.exists() else ():
        _, where, kind, options, *_ = line.split(" ")
        root = Path(where)
        if not os.access(root / "cgroup.procs", os.W_OK):
            continue
        if kind == "cgroup" and "cpu" in options.split(",") and (root / "cpu.cfs_quota_us").exists():
            return Groups(root, 1)
        controllers = root / "cgroup.controllers"
        if kind == "cgroup2" and controllers.exists() and "cpu" in controllers.read_text().split():
            return Groups(root, 2)
    return None


async def starve(fault: InForce, processes: Sequence[Process], *, share: float, by: str = "best") -> str:
    """Give processes together a share of one processor's time, and no more.

    Args:
        fault: that they suffer from.
        processes: who is hit.
        share: 0 < share < 1.
        by: "group", "duty" for stopping them again and again, or the "best" that can be had.

    Returns:
        "group" or "duty": how it is done.

    Raises:
        FaultImpossibleError: it cannot be done in this way.
    """
    groups = find_groups() if by != "duty" else None
    if groups is not None:
        try:
            await _by_group(fault, groups, processes, share)
        except OSError as error:
            if by == "group":
                raise FaultImpossibleError(fault.name, str(error)) from error
        else:
            return "group"
    if by == "group":
        raise FaultImpossibleError(fault.name, "no control group for the processor can be made here")
    await fault.promise(*(Resume(each) for each in processes))
    words = [f"{each.pid}:{each.started}" for each in processes]
    await fault.helper(sys.executable, "-m", "fivenines.drill.faults.duty", str(share), *words)
    return "duty"


async def _by_group(fault: InForce, groups: Groups, processes: Sequence[Process], share: float) -> None:
    homes: dict[Path, list[Process]] = {}
    for each in processes:
        if each.is_alive():
            homes.setdefault(groups.home(each), []).append(each)
    for number, (home, members) in enumerate(homes.items()):
        group = groups.root / f"fivenines-{fault.id}-{number}"
        # Their group may be another fault's, which may end before this one and take it away.
        found = (each for each in await fault.others() if isinstance(each, LeaveGroup) and each.group == str(home))
        homes_of_home = next(((each.home, *each.beyond) for each in found), ())
        await fault.promise(LeaveGroup(str(group), str(home), homes_of_home))
        groups.make(group, share / len(homes))
        for each in members:
            if each.is_alive():
                (group / "cgroup.procs").write_text(str(each.pid))

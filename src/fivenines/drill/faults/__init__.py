"""Faults on purpose: each with a beginning, an end, and a look whether it is really gone.

    async with in_force("stop", platform, target="any node", chance=random.Random(seed)) as fault:
        ...

inflicting.py  `in_force`: one fault of the catalogue, on a platform
catalogue.py   `FAULTS`: all of them by name; `kinds.py` says what a fault is, `targets.py` who is hit
beginning.py   how each begins on a platform
force.py       a fault that is in force; `begun` begins one that is put together by hand
book.py        what is in force, in files; `undo_left_over` undoes what a drill left behind
undoing.py     how each thing is undone; `processes.py` says which process is meant
watchdog.py    a process that undoes faults when their drill is gone, or their time is over
starving.py, duty.py
               too little of the processor
cutting.py     packets that are lost
wire.py        a stretch of wire that is slow, narrow, or breaks
disks.py       disks that are slow, broken or full, for one process
limits.py      descriptors and memory that run out
clocks.py      a clock that jumps or drifts
rotting.py     a file that rots
certificates.py
               TLS in front of the edges, and certificates that expire
burst.py, poison.py
               clients that ask too much, or what nobody should

What is here is found when it is asked for: the watchdog is started within this package, and has no use for most of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fivenines.drill.faults.book import undo_left_over
    from fivenines.drill.faults.catalogue import FAULTS
    from fivenines.drill.faults.errors import (
        BadFaultError,
        FaultError,
        FaultImpossibleError,
        FaultStaysError,
        FaultTimedOutError,
    )
    from fivenines.drill.faults.force import LIMIT_S, OVER_AFTER, InForce, begun
    from fivenines.drill.faults.inflicting import in_force
    from fivenines.drill.faults.kinds import FaultKind, Parameter
    from fivenines.drill.faults.targets import ROLES

__all__ = [
    "FAULTS",
    "LIMIT_S",
    "OVER_AFTER",
    "ROLES",
    "BadFaultError",
    "FaultError",
    "FaultImpossibleError",
    "FaultKind",
    "FaultStaysError",
    "FaultTimedOutError",
    "InForce",
    "Parameter",
    "begun",
    "in_force",
    "undo_left_over",
]

_WHERE = {
    "FAULTS": "catalogue",
    "LIMIT_S": "force",
    "OVER_AFTER": "force",
    "ROLES": "targets",
    "BadFaultError": "errors",
    "FaultError": "errors",
    "FaultImpossibleError": "errors",
    "FaultKind": "kinds",
    "FaultStaysError": "errors",
    "FaultTimedOutError": "errors",
    "InForce": "force",
    "Parameter": "kinds",
    "begun": "force",
    "in_force": "inflicting",
    "undo_left_over": "book",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)

"""Write into a platform's own timeline that a drill begins and ends: whoever is on duty must not wonder."""

import contextlib
import time

from fivenines.control.store import StoreError
from fivenines.control.timeline import event_of
from fivenines.platform.local.controlling import make_store
from fivenines.platform.topology import Topology

__all__ = ["DRILLS", "announce"]

DRILLS = "drills"
"""Who stands in the timeline in the place of a region."""


async def announce(topology: Topology, what: str, *, drill: str, why: str = "") -> None:
    """Add an entry to the timeline, where the store that has it answers; a drill does not fail for that.

    Args:
        topology: of the platform.
        what: in a few words.
        drill: its name.
        why: for what reason it is carried out although something speaks against it.
    """
    store = make_store(topology)
    try:
        with contextlib.suppress(StoreError, OSError):
            await store.append(
                [event_of(at=time.time(), region=DRILLS, kind="order", what=what, why=why, target=drill)]
            )
    finally:
        await store.close()

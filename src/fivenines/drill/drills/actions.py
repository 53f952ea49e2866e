"""What a drill can do that is no fault: end one early, wait, check the archives, lose everything and restore.

The module is `fivenines.drill.drills.actions`, and `func` one of these.
"""

import asyncio
import sys
from typing import Any

import msgspec

from fivenines.drill.drills.restoring import lose_everything_and_restore
from fivenines.drill.drills.scene import Scene
from fivenines.platform.local.programs import archive_of

__all__ = ["end_fault", "lose_everything_and_restore", "scrub_archives", "wait", "wait_whole"]


async def end_fault(scene: Scene, name: str) -> None:
    """End the fault that an earlier action of this name began."""
    if name in scene.in_force:
        await scene.end_fault(name)


async def wait(seconds: float) -> None:
    """Do nothing."""
    await asyncio.sleep(seconds)


async def wait_whole(scene: Scene, within_s: float = 90.0) -> float:
    """Wait until the platform is whole again; returns how many seconds that took. Fails if it is not by then."""
    return round(await scene.platform.wait_whole(within_s), 2)


async def scrub_archives(scene: Scene) -> dict[str, Any]:
    """Have every object of every archive checked, and written anew from another region's where it is damaged.

    Returns `checked`, `repaired`, `beyond_repair`.
    """
    topology = scene.platform.topology
    words = [
        word for place in topology.regions if place.nodes for word in ("--archive", archive_of(topology, place.name))
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fivenines", "archive", "scrub", *words, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, wrong = await process.communicate()
    try:
        found: dict[str, Any] = msgspec.json.decode(said)
    except msgspec.MsgspecError as error:
        raise RuntimeError(f"'fivenines archive scrub' said nothing: {wrong.decode()[-500:]}") from error
    scene.note("done", f"{found['repaired']} damaged objects repaired", target="archives")
    return found

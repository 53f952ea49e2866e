"""What a drill can do that is no fault: end one early, wait.

The module is `fivenines.drill.drills.actions`, and `func` one of these.
"""

import asyncio

from fivenines.drill.drills.scene import Scene

__all__ = ["end_fault", "wait", "wait_whole"]


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

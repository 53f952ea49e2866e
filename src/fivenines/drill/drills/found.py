"""A platform that somebody else runs, to be drilled where it is."""

from pathlib import Path

from fivenines.drill.running import RunningPlatform
from fivenines.platform.local.agent_client import Agents
from fivenines.platform.topology import read_topology

__all__ = ["FoundPlatform"]


class FoundPlatform(RunningPlatform):
    """A platform that somebody else runs: nothing of it is started or stopped by us.

    Args:
        folder: where it runs from.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)

    async def start(self) -> None:
        """Look where everything is. Raises OSError, and `msgspec.MsgspecError` where there is none."""
        self._topology = read_topology(self.folder)
        self._agents = Agents(self._topology)

    async def stop(self) -> None:
        """Let it be."""
        await self._close()

    async def discard(self) -> None:
        """Let it be."""
        await self._close()

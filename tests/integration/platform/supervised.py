"""One workload as an agent supervises it, for tests: ended with all that is around it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fivenines.platform.local.logs import PlatformLog
from fivenines.platform.local.probing import Prober
from fivenines.platform.local.program import Program
from fivenines.platform.local.supervising import EdgeSide, NoEdge, Workload

__all__ = ["supervised"]


@asynccontextmanager
async def supervised(tmp_path: Path, program: Program, edge: EdgeSide | None = None) -> AsyncIterator[Workload]:
    async def gate() -> None:
        """Wait for nothing."""

    log, prober = PlatformLog(tmp_path / "platform.log", "eu-west"), Prober()
    workload = Workload(program, edge=edge or NoEdge(), log=log, prober=prober, gate=gate)
    running = asyncio.create_task(workload.run())
    try:
        yield workload
    finally:
        await workload.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await prober.close()
        log.close()

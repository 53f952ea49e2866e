"""Have the checker judge what clients of a drill were told."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fivenines.drill.checker.evidence import NodeSaid
from fivenines.drill.checker.gathering import SOMETHING_WRONG, gather
from fivenines.drill.checker.judging import judge
from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Finding, GuaranteeVerdict
from fivenines.drill.running import RunningPlatform

__all__ = ["Judged", "judge_drill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the checker said."""

    findings: tuple[Finding, ...] = ()
    guarantees: tuple[GuaranteeVerdict, ...] = ()
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    reasons: tuple[str, ...] = ()
    """Why the drill is not passed."""


async def judge_drill(
    platform: RunningPlatform, asked: Sequence[Asked], samples: Sequence[NodeSaid], *, after: int
) -> Judged:
    """Ask everybody, and hold all that clients were told against it.

    Args:
        platform: runs, and nobody asks it for anything any more.
        asked: what clients asked, and were told.
        samples: what nodes said meanwhile.
        after: a position before all that this load wrote: what others did before was judged then.
    """
    try:
        evidence = await gather(platform, asked, samples=samples, feeds_after=after)
    except SOMETHING_WRONG as error:
        return Judged(reasons=(f"nothing can be judged: {error}",))
    said = await asyncio.to_thread(judge, evidence)
    reasons = [f"{kind}: {count:,}" for kind, count in said.counts.items()]
    reasons += [] if said.acknowledged else ["nothing was acknowledged, so there is nothing to judge"]
    return Judged(
        findings=said.findings,
        guarantees=said.guarantees,
        lost=said.lost,
        doubled=said.doubled,
        reordered=said.reordered,
        reasons=tuple(reasons),
    )

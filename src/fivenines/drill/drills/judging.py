"""Have the checker judge what clients of a drill were told."""

from dataclasses import dataclass

from fivenines.drill.drills.clients import DrillLoad
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

    @property
    def reasons(self) -> list[str]:
        """Why a drill is not passed."""
        return [f"{each.kind}: {each.what}" for each in self.findings]


async def judge_drill(platform: RunningPlatform, load: DrillLoad) -> Judged:
    """Hold all that was answered against the journal and every node."""
    disk = await platform.read_journal()
    done = [each for each in load.asked if each.id and each.outcome == "posted"]
    lost = [each for each in done if each.id not in disk.carried_out]
    return Judged(lost=len(lost))

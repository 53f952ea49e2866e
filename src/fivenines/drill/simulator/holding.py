"""Whether simulator and real platform hold together: the same fault on the same platform, here and there, compared.

For each cause that drills measured, the simulator lives through that fault many times: the controllers see it on
virtual time, and the pauses of clients are drawn. What comes out must lie where the measured samples lie, within
bounds that docs/simulator.md states: there are few samples, taken on a machine that is busy.
"""

import random
from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from fivenines.drill.simulator.calibration import Calibration, Measured
from fivenines.drill.simulator.caring import Caretakers
from fivenines.drill.simulator.setting import Setting
from fivenines.drill.simulator.world import Effect, Trouble

__all__ = ["DETECT_SLACK_S", "EFFECTS", "PAUSE_TIMES", "Compared", "compare", "detections", "pauses"]

EFFECTS: dict[str, Effect] = {
    "region killed": "killed",
    "region cut off from everybody": "cut",
    "region cut off from the others": "isolated",
}
"""What the controllers have to see, by cause."""
DETECT_SLACK_S = 0.75
"""The median of simulated detections lies no farther outside of the measured ones than this: a round, and some load."""
PAUSE_TIMES = 2.5
"""The medians of simulated and measured pauses differ by no more than this factor, nor by more than a second."""
_TRIALS = 40
_SECONDS = 120.0


class Compared(Struct, frozen=True, kw_only=True):
    """One cause, simulated and measured, in seconds."""

    cause: str
    what: str
    """pause or detection."""
    simulated: tuple[float, ...]
    """Sorted."""
    measured: tuple[float, ...]
    """Sorted."""
    holds: bool
    bound: str
    """What was asked, for people."""


def detections(setting: Setting, cause: str, *, trials: int = _TRIALS, seed: int = 1) -> list[float]:
    """Return after how long the controllers have a lost region out of the names; sorted, in seconds."""
    care = Caretakers(setting.desired(), setting.members)
    found = []
    for trial in range(trials):
        region = setting.serving[trial % len(setting.serving)].name
        chance = random.Random(f"{seed}/{cause}/{trial}")
        trouble = Trouble(EFFECTS[cause], region)
        pieces, _, _ = care.follow(care.begin(), [trouble], 0.0, _SECONDS, chance)
        found.append(next((piece.at for piece in pieces if piece.shares[region] == 0), _SECONDS))
    return sorted(found)


def pauses(setting: Setting, cause: str, *, trials: int = _TRIALS, seed: int = 1) -> list[float]:
    """Return how long a client of ours waits, as the simulator draws it; sorted, in seconds."""
    chance = random.Random(f"{seed}/{cause}")
    times = setting.election_times() if cause == "journal leader killed" else 1.0
    measured = setting.calibration.of(cause)
    return sorted(times * measured.pause_at(chance.random()) for _ in range(trials))


def compare(setting: Setting, against: Calibration | None = None) -> list[Compared]:
    """Compare all causes.

    Args:
        setting: the platform that was measured; its calibration is what is drawn from.
        against: what was measured since; None: the calibration itself.
    """
    found = []
    for cause, measured in (against or setting.calibration).causes.items():
        if cause not in setting.calibration.causes:
            continue
        found.append(_pause(cause, pauses(setting, cause), measured))
        if measured.detect_s and cause in EFFECTS:
            found.append(_detection(cause, detections(setting, cause), measured))
    return found


def _pause(cause: str, simulated: Sequence[float], measured: Measured) -> Compared:
    ours, theirs = median(simulated), median(measured.pause_s)
    holds = ours <= theirs * PAUSE_TIMES and theirs <= ours * PAUSE_TIMES
    return Compared(
        cause=cause,
        what="pause",
        simulated=tuple(simulated),
        measured=measured.pause_s,
        holds=holds or abs(ours - theirs) <= 0.25,
        bound=f"medians within {PAUSE_TIMES:g} times of each other, or 0.25 s",
    )


def _detection(cause: str, simulated: Sequence[float], measured: Measured) -> Compared:
    middle = median(simulated)
    return Compared(
        cause=cause,
        what="detection",
        simulated=tuple(simulated),
        measured=measured.detect_s,
        holds=measured.detect_s[0] - DETECT_SLACK_S <= middle <= measured.detect_s[-1] + DETECT_SLACK_S,
        bound=f"the simulated median no farther than {DETECT_SLACK_S:g} s outside of what was measured",
    )

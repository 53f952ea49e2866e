"""When a delivery is tried again, and when it is given up. Pure: chance and time are brought along."""

from dataclasses import dataclass

__all__ = ["Retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Tries with growing pauses between them: `first_s`, twice as long each time, at most `pause_s_max`."""

    first_s: float = 0.5
    pause_s_max: float = 300.0
    tries_max: int = 20
    """After so many it is a dead letter."""
    age_s_max: float = 24 * 3600.0
    """Or this long after the first try, with the pause that would follow."""

    def pause_s(self, tries: int, chance: float, *, at_least_s: float = 0.0) -> float:
        """Return how long to wait after so many tries, from half to the whole of the pause by `chance` (0 to 1).

        A receiver may ask for more, up to the longest pause.
        """
        whole = min(self.pause_s_max, self.first_s * 2.0 ** min(tries - 1, 60))
        return max(whole * (0.5 + chance / 2), min(at_least_s, self.pause_s_max))

    def is_over(self, tries: int, age_s: float) -> bool:
        """Return whether to give up."""
        return tries >= self.tries_max or age_s >= self.age_s_max

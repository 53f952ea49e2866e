"""Settings for tests of the simulator."""

from typing import Any

from msgspec.structs import replace

from fivenines.control.deciding import Decision, decide
from fivenines.control.desired import Desired
from fivenines.control.observed import Observed
from fivenines.drill.simulator import Setting, calibration, rates
from fivenines.drill.simulator.rates import Kind, Rates
from fivenines.platform.builtin import BUILT_IN
from fivenines.platform.loading import parse


def simulated(*kinds: Kind, text: str = BUILT_IN, table: Rates | None = None, **more: Any) -> Setting:
    """Return a setting in which only these faults happen; all of them if none is named."""
    found = table or rates.built_in()
    return Setting(
        platform=parse(text).platform,
        rates=found.only(*kinds) if kinds else found,
        calibration=calibration.built_in(),
        **more,
    )


def regions(count: int, *, providers: int = 3, more: str = "") -> str:
    """Return a platform of so many regions."""
    lines = [f"  - {{name: r{number}, provider: p{number % providers}}}" for number in range(count)]
    return f"platform: many\n{more}\nregions:\n" + "\n".join(lines) + "\n"


def never_evacuates(desired: Desired, observed: Observed, now: float) -> Decision:
    """Decide as the controllers do, but let every region serve for ever."""
    found = decide(desired, observed, now)
    return replace(found, actions=tuple(a for a in found.actions if getattr(a, "phase", "") != "down"))


def does_nothing(desired: Desired, observed: Observed, now: float) -> Decision:
    """Decide nothing."""
    return Decision((), ())

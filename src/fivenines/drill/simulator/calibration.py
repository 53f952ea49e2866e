"""What drills measured on the real platform: the pauses and detections that the simulator draws from.

`calibration.json` beside this file holds, for each cause, the longest pause of any request in each trial and the
seconds until the platform had seen the fault, with the command, the day and the machine that they come from.
`calibrate` writes it anew from the results of drills. A draw takes one of the samples, and a place between it and its
neighbour: the empirical distribution, interpolated; nothing longer than the longest is ever drawn.
"""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec
from msgspec import Struct

__all__ = ["CAUSES", "Calibration", "CalibrationError", "Measured", "built_in", "quantile", "read"]

CAUSES = (
    "node killed",
    "node hangs",
    "node slow",
    "edge killed",
    "journal leader killed",
    "region killed",
    "region cut off from everybody",
    "region cut off from the others",
    "region cut off from clients",
)
"""What must be there; the names are those of the drills' catalogue of disturbances."""


class CalibrationError(ValueError):
    """A calibration cannot be used; the message names the file, the field and the reason."""


class Measured(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured of one cause."""

    pause_s: tuple[float, ...]
    """The longest pause of any request, one for each trial, sorted."""
    detect_s: tuple[float, ...] = ()
    """Until the platform had seen it; for a region, until nobody named it any more. Empty: nobody had to, or looked."""
    command: str
    """What measured it."""
    day: str
    machine: str
    note: str = ""

    def pause_at(self, uniform: float) -> float:
        """Return a pause from a uniform draw."""
        return quantile(self.pause_s, uniform)


class Calibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it, by cause."""

    causes: dict[str, Measured]

    def of(self, cause: str) -> Measured:
        """Return what was measured of a cause."""
        return self.causes[cause]


def quantile(samples: Sequence[float], uniform: float) -> float:
    """Return the value of sorted samples at a place between 0 and 1, interpolated."""
    if len(samples) == 1:
        return samples[0]
    place = uniform * (len(samples) - 1)
    below = min(int(place), len(samples) - 2)
    return samples[below] + (place - below) * (samples[below + 1] - samples[below])


@cache
def built_in() -> Calibration:
    """Return what comes with us."""
    return _checked(resources.files(__package__).joinpath("calibration.json").read_bytes(), "calibration.json")


def read(path: Path) -> Calibration:
    """Return what a file says. Raises `CalibrationError`."""
    try:
        return _checked(path.read_bytes(), str(path))
    except OSError as error:
        raise CalibrationError(f"{path}: {error.strerror}") from error


def _checked(data: bytes, file: str) -> Calibration:
    try:
        found = msgspec.json.decode(data, type=Calibration)
    except msgspec.MsgspecError as error:
        raise CalibrationError(f"{file}: {error}") from None
    for cause in CAUSES:
        if cause not in found.causes:
            raise CalibrationError(f"{file}: causes.{cause}: is missing")
    for cause, measured in found.causes.items():
        for name, samples in (("pause_s", measured.pause_s), ("detect_s", measured.detect_s)):
            if any(not 0 <= each < 1e6 for each in samples):
                raise CalibrationError(f"{file}: causes.{cause}.{name}: must be seconds, 0 or more")
            if list(samples) != sorted(samples):
                raise CalibrationError(f"{file}: causes.{cause}.{name}: must be sorted")
        if not measured.pause_s:
            raise CalibrationError(f"{file}: causes.{cause}.pause_s: is empty")
    return found

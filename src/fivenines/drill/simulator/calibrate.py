"""Write `calibration.json` anew from what drills measured.

    python -m fivenines.drill.simulator.calibrate build/drills-full.json [--out FILE]

It reads the results of drills (`fivenines.drill.results`), takes the longest pause and the seconds of detection of each
recovery, and puts them in the place of what was there for that cause. Causes that no drill had stay as they are. Only
drills that passed count: what a broken platform does is no model of one that works. The command says what changed.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fivenines.drill.results import DrillResult, Recovery
from fivenines.drill.simulator import calibration
from fivenines.drill.simulator.calibration import Calibration, Measured

__all__ = ["cause_of", "learned", "main", "read_results"]

_BY_DRILL = {
    "node-killed": "node killed",
    "node-hangs": "node hangs",
    "node-slow-wire": "node slow",
    "edge-killed": "edge killed",
    "nameserver-killed": "nameserver killed",
    "controller-killed": "controller killed",
    "historian-killed": "historian killed",
    "journal-leader-killed": "journal leader killed",
    "journal-follower-killed": "journal follower killed",
    "region-killed": "region killed",
    "region-cut-off-whole": "region cut off from everybody",
    "region-cut-off-regions": "region cut off from the others",
    "region-cut-off-clients": "region cut off from clients",
}
"""By the name of a drill of the catalogue, which cause all of its recoveries are of."""
_NOT_ALONE = ("all-regions", "majority", "provider")
"""Drills that hit more than one thing at once are of no cause here."""
_BY_FAULT = {
    ("kill", "node"): "node killed",
    ("stop", "node"): "node hangs",
    ("slow_wire", "node"): "node slow",
    ("kill", "edge"): "edge killed",
    ("kill", "nameserver"): "nameserver killed",
    ("kill", "controller"): "controller killed",
    ("kill", "historian"): "historian killed",
    ("kill", "journal leader"): "journal leader killed",
    ("kill", "journal follower"): "journal follower killed",
    ("kill", "region"): "region killed",
}
"""By fault, and by the role that it was aimed at."""


class _File(Struct):
    """Results stand alone, or under a name."""

    drills: tuple[DrillResult, ...] = ()
    results: tuple[DrillResult, ...] = ()


def read_results(path: Path) -> tuple[DrillResult, ...]:
    """Return the results of a file.

    Raises:
        ValueError: it is no file of results.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        return msgspec.json.decode(data, type=tuple[DrillResult, ...])
    except msgspec.MsgspecError:
        pass
    try:
        found = msgspec.json.decode(data, type=_File)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: is no file of drills' results: {error}") from error
    return found.drills or found.results


def cause_of(recovery: Recovery, drill: str = "") -> str | None:
    """Return the cause in the calibration that a recovery is of, or None if it is of none.

    The drill decides; if it is not one of the catalogue, the fault and the role that it was aimed at do.
    """
    if drill in _BY_DRILL:
        return _BY_DRILL[drill]
    if any(word in drill for word in _NOT_ALONE):
        return None
    role = recovery.target.lower().removeprefix("any ").removeprefix("busiest ").partition(" of ")[0]
    return _BY_FAULT.get((recovery.fault, role))


def learned(before: Calibration, results: Sequence[DrillResult], command: str) -> tuple[Calibration, dict[str, int]]:
    """Return the calibration with what drills measured, and how many samples each cause got."""
    pauses: defaultdict[str, list[float]] = defaultdict(list)
    detects: defaultdict[str, list[float]] = defaultdict(list)
    last: dict[str, DrillResult] = {}
    for result in results:
        if result.verdict != "passed" or len(result.recoveries) == 0:
            continue
        for recovery in result.recoveries:
            cause = cause_of(recovery, result.name)
            if cause is None:
                continue
            pauses[cause].append(round(recovery.longest_pause_s, 3))
            if (seen_s := _seen_s(recovery)) is not None:
                detects[cause].append(round(seen_s, 3))
            last[cause] = result
    causes = dict(before.causes)
    for cause, samples in pauses.items():
        result = last[cause]
        causes[cause] = Measured(
            pause_s=tuple(sorted(samples)),
            detect_s=tuple(sorted(detects[cause])) or (causes[cause].detect_s if cause in causes else ()),
            command=command,
            day=datetime.fromtimestamp(result.began_at, UTC).date().isoformat(),
            machine=", ".join(f"{key} {value}" for key, value in sorted(result.machine.items())) or "not told",
            note=f"of {len(samples)} recoveries",
        )
    return replace(before, causes=causes), {cause: len(samples) for cause, samples in pauses.items()}


def _seen_s(recovery: Recovery) -> float | None:
    """Return how long it took until something was done about it: until nobody named a region, if that was looked at."""
    if "named_still_s" in recovery.facts:
        return recovery.facts["named_still_s"]
    if recovery.detect_s is None:
        return None
    return recovery.detect_s + (recovery.decide_s or 0.0) + (recovery.act_s or 0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read what is asked; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fivenines.drill.simulator.calibrate", description=__doc__)
    parser.add_argument("results", type=Path, help="what drills measured: drills-full.json")
    parser.add_argument("--out", type=Path, default=Path(calibration.__file__).parent / "calibration.json")
    parser.add_argument("--command", default="fivenines drill run --all", help="what measured it, for the file")
    asked = parser.parse_args(arguments)
    try:
        found, counts = learned(calibration.built_in(), read_results(asked.results), asked.command)
        text = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
        asked.out.write_bytes(text)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for cause, count in sorted(counts.items()):
        print(f"{cause}: {count} samples")
    if not counts:
        print("no drill that passed had a cause that is known here: nothing changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

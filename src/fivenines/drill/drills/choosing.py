"""The catalogue, and which drills of it somebody wants."""

import difflib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from fivenines.drill.drills.reading import Drill, read_drill

__all__ = ["SHORT", "UnknownDrillError", "catalogue", "choose", "find"]

SHORT = "short"
"""The tag of the drills that show every guarantee in the shortest time."""


class UnknownDrillError(Exception):
    """A drill is wanted that is not there; the sentence says which, and which one may have been meant."""


@cache
def catalogue() -> tuple[Drill, ...]:
    """Return all drills that come with the package, by their names. Raises `DrillFileError`."""
    folder = Path(str(files("fivenines.drill.drills") / "catalogue"))
    return tuple(read_drill(path) for path in sorted(folder.glob("*.yaml")))


def find(name: str) -> Drill:
    """Return a drill of the catalogue by its name, or read the file of that name.

    Raises:
        UnknownDrillError: there is neither.
        DrillFileError: the file is no drill.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml", ".json"} or path.exists():
        try:
            return read_drill(path)
        except OSError as error:
            raise UnknownDrillError(f"{name}: {error.strerror}") from error
    known = {each.name: each for each in catalogue()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "'fivenines drill list' shows all"
        raise UnknownDrillError(f"no drill of the catalogue is called {name!r}; {hint}")
    return known[name]


def choose(drills: Sequence[Drill], *, tags: Sequence[str] = (), short: bool = False) -> list[Drill]:
    """Return those that have one of the tags, if any are given, and of those the short ones, if that is wanted."""
    wanted = [each for each in drills if not tags or any(tag in each.said.tags for tag in tags)]
    return [each for each in wanted if not short or SHORT in each.said.tags]

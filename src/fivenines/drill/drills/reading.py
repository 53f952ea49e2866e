"""Read a drill from its file, and say of everything that is wrong with it where it is, and why.

`Drill` is a file that is right: a name, what it says, and where in it everything stands. The types are held against
the text first, and then what no type can say is checked by `checking`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fivenines.drill.drills.checking import check
from fivenines.drill.drills.experiment import Experiment, Ours
from fivenines.drill.results import Guarantee
from fivenines.platform.loading import Mark, Path_, PlatformFileError, Problem, Written

__all__ = ["GUARANTEE", "Drill", "DrillFileError", "parse_drill", "read_drill"]

GUARANTEE = "guarantee: "
"""What a tag begins with that names a guarantee of the design."""
_SMALLEST = "the smallest one has a title, a description and a method: see docs/drills.md"


class DrillFileError(Exception):
    """A file is no drill; `problems` tells everything that is wrong with it, in the order of its lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """A drill."""

    name: str
    """Of its file, without the ending."""
    said: Experiment
    ours: Ours
    file: str = ""
    marks: Mapping[Path_, Mark] = field(default_factory=dict, repr=False)

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """What it is about, by its tags."""
        return tuple(tag.removeprefix(GUARANTEE) for tag in self.said.tags if tag.startswith(GUARANTEE))  # type: ignore[misc]

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of the faults that it begins, each once."""
        return tuple(dict.fromkeys(each.provider.func for each in self.said.method if each.is_fault))


def read_drill(path: Path) -> Drill:
    """Read a file. Raises `DrillFileError`, and OSError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = Problem(file=str(path), mark=None, path="", reason=f"is not text in UTF-8: {error.reason}")
        raise DrillFileError((problem,)) from None
    return parse_drill(text, name=path.stem, file=str(path))


def parse_drill(text: str, *, name: str, file: str = "drill.yaml") -> Drill:
    """Read a text; `file` is what problems call it. Raises `DrillFileError`."""
    try:
        written = Written(text, file=file, smallest=_SMALLEST)
        said = written.value(Experiment)
        ours: Ours | None = Ours(name="fivenines")
        if said is not None:
            for number, each in enumerate(said.extensions):
                if each.get("name") == "fivenines":
                    ours = written.value(Ours, ("extensions", number))
            for path, reason, hint in check(said):
                written.refuse(path, reason, hint)
        written.check()
    except PlatformFileError as error:
        raise DrillFileError(error.problems) from None
    assert said is not None  # else there was a problem
    assert ours is not None
    return Drill(name=name, said=said, ours=ours, file=file, marks=written.marks)

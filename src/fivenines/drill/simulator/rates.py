"""The table of what goes wrong: read, checked, and overridden by a user's own numbers.

`rates.yaml` beside this file has a row for each kind of fault, with its sources. A user's file has the same shape and
names only what is different:

    faults:
      node_crash: {per_year: 1}
      bad_deploy: {per_year: 0.2, fails: [0.01, 0.1]}
    people:
      notice: {median_s: 60, spread: 2}

Whatever is wrong with it is told with the file, the field and the reason. Nothing here draws anything.
"""

import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import yaml
from msgspec import Meta, Struct
from msgspec.structs import replace

__all__ = ["Assumed", "FaultRate", "Kind", "Lasts", "People", "Per", "Rates", "RatesError", "built_in", "read"]

Kind = Literal[
    "node_crash",
    "node_hang",
    "node_slow",
    "node_away",
    "node_damaged",
    "edge_crash",
    "member_crash",
    "member_lost",
    "region_lost",
    "region_cut",
    "region_isolated",
    "clients_cut",
    "region_grey",
    "region_destroyed",
    "provider_lost",
    "bad_deploy",
    "bad_config",
    "operator_error",
    "shared_lost",
    "software_bug",
    "maintenance",
    "flash_crowd",
]
"""What can go wrong; each is a row of the table."""
Per = Literal["node", "member", "region", "provider", "platform"]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[float, Meta(ge=0, le=1e9)]


class RatesError(Exception):
    """A table cannot be used; the message names the file, the field and the reason."""


class Lasts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A length of time by chance: log-normal, or exponential where `mean_s` is given in the place of the median."""

    median_s: Annotated[float, Meta(gt=0)] | None = None
    spread: Annotated[float, Meta(ge=1)] = 1.0
    """The factor between the median and one standard deviation above it; 1: always the median."""
    mean_s: Annotated[float, Meta(gt=0)] | None = None
    """Of an exponential one."""

    def __post_init__(self) -> None:
        if (self.median_s is None) == (self.mean_s is None):
            raise ValueError("give median_s (and spread), or mean_s")

    @property
    def mean(self) -> float:
        """The mean, in seconds."""
        if self.mean_s is not None:
            return self.mean_s
        assert self.median_s is not None
        return self.median_s * math.exp(math.log(self.spread) ** 2 / 2)

    def at(self, uniform: float, normal: float) -> float:
        """Return a length from a uniform and a normal draw.

        The one that is not needed is drawn all the same, so that a change of the table changes nothing else.
        """
        if self.mean_s is not None:
            return -self.mean_s * math.log(1.0 - uniform)
        assert self.median_s is not None
        return self.median_s * math.exp(math.log(self.spread) * normal)


class FaultRate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the table."""

    what: str
    """For people."""
    per: Per
    per_year: Count
    """How often a year, for each of `per`."""
    range: tuple[Count, Count] | None = None
    """What we would still believe of `per_year`, from low to high."""
    lasts: Lasts | None = None
    fails: tuple[Share, Share] | None = None
    """The share of requests that fail at what it hits, from low to high; None: all."""
    sources: tuple[str, ...] = ()
    from_source: tuple[str, ...] = ()
    """The fields whose number a source gives as it stands. All others are assumptions."""
    says: str = ""
    """What the sources found, and what we made of it."""


class People(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long people take."""

    notice: Lasts
    act: Lasts
    restore: Lasts
    sources: tuple[str, ...] = ()
    says: str = ""


class Assumed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is no rate and no length; see the comments in rates.yaml."""

    canary_s: Annotated[float, Meta(gt=0)]
    canary_finds: Share
    crowd: tuple[Annotated[float, Meta(ge=0)], Annotated[float, Meta(ge=0)]]
    night: Share
    join_s: Annotated[float, Meta(ge=0)]
    deadline_s: Annotated[float, Meta(ge=0)]
    slow_counts: Share
    slow_ms: Annotated[float, Meta(gt=0)]


class Rates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole table."""

    faults: dict[Kind, FaultRate]
    people: People
    assumed: Assumed
    sources: dict[str, str]

    def only(self, *kinds: Kind) -> "Rates":
        """Return the table with nothing but these: the others do not happen."""
        kept = {kind: row if kind in kinds else replace(row, per_year=0.0) for kind, row in self.faults.items()}
        return replace(self, faults=kept)

    def with_fault(self, kind: Kind, **changes: Any) -> "Rates":
        """Return the table with one row changed."""
        return replace(self, faults={**self.faults, kind: replace(self.faults[kind], **changes)})

    def at(self, end: Literal["low", "middle", "high"]) -> "Rates":
        """Return the table with all rates at one end of what we would still believe."""
        if end == "middle":
            return self
        side = 0 if end == "low" else 1
        moved = {k: r if r.range is None else replace(r, per_year=r.range[side]) for k, r in self.faults.items()}
        return replace(self, faults=moved)


@cache
def built_in() -> Rates:
    """Return the table that comes with us."""
    text = resources.files(__package__).joinpath("rates.yaml").read_text(encoding="utf-8")
    return _checked(yaml.safe_load(text), "rates.yaml")


def read(path: Path | str) -> Rates:
    """Return the built-in table with what a user's file says otherwise.

    Raises:
        RatesError: the file cannot be read, or something in it is wrong; the message says what and where.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RatesError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RatesError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    return overridden(built_in(), data, str(path))


def overridden(rates: Rates, data: Any, file: str) -> Rates:
    """Return a table with the fields of `data` in the place of its own. Raises `RatesError`."""
    if not isinstance(data, Mapping):
        raise RatesError(f"{file}: must be a mapping with `faults`, `people` or `assumed`")
    return _checked(_merged(msgspec.to_builtins(rates), data, file, ()), file)


def _merged(ours: Any, theirs: Any, file: str, path: tuple[str, ...]) -> Any:
    if isinstance(theirs, Mapping) and path[-1:] in {("lasts",), ("notice",), ("act",), ("restore",)}:
        return dict(theirs)  # a length is given as a whole: its fields belong together
    if not isinstance(ours, Mapping):
        return theirs
    if not isinstance(theirs, Mapping):
        raise RatesError(f"{file}: {'.'.join(path)}: must be a mapping")
    merged = dict(ours)
    for key, value in theirs.items():
        here = (*path, str(key))
        if len(path) < 2 and path != ("sources",) and key not in ours:
            known = ", ".join(get_args(Kind) if path == ("faults",) else map(str, ours))
            raise RatesError(f"{file}: {'.'.join(here)}: there is no such field here; there are {known}")
        merged[key] = _merged(ours.get(key), value, file, here)
    return merged


def _checked(data: Any, file: str) -> Rates:
    try:
        rates = msgspec.convert(data, Rates)
    except msgspec.ValidationError as error:
        reason, _, at = str(error).partition(" - at ")
        place = _place(data, at.strip("`").removeprefix("$").removeprefix("."), reason)
        raise RatesError(f"{file}: {place}: {reason}" if place else f"{file}: {reason}") from None
    for kind in get_args(Kind):
        if kind not in rates.faults:
            raise RatesError(f"{file}: faults.{kind}: is missing")
    for kind, row in rates.faults.items():
        if row.range is not None and row.range[0] > row.range[1]:
            raise RatesError(f"{file}: faults.{kind}.range: {row.range[0]:g} is more than {row.range[1]:g}")
        if row.fails is not None and not 0 < row.fails[0] <= row.fails[1]:
            raise RatesError(f"{file}: faults.{kind}.fails: must be two shares, the first above 0 and not the larger")
        for source in row.sources:
            if source not in rates.sources:
                raise RatesError(f"{file}: faults.{kind}.sources: {source!r} is not among `sources`")
    return rates


def _place(data: Any, at: str, reason: str) -> str:
    """Return the place of an error; for a value of a mapping the library does not say of which key: look for it."""
    if "[...]" not in at:
        return at
    before, _, after = at.partition("[...]")
    for key, row in data.get(before, {}).items():
        try:
            msgspec.convert(row, FaultRate if before == "faults" else str)
        except msgspec.ValidationError as error:
            if reason in str(error):
                return f"{before}.{key}{after}"
    return f"{before}{after}"

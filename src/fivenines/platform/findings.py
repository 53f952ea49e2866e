"""What the placement check finds: a value for each, with the place in the file, the reason and the way to mend it."""

from typing import Literal

from msgspec import Struct

__all__ = ["Finding", "refused", "warned"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a platform."""

    severity: Literal["refused", "warning"]
    rule: str
    """Its name, as docs/platform-yaml.md lists it."""
    path: tuple[str | int, ...]
    """Where in the file, such as ("regions", 1, "nodes"); `Declared.mark` knows the line."""
    reason: str
    mend: str
    """What to do about it."""


def refused(rule: str, path: tuple[str | int, ...], reason: str, mend: str) -> Finding:
    """Make a finding with which a platform does not run."""
    return Finding(severity="refused", rule=rule, path=path, reason=reason, mend=mend)


def warned(rule: str, path: tuple[str | int, ...], reason: str, mend: str) -> Finding:
    """Make a finding that people should know of."""
    return Finding(severity="warning", rule=rule, path=path, reason=reason, mend=mend)

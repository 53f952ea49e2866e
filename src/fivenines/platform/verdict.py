"""Whether active-active across these distances is the right choice, with the numbers.

Every write waits for a majority of the journal's members, wherever it is made. A region is *near* if its writes usually
wait no longer than `LIMIT_MS`: up to a tenth of a second an answer feels immediate (J. Nielsen, "Usability
Engineering", 1993, chapter 5). Active-active is the right choice while most active regions are near.

Where they are not, the members of the journal are too far apart, and the better platform is looked for: every choice of
three or five members is tried, those regions stay active that are near then, the others are standbys, and what the
placement check refuses is dropped. Of what is left the one with most active regions is best, then the quickest. What it
costs is said, too: people near a standby then read from afar.
"""

from itertools import combinations
from statistics import median
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from fivenines.platform.latency import between_ms, write_latency
from fivenines.platform.placement import check
from fivenines.platform.spec import Platform, Region

__all__ = ["LIMIT_MS", "Proposal", "Verdict", "judge"]

LIMIT_MS = 100.0
TRIED_MAX = 12
"""With more regions than this the search would take too long, and is left out."""


class Afar(Struct, frozen=True, kw_only=True):
    """What people near one region get, in milliseconds."""

    region: str
    write_now_ms: float
    write_then_ms: float
    read_then_ms: float
    """Now they read in their own region."""


class Proposal(Struct, frozen=True, kw_only=True):
    """A better platform of the same regions."""

    active: tuple[str, ...]
    standby: tuple[str, ...]
    members: tuple[str, ...]
    """Of the journal."""
    write_ms: float
    """How long writes of active regions then wait: the median."""
    afar: tuple[Afar, ...]
    """For each standby, what people near it get."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What to think of it."""

    kind: Literal["right", "wrong", "unknown"]
    """`wrong`: active-active, where active-standby should be."""
    text: str
    """In plain words, with the numbers."""
    write_ms: float | None = None
    """How long writes of active regions wait now: the median."""
    proposal: Proposal | None = None


def judge(platform: Platform) -> Verdict:
    """Say whether this is the right choice."""
    active = [region for region in platform.serving_regions if region.mode == "active"]
    found = {region.name: write_latency(platform, region) for region in active}
    known = {name: latency.usual for name, latency in found.items() if latency is not None}
    if not known or len(known) < len(found):
        silent = [name for name in found if name not in known]
        return Verdict(kind="unknown", text=_unknown_text(platform, silent))
    usual = median(known.values())
    far = [name for name, ms in known.items() if ms > LIMIT_MS]
    standbys = [region.name for region in platform.serving_regions if region.mode == "standby"]
    if 2 * len(far) <= len(known):
        is_local = all(region.is_local for region in platform.regions)
        text = _right_text(known, far, standbys, usual, is_local=is_local)
        return Verdict(kind="right", text=text, write_ms=usual)
    proposal = _propose(platform)
    return Verdict(kind="wrong", text=_wrong_text(known, far, usual, proposal), write_ms=usual, proposal=proposal)


def _unknown_text(platform: Platform, silent: list[str]) -> str:
    lost = [region.name for region in platform.regions if region.point is None and not region.is_local]
    if lost:
        return f"Nobody can say whether writes are quick enough: it is not known where {', '.join(lost)} lie."
    return f"There is nothing to say: {', '.join(silent) or 'no region'} has no majority of the journal."


def _right_text(known: dict[str, float], far: list[str], standbys: list[str], usual: float, *, is_local: bool) -> str:
    style = "Active-standby" if standbys else "Active-active"
    text = (
        f"{style} is right across these distances: writes of the active regions wait {_ms(usual)} for a majority of "
        f"the journal in the median, {_ms(max(known.values()))} at the most."
    )
    if far:
        text += f" {_and(far)} {'waits' if len(far) == 1 else 'wait'} longer than {_ms(LIMIT_MS)}: think of standby."
    if standbys:
        text += f" {_and(standbys)} {'stands' if len(standbys) == 1 else 'stand'} by."
    return f"{text} All of it is on one machine, so distances cost nothing." if is_local else text


def _wrong_text(known: dict[str, float], far: list[str], usual: float, proposal: Proposal | None) -> str:
    text = (
        f"Active-active across these distances is the wrong choice: writes of {len(far)} of {len(known)} active "
        f"regions wait longer than {_ms(LIMIT_MS)} for a majority of the journal, {_ms(usual)} in the median and "
        f"{_ms(max(known.values()))} at the most."
    )
    if proposal is None:
        return (
            f"{text} No choice of active regions and standbys among these is quicker and keeps its promise: it takes "
            f"regions within {_ms(LIMIT_MS)} of each other, at three providers."
        )
    text += (
        f" Active-standby is the right one: {_and(proposal.active)} active, with the journal's members in "
        f"{_and(proposal.members)}, and {_and(proposal.standby)} standing by. Writes then wait "
        f"{_ms(proposal.write_ms)}."
    )
    return text


def _propose(platform: Platform) -> Proposal | None:
    """Look for the best platform of the same regions."""
    regions = platform.regions
    if len(regions) > TRIED_MAX:
        return None
    names = [region.name for region in regions]
    best: tuple[tuple[int, float], Platform] | None = None
    for count in (3, 5):
        for chosen in combinations(names, count):
            tried = _with_members(platform, chosen)
            if tried is None:
                continue
            active = [region for region in tried.serving_regions if region.mode == "active"]
            waits = [found.usual for region in active if (found := write_latency(tried, region)) is not None]
            rank = (len(active), -median(waits))
            if (best is None or rank > best[0]) and not any(each.severity == "refused" for each in check(tried)):
                best = (rank, tried)
    return _proposal(platform, best[1]) if best else None


def _with_members(platform: Platform, chosen: tuple[str, ...]) -> Platform | None:
    """Return the platform with these members of the journal, and those regions active that are near then."""
    journal = replace(platform.journal, members=chosen, heartbeat_ms=None, election_ms=None)
    tried = replace(platform, journal=journal)
    regions: list[Region] = []
    for region in platform.regions:
        found = write_latency(tried, region)
        if found is None:
            return None
        is_near = found.usual <= LIMIT_MS
        regions.append(replace(region, mode="active" if is_near or not region.nodes else "standby"))
    tried = replace(tried, regions=tuple(regions))
    active = [region for region in tried.serving_regions if region.mode == "active"]
    return tried if len(active) >= 2 else None


def _proposal(now: Platform, then: Platform) -> Proposal:
    active = [region for region in then.serving_regions if region.mode == "active"]
    standbys = [region for region in then.serving_regions if region.mode == "standby"]
    waits = {region.name: _usual(then, region) for region in active}
    afar = []
    for standby in standbys:
        trips = {region.name: between_ms(standby, region) or 0.0 for region in active}
        nearest = min(trips, key=lambda name: trips[name])
        afar.append(
            Afar(
                region=standby.name,
                write_now_ms=_usual(now, standby),
                write_then_ms=trips[nearest] + waits[nearest],
                read_then_ms=trips[nearest],
            )
        )
    return Proposal(
        active=tuple(waits),
        standby=tuple(region.name for region in standbys),
        members=then.member_regions,
        write_ms=median(waits.values()),
        afar=tuple(afar),
    )


def _usual(platform: Platform, region: Region) -> float:
    found = write_latency(platform, region)
    return found.usual if found else 0.0


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 1 else "under 1 ms"


def _and(names: tuple[str, ...] | list[str]) -> str:
    *firsts, last = names
    return f"{', '.join(firsts)} and {last}" if firsts else last

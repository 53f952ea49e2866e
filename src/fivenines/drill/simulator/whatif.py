"""What if: one change at a time, lived through the very same faults, so that what it is worth is not luck.

Each change is another setting. What it saves is the mean over years of what was lost without it and is not with it, in
pairs; the bounds are of the bootstrap over these pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from fivenines.control.deciding import decide as decide_all
from fivenines.drill.simulator.caring import Decide
from fivenines.drill.simulator.judging import Bounded, bootstrap
from fivenines.drill.simulator.living import Known, Lived, live
from fivenines.drill.simulator.setting import REGIONS_MAX, Setting
from fivenines.platform.spec import Region

__all__ = ["Change", "WhatIf", "changes", "what_if"]

_NEW_REGION, _NEW_PROVIDER = "one-more", "another-provider"


class Change(NamedTuple):
    """Something that could be done."""

    name: str
    what: str
    """For people, as in: it would help to ..."""
    setting: Setting


class WhatIf(Struct, frozen=True, kw_only=True):
    """What one change is worth."""

    name: str
    what: str
    saves_s: Bounded
    """Seconds a year, for any client; below 0: it costs."""
    saves_ours_s: Bounded
    """The same for clients with our library."""
    meets_it: float
    """The share of years that then meet the objective."""
    sentence: str


def changes(setting: Setting) -> Iterator[Change]:
    """Return the changes that are possible, each with what would then be."""
    platform = setting.platform
    active = [region for region in setting.serving if region.mode == "active"]
    standbys = [region for region in setting.serving if region.mode == "standby"]
    if not setting.has_canary:
        yield Change("canary", "send releases to one node first", replace(setting, has_canary=True))
    yield Change("notice", "let people notice twice as soon", replace(setting, notice_times=setting.notice_times / 2))
    timings = platform.timings
    faster = replace(
        timings,
        look_s=timings.look_s / 2,
        probe_s=timings.probe_s / 2,
        probe_timeout_s=timings.probe_timeout_s / 2,
    )
    yield Change(
        "detection",
        "let controllers see twice as soon",
        replace(setting, platform=replace(platform, timings=faster)),
    )
    if len(platform.regions) < REGIONS_MAX and not any(region.name == _NEW_REGION for region in platform.regions):
        members = replace(platform.journal, members=setting.members)
        new = replace(active[0], name=_NEW_REGION, provider=_NEW_PROVIDER, archive=None, mode="active")
        grown = replace(platform, regions=(*platform.regions, new), journal=members)
        yield Change("region", "add a region at another provider", replace(setting, platform=grown))
    shared = _shared(platform.regions)
    if shared is not None:
        moved = tuple(
            replace(region, provider=_NEW_PROVIDER) if region.name == shared.name else region
            for region in platform.regions
        )
        what = f"move {shared.name} from {shared.provider} to another provider"
        yield Change("provider", what, replace(setting, platform=replace(platform, regions=moved)))
    if len(active) > 1 and len(active) >= len(platform.serving_regions):
        last = active[-1]
        yield Change("standby", f"let {last.name} stand by", _in_mode(setting, (last,), is_active=False))
    if standbys:
        names = " and ".join(region.name for region in standbys)
        yield Change("active", f"let {names} serve all the time", _in_mode(setting, standbys, is_active=True))
    more = tuple(replace(region, nodes=region.nodes + 1) if region.nodes else region for region in platform.regions)
    per_region = None if setting.nodes_per_region is None else setting.nodes_per_region + 1
    bigger = replace(setting, platform=replace(platform, regions=more), nodes_per_region=per_region)
    yield Change("nodes", "add a node in each region", bigger)


def _shared(regions: Sequence[Region]) -> Region | None:
    """Return the last region of the provider that has the most; None where each has its own."""
    counts: dict[str, int] = {}
    for region in regions:
        counts[region.provider] = counts.get(region.provider, 0) + 1
    most = max(counts.values())
    return None if most < 2 else next(region for region in reversed(regions) if counts[region.provider] == most)


def _in_mode(setting: Setting, regions: Sequence[Region], *, is_active: bool) -> Setting:
    names = {region.name for region in regions}
    platform = setting.platform
    moved = tuple(
        replace(region, mode="active" if is_active else "standby") if region.name in names else region
        for region in platform.regions
    )
    return replace(setting, platform=replace(platform, regions=moved))


def what_if(
    setting: Setting,
    lived: Lived,
    *,
    seed: int,
    budget_s: float,
    decide: Decide = decide_all,
    progress: Callable[[str, int], None] = lambda _name, _year: None,
    known: Known | None = None,
) -> tuple[WhatIf, ...]:
    """Live through the same years with each change, and return what it is worth, the best first.

    Args:
        setting: as it is.
        lived: the years of it.
        seed: that they were lived with.
        budget_s: seconds a year that the objective leaves.
        decide: who decides; for tests.
        progress: told which change is tried, and of each year that is over.
        known: what the caretakers made of situations when `lived` was lived.
    """
    found = []
    count, known = len(lived.years), {} if known is None else known
    for change in changes(setting):

        def tell(year: int, name: str = change.name) -> None:
            progress(name, year)

        then = live(change.setting, seed, count, decide=decide, progress=tell, known=known)
        pairs = list(zip(lived.years, then.years, strict=True))
        saves = bootstrap([now.others - new.others for now, new in pairs], _mean)
        saves_ours = bootstrap([now.ours - new.ours for now, new in pairs], _mean)
        meets = sum(year.others <= budget_s for year in then.years) / count
        found.append(
            WhatIf(
                name=change.name,
                what=change.what,
                saves_s=saves,
                saves_ours_s=saves_ours,
                meets_it=meets,
                sentence=_sentence(change.what, saves, meets),
            )
        )
    return tuple(sorted(found, key=lambda each: -each.saves_s.value))


def _sentence(what: str, saves: Bounded, meets: float) -> str:
    share = f"{meets:.1%} of years would meet the objective"
    if saves.low > 0:
        return (
            f"To {what} would save {saves.value:,.1f} s a year (95 %: {saves.low:,.1f} to {saves.high:,.1f}); {share}."
        )
    if saves.high < 0:
        return f"To {what} would cost {-saves.value:,.1f} s a year more; {share}."
    return f"To {what} would change nothing that {saves.low:,.1f} to {saves.high:,.1f} s a year do not hold; {share}."


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

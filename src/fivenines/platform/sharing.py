"""Who gets how much of the traffic, now and with some regions lost: pure, and what `placement` and `plan` reckon with.

It follows what the controllers do: a standby is promoted for each active region that is lost, in the order of
declaration; `failover` gives all to the first, the other policies are reckoned by weight. Where clients are decides
what `latency` and `geo` really give, so for these the weights should say how the clients are spread.
"""

from collections.abc import Collection

from fivenines.platform.spec import Platform, Region

__all__ = ["providers", "regions_of", "serving", "shares"]


def serving(platform: Platform, lost: Collection[str] = ()) -> tuple[Region, ...]:
    """Return the regions that get traffic when those named in `lost` are gone, in the order of declaration."""
    wanted = [region for region in platform.serving_regions if region.mode == "active"]
    standbys = [region for region in platform.serving_regions if region.mode == "standby" and region.name not in lost]
    missing = sum(region.name in lost for region in wanted)
    chosen = {region.name for region in wanted if region.name not in lost}
    chosen.update(region.name for region in standbys[:missing])
    return tuple(region for region in platform.regions if region.name in chosen)


def shares(platform: Platform, lost: Collection[str] = ()) -> dict[str, float]:
    """Return the share of all requests that each region gets, 0 to 1, when those named in `lost` are gone."""
    found = dict.fromkeys((region.name for region in platform.regions), 0.0)
    takers = serving(platform, lost)
    if not takers:
        return found
    if platform.traffic.policy == "failover":
        # A standby that was promoted comes after those that were active all the time.
        first = min(takers, key=lambda region: region.mode == "standby")
        return found | {first.name: 1.0}
    total = sum(region.weight for region in takers)
    for region in takers:
        found[region.name] = region.weight / total if total else 1 / len(takers)
    return found


def providers(platform: Platform) -> tuple[str, ...]:
    """Return the providers, each once, in the order of declaration."""
    return tuple(dict.fromkeys(region.provider for region in platform.regions))


def regions_of(platform: Platform, provider: str) -> tuple[str, ...]:
    """Return the names of a provider's regions."""
    return tuple(region.name for region in platform.regions if region.provider == provider)

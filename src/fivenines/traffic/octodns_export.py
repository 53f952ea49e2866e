"""The steering policy as octoDNS writes it down, so that a DNS provider carries it out: pure, table to zone data.

A provider with *dynamic* records (Route 53, Azure, NS1 and others) checks the addresses itself and chooses
among those that are well. It cannot look into our controllers, so what is handed over is the policy and the shares of
this moment. Per name and family:

    weighted    one pool `served`, each address with a whole weight of 1 to 15
    failover    one pool for each region, by rank, each falling back to the next one
    geo         one pool for each region that is the nearest of some continent, falling back to `served`
    latency     as geo: nobody but the provider knows how far its clients are

`served` falls back to `others`, the addresses of regions without a share, so there is an answer as long as anything
lives. A region with a share below 1 gets that part of its own pool, and the next best region the rest. Whole weights
cannot say everything: `Export.notices` tells where what is handed over differs from what the nameservers do.

`plain` gives records without any of it, for providers that do not know dynamic records (Google Cloud DNS and Cloudflare
among them): the addresses of the regions that serve now.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from fivenines.traffic.steering import Family, distance_km, is_served
from fivenines.traffic.table import SteeredRegion, SteeringTable
from fivenines.traffic.zone import check_table

__all__ = ["WEIGHT_MAX", "Export", "HealthCheck", "export", "whole_weights"]

WEIGHT_MAX = 15
"""What the pickiest provider takes: octoDNS itself allows 100."""
SKEW_NOTED = 0.02
"""From which error of a share on a notice is given."""

CONTINENTS: dict[str, tuple[float, float]] = {
    "AF": (2.0, 21.0),
    "AS": (30.0, 95.0),
    "EU": (50.0, 12.0),
    "NA": (39.0, -96.0),
    "OC": (-30.0, 147.0),
    "SA": (-15.0, -58.0),
}
"""Where the people of a continent are, roughly, in degrees north and east. Nobody asks from Antarctica: the default."""

Pools = dict[str, dict[str, Any]]
Record = dict[str, Any]


class HealthCheck(Struct, frozen=True, kw_only=True):
    """How a provider asks an address whether it is well."""

    protocol: Literal["HTTP", "HTTPS", "TCP"] = "HTTP"
    port: int = 9959
    path: str = "/ready"
    host: str = ""
    """The name that is asked for by HTTP; empty: the record's own."""


class Export(Struct, frozen=True, kw_only=True):
    """A zone, as octoDNS reads it from YAML."""

    records: dict[str, list[Record]]
    """By name below the zone, empty for the zone itself."""
    notices: tuple[str, ...] = ()
    """What is not as the nameservers do it."""


def export(
    table: SteeringTable,
    *,
    checks: Mapping[str, HealthCheck] | None = None,
    check: HealthCheck = HealthCheck(),  # noqa: B008 - it is frozen
    ttl_s: int | None = None,
    plain: bool = False,
) -> Export:
    """Return the zone of a table. Raises `TableError` where the table makes no sense.

    Args:
        table: The policy, and how the regions are now.
        checks: How to check the addresses of single names.
        check: How to check those of all other names.
        ttl_s: How long answers may be kept, since some providers have a least; None: as the table says.
        plain: Without dynamic records.
    """
    check_table(table)
    ttl_s = table.ttl_s if ttl_s is None else ttl_s
    records: dict[str, list[Record]] = {}
    notices: list[str] = []
    for family, type_ in _TYPES.items():
        values = _values(table.regions, family)
        if not values:
            continue
        dynamic, found = (None, _plain_notices(table)) if plain else _dynamic(table, family)
        notices += found
        for name in table.names:
            record: Record = {"type": type_, "ttl": ttl_s, "values": values}
            if dynamic is not None:
                record["dynamic"] = dynamic
                record["octodns"] = {"healthcheck": _check_data((checks or {}).get(name, check))}
            records.setdefault("" if name == "@" else name, []).append(record)
        for region in table.regions:
            if own := _of_family(region, family):
                records.setdefault(region.name, []).append({"type": type_, "ttl": ttl_s, "values": sorted(own)})
    return Export(records=records, notices=tuple(dict.fromkeys(notices)))


def whole_weights(shares: Sequence[float], most: int = WEIGHT_MAX) -> tuple[int, ...]:
    """Return whole weights of 1 to `most` in the proportions of `shares`: as near as can be, and then as small.

    None is 0, since what has a share shall be answered. All shares are above 0.
    """
    total, largest = sum(shares), max(shares)
    best, best_error = (1,) * len(shares), math.inf
    for top in range(1, most + 1):
        weights = tuple(max(1, round(share / largest * top)) for share in shares)
        error = _skew(shares, weights, total)
        if error < best_error - 1e-9:
            best, best_error = weights, error
    return best


def _skew(shares: Sequence[float], weights: Sequence[int], total: float) -> float:
    return max(abs(w / sum(weights) - s / total) for s, w in zip(shares, weights, strict=True))


def _dynamic(table: SteeringTable, family: Family) -> tuple[Record, list[str]]:
    reachable = [region for region in table.regions if _of_family(region, family)]
    served = [region for region in reachable if is_served(region)] or reachable
    others = [region for region in reachable if region not in served]
    notices: list[str] = []
    # With `failover` it is only where the chain ends, whatever its weights.
    noted = [] if table.policy == "failover" else notices
    pools: Pools = {"served": _pool([(region, _product(region)) for region in served], family, noted)}
    if others:
        pools["others"] = _pool([(region, region.weight or 1.0) for region in others], family, [])
        pools["served"]["fallback"] = "others"
    if table.policy == "failover":
        return _by_rank(served, pools, family, notices), notices
    if table.policy in {"geo", "latency"} and all(_place(region) is not None for region in served):
        if table.policy == "latency":
            notices.append("latency: providers get the nearest region by continent in its place")
        if table.networks:
            notices.append("networks: not handed over; providers know themselves where clients are")
        return _by_place(served, pools, family, notices), notices
    if table.policy in {"geo", "latency"}:
        missing = ", ".join(region.name for region in served if _place(region) is None)
        notices.append(f"{table.policy}: the place of {missing} is not known, so it is handed over by weight")
    return {"pools": pools, "rules": [{"pool": "served"}]}, notices


def _by_rank(served: list[SteeredRegion], pools: Pools, family: Family, notices: list[str]) -> Record:
    """Lay a chain of pools, one for each region; the last one falls back to regions without a share."""
    ordered = sorted(served, key=lambda region: region.rank)
    names = [_pool_name(region) for region in ordered]
    for number, region in enumerate(ordered):
        next_best = ordered[number + 1] if number + 1 < len(ordered) else None
        pool = _own_pool(region, next_best, family, notices)
        fallback = names[number + 1] if next_best is not None else pools["served"].get("fallback")
        pools[names[number]] = pool | ({"fallback": fallback} if fallback else {})
    del pools["served"]
    return {"pools": pools, "rules": [{"pool": names[0]}]}


def _by_place(served: list[SteeredRegion], pools: Pools, family: Family, notices: list[str]) -> Record:
    """Give each continent to the nearest region."""
    continents: dict[str, list[str]] = {}
    for code, place in CONTINENTS.items():
        nearest = min(served, key=lambda region: (_distance(region, place), region.name))
        continents.setdefault(nearest.name, []).append(code)
    rules: list[dict[str, Any]] = []
    for region in served:
        if region.name not in continents:
            continue
        here = _place(region)
        assert here is not None, region.name
        rest = [other for other in served if other is not region]
        next_best = min(rest, key=lambda other: (_distance(other, here), other.name), default=None)
        pools[_pool_name(region)] = _own_pool(region, next_best, family, notices) | {"fallback": "served"}
        rules.append({"geos": sorted(continents[region.name]), "pool": _pool_name(region)})
    idle = [region.name for region in served if region.name not in continents]
    if idle:
        notices.append(f"geo: {', '.join(idle)} is no continent's nearest, and only gets what has no continent")
    return {"pools": pools, "rules": [*rules, {"pool": "served"}]}


def _own_pool(
    region: SteeredRegion, next_best: SteeredRegion | None, family: Family, notices: list[str]
) -> dict[str, Any]:
    """Return the pool of a region, with its share; the next best one gets what it cannot take yet."""
    if next_best is None or not 0 < region.share < 1:
        return _pool([(region, 1.0)], family, notices)
    return _pool([(region, region.share), (next_best, 1 - region.share)], family, notices)


def _pool(parts: Sequence[tuple[SteeredRegion, float]], family: Family, notices: list[str]) -> dict[str, Any]:
    shares: dict[str, float] = {}
    for region, share in parts:
        addresses = _of_family(region, family)
        for address in addresses:
            shares[address] = shares.get(address, 0.0) + share / len(addresses)
    weights = whole_weights(tuple(shares.values()))
    if (skew := _skew(tuple(shares.values()), weights, sum(shares.values()))) >= SKEW_NOTED:
        names = ", ".join(region.name for region, _ in parts)
        notices.append(f"weights of {names}: whole numbers up to {WEIGHT_MAX} miss a share by {100 * skew:.0f} points")
    # octoDNS wants no other weight than 1 where there is nothing to weigh.
    return {
        "values": sorted(
            ({"value": a, "weight": w} for a, w in zip(shares, weights, strict=True)), key=lambda v: str(v["value"])
        )
        if len(shares) > 1
        else [{"value": address, "weight": 1} for address in shares]
    }


def _plain_notices(table: SteeringTable) -> list[str]:
    if len({_product(region) for region in table.regions if is_served(region)}) > 1 or table.policy != "weighted":
        return [f"plain records: every address of a region that serves alike, and not the policy {table.policy!r}"]
    return []


def _values(regions: Sequence[SteeredRegion], family: Family) -> list[str]:
    """Return what is answered without any policy: all that serve, or all where none does."""
    served = [address for region in regions if is_served(region) for address in _of_family(region, family)]
    return sorted(set(served or [address for region in regions for address in _of_family(region, family)]))


def _check_data(check: HealthCheck) -> dict[str, Any]:
    data: dict[str, Any] = {"protocol": check.protocol, "port": check.port}
    if check.protocol != "TCP":
        data["path"] = check.path
        if check.host:
            data["host"] = check.host
    return data


_TYPES: dict[Family, str] = {4: "A", 6: "AAAA"}


def _of_family(region: SteeredRegion, family: Family) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for address in region.addresses if (":" in address) == (family == 6)))


def _product(region: SteeredRegion) -> float:
    return region.weight * region.share or 1.0


def _pool_name(region: SteeredRegion) -> str:
    return f"region-{region.name}"


def _place(region: SteeredRegion) -> tuple[float, float] | None:
    if region.latitude is None or region.longitude is None:
        return None
    return region.latitude, region.longitude


def _distance(region: SteeredRegion, place: tuple[float, float]) -> float:
    own = _place(region)
    return math.inf if own is None else distance_km(own, place)

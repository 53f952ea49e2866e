"""Steering tables for tests of names."""

from typing import Any

from fivenines.traffic.table import Policy, SteeredRegion, SteeringTable

PLACES = {"eu-west": (53.35, -6.26), "eu-north": (59.33, 18.07), "us-east": (39.04, -77.49)}


def region(name: str, number: int, **changes: Any) -> SteeredRegion:
    """Return a region as its controller describes one that is well."""
    latitude, longitude = PLACES.get(name, (None, None))
    given: dict[str, Any] = {
        "addresses": (f"192.0.2.{number}",),
        "nameserver": f"198.51.100.{number}",
        "rank": number,
        "latitude": latitude,
        "longitude": longitude,
    }
    return SteeredRegion(name=name, **(given | changes))


def table(*regions: SteeredRegion, policy: Policy = "weighted", **changes: Any) -> SteeringTable:
    """Return a table: of three regions that are well, unless told otherwise."""
    three = tuple(region(name, number) for number, name in enumerate(PLACES, 1))
    given: dict[str, Any] = {"zone": "bank.test", "serial": 7, "here": "eu-west"}
    return SteeringTable(regions=regions or three, policy=policy, **(given | changes))

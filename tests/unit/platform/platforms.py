"""Platforms for tests: short ones by hand, and strategies for all others."""

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from fivenines.control.desired import Mode
from fivenines.platform.distance import Point
from fivenines.platform.placement import Finding, check
from fivenines.platform.spec import Journal, LivenessProbe, Platform, Probe, Probes, Region, Scaling, Service, Traffic

__all__ = ["any_platform", "placed_platform", "platform", "refusals", "region", "service", "with_region"]

NAMES = ("frankfurt", "belgium", "n-virginia", "singapore", "stockholm", "sao-paulo")


def region(name: str, provider: str, **fields: Any) -> Region:
    """Return a region, which archives in a bucket of its own."""
    known: dict[str, Any] = {"archive": f"gs://books-{name}"}
    return Region(name=name, provider=provider, **(known | fields))


def platform(**fields: Any) -> Platform:
    """Return a platform that keeps its promise, if nothing is changed."""
    regions = (region("frankfurt", "aws"), region("belgium", "gcp"), region("stockholm", "azure"))
    known: dict[str, Any] = {"regions": regions, "peak_per_s": 1_000.0, "capacity_per_node_per_s": 1_000.0}
    return Platform(platform="bank", **(known | fields))


def with_region(number: int, **fields: Any) -> Platform:
    """Return that platform with one region changed."""
    regions = list(platform().regions)
    regions[number] = replace(regions[number], **fields)
    return platform(regions=tuple(regions))


def service(**fields: Any) -> Service:
    """Return a service with which nothing is wrong."""
    known: dict[str, Any] = {"name": "pay", "command": ("pay",), "port": 8_081, "edge_port": 9_980}
    return Service(**(known | fields))


def refusals(given: Platform) -> list[Finding]:
    """Return what the placement check refuses."""
    return [finding for finding in check(given) if finding.severity == "refused"]


# What YAML has no need to escape, as JSON does not either.
_text = st.text(st.characters(categories=("L", "N", "P", "S"), include_characters=" "), max_size=8)
_points = st.builds(Point, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
_locations = st.none() | st.sampled_from(NAMES) | _points
_modes: st.SearchStrategy[Mode] = st.sampled_from(["active", "active", "active", "standby"])


def _regions(name: str) -> st.SearchStrategy[Region]:
    return st.builds(
        Region,
        name=st.just(name),
        provider=st.sampled_from(["aws", "gcp", "azure", "local-a", "hetzner"]),
        location=_locations,
        mode=_modes,
        weight=st.sampled_from([0.0, 0.5, 1.0, 1.0, 3.0]),
        nodes=st.integers(0, 4),
        capacity_per_node_per_s=st.none() | st.sampled_from([100.0, 1_000.0]),
        archive=st.none() | st.sampled_from(["s3://one/a", "s3://one/b", "gs://two", "/srv/archive", "ftp://x"]),
    )


_asked = {"path": st.none() | st.sampled_from(["/live", "/ready"]), "interval_s": st.floats(0.01, 100)}
_services = st.builds(
    Service,
    name=st.sampled_from(["pay", "api", "edge", "frankfurt"]),
    command=st.lists(_text, min_size=1, max_size=3).map(tuple),
    port=st.integers(1, 65_535),
    edge_port=st.integers(1, 65_535),
    protocol=st.sampled_from(["http", "tcp"]),
    replicas=st.integers(1, 3),
    env=st.dictionaries(_text, _text, max_size=2),
    probes=st.builds(Probes, readiness=st.builds(Probe, **_asked), liveness=st.builds(LivenessProbe, **_asked)),
    regions=st.none() | st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
)
any_platform = st.integers(0, 5).flatmap(
    lambda count: st.builds(
        Platform,
        platform=st.just("bank"),
        regions=st.tuples(*(_regions(name) for name in NAMES[:count])),
        slo=st.sampled_from([0.9, 0.999, 0.99999]),
        peak_per_s=st.sampled_from([0.0, 50.0, 1_500.0]),
        capacity_per_node_per_s=st.none() | st.just(1_000.0),
        downtime_cost_per_hour=st.sampled_from([0.0, 3_600.0]),
        journal=st.builds(
            Journal,
            members=st.none() | st.lists(st.sampled_from([*NAMES, "nowhere"]), max_size=5).map(tuple),
            heartbeat_ms=st.none() | st.integers(5, 400),
            election_ms=st.none() | st.integers(50, 5_000),
        ),
        services=st.lists(_services, max_size=2).map(tuple),
        traffic=st.builds(Traffic, policy=st.sampled_from(["weighted", "latency", "geo", "failover"])),
        scaling=st.builds(Scaling, nodes_min=st.integers(1, 3), nodes_max=st.integers(2, 8)),
        accepts=st.sampled_from([{}, {"provider_loss": "for a test"}, {"single_node": "for a test"}]),
    )
)
"""Whatever can be written down, most of which is refused."""


@st.composite
def placed_platform(draw: st.DrawFn) -> Platform:
    """Draw a platform of which many keep their promise: what only names and stores could spoil is in order."""
    count = draw(st.sampled_from([5, 5, 3, 5, 4]))
    usual = ("aws", "gcp", "azure", "aws", "gcp")
    regions = tuple(
        Region(
            name=name,
            provider=draw(st.sampled_from([provider] * 5 + ["aws", "gcp"])),
            mode=draw(_modes),
            weight=draw(st.sampled_from([1.0, 1.0, 1.0, 2.0, 0.0])),
            nodes=draw(st.sampled_from([4, 4, 4, 3, 2, 3, 0, 1])),
            capacity_per_node_per_s=draw(st.sampled_from([None, None, None, None, 400.0])),
        )
        for name, provider in zip(NAMES[:count], usual, strict=False)
    )
    chosen = st.lists(st.sampled_from(NAMES[:count]), min_size=2, max_size=5).map(tuple)
    return Platform(
        platform="bank",
        regions=regions,
        peak_per_s=draw(st.sampled_from([6_000.0, 4_500.0, 3_000.0, 1_500.0, 100.0])),
        capacity_per_node_per_s=1_000.0,
        journal=Journal(members=draw(st.one_of(st.none(), st.none(), st.just(NAMES[:3]), chosen))),
        traffic=Traffic(policy=draw(st.sampled_from(["weighted", "latency", "failover"]))),
        accepts=draw(st.sampled_from([{}, {}, {"provider_loss": "for a test"}, {"single_node": "for a test"}])),
    )

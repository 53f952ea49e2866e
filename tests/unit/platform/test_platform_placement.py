from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fivenines.control.desired import Timings
from fivenines.platform.loading import parse, shown
from fivenines.platform.local.edging import edge_settings
from fivenines.platform.placement import check
from fivenines.platform.spec import Journal, LivenessProbe, Network, Platform, Probe, Probes, Scaling, Traffic
from fivenines.platform.topology import make_topology
from tests.unit.platform.platforms import (
    any_platform,
    placed_platform,
    platform,
    refusals,
    region,
    service,
    with_region,
)


def told(given_platform: Platform) -> list[str]:
    """Return what is refused, as people read it: where, and why."""
    return [f"{shown(finding.path)}: {finding.reason}" for finding in refusals(given_platform)]


def test_a_platform_that_keeps_its_promise_is_accepted() -> None:
    assert check(platform()) == []


# --- an independent model: what is left must be a majority, and carry the peak ------------------------------------


def survives(given_platform: Platform, lost: set[str]) -> bool:
    """Say whether a platform goes on without some regions. Written from the promise, not from the code."""
    members = given_platform.journal.members or [each.name for each in given_platform.regions]
    if 2 * sum(name not in lost for name in members) <= len(members):
        return False
    alive = [each for each in given_platform.regions if each.nodes > 0 and each.name not in lost]
    active = [each for each in alive if each.mode == "active"]
    vacancies = sum(each.nodes > 0 and each.mode == "active" and each.name in lost for each in given_platform.regions)
    serving = active + [each for each in alive if each.mode == "standby"][:vacancies]
    if not serving:
        return False
    if given_platform.traffic.policy == "failover":
        takes: dict[str, float] = {serving[0].name: 1.0}
    else:
        weights = {each.name: each.weight for each in serving}
        if sum(weights.values()) == 0:
            weights = dict.fromkeys(weights, 1.0)
        takes = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    for each in serving:
        per_node = each.capacity_per_node_per_s or given_platform.capacity_per_node_per_s or 0.0
        if takes.get(each.name, 0.0) * given_platform.peak_per_s > per_node * each.nodes * 1.000001:
            return False
    return True


def losses(given_platform: Platform) -> Iterable[set[str]]:
    """Yield each loss that must be survived: any region, and any provider unless its loss is accepted."""
    yield from ({each.name} for each in given_platform.regions)
    if "provider_loss" not in given_platform.accepts:
        for provider in {each.provider for each in given_platform.regions}:
            yield {each.name for each in given_platform.regions if each.provider == provider}


# Few of those that are drawn are accepted, and only these count as examples.
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(placed_platform())
def test_what_is_accepted_survives_the_loss_of_any_region_and_of_any_provider(drawn: Platform) -> None:
    assume(not refusals(drawn))
    for lost in losses(drawn):
        assert survives(drawn, lost), f"not without {lost}"


@given(placed_platform())
def test_what_would_not_survive_is_refused(drawn: Platform) -> None:
    assume(not all(survives(drawn, lost) for lost in losses(drawn)))
    assert refusals(drawn)


@given(any_platform)
def test_whatever_is_declared_each_finding_has_a_reason_a_way_out_and_a_place(drawn: Platform) -> None:
    findings = check(drawn)
    assert all(finding.reason and finding.mend and finding.path for finding in findings)
    assert [f.severity for f in findings] == sorted((f.severity for f in findings), key=lambda s: s != "refused")


# --- each rule --------------------------------------------------------------------------------------------------------


def test_a_majority_at_one_provider_is_refused_with_the_way_out() -> None:
    findings = refusals(with_region(1, provider="aws"))
    assert [(finding.rule, finding.path) for finding in findings] == [("journal-majority", ("regions",))]
    assert findings[0].reason == (
        "2 of 3 members of the journal are at aws (frankfurt, belgium): without aws there is no majority, and nothing "
        "can be written"
    )
    assert "no provider holds more than 1 of 3" in findings[0].mend


def test_a_region_that_only_holds_a_member_is_a_way_out_of_two_providers() -> None:
    two = [region("frankfurt", "aws"), region("belgium", "gcp")]
    assert told(platform(regions=(*two, region("stockholm", "hetzner", nodes=0)))) == []


def test_one_cloud_can_be_accepted_with_a_reason() -> None:
    regions = tuple(region(name, "aws") for name in ("frankfurt", "belgium", "stockholm"))
    rules = Counter(finding.rule for finding in refusals(platform(regions=regions)))
    assert rules == {"regions": 1, "journal-majority": 1, "capacity": 1}
    accepted = check(platform(regions=regions, accepts={"provider_loss": "one contract"}))
    assert {finding.severity for finding in accepted} == {"warning"}
    assert {finding.mend for finding in accepted} == {"accepted: one contract"}


def test_an_even_number_of_members_and_too_few_are_refused() -> None:
    four = (*platform().regions, region("singapore", "hetzner"))
    assert any("4 members, an even number" in each for each in told(platform(regions=four)))
    three_of_four = Journal(members=("frankfurt", "belgium", "stockholm"))
    assert told(platform(regions=four, journal=three_of_four)) == []
    assert any("with fewer than 3" in each for each in told(platform(regions=four[:2])))
    strange = told(platform(journal=Journal(members=("frankfurt", "frankfurt", "nowhere"))))
    assert "journal.members[1]: frankfurt is there twice: a region holds one member" in strange
    assert "journal.members[2]: nowhere is no region" in strange


def test_nodes_in_one_region_only_are_refused() -> None:
    alone = platform(regions=tuple(region(n, p, nodes=2 * (n == "belgium")) for n, p in ALL))
    assert any("only belgium has nodes: when it is lost, nothing serves" in each for each in told(alone))
    none = platform(regions=tuple(region(n, p, nodes=0) for n, p in ALL))
    assert any("no region has nodes" in each for each in told(none))


ALL = (("frankfurt", "aws"), ("belgium", "gcp"), ("stockholm", "azure"))


def test_survivors_without_the_capacity_for_the_peak_are_refused_with_the_number_that_would_do() -> None:
    findings = refusals(platform(peak_per_s=5_000.0))
    assert [finding.path for finding in findings] == [("regions", 0)]
    assert findings[0].reason == (
        "with stockholm lost frankfurt would get 2,500 requests/s of the peak of 5,000, and can take 2,000"
    )
    assert findings[0].mend == "give frankfurt nodes: 3, less weight, or add a region"
    assert told(platform(peak_per_s=4_000.0)) == []
    # Weight counts: together they could, but one of them gets too much.
    assert any(
        "stockholm would get 3,000" in each
        for each in told(platform(peak_per_s=4_000.0, regions=with_region(2, weight=3.0).regions))
    )


def test_a_peak_without_capacity_is_refused_and_none_at_all_is_warned_of() -> None:
    assert any("what a node of frankfurt can take" in each for each in told(platform(capacity_per_node_per_s=None)))
    silent = check(platform(peak_per_s=0.0))
    assert [(finding.severity, finding.rule) for finding in silent] == [("warning", "capacity")]


def test_a_standby_without_room_is_refused() -> None:
    small = with_region(2, mode="standby", nodes=2)
    large = platform(regions=(region("frankfurt", "aws", nodes=3), *small.regions[1:]))
    assert told(small) == []
    findings = refusals(large)
    assert [(finding.rule, finding.mend) for finding in findings] == [("standby-room", "give it nodes: 3")]
    assert any(
        "has no nodes, so it cannot be promoted" in each for each in told(with_region(2, mode="standby", nodes=0))
    )


def test_archives_in_one_place_are_refused() -> None:
    one_bucket = tuple(region(n, p, archive=f"s3://books/{n}") for n, p in ALL)
    assert any("all archives are in one bucket (s3://books)" in each for each in told(platform(regions=one_bucket)))
    same = tuple(region(n, p, archive="s3://books" if n != "stockholm" else "gs://books") for n, p in ALL)
    assert told(platform(regions=same)) == [
        "regions[1].archive: belgium and frankfurt have the same archive: each region archives for itself"
    ]
    apart = tuple(region(n, p, archive=f"s3://books-{n}/x?region=eu") for n, p in ALL)
    assert told(platform(regions=apart)) == []
    endpoints = tuple(region(n, p, archive=f"s3://books?endpoint=http://{n}") for n, p in ALL)
    assert told(platform(regions=endpoints)) == []
    assert any("names no store" in each for each in told(with_region(0, archive="ftp://books")))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scaling": Scaling(nodes_min=4, nodes_max=3)}, "scaling.nodes_min: nodes_min is 4, more than nodes_max"),
        ({"scaling": Scaling(nodes_min=3)}, "regions[0].nodes: frankfurt has 2 nodes, which is outside"),
        ({"journal": Journal(heartbeat_ms=5, election_ms=60)}, "journal.election_ms: the members of the journal"),
        ({"journal": Journal(heartbeat_ms=50, election_ms=100)}, "journal.election_ms: election_ms is 100, less than"),
        ({"journal": Journal(heartbeat_ms=5)}, "journal.heartbeat_ms: the members of the journal"),
        ({"journal": Journal(quota_mib=512)}, "journal.keep_tail_mib: keep_tail_mib is 512, more than half"),
        ({"sql": "mysql://x"}, "sql: 'mysql://x' is no place for history"),
        ({"sql": "sqlite:///books.db"}, "sql: 'sqlite:///books.db' is no place for history"),
        ({"timings": Timings(look_s=0)}, "timings.look_s: look_s is 0"),
        ({"timings": Timings(look_s=2.0)}, "timings.silent_s: silent_s is 2.5, less than two rounds"),
        ({"services": (service(name="api"),)}, "services[0].name: api is the ledger's own name"),
        ({"services": (service(name="frankfurt"),)}, "services[0].name: frankfurt is the name of a region already"),
        ({"services": (service(name="ns-x"),)}, "services[0].name: ns-x is the name of a nameserver"),
        *(
            ({"services": (service(name=name),)}, f"services[0].name: {name} is the name of a part of every edge")
            for name in ("clients", "ledger", "repeats", "statistics", "switches")
        ),
        ({"services": (service(name="a" * 40),), "regions": (region("b" * 24, "aws"), *platform().regions[1:])},
         f"services[0].name: {'b' * 24}-{'a' * 40}-2 has 67 characters, and an edge takes 64"),
        ({"services": (service(edge_port=9959),)}, "services[0].edge_port: the edge of pay would get port 9959"),
        ({"services": (service(port=9960),)}, "services[0].port: replica 1 of pay would get port 9960, which the plat"),
        ({"services": (service(port=9968),)}, "services[0].port: replica 1 of pay would get port 9968, which node 8"),
        ({"services": (service(port=9979),)}, "services[0].port: replica 2 of pay would get port 9980, which the edge"),
        ({"services": (service(port=65_535),)}, "services[0].port: replica 2 of pay would get port 65536"),
        ({"services": (service(), service(name="b", port=8_082, edge_port=9_981))}, "services[1].port: replica 1 of b"),
        ({"services": (service(regions=("x",)),)}, "services[0].regions[0]: x is no region"),
        (
            {"services": (service(protocol="tcp", probes=Probes(readiness=Probe(path="/ready"))),)},
            "services[0].probes.readiness.path: pay speaks tcp",
        ),
        ({"traffic": Traffic(networks=(Network(network="10.0.0.1/8", location="london"),), policy="geo")},
         "traffic.networks[0].network: 10.0.0.1/8 has host bits set"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(fields: dict[str, Any], expected: str) -> None:
    found = told(platform(**fields))
    assert any(each.startswith(expected) for each in found), found


def test_two_regions_of_one_name_are_refused() -> None:
    found = told(with_region(2, name="belgium"))
    assert "regions[2].name: belgium is the name of a region already" in found


def test_parts_that_would_be_called_alike_are_refused() -> None:
    regions = (region("eu", "aws"), region("eu-pay", "gcp"), region("stockholm", "azure"))
    found = told(platform(regions=regions, services=(service(),)))
    assert "regions[1].name: a part of eu-pay and one of eu would both be called eu-pay-1" in found


@pytest.mark.parametrize("name", ["eu-1", "eu-pay-2"])
def test_a_region_that_is_called_as_a_part_of_another_is_refused(name: str) -> None:
    found = told(platform(regions=(region("eu", "aws"), region(name, "gcp"), region("stockholm", "azure")),
                          services=(service(),)))  # fmt: skip
    assert f"regions[1].name: a part of eu is called {name}, too" in found
    assert not told(platform(regions=(region("eu", "aws"), region("eu-20", "gcp"), region("stockholm", "azure"))))


# Few of those that are drawn are accepted, and only these count as examples.
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_edge_of_what_is_accepted_can_be_set_up(data: st.DataObject) -> None:
    names = st.sampled_from(["eu", "eu-1", "eu-pay", "eu-pay-1", "us", "us-2", "pay", "e" * 40])
    regions = tuple(
        region(name, provider)
        for name, provider in zip(
            data.draw(st.lists(names, min_size=3, max_size=3)), ("aws", "gcp", "azure"), strict=True
        )
    )
    services = tuple(
        service(name=name, port=8_000 + 100 * number, edge_port=9_980 + number)
        for number, name in enumerate(
            data.draw(st.lists(st.sampled_from(["pay", "pay-1", "ledger", "switches", "s" * 22, "s" * 21]), max_size=2))
        )
    )
    drawn = platform(regions=regions, services=services)
    assume(not refusals(drawn))
    topology = make_topology(drawn, Path("/data"), home=Path("/home"))
    for place in topology.regions:
        assert edge_settings(topology, place).region == place.name


def test_weights_that_are_all_zero_are_refused() -> None:
    regions = tuple(region(n, p, weight=0.0) for n, p in ALL)
    assert "regions: all active regions have weight 0: nothing says how much each is to get" in told(
        platform(regions=regions)
    )


def test_one_node_can_be_accepted() -> None:
    one = with_region(0, nodes=1)
    assert [finding.rule for finding in refusals(one)] == ["single-node"]
    accepted = platform(regions=one.regions, accepts={"single_node": "for a test"})
    assert [(finding.severity, finding.rule) for finding in check(accepted)] == [("warning", "single-node")]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"services": (service(replicas=1),)}, "pay has one replica in a region"),
        ({"services": (service(edge_port=80),)}, "the edge of pay gets port 80, which needs rights"),
        (
            {"services": (service(probes=Probes(readiness=Probe(path="/up"), liveness=LivenessProbe(path="/up"))),)},
            "readiness and liveness of pay ask the same",
        ),
        (
            {"traffic": Traffic(networks=(Network(network="10.0.0.0/8", location="london"),))},
            "nobody looks at networks",
        ),
    ],
)
def test_what_people_should_know_is_a_warning(fields: dict[str, Any], expected: str) -> None:
    found = check(platform(**fields))
    assert [finding.severity for finding in found] == ["warning"]
    assert found[0].reason.startswith(expected)


def test_a_finding_knows_its_line() -> None:
    declared = parse(
        "platform: bank\nregions:\n  - {name: frankfurt, provider: aws}\n  - {name: belgium, provider: aws}\n"
        "  - name: stockholm\n    provider: azure\n    nodes: 1\n"
    )
    lines = {finding.rule: declared.mark(finding.path) for finding in refusals(declared.platform)}
    assert {rule: mark.line for rule, mark in lines.items() if mark} == {"journal-majority": 2, "single-node": 7}

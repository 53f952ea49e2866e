from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from octodns.record import Record
from octodns.zone import Zone

from fivenines.traffic.octodns_export import WEIGHT_MAX, Export, HealthCheck, export, whole_weights
from fivenines.traffic.table import GeoPrefix, Policy, SteeringTable
from fivenines.traffic.zone import TableError
from tests.unit.names.tables import region, table
from tests.unit.names.test_steering import regions


def dynamic(exported: Export, name: str = "api", type_: str = "A") -> dict[str, Any]:
    (record,) = (record for record in exported.records[name] if record["type"] == type_)
    found = record["dynamic"]
    assert isinstance(found, dict)
    return found


def weights(pool: dict[str, Any]) -> dict[str, int]:
    return {value["value"]: value["weight"] for value in pool["values"]}


def assert_octodns_takes(exported: Export) -> None:
    """Build each record by octoDNS, which raises where anything is not as it must be."""
    zone = Zone("bank.test.", [])
    for name, records in exported.records.items():
        for record in records:
            zone.add_record(Record.new(zone, name, record))
    assert len(zone.records) == sum(map(len, exported.records.values()))


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8),
)
def test_whole_weights_are_within_the_bounds_and_keep_the_order(shares: list[float]) -> None:
    found = whole_weights(shares)
    assert all(1 <= weight <= WEIGHT_MAX for weight in found)
    pairs = sorted(zip(shares, found, strict=True))
    assert [weight for _, weight in pairs] == sorted(found)


@given(st.lists(st.integers(1, WEIGHT_MAX), min_size=1, max_size=6), st.floats(1e-3, 1e3))
def test_what_can_be_said_by_whole_weights_is_said_exactly(whole: list[int], scale: float) -> None:
    found = whole_weights([weight * scale for weight in whole])
    assert all(found[0] * weight == whole[0] * other for weight, other in zip(whole, found, strict=True)), (
        "the same proportions"
    )
    assert max(found) <= max(whole), "as small as can be"


@given(regions(), st.sampled_from(["weighted", "latency", "geo", "failover"]))
def test_octodns_takes_whatever_is_exported(given_: tuple[Any, ...], policy: Policy) -> None:
    unicast = tuple(
        replace(each, addresses=tuple(a.replace("192.0.", "203.0.") for a in each.addresses)) for each in given_
    )
    for plain in (False, True):
        assert_octodns_takes(export(table(*unicast, policy=policy, here="r0"), plain=plain))


def test_weighted_becomes_one_pool_with_the_shares_and_the_others_behind_it() -> None:
    exported = export(table(region("a", 1, weight=2.0), region("b", 2, share=0.5), region("c", 3, share=0.0)))
    found = dynamic(exported)
    assert weights(found["pools"]["served"]) == {"192.0.2.1": 4, "192.0.2.2": 1}
    assert found["pools"]["served"]["fallback"] == "others"
    assert weights(found["pools"]["others"]) == {"192.0.2.3": 1}
    assert found["rules"] == [{"pool": "served"}]
    assert not exported.notices


def test_addresses_of_a_region_share_its_weight() -> None:
    both = table(region("a", 1, addresses=("203.0.113.1", "203.0.113.2")), region("b", 2))
    assert weights(dynamic(export(both))["pools"]["served"]) == {"203.0.113.1": 1, "203.0.113.2": 1, "192.0.2.2": 2}


def test_failover_becomes_a_chain_by_rank() -> None:
    found = dynamic(export(table(region("b", 2), region("a", 1), region("c", 3, share=0.0), policy="failover")))
    assert found["rules"] == [{"pool": "region-a"}]
    assert found["pools"]["region-a"]["fallback"] == "region-b"
    assert found["pools"]["region-b"]["fallback"] == "others"
    assert "served" not in found["pools"]


def test_a_region_that_is_coming_back_leaves_the_rest_to_the_next_best() -> None:
    found = dynamic(export(table(region("a", 1, share=0.2), region("b", 2), policy="failover")))
    assert weights(found["pools"]["region-a"]) == {"192.0.2.1": 1, "192.0.2.2": 4}


def test_geo_gives_each_continent_to_the_nearest_region() -> None:
    exported = export(table(policy="geo", networks=(GeoPrefix(network="10.0.0.0/8", latitude=0, longitude=0),)))
    found = dynamic(exported)
    by_pool = {rule["pool"]: rule.get("geos") for rule in found["rules"]}
    assert by_pool == {
        "region-eu-west": ["AF"],
        "region-eu-north": ["AS", "EU", "OC"],
        "region-us-east": ["NA", "SA"],
        "served": None,
    }
    assert found["rules"][-1] == {"pool": "served"}, "who has no continent is drawn for"
    assert any("networks" in notice for notice in exported.notices)


def test_latency_is_handed_over_by_place_and_says_so() -> None:
    exported = export(table(policy="latency"))
    assert any(rule.get("geos") for rule in dynamic(exported)["rules"])
    assert any(notice.startswith("latency:") for notice in exported.notices)


def test_geo_without_places_is_handed_over_by_weight_and_says_so() -> None:
    exported = export(table(region("a", 1, latitude=None), region("b", 2), policy="geo"))
    assert dynamic(exported)["rules"] == [{"pool": "served"}]
    assert any("place of a, b is not known" in notice for notice in exported.notices)


def test_a_share_that_whole_weights_miss_is_noted() -> None:
    exported = export(table(region("a", 1), region("b", 2, share=0.001)))
    assert any("miss a share" in notice for notice in exported.notices)


def test_each_family_has_its_own_records() -> None:
    mixed = table(region("a", 1, addresses=("192.0.2.1", "2001:db8::1")), region("b", 2))
    exported = export(mixed)
    assert weights(dynamic(exported)["pools"]["served"]) == {"192.0.2.1": 1, "192.0.2.2": 1}
    assert weights(dynamic(exported, type_="AAAA")["pools"]["served"]) == {"2001:db8::1": 1}
    assert [record["type"] for record in exported.records["a"]] == ["A", "AAAA"]


def test_when_no_region_serves_all_are_handed_over() -> None:
    exported = export(table(region("a", 1, share=0.0), region("b", 2, share=0.0)))
    assert weights(dynamic(exported)["pools"]["served"]) == {"192.0.2.1": 1, "192.0.2.2": 1}


def test_plain_records_have_the_addresses_that_serve_now() -> None:
    exported = export(table(region("a", 1, weight=2.0), region("b", 2), region("c", 3, share=0.0)), plain=True)
    assert exported.records["api"] == [{"type": "A", "ttl": 2, "values": ["192.0.2.1", "192.0.2.2"]}]
    assert any("plain records" in notice for notice in exported.notices)
    assert exported.records["c"] == [{"type": "A", "ttl": 2, "values": ["192.0.2.3"]}], "its own name stays"


def test_names_have_checks_of_their_own() -> None:
    exported = export(
        table(names=("api", "pay", "@")),
        checks={"pay": HealthCheck(protocol="TCP", port=8_000)},
        check=HealthCheck(protocol="HTTPS", port=443, host="bank.example"),
        ttl_s=60,
    )
    found = {name: exported.records[name][0]["octodns"]["healthcheck"] for name in ("api", "pay", "")}
    assert found["pay"] == {"protocol": "TCP", "port": 8_000}
    assert found["api"] == {"protocol": "HTTPS", "port": 443, "path": "/ready", "host": "bank.example"} == found[""]
    assert exported.records["api"][0]["ttl"] == 60


def test_a_table_that_makes_no_sense_is_not_handed_over() -> None:
    steered: SteeringTable = replace(table(), answers_max=0)
    with pytest.raises(TableError, match="answers_max"):
        export(steered)

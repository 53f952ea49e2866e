import math
from typing import Any

import dns.name
import dns.rdatatype
import pytest
from msgspec.structs import replace

from fivenines.traffic.table import GeoPrefix
from fivenines.traffic.zone import TableError, Zone, check_table
from tests.unit.names.tables import region, table


def stands_at(zone: Zone, name: str, type_: str) -> list[str]:
    owner = zone.find(dns.name.from_text(name))
    assert owner is not None, name
    return [str(record) for record in owner.records.get(dns.rdatatype.from_text(type_), ())]


def test_regions_and_nameservers_have_names_of_their_own() -> None:
    zone = Zone(table(region("eu-west", 1, share=0.0, addresses=("192.0.2.1", "2001:db8::1"))))
    assert stands_at(zone, "eu-west.bank.test", "A") == ["192.0.2.1"], "whatever its share"
    assert stands_at(zone, "eu-west.bank.test", "AAAA") == ["2001:db8::1"]
    assert stands_at(zone, "NS-EU-West.Bank.TEST", "A") == ["198.51.100.1"]
    assert stands_at(zone, "bank.test", "NS") == ["ns-eu-west.bank.test."]


def test_the_serial_is_that_of_the_table_and_fits_into_its_field() -> None:
    assert stands_at(Zone(table(serial=2**32 + 5)), "bank.test", "SOA")[0].split()[2] == "5"


def test_all_nameservers_answer_the_same_soa() -> None:
    here, there = (Zone(table(here=name)) for name in ("eu-west", "us-east"))
    assert here.soa == there.soa


def test_what_lies_between_a_name_and_the_zone_is_there_without_records() -> None:
    zone = Zone(table(names=("api", "a.b.c")))
    for name in ("b.c.bank.test", "c.bank.test"):
        owner = zone.find(dns.name.from_text(name))
        assert owner is not None
        assert not owner.is_steered
        assert not owner.records
    assert zone.find(dns.name.from_text("x.c.bank.test")) is None


def test_the_zone_itself_can_be_steered() -> None:
    owner = Zone(table(names=("@", "api"))).find(dns.name.from_text("bank.test"))
    assert owner is not None
    assert owner.is_steered
    assert owner.records, "its SOA and NS stay"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"zone": ""}, "zone: it is the root"),
        ({"zone": "bank..test"}, "zone: 'bank..test' is no name"),
        ({"zone": f"{'x' * 64}.test"}, "zone: 'x"),
        ({"serial": -1}, "serial: -1 is negative"),
        ({"ttl_s": -1}, "ttl_s: -1"),
        ({"ttl_s": 86_401}, "ttl_s: 86401"),
        ({"answers_max": 0}, "answers_max: 0"),
        ({"names": ("api", "API")}, r"names\[1\]: 'API' is taken already"),
        ({"names": ("eu-west",)}, r"names\[0\]: 'eu-west' is taken already"),
        ({"names": ("ns-eu-west",)}, r"names\[0\]: 'ns-eu-west' is taken already"),
        ({"names": ("api.",)}, r"names\[0\]: 'api.' is no name below the zone"),
        ({"names": ("*",)}, r"names\[0\]: '\*' is no name below the zone"),
        ({"names": ("",)}, r"names\[0\]: '' is no name below the zone"),
        (
            {"networks": (GeoPrefix(network="10.0.0.1/8", latitude=0, longitude=0),)},
            r"networks\[0\].network: 10.0.0.1/8 has",
        ),
        ({"networks": (GeoPrefix(network="::/0", latitude=91, longitude=0),)}, r"networks\[0\].latitude: 91"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_with_the_field(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError, match=said):
        check_table(replace(table(), **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, r"regions\[1\].name: '' is no name"),
        ({"name": "a.b"}, r"regions\[1\].name: 'a.b' is more than one label"),
        ({"name": "EU-west"}, r"regions\[1\].name: 'EU-west' is taken already"),
        ({"weight": -1.0}, r"regions\[1\].weight: -1.0"),
        ({"weight": math.nan}, r"regions\[1\].weight: nan"),
        ({"weight": math.inf}, r"regions\[1\].weight: inf"),
        ({"share": 1.1}, r"regions\[1\].share: 1.1 is more than 1"),
        ({"latency_ms": -1.0}, r"regions\[1\].latency_ms"),
        ({"addresses": ("192.0.2.256",)}, r"regions\[1\].addresses\[0\]: '192.0.2.256' is no IP address"),
        ({"addresses": ("fe80::1%eth0",)}, r"regions\[1\].addresses\[0\]: .* one machine"),
        ({"nameserver": "localhost"}, r"regions\[1\].nameserver: 'localhost' is no IP address"),
        ({"longitude": 181.0}, r"regions\[1\].longitude: 181"),
    ],
)
def test_a_region_that_makes_no_sense_is_refused_with_the_field(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError, match=said):
        Zone(table(region("eu-west", 1), replace(region("eu-north", 2), **changes)))


def test_a_table_without_any_address_is_refused() -> None:
    with pytest.raises(TableError, match="regions: none has an address"):
        check_table(table(region("eu-west", 1, addresses=())))

"""What stands in the zone of a platform, and what does not: a table made into names and records, without any I/O.

    <zone>                 SOA, NS
    <name>.<zone>          A, AAAA   steered: for each name of the table, the ledger's `api` among them
    <region>.<zone>        A, AAAA   the edges of that region, whatever its share: for operators and for probes
    ns-<region>.<zone>     A, AAAA   its nameserver

The name `@` stands for the zone itself. `check_table` says what is wrong with a table before anybody answers by it.

Steered records live for the table's `ttl_s`. What rarely changes lives longer, so that a resolver that cannot reach one
nameserver still knows the others. What is not there is remembered for `NEGATIVE_TTL_S` (the last number of the SOA, RFC
2308), so that a new service's name is seen soon.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype

from fivenines.traffic.steering import Steering
from fivenines.traffic.table import SteeredRegion, SteeringTable

__all__ = [
    "MINIMAL_ANY",
    "MINIMAL_ANY_TTL_S",
    "NEGATIVE_TTL_S",
    "STATIC_TTL_S",
    "Owner",
    "TableError",
    "Zone",
    "address_data",
    "check_table",
]

NEGATIVE_TTL_S = 5
STATIC_TTL_S = 300
MINIMAL_ANY_TTL_S = 3_600
MINIMAL_ANY = dns.rdata.from_text("IN", "HINFO", '"RFC8482" ""')
"""All that is said to who asks for every type (RFC 8482, section 4.2)."""

TTL_S_MAX = 86_400
ANSWERS_MAX = 64


class TableError(ValueError):
    """A steering table makes no sense; the message names the field and the reason."""


@dataclass(frozen=True, slots=True)
class Owner:
    """What stands at a name that there is."""

    is_steered: bool = False
    """Whether its addresses are chosen for each question."""
    records: dict[dns.rdatatype.RdataType, tuple[dns.rdata.Rdata, ...]] = field(default_factory=dict)
    """By type, what does not depend on the question."""


def address_data(address: str) -> dns.rdata.Rdata:
    """Return the A or AAAA record's data for an address."""
    return dns.rdata.from_text("IN", "A" if ip_address(address).version == 4 else "AAAA", address)


class Zone:
    """A table as a zone."""

    def __init__(self, table: SteeringTable) -> None:
        """Raises `TableError` where the table makes no sense."""
        check_table(table)
        self.table = table
        self.ttl_s = table.ttl_s
        self.steering = Steering(table)
        self.origin = _name(table.zone, "zone")
        servers = [region for region in table.regions if region.nameserver]
        first = f"ns-{servers[0].name}" if servers else "ns"
        # The same first server in every region, so that all nameservers answer alike. Refresh, retry and expire are for
        # secondaries, which this zone has none of.
        self.soa = dns.rdata.from_text(
            "IN",
            "SOA",
            f"{_below(self.origin, first)} {_below(self.origin, 'hostmaster')} {table.serial % 2**32} "
            f"60 15 86400 {NEGATIVE_TTL_S}",
        )
        self._owners = dict(self._lay_out(servers))
        for name in list(self._owners):
            # What lies between a name and the zone is there too, without records (RFC 8020).
            above = name
            while above != self.origin:
                above = above.parent()
                self._owners.setdefault(above, Owner())
        self.origin_wire = self.origin.to_wire() or b""
        self.wires = frozenset(name.to_wire() for name in self._owners)
        """The names that are there, in small letters, as they stand in packets."""

    def _lay_out(self, servers: list[SteeredRegion]) -> Iterator[tuple[dns.name.Name, Owner]]:
        names = tuple(_below(self.origin, f"ns-{region.name}") for region in servers)
        apex: dict[dns.rdatatype.RdataType, tuple[dns.rdata.Rdata, ...]] = {dns.rdatatype.SOA: (self.soa,)}
        if names:
            apex[dns.rdatatype.NS] = tuple(dns.rdata.from_text("IN", "NS", str(name)) for name in names)
        yield self.origin, Owner(is_steered="@" in self.table.names, records=apex)
        for name, region in zip(names, servers, strict=True):
            yield name, Owner(records=_by_type((region.nameserver,)))
        for region in self.table.regions:
            yield _below(self.origin, region.name), Owner(records=_by_type(region.addresses))
        for steered in self.table.names:
            if steered != "@":
                yield _below(self.origin, steered), Owner(is_steered=True)

    def find(self, name: dns.name.Name) -> Owner | None:
        """Return what stands at a name; None where it is not there, or not in this zone."""
        return self._owners.get(name)

    def is_inside(self, name: dns.name.Name) -> bool:
        """Tell whether a name is the zone's to answer for."""
        return name.is_subdomain(self.origin)

    def glue(self) -> Iterator[tuple[dns.name.Name, dns.rdata.Rdata]]:
        """Yield the names and addresses of the nameservers."""
        for region in self.table.regions:
            if region.nameserver:
                yield _below(self.origin, f"ns-{region.name}"), address_data(region.nameserver)


def check_table(table: SteeringTable) -> None:
    """Check what types do not. Raises `TableError` for the first thing that makes no sense."""
    for complaint in _complaints(table):
        raise TableError(complaint)


def _complaints(table: SteeringTable) -> Iterator[str]:
    origin = _name(table.zone, "zone")
    if origin == dns.name.root:
        yield "zone: it is the root"
    if table.serial < 0:
        yield f"serial: {table.serial} is negative"
    if not 0 <= table.ttl_s <= TTL_S_MAX:
        yield f"ttl_s: {table.ttl_s} is not between 0 and {TTL_S_MAX:,}"
    if not 1 <= table.answers_max <= ANSWERS_MAX:
        yield f"answers_max: {table.answers_max} is not between 1 and {ANSWERS_MAX}"
    if not any(region.addresses for region in table.regions):
        yield "regions: none has an address, so there is nothing to answer with"
    taken: set[dns.name.Name] = set()
    for number, region in enumerate(table.regions):
        field_ = f"regions[{number}]"
        if "." in region.name:
            yield f"{field_}.name: {region.name!r} is more than one label"
        for label in (region.name, f"ns-{region.name}"):
            if (name := _below(origin, label, f"{field_}.name")) in taken:
                yield f"{field_}.name: {label!r} is taken already"
            taken.add(name)
        yield from _complaints_of(region, field_)
    for number, text in enumerate(table.names):
        if (name := origin if text == "@" else _below(origin, text, f"names[{number}]")) in taken:
            yield f"names[{number}]: {text!r} is taken already, by a region, a nameserver or another name"
        taken.add(name)
    for number, network in enumerate(table.networks):
        field_ = f"networks[{number}]"
        try:
            ip_network(network.network)
        except ValueError as error:
            yield f"{field_}.network: {error}"
        yield from _complaints_of_place(network.latitude, network.longitude, field_)


def _complaints_of(region: SteeredRegion, field_: str) -> Iterator[str]:
    for name, value in (("weight", region.weight), ("share", region.share)):
        if not 0 <= value < math.inf:
            yield f"{field_}.{name}: {value} is negative or no number"
    if region.share > 1:
        yield f"{field_}.share: {region.share} is more than 1"
    if region.latency_ms is not None and not 0 <= region.latency_ms < math.inf:
        yield f"{field_}.latency_ms: {region.latency_ms} is negative or no number"
    for number, address in enumerate(region.addresses):
        yield from _complaints_of_address(address, f"{field_}.addresses[{number}]")
    if region.nameserver:
        yield from _complaints_of_address(region.nameserver, f"{field_}.nameserver")
    yield from _complaints_of_place(region.latitude, region.longitude, field_)


def _complaints_of_address(address: str, field_: str) -> Iterator[str]:
    try:
        known = ip_address(address)
    except ValueError:
        yield f"{field_}: {address!r} is no IP address"
        return
    if "%" in str(known):
        yield f"{field_}: {address!r} has a zone of one machine, which means nothing elsewhere"


def _complaints_of_place(latitude: float | None, longitude: float | None, field_: str) -> Iterator[str]:
    if latitude is not None and not -90 <= latitude <= 90:
        yield f"{field_}.latitude: {latitude} is not between -90 and 90"
    if longitude is not None and not -180 <= longitude <= 180:
        yield f"{field_}.longitude: {longitude} is not between -180 and 180"


def _name(text: str, field_: str) -> dns.name.Name:
    try:
        name = dns.name.from_text(text.rstrip("."))
    except (dns.exception.DNSException, UnicodeError) as error:
        raise TableError(f"{field_}: {text!r} is no name: {error}") from error
    return name.canonicalize()


def _below(origin: dns.name.Name, text: str, field_: str = "name") -> dns.name.Name:
    try:
        relative = dns.name.from_text(text, origin=None)
        if relative.is_absolute() or not relative.labels or relative.is_wild():
            raise TableError(f"{field_}: {text!r} is no name below the zone")
        return relative.concatenate(origin).canonicalize()
    except (dns.exception.DNSException, UnicodeError) as error:
        raise TableError(f"{field_}: {text!r} is no name: {error}") from error


def _by_type(addresses: tuple[str, ...]) -> dict[dns.rdatatype.RdataType, tuple[dns.rdata.Rdata, ...]]:
    found: dict[dns.rdatatype.RdataType, tuple[dns.rdata.Rdata, ...]] = {}
    for address in addresses:
        data = address_data(address)
        found[data.rdtype] = (*found.get(data.rdtype, ()), data)
    return found

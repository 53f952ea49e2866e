"""From the bytes of a question to the bytes of an answer, without a socket: what a nameserver does for each packet.

The way of a question:

1. What is no question is not answered at all (an answer, less than a header), or with a bare header: NOTIMP for other
   kinds of requests, FORMERR for what cannot be read. A packet is never a reason to fail.
2. *Prepared* answers: most questions are the same as one before, but for the id, for the case of letters, which many
   resolvers mix as a guard (draft-vixie-dnsext-dns0x20), and for a cookie, which we leave unanswered (RFC 7873 allows
   that). So an answer is kept by the question without those; they are put in when it is given.
3. All names of one length that are not there are answered alike, so for such a name a *stand-in* is worked out, once,
   and the name is put in. A flood of random names costs little more than the usual questions, and pushes out nothing.
4. Else dnspython reads it, `zone` says what is there, and dnspython writes the answer.

For steered names `Steering` draws for every single question, and what is kept is the encoding for each outcome of the
draw: shares hold exactly, prepared or not. A new table begins with nothing prepared, and what is kept is bounded.

Without any table the answer is SERVFAIL and not REFUSED: both send a resolver to the next nameserver, but REFUSED says
that we are not responsible, which some remember for minutes as a lame delegation.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from fivenines.traffic.steering import Address, Chance, Family
from fivenines.traffic.zone import (
    MINIMAL_ANY,
    MINIMAL_ANY_TTL_S,
    NEGATIVE_TTL_S,
    STATIC_TTL_S,
    Zone,
    address_data,
)

__all__ = ["Counters", "Responder"]

HEADER_BYTES = 12
QR, OPCODE, RD = 0x80, 0x78, 0x01
"""In the third byte of the header: whether it is an answer, what kind of request, whether recursion is desired."""
UDP_BYTES = 512
"""What a UDP answer may take where the question has no EDNS (RFC 1035, section 4.2.1)."""
PAYLOAD_BYTES = 1_232
"""What it may take at most: fits into every path's packets unfragmented (DNS flag day 2020)."""
KEPT_BYTES = 512
"""Answers to longer questions are not kept."""
WIRES_MAX = 16_384
ABSENT_MAX = 4_096
TRANSFERS = range(249, 255)
"""TKEY, TSIG, IXFR, AXFR, MAILB, MAILA: types that are requests."""
COOKIE = dns.edns.OptionType.COOKIE.to_bytes(2, "big")
ONE_ADDITIONAL = b"\0\0\0\0\0\1"
OPT_OPTIONS = 4 + 11
"""Where the options begin, counted from the end of the question's name: after type, class and the head of OPT."""

_FAMILIES: dict[dns.rdatatype.RdataType, Family] = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}


@dataclass(slots=True)
class Counters:
    """What was answered since the start."""

    answers: dict[dns.rcode.Rcode, int] = field(default_factory=dict)
    malformed: int = 0
    """Packets that could not be read; some of them got FORMERR."""
    ignored: int = 0
    """Packets that are no questions, and got no answer."""
    prepared: int = 0
    """Answers that needed no work."""

    def count(self, rcode: dns.rcode.Rcode) -> None:
        """Count an answer."""
        self.answers[rcode] = self.answers.get(rcode, 0) + 1


@dataclass(slots=True)
class _Fixed:
    """An answer that is the same for everybody."""

    wire: bytes
    rcode: dns.rcode.Rcode


@dataclass(slots=True)
class _Steered:
    """An answer that is drawn, with the encodings of those that were drawn before."""

    encode: Callable[[tuple[str, ...]], bytes]
    family: Family
    client: Address | None
    """The client's network, where the question tells it."""
    wires: dict[tuple[str, ...], bytes] = field(default_factory=dict)
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR


class Responder:
    """Answers by the table that it was given last."""

    def __init__(self, random: Chance) -> None:
        self.counters = Counters()
        self._random = random
        self._zone: Zone | None = None
        self._prepared: dict[bytes, _Fixed | _Steered] = {}
        self._absent: dict[bytes, _Fixed | _Steered] = {}
        """For names that are not there, by their stand-ins."""
        self._wires = 0

    @property
    def zone(self) -> Zone | None:
        """What is answered by now."""
        return self._zone

    def use(self, zone: Zone) -> None:
        """Answer by another table from now on."""
        self._zone = zone
        self._absent = {}
        self._forget()

    def respond(self, wire: bytes, source: str, *, is_tcp: bool = False) -> bytes | None:
        """Return the answer to a packet from the address `source`; None where it gets none."""
        if len(wire) < HEADER_BYTES:
            self.counters.malformed += 1
            return None
        if wire[2] & QR:
            self.counters.ignored += 1
            return None
        end = wire.find(b"\0", HEADER_BYTES) + 1
        head, name, rest = _key(wire, end, is_tcp=is_tcp)
        known = self._prepared.get(head + name + rest)
        if known is None:
            return self._respond_anew(wire, source, end, (head, name, rest), is_tcp=is_tcp)
        self.counters.prepared += 1
        body = self._draw(known, source)
        return b"".join((wire[:2], body[2:HEADER_BYTES], wire[HEADER_BYTES:end], body[end:]))

    def _respond_anew(
        self, wire: bytes, source: str, end: int, key: tuple[bytes, bytes, bytes], *, is_tcp: bool
    ) -> bytes:
        """Answer what nobody asked for since the table is in force, or a name that is not there."""
        head, name, rest = key
        if len(wire) > KEPT_BYTES or not _is_plain(wire, end):
            return self._draw(self._make(wire, is_tcp=is_tcp), source)
        stand_in = self._stand_in(name)
        if stand_in is None:
            made = self._make(wire, is_tcp=is_tcp)
            if _echoes(made, wire, end):
                self._keep(head + name + rest, made)
            return self._draw(made, source)
        asked = b"".join((wire[:HEADER_BYTES], stand_in, wire[end:]))
        known = self._absent.get(head + stand_in + rest)
        if known is None:
            known = self._make(asked, is_tcp=is_tcp)
            if not _echoes(known, asked, end):
                return b"".join((wire[:2], self._draw(known, source)[2:]))
            if len(self._absent) >= ABSENT_MAX:
                self._absent = {}
            self._absent[head + stand_in + rest] = known
        else:
            self.counters.prepared += 1
        body = self._draw(known, source)
        return b"".join((wire[:2], body[2:HEADER_BYTES], wire[HEADER_BYTES:end], body[end:]))

    def _stand_in(self, name: bytes) -> bytes | None:
        """Return what a name that is not there is worked out as: another of its length; None for one that is there."""
        if self._zone is None:
            return _filler(len(name) - 1) + b"\0"
        if name in self._zone.wires:
            return None
        origin = self._zone.origin_wire
        inside = len(name) - len(origin)
        # The zone's name may stand at the end of a longer label, too: only where one begins it is the zone.
        if inside > 0 and name.endswith(origin) and _begins_label(name, inside):
            return _filler(inside) + origin
        return _filler(len(name) - 1) + b"\0"

    def _draw(self, known: "_Fixed | _Steered", source: str) -> bytes:
        self.counters.count(known.rcode)
        if isinstance(known, _Fixed):
            return known.wire
        assert self._zone is not None, "answers are steered by a table"
        steering = self._zone.steering
        client = known.client
        if client is None and steering.depends_on_client:
            client = ipaddress.ip_address(source.partition("%")[0])
        addresses = steering.choose(client, self._random, known.family)
        wire = known.wires.get(addresses)
        if wire is None:
            wire = known.wires[addresses] = known.encode(addresses)
            self._wires += 1
        return wire

    def _keep(self, key: bytes, made: "_Fixed | _Steered") -> None:
        self._wires += 1
        if self._wires > WIRES_MAX:
            self._forget()
        self._prepared[key] = made

    def _forget(self) -> None:
        self._prepared, self._wires = {}, 0

    def _make(self, wire: bytes, *, is_tcp: bool) -> "_Fixed | _Steered":
        """Work an answer out."""
        if wire[2] & OPCODE:
            return _bare(wire, dns.rcode.NOTIMP)
        if wire[4:6] != b"\0\1":
            return self._refuse_form(wire)
        try:
            query = dns.message.from_wire(wire)
            return self._answer(query, is_tcp=is_tcp)
        except (dns.exception.DNSException, ValueError):
            return self._refuse_form(wire)

    def _refuse_form(self, wire: bytes) -> "_Fixed":
        self.counters.malformed += 1
        return _bare(wire, dns.rcode.FORMERR)

    def _answer(self, query: dns.message.Message, *, is_tcp: bool) -> "_Fixed | _Steered":
        """Raises ValueError where the question breaks a rule of the protocol."""
        reply = _Reply(query, is_tcp=is_tcp)
        zone, question = self._zone, query.question[0]
        name, type_ = question.name, question.rdtype
        if query.edns > 0:
            return reply.fixed(dns.rcode.BADVERS)
        if zone is None:
            return reply.fixed(dns.rcode.SERVFAIL)
        client = reply.take_client_subnet(zone)
        if question.rdclass != dns.rdataclass.IN or type_ in TRANSFERS or not zone.is_inside(name):
            return reply.fixed(dns.rcode.REFUSED)
        reply.message.flags |= dns.flags.AA
        owner = zone.find(name)
        if owner is None:
            reply.add_authority(zone.origin, NEGATIVE_TTL_S, zone.soa)
            return reply.fixed(dns.rcode.NXDOMAIN)
        family = _FAMILIES.get(type_)
        if owner.is_steered and family is not None and zone.steering.has(family):

            def encode(addresses: tuple[str, ...]) -> bytes:
                reply.message.answer = [dns.rrset.from_rdata_list(name, zone.ttl_s, [*map(address_data, addresses)])]
                return reply.encode()

            return _Steered(encode, family, client)
        if type_ == dns.rdatatype.ANY and (owner.is_steered or owner.records):
            reply.add_answer(name, MINIMAL_ANY_TTL_S, MINIMAL_ANY)
        elif records := owner.records.get(type_):
            reply.add_answer(name, NEGATIVE_TTL_S if type_ == dns.rdatatype.SOA else STATIC_TTL_S, *records)
            if type_ == dns.rdatatype.NS:
                for server, address in zone.glue():
                    reply.message.additional.append(dns.rrset.from_rdata(server, STATIC_TTL_S, address))
        else:
            reply.add_authority(zone.origin, NEGATIVE_TTL_S, zone.soa)
        return reply.fixed(dns.rcode.NOERROR)


class _Reply:
    """An answer that is being written."""

    def __init__(self, query: dns.message.Message, *, is_tcp: bool) -> None:
        self.message = dns.message.make_response(query, our_payload=PAYLOAD_BYTES, pad=0)
        self._query = query
        self._bytes_max = 65_535
        if query.edns >= 0:
            self._set_options([])
        if not is_tcp:
            self._bytes_max = min(max(query.payload, UDP_BYTES), PAYLOAD_BYTES) if query.edns >= 0 else UDP_BYTES

    def take_client_subnet(self, zone: Zone) -> Address | None:
        """Repeat the option of RFC 7871, with the scope of the answer, and return the network's address."""
        options = [option for option in self._query.options if isinstance(option, dns.edns.ECSOption)]
        if not options:
            return None
        subnet = options[0]
        if len(options) > 1 or subnet.scopelen:
            raise ValueError("a question has one client subnet at most, and no scope")
        client = ipaddress.ip_address(subnet.address)
        is_told = subnet.srclen > 0
        scope = zone.steering.scope(client) if is_told else 0
        self._set_options([dns.edns.ECSOption(subnet.address, subnet.srclen, scope)])
        return client if is_told else None

    def _set_options(self, options: list[dns.edns.Option]) -> None:
        # DO is given back as it came, though there are no signatures here (RFC 3225, section 3).
        flags = self._query.ednsflags & dns.flags.DO
        self.message.use_edns(0, flags, PAYLOAD_BYTES, self._query.payload, options)

    def add_answer(self, name: dns.name.Name, ttl_s: int, *records: dns.rdata.Rdata) -> None:
        """Add what was asked for."""
        self.message.answer.append(dns.rrset.from_rdata_list(name, ttl_s, records))

    def add_authority(self, name: dns.name.Name, ttl_s: int, record: dns.rdata.Rdata) -> None:
        """Add what says how long it may be remembered that there is nothing."""
        self.message.authority.append(dns.rrset.from_rdata(name, ttl_s, record))

    def fixed(self, rcode: dns.rcode.Rcode) -> "_Fixed":
        """Return it as the answer for everybody."""
        self.message.set_rcode(rcode)
        return _Fixed(self.encode(), rcode)

    def encode(self) -> bytes:
        """Return the bytes; where they are too many for UDP, those that say to ask again by TCP."""
        return self.message.to_wire(max_size=self._bytes_max, prefer_truncation=True, want_shuffle=False)


def _bare(wire: bytes, rcode: dns.rcode.Rcode) -> "_Fixed":
    """Return a header alone, in answer to what has nothing that could be repeated."""
    return _Fixed(b"".join((wire[:2], bytes((QR | wire[2] & (OPCODE | RD), rcode)), bytes(8))), rcode)


def _echoes(made: "_Fixed | _Steered", wire: bytes, end: int) -> bool:
    """Tell whether an answer repeats the name of the question, byte by byte, so that another can be put in."""
    return isinstance(made, _Steered) or made.wire[HEADER_BYTES:end] == wire[HEADER_BYTES:end]


def _is_plain(wire: bytes, end: int) -> bool:
    """Tell whether the name of a question ends at `end`, and is written out, without a pointer."""
    return _begins_label(wire[HEADER_BYTES:end], end - HEADER_BYTES - 1)


def _begins_label(name: bytes, place: int) -> bool:
    """Tell whether a label begins at a place of a name."""
    at = 0
    while at < place and 0 < name[at] < 64:
        at += name[at] + 1
    return at == place


@cache
def _filler(length: int) -> bytes:
    """Return labels of so many bytes that nobody has for a name: of no letters, and none of a single byte."""
    labels = b""
    while length:
        size = length - 1 if length <= 64 else 62 if length == 65 else 63
        labels += bytes([size]) + b"\1" * size
        length -= size + 1
    return labels


def _key(wire: bytes, end: int, *, is_tcp: bool) -> tuple[bytes, bytes, bytes]:
    """Return what a prepared answer depends on, in three parts: all but the id, the case of the name, and a cookie.

    `end` is where the name of the question ends, if it has no zero byte inside: answers to others are not kept. A
    packet with the key of a usual one has the same labels, so it is a usual one, too.
    """
    rest, kind = wire[end:], b"t" if is_tcp else b"u"
    # After type and class the root's name and the type of OPT, and its first option is a cookie.
    if rest[4:7] == b"\0\0\x29" and rest[15:17] == COOKIE and wire[6:HEADER_BYTES] == ONE_ADDITIONAL:
        length = int.from_bytes(rest[17:19], "big")
        after = OPT_OPTIONS + 4 + length
        if 8 <= length <= 40 and OPT_OPTIONS + int.from_bytes(rest[13:15], "big") == len(rest) >= after:
            rest, kind = rest[:13] + rest[after:], kind + b"c"
    return kind + wire[2:HEADER_BYTES], wire[HEADER_BYTES:end].lower(), rest

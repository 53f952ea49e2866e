import math
import random
import struct
from collections import Counter
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fivenines.traffic.responder import Responder, _Steered
from fivenines.traffic.table import GeoPrefix, SteeringTable
from fivenines.traffic.zone import Zone
from tests.unit.names.tables import region, table

EVERYWHERE = "203.0.113.9"
MANY = 60


def responder(steered: SteeringTable | None = None) -> Responder:
    made = Responder(random.Random(7))
    made.use(Zone(steered or table()))
    return made


def ask(made: Responder, name: str, type_: str = "A", *, is_tcp: bool = False, **how: Any) -> dns.message.Message:
    query = dns.message.make_query(name, type_, **how)
    wire = made.respond(query.to_wire(), EVERYWHERE, is_tcp=is_tcp)
    assert wire is not None
    answer = dns.message.from_wire(wire)
    assert answer.id == query.id
    assert answer.flags & dns.flags.QR
    assert answer.question == query.question
    return answer


def addresses(answer: dns.message.Message) -> list[str]:
    return [str(record) for rrset in answer.answer for record in rrset]


def only(section: list[dns.rrset.RRset]) -> dns.rrset.RRset:
    (found,) = section
    return found


def raw(query: dns.message.Message, **fields: int) -> bytes:
    """Return a question with some fields of its header overwritten."""
    header = dict(zip(("id", "flags", "qd", "an", "ns", "ar"), struct.unpack("!6H", query.to_wire()[:12]), strict=True))
    return struct.pack("!6H", *(header | fields).values()) + query.to_wire()[12:]


def test_a_steered_name_is_answered_with_addresses_of_its_regions() -> None:
    answer = ask(responder(), "api.bank.test")
    assert answer.flags & dns.flags.AA
    assert not answer.flags & dns.flags.RA
    assert set(addresses(answer)) <= {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
    assert len(addresses(answer)) == 2
    assert only(answer.answer).ttl == 2


@pytest.mark.parametrize("name", ["api.bank.test", "bank.test", "eu-west.bank.test", "ns-eu-west.bank.test"])
def test_another_type_of_a_name_that_is_there_is_no_data(name: str) -> None:
    answer = ask(responder(), name, "TXT")
    assert answer.rcode() == dns.rcode.NOERROR
    assert not answer.answer
    assert only(answer.authority).rdtype == dns.rdatatype.SOA
    assert only(answer.authority).ttl == 5


def test_a_family_without_addresses_is_no_data() -> None:
    mixed = responder(table(region("eu-west", 1), region("eu-north", 2, addresses=("2001:db8::2",))))
    assert not ask(responder(), "api.bank.test", "AAAA").answer
    assert addresses(ask(mixed, "api.bank.test", "AAAA")) == ["2001:db8::2"]
    assert addresses(ask(mixed, "api.bank.test", "A")) == ["192.0.2.1"]


def test_a_name_that_is_not_there_does_not_exist() -> None:
    answer = ask(responder(), "nothing.bank.test")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert answer.flags & dns.flags.AA
    assert only(answer.authority).rdtype == dns.rdatatype.SOA


def test_nameservers_come_with_their_addresses() -> None:
    answer = ask(responder(), "bank.test", "NS")
    assert [str(record) for record in only(answer.answer)] == [
        f"ns-{name}.bank.test." for name in ("eu-west", "eu-north", "us-east")
    ]
    assert {str(rrset[0]) for rrset in answer.additional} == {"198.51.100.1", "198.51.100.2", "198.51.100.3"}


@pytest.mark.parametrize("name", ["test", "other.test", "notbank.test", "."])
def test_what_is_outside_the_zone_is_refused(name: str) -> None:
    answer = ask(responder(), name)
    assert answer.rcode() == dns.rcode.REFUSED
    assert not answer.flags & dns.flags.AA


@pytest.mark.parametrize(("name", "type_", "class_"), [("version.bind", "TXT", "CH"), ("api.bank.test", "A", "CH")])
def test_other_classes_are_refused(name: str, type_: str, class_: str) -> None:
    assert ask(responder(), name, type_, rdclass=class_).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("type_", ["AXFR", "IXFR", "TKEY"])
def test_types_that_are_requests_are_refused(type_: str) -> None:
    assert ask(responder(), "bank.test", type_, is_tcp=True).rcode() == dns.rcode.REFUSED


def test_any_is_answered_with_as_little_as_can_be() -> None:
    made = responder()
    for name in ("bank.test", "api.bank.test"):
        assert only(ask(made, name, "ANY").answer).rdtype == dns.rdatatype.HINFO
    assert ask(made, "nothing.bank.test", "ANY").rcode() == dns.rcode.NXDOMAIN


def test_without_a_table_the_server_fails() -> None:
    assert ask(Responder(random.Random(7)), "api.bank.test").rcode() == dns.rcode.SERVFAIL


def test_letters_come_back_in_the_case_they_were_asked_in() -> None:
    made = responder(table(region("eu-west", 1)))
    for name in ("api.bank.test", "aPi.BANK.tEst", "API.bank.TEST", "api.BANK.test"):
        answer = ask(made, name)
        assert str(only(answer.question).name) == f"{name}."
        assert str(only(answer.answer).name) == f"{name}."
    assert made.counters.prepared == 3, "and cost no work"


def test_a_prepared_answer_is_that_of_its_own_question() -> None:
    made = responder(table(region("eu-west", 1)))
    for _ in range(2):
        assert not ask(made, "api.bank.test", flags=0).flags & dns.flags.RD
        assert ask(made, "api.bank.test", flags=dns.flags.RD).flags & dns.flags.RD
        assert addresses(ask(made, "api.bank.test")) == ["192.0.2.1"]
        assert ask(made, "api.bank.test", "AAAA").rcode() == dns.rcode.NOERROR
        assert ask(made, "api.bank.test", use_edns=0).edns == 0
        assert ask(made, "api.bank.test").edns == -1
    assert made.counters.prepared == 8, "four of the twelve were new"


def test_shares_hold_for_prepared_answers() -> None:
    made = responder(table(region("a", 1, weight=3.0), region("b", 2), answers_max=1))
    counts = Counter(addresses(ask(made, "api.bank.test"))[0] for _ in range(2_000))
    assert abs(counts["192.0.2.1"] - 1_500) < 5 * math.sqrt(2_000 * 0.75 * 0.25)
    assert made.counters.prepared == 1_999


def test_a_new_table_is_answered_by_at_once() -> None:
    made = responder(table(region("a", 1)))
    assert addresses(ask(made, "api.bank.test")) == ["192.0.2.1"]
    made.use(Zone(table(region("a", 2))))
    assert addresses(ask(made, "api.bank.test")) == ["192.0.2.2"]


def test_a_cookie_costs_no_work_and_gets_no_answer() -> None:
    made = responder(table(region("a", 1)))
    for number in range(5):
        cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, number.to_bytes(8, "big"))
        answer = ask(made, "api.bank.test", use_edns=0, options=[cookie])
        assert addresses(answer) == ["192.0.2.1"]
        assert not answer.options
    assert made.counters.prepared == 4


def test_a_newer_edns_is_told_which_one_we_know() -> None:
    answer = ask(responder(), "api.bank.test", use_edns=1)
    assert answer.rcode() == dns.rcode.BADVERS
    assert answer.edns == 0
    assert not answer.answer


def test_do_comes_back_as_it_came() -> None:
    assert ask(responder(), "api.bank.test", want_dnssec=True).ednsflags & dns.flags.DO
    assert not ask(responder(), "api.bank.test", use_edns=0).ednsflags & dns.flags.DO


def test_a_client_subnet_decides_and_comes_back_with_its_scope() -> None:
    made = responder(
        table(
            policy="geo",
            answers_max=1,
            networks=(
                GeoPrefix(network="192.0.2.0/24", latitude=40.0, longitude=-75.0),
                GeoPrefix(network="203.0.113.0/24", latitude=60.0, longitude=18.0),
            ),
        )
    )
    for _ in range(2):
        subnet = dns.edns.ECSOption("192.0.2.0", 24)
        answer = ask(made, "api.bank.test", use_edns=0, options=[subnet])
        assert addresses(answer) == ["192.0.2.3"], "us-east is the nearest to the client"
        assert answer.options == (dns.edns.ECSOption("192.0.2.0", 24, 24),)
        assert addresses(ask(made, "api.bank.test")) == ["192.0.2.2"], "eu-north is the nearest to the resolver"
    nobody = dns.edns.ECSOption("0.0.0.0", 0)
    answer = ask(made, "api.bank.test", use_edns=0, options=[nobody])
    assert addresses(answer) == ["192.0.2.2"]
    assert answer.options == (dns.edns.ECSOption("0.0.0.0", 0, 0),)


def test_a_client_subnet_matters_to_no_other_policy() -> None:
    answer = ask(responder(), "api.bank.test", use_edns=0, options=[dns.edns.ECSOption("2001:db8::", 56)])
    assert answer.options == (dns.edns.ECSOption("2001:db8::", 56, 0),)


@pytest.mark.parametrize("data", [b"", b"\0\1\x18\x08\xc0\0\2", b"\0\1\x21\0\xc0\0\2\1\1", b"\0\7\x18\0\xc0\0\2"])
def test_a_client_subnet_that_breaks_the_rules_is_refused_as_malformed(data: bytes) -> None:
    made = responder()
    option = dns.edns.GenericOption(dns.edns.OptionType.ECS, data)
    query = dns.message.make_query("api.bank.test", "A", use_edns=0, options=[option])
    wire = made.respond(query.to_wire(), EVERYWHERE)
    assert wire is not None
    assert dns.message.from_wire(wire).rcode() == dns.rcode.FORMERR


def test_an_answer_that_is_too_long_for_udp_says_so_and_comes_by_tcp() -> None:
    made = responder(
        table(*(region(f"r{n}", n, addresses=(f"192.0.2.{n}",)) for n in range(1, MANY + 1)), answers_max=MANY)
    )
    for _ in range(2):
        short = ask(made, "api.bank.test")
        assert short.flags & dns.flags.TC
        assert not short.answer
        assert len(addresses(ask(made, "api.bank.test", use_edns=0, payload=4_096))) == MANY, "fits into 1,232"
        assert ask(made, "api.bank.test", use_edns=0, payload=100).flags & dns.flags.TC, "512 is the least"
        whole = ask(made, "api.bank.test", is_tcp=True)
        assert not whole.flags & dns.flags.TC
        assert len(addresses(whole)) == MANY


@pytest.mark.parametrize("opcode", [dns.opcode.IQUERY, dns.opcode.STATUS, dns.opcode.NOTIFY, dns.opcode.UPDATE])
def test_what_is_no_question_is_not_implemented(opcode: dns.opcode.Opcode) -> None:
    query = dns.message.make_query("bank.test", "SOA")
    wire = responder().respond(raw(query, flags=opcode << 11), EVERYWHERE)
    assert wire is not None
    answer = dns.message.from_wire(wire)
    assert (answer.rcode(), answer.opcode(), answer.id) == (dns.rcode.NOTIMP, opcode, query.id)


@pytest.mark.parametrize("count", [0, 2])
def test_a_packet_with_another_number_of_questions_is_malformed(count: int) -> None:
    wire = responder().respond(raw(dns.message.make_query("api.bank.test", "A"), qd=count), EVERYWHERE)
    assert wire is not None
    assert dns.message.from_wire(wire).rcode() == dns.rcode.FORMERR


def test_an_answer_gets_no_answer() -> None:
    made = responder()
    assert made.respond(raw(dns.message.make_query("api.bank.test", "A"), flags=dns.flags.QR), EVERYWHERE) is None
    assert made.counters.ignored == 1


def test_a_name_with_a_zero_byte_inside_does_not_mix_up_answers() -> None:
    made = responder()
    for tail in (b"bank", b"sank"):
        name = b"\x03a\0b\x04" + tail + b"\x04test\0"
        wire = b"\0\1\0\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
        answer = made.respond(wire, EVERYWHERE)
        assert answer is not None
        assert answer[12 : 12 + len(name)] == name
    assert made.counters.prepared == 0


def test_names_that_are_not_there_cost_no_work_and_push_out_nothing() -> None:
    made = responder()
    ask(made, "api.bank.test")
    for zone, rcode in (("bank.test", dns.rcode.NXDOMAIN), ("example", dns.rcode.REFUSED)):
        for number in range(100, 200):
            assert ask(made, f"a{number}.{zone}").rcode() == rcode
    assert made.counters.prepared == 198
    assert len(made._absent) == 2
    assert len(made._prepared) == 1


@pytest.mark.parametrize("length", [1, 2, 61, 62, 63, 64, 65, 66, 127, 128, 129, 200, 240])
def test_a_name_of_any_length_that_is_not_there_does_not_exist(length: int) -> None:
    made = responder()
    label = "a" * min(length, 63)
    rest = ".".join("b" * min(63, length - place) for place in range(63, length, 64) if length > place)
    name = f"{label}.{rest}.bank.test".replace("..", ".")
    for _ in range(2):
        answer = ask(made, name)
        assert answer.rcode() == dns.rcode.NXDOMAIN
        assert only(answer.authority) == only(ask(responder(), "x.bank.test").authority)


@pytest.mark.parametrize("name", ["hostmaster", "x.hostmaster", "x.ns-eu-west", "abcdefghij", "abcdefghijklm"])
def test_the_soa_is_right_whatever_name_was_asked_for_before(name: str) -> None:
    made = responder()
    expected = only(ask(responder(), "x.bank.test").authority)
    for each in ("hostmaster", name, "abcdefghij", "x.ns-eu-west", name):
        assert only(ask(made, f"{each}.bank.test").authority) == expected


def test_a_name_that_ends_like_the_zone_is_not_in_it() -> None:
    made = responder()
    wire = b"\0\1\0\0\0\1\0\0\0\0\0\0" + b"\x0bx\x04bank\x04test" + b"\0" + b"\0\1\0\1"
    for _ in range(2):
        answer = made.respond(wire, EVERYWHERE)
        assert answer is not None
        assert dns.message.from_wire(answer).rcode() == dns.rcode.REFUSED


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fivenines.traffic.responder.ABSENT_MAX", 10)
    monkeypatch.setattr("fivenines.traffic.responder.WIRES_MAX", 10)
    made = responder()
    for size in range(600, 650):
        for name in ("api.bank.test", "nothing.bank.test"):
            ask(made, name, use_edns=0, payload=size)
        assert len(made._absent) <= 10
        assert sum(len(known.wires) for known in made._prepared.values() if isinstance(known, _Steered)) <= 20


# Packets are made from real questions: cut, joined, and with bytes changed.
questions = st.builds(
    lambda name, type_, edns, size, subnet: dns.message.make_query(
        name,
        type_,
        use_edns=edns,
        payload=size if edns >= 0 else None,
        options=[dns.edns.ECSOption("192.0.2.0", subnet)] if edns >= 0 else None,
    ).to_wire(),
    st.sampled_from(
        [
            "api.bank.test",
            "bank.test",
            "x.bank.test",
            "eu-west.bank.test",
            "hostmaster.bank.test",
            "test",
            ".",
            "a" * 60 + ".test",
        ]
    ),
    st.sampled_from(["A", "AAAA", "SOA", "NS", "ANY", "AXFR", "TXT", "OPT", "TSIG", "RRSIG"]),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from([0, 512, 1232, 65535]),
    st.integers(0, 32),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    wire = bytearray(draw(questions))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=6)):
        if place < len(wire):
            wire[place] = value
    cut = draw(st.integers(0, len(wire)))
    return bytes(wire[:cut] if draw(st.booleans()) else wire) + draw(st.binary(max_size=20))


@given(st.one_of(mutated(), st.binary(max_size=600), st.lists(mutated(), max_size=2).map(b"".join)), st.booleans())
@example(b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", False)
@example(b"\0\1\1\0\0\1\0\0\0\0\0\0\x40abc\0\0\1\0\1", False)
def test_no_packet_is_a_reason_to_fail(wire: bytes, is_tcp: bool) -> None:
    made = SHARED
    # Twice: the second time it may be prepared.
    first, second = (made.respond(wire, EVERYWHERE, is_tcp=is_tcp) for _ in range(2))
    assert (first is None) == (second is None)
    if first is not None:
        answer = dns.message.from_wire(first)
        assert answer.id == int.from_bytes(wire[:2], "big")
        assert answer.flags & dns.flags.QR
        assert len(first) <= (65_535 if is_tcp else 1_232)
    assert addresses(ask(made, "api.bank.test")), "and the next question is answered"


SHARED = responder(table(policy="geo", networks=(GeoPrefix(network="192.0.2.0/25", latitude=40.0, longitude=-75.0),)))
"""One for all packets, so that what one leaves behind would hurt the next."""


@given(st.lists(mutated(), min_size=1, max_size=8))
def test_prepared_answers_are_those_that_would_be_worked_out(wires: list[bytes]) -> None:
    kept, bare = responder(ONE_REGION), responder(ONE_REGION)
    for wire in (*wires, *reversed(wires)):
        if len(wire) >= 12 and not wire[2] & 0x80:
            answer = kept.respond(wire, EVERYWHERE)
            assert answer is not None
            worked_out = bare._draw(bare._make(wire, is_tcp=False), EVERYWHERE)
            # Names may be written shorter in one than in the other.
            assert dns.message.from_wire(answer).to_text() == dns.message.from_wire(worked_out).to_text()


ONE_REGION = table(
    region("eu-west", 1), policy="geo", networks=(GeoPrefix(network="192.0.2.0/25", latitude=40.0, longitude=-75.0),)
)

import math
import random
from collections import Counter
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fivenines.traffic.steering import Steering, choose, distance_km, failing_open, is_served, weighed
from fivenines.traffic.table import GeoPrefix, Policy, SteeredRegion, SteeringTable
from tests.unit.names.tables import PLACES, region, table

POLICIES: tuple[Policy, ...] = ("weighted", "latency", "geo", "failover")
ASKED = 4_000
SURPRISE = 5.0
"""Standard deviations: with a fixed seed nothing is flaky, and a wrong share is dozens of them away."""

weights = st.one_of(st.just(0.0), st.floats(0.01, 100))
shares = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.01, 1))
places = st.one_of(st.none(), st.tuples(st.floats(-90, 90), st.floats(-180, 180)))


@st.composite
def regions(draw: st.DrawFn) -> tuple[SteeredRegion, ...]:
    found = []
    for number in range(draw(st.integers(1, 5))):
        place = draw(places)
        addresses = [f"192.0.{number}.{n}" for n in range(draw(st.integers(0 if number else 1, 3)))]
        addresses += [f"2001:db8:{number}::{n}" for n in range(draw(st.integers(0, 2)))]
        found.append(
            SteeredRegion(
                name=f"r{number}",
                addresses=tuple(addresses),
                nameserver="",
                weight=draw(weights),
                share=draw(shares),
                rank=draw(st.integers(0, 3)),
                latitude=place and place[0],
                longitude=place and place[1],
                latency_ms=draw(st.one_of(st.none(), st.floats(0, 300))),
            )
        )
    return tuple(found)


@st.composite
def tables(draw: st.DrawFn) -> SteeringTable:
    networks = draw(st.lists(st.tuples(st.integers(0, 255), st.sampled_from([8, 12, 16])), max_size=4))
    return SteeringTable(
        zone="bank.test",
        serial=1,
        here="r0",
        policy=draw(st.sampled_from(POLICIES)),
        answers_max=draw(st.integers(1, 4)),
        regions=draw(regions()),
        networks=tuple(
            GeoPrefix(
                network=str(ip_network(f"{first}.0.0.0/{length}", strict=False)),
                latitude=draw(st.floats(-90, 90)),
                longitude=draw(st.floats(-180, 180)),
            )
            for first, length in networks
        ),
    )


clients = st.one_of(st.none(), st.ip_addresses())


def owners(steered: SteeringTable) -> dict[str, SteeredRegion]:
    return {address: each for each in steered.regions for address in each.addresses}


def first_counts(steered: SteeringTable, client: str | None = None, asked: int = ASKED) -> Counter[str]:
    chance, steering, found = random.Random(7), Steering(steered), owners(steered)
    known = None if client is None else ip_address(client)
    return Counter(found[steering.choose(known, chance)[0]].name for _ in range(asked))


def assert_share(count: int, share: float, asked: int = ASKED) -> None:
    deviation = math.sqrt(asked * share * (1 - share))
    assert abs(count - asked * share) <= SURPRISE * deviation + 1e-9, (count, asked * share)


@given(tables(), clients, st.integers())
def test_an_answer_is_never_empty_and_never_repeats_itself(
    steered: SteeringTable, client: IPv4Address | None, seed: int
) -> None:
    answer = choose(steered, client, random.Random(seed))
    assert 1 <= len(answer) <= steered.answers_max
    assert len(set(answer)) == len(answer)


@given(tables(), clients, st.integers())
def test_no_region_without_a_share_is_answered_while_another_has_one(
    steered: SteeringTable, client: IPv4Address | None, seed: int
) -> None:
    known = weighed(steered)
    found = owners(known)
    answer = choose(steered, client, random.Random(seed))
    is_open = not any(is_served(each) and each.addresses for each in known.regions)
    assert is_open or all(is_served(found[address]) for address in answer)
    is_lost = not any(each.share and each.addresses for each in steered.regions)
    assert is_lost or all(found[address].share for address in answer)


@given(tables(), clients, st.integers(), st.sampled_from([4, 6]))
def test_a_family_is_answered_whenever_there_is_an_address_of_it(
    steered: SteeringTable, client: IPv4Address | None, seed: int, family: int
) -> None:
    of_family = {address for address in owners(steered) if ip_address(address).version == family}
    answer = choose(steered, client, random.Random(seed), 4 if family == 4 else 6)
    assert set(answer) <= of_family
    assert bool(answer) == bool(of_family)


@given(tables(), clients, st.integers())
def test_the_same_chance_gives_the_same_answer(steered: SteeringTable, client: IPv4Address | None, seed: int) -> None:
    first, second = (choose(steered, client, random.Random(seed)) for _ in range(2))
    assert first == second


@given(tables(), clients, st.integers())
def test_the_next_address_is_in_another_region_as_long_as_there_is_one(
    steered: SteeringTable, client: IPv4Address | None, seed: int
) -> None:
    found = owners(steered)
    names = [found[address].name for address in choose(steered, client, random.Random(seed))]
    distinct = len(set(names))
    assert len(set(names[:distinct])) == distinct, "each region once, before any comes twice"


@settings(max_examples=25, deadline=None)
@given(regions())
def test_weighted_gives_each_region_its_share_of_the_first_places(given_: tuple[SteeredRegion, ...]) -> None:
    steered = table(*(each for each in given_ if each.addresses))
    total = sum(each.weight * each.share for each in steered.regions)
    counts = first_counts(steered)
    for each in steered.regions:
        if total:
            assert_share(counts[each.name], each.weight * each.share / total)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["latency", "geo", "failover"]), st.floats(0.01, 0.99))
def test_an_ordered_policy_passes_over_a_region_that_is_coming_back_but_for_its_share(
    policy: Policy, share: float
) -> None:
    steered = table(
        region("eu-west", 1, share=share, latency_ms=1.0),
        region("eu-north", 2, latency_ms=2.0),
        region("us-east", 3, latency_ms=3.0),
        policy=policy,
        networks=(GeoPrefix(network="10.0.0.0/8", latitude=53.0, longitude=-6.0),),
    )
    counts = first_counts(steered, "10.1.2.3")
    assert_share(counts["eu-west"], share)
    assert counts["eu-north"] == ASKED - counts["eu-west"], "the others go to the next best"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_region_that_is_coming_back_is_not_in_all_answers_by_the_second_place(policy: Policy) -> None:
    steered = table(region("eu-west", 1), region("eu-north", 2, share=0.05), policy=policy)
    chance, steering = random.Random(7), Steering(steered)
    seen = sum("192.0.2.2" in steering.choose(None, chance) for _ in range(ASKED))
    assert 0.02 * ASKED < seen < 0.15 * ASKED


def test_latency_takes_the_quickest_first_and_here_before_what_nobody_measured() -> None:
    steered = table(
        region("us-east", 3), region("eu-north", 2, latency_ms=20.0), region("eu-west", 1), policy="latency"
    )
    assert choose(replace(steered, answers_max=3), None, random.Random(1)) == ("192.0.2.1", "192.0.2.2", "192.0.2.3")


def test_latency_that_nobody_measured_is_drawn_by_weight() -> None:
    steered = table(region("eu-north", 1, weight=3.0), region("us-east", 2), policy="latency", here="elsewhere")
    assert_share(first_counts(steered)["eu-north"], 0.75)


def test_equals_are_drawn_by_weight() -> None:
    steered = table(region("a", 1, rank=0, weight=3.0), region("b", 2, rank=0), region("c", 3), policy="failover")
    counts = first_counts(steered)
    assert_share(counts["a"], 0.75)
    assert counts["c"] == 0


def test_failover_gives_all_to_the_lowest_rank_that_has_a_share() -> None:
    steered = table(region("a", 1, share=0.0), region("b", 2), region("c", 3), policy="failover")
    assert first_counts(steered) == {"b": ASKED}


@pytest.mark.parametrize(
    ("client", "nearest"),
    [("10.1.0.1", "us-east"), ("10.9.0.1", "eu-north"), ("2001:db8:1::1", "eu-west")],
)
def test_geo_goes_by_the_longest_network_that_the_client_is_in(client: str, nearest: str) -> None:
    steered = table(
        policy="geo",
        networks=(
            GeoPrefix(network="10.0.0.0/8", latitude=60.0, longitude=18.0),
            GeoPrefix(network="10.1.0.0/16", latitude=40.0, longitude=-75.0),
            GeoPrefix(network="2001:db8::/32", latitude=52.0, longitude=-4.0),
        ),
    )
    assert first_counts(steered, client) == {nearest: ASKED}


def test_geo_draws_by_weight_for_whom_nobody_knows() -> None:
    steered = table(policy="geo", networks=(GeoPrefix(network="10.0.0.0/8", latitude=60.0, longitude=18.0),))
    for client in (None, "192.168.1.1", "2001:db8::1"):
        assert_share(first_counts(steered, client)["eu-west"], 1 / 3)


def test_geo_puts_a_region_whose_place_nobody_knows_last() -> None:
    steered = table(
        region("somewhere", 1),
        region("us-east", 2),
        policy="geo",
        networks=(GeoPrefix(network="10.0.0.0/8", latitude=60.0, longitude=18.0),),
    )
    assert choose(steered, IPv4Address("10.0.0.1"), random.Random(1)) == ("192.0.2.2", "192.0.2.1")


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=20), st.integers(0, 2**32 - 1))
def test_the_scope_says_for_whom_else_the_answer_holds(prefixes: list[tuple[int, int]], number: int) -> None:
    networks = {str(IPv4Network((first, length), strict=False)) for first, length in prefixes}
    steered = table(
        policy="geo",
        networks=tuple(
            GeoPrefix(network=network, latitude=float(place), longitude=0.0)
            for place, network in enumerate(sorted(networks))
        ),
    )
    steering, client = Steering(steered), IPv4Address(number)
    scope = steering.scope(client)
    for other in (number ^ (1 << (31 - bit)) for bit in range(scope, 32)):
        mine, others = (choose(steered, IPv4Address(each), random.Random(3)) for each in (number, other))
        assert mine == others, f"they share the first {scope} bits"


def test_failing_open_answers_all_as_declared() -> None:
    steered = table(region("a", 1, share=0.0, weight=3.0), region("b", 2, share=0.0))
    assert_share(first_counts(steered)["a"], 0.75)


@pytest.mark.parametrize("policy", POLICIES)
def test_regions_that_weigh_nothing_are_answered_before_those_that_are_lost(policy: Policy) -> None:
    lost = region("a", 1, share=0.0)
    steered = table(lost, region("b", 2, weight=0.0), region("c", 3, share=0.0), policy=policy)
    assert first_counts(steered) == {"b": ASKED}
    last = table(replace(lost, share=1.0), region("b", 2, weight=0.0, share=0.0), region("c", 3), policy=policy)
    assert first_counts(failing_open(steered, last)) == {"b": ASKED}


def test_regions_that_weigh_nothing_share_alike_and_only_where_nobody_weighs_something() -> None:
    none = [region("a", 1, weight=0.0), region("b", 2, weight=0.0)]
    assert_share(first_counts(table(*none))["a"], 0.5)
    assert first_counts(table(*none, region("c", 3))) == {"c": ASKED}
    of_v6 = region("c", 3, addresses=("2001:db8::3",))
    assert choose(table(*none, of_v6), None, random.Random(1), family=6) == ("2001:db8::3",)
    lost = region("d", 4, share=0.0)
    assert "192.0.2.4" not in choose(table(*none, of_v6, lost), None, random.Random(1), family=4)


def test_failover_goes_by_rank_whatever_regions_weigh() -> None:
    lost = region("a", 1, share=0.0, weight=0.0)
    steered = table(lost, region("b", 2, weight=0.0), region("c", 3, weight=9.0), policy="failover")
    assert first_counts(steered) == {"b": ASKED}


def test_failing_open_prefers_the_last_good_set() -> None:
    good = table(region("a", 1), region("b", 2, share=0.0), serial=1)
    bad = table(region("a", 1, share=0.0), region("b", 2, share=0.0), region("c", 3, share=0.0), serial=2)
    opened = failing_open(bad, good)
    assert first_counts(opened) == {"a": ASKED}
    assert opened.serial == bad.serial
    assert failing_open(bad, None) is bad
    assert failing_open(good, bad) is good


def test_failing_open_takes_the_new_address_of_a_region_that_was_well() -> None:
    good = table(region("a", 1))
    bad = table(region("a", 9, share=0.0))
    assert choose(failing_open(bad, good), None, random.Random(1)) == ("192.0.2.9",)


def test_distances_are_those_of_the_globe() -> None:
    dublin, virginia = PLACES["eu-west"], PLACES["us-east"]
    assert distance_km(dublin, virginia) == pytest.approx(5_447, rel=0.01)
    assert distance_km(dublin, dublin) == 0
    assert distance_km((0, 0), (0, 180)) == pytest.approx(math.pi * 6_371, rel=0.001)

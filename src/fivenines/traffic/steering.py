"""Which addresses a name is answered with: the four policies, as one pure function of table, client and chance.

    choose(table, client, random) -> addresses, the best first

1. **Who may be answered**: regions with `weight * share > 0` that have an address of the family that was asked for.
   A weight is a proportion and takes no region away: where all that have a share weigh 0, they weigh the same, and
   `failover` asks for no weights. If there is none the answer *fails open*: all that have an address count, as
   declared. An answer that may be wrong serves better than none: whoever asks for a name tries what it gets, and the
   edges lead on to where there is life.
2. **Who comes first**: with `weighted` a draw in proportion to `weight * share`. The others put regions in an order:
   `latency` by what was measured from here, `geo` by the distance on the globe to the client's network, `failover` by
   rank; equals are drawn by weight, and a client of whom nobody knows where it is is drawn for by weight, too.
3. **A share below 1**, of a region that is coming back, is the part of the answers that it may be in at all. In an
   ordered policy it is passed over in all others, which go to the next best. That holds for the second place as for
   the first, since many resolvers shuffle what they got.
4. **The places after the first** are filled in the same way from the regions that are left, one address of each, so
   that the next address that a client tries is in another region. Only then come second addresses of a region.

Draws without replacement go by Efraimidis and Spirakis (Information Processing Letters 97, 2006): each item gets the
key `-ln(u) / weight`, and the smallest keys win, which is the order in which exponential clocks would ring. The first
of them has exactly its share. Distances are great circles by the haversine formula on a sphere.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice
from typing import Literal, Protocol

import msgspec

from fivenines.traffic.table import Policy, SteeredRegion, SteeringTable

__all__ = ["Address", "Chance", "Family", "Steering", "choose", "distance_km", "failing_open", "is_served", "weighed"]

Family = Literal[4, 6]
Address = IPv4Address | IPv6Address
EARTH_KM = 6371.0088


class Chance(Protocol):
    """Where chance comes from: a `random.Random`, or what a test puts in its place."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


def choose(
    table: SteeringTable, client: Address | None, random: Chance, family: Family | None = None
) -> tuple[str, ...]:
    """Return the addresses to answer `client` with, at most `answers_max`, the best first.

    Args:
        table: What is known of the regions.
        client: Who asks, as well as is known: of a network any address. None where nothing is known.
        random: Where chance comes from; the same draws give the same answer.
        family: 4 or 6 for addresses of that family only.

    Returns:
        Never nothing, as long as any region has an address of the family.
    """
    return Steering(table).choose(client, random, family)


def is_served(region: SteeredRegion) -> bool:
    """Tell whether clients are led to a region."""
    return region.weight * region.share > 0


def weighed(table: SteeringTable) -> SteeringTable:
    """Return a table with the weights that count: whoever has a share may be served where nobody else is.

    Else the loss of all regions that have a weight would leave the names with the lost ones, beside a standby that was
    promoted and is well.
    """
    regions = _weighed(table.regions, table.policy)
    return table if regions == table.regions else msgspec.structs.replace(table, regions=regions)


def failing_open(table: SteeringTable, last: SteeringTable | None) -> SteeringTable:
    """Return what to answer by: the table itself or, where it serves no region, with the shares of `last`.

    `last` is the last table that served one. A region that was well a moment ago is a better guess than one that has
    been down for days.
    """
    table = weighed(table)
    if last is None or any(is_served(region) for region in table.regions):
        return table
    before = {region.name: region for region in last.regions}
    regions = tuple(
        msgspec.structs.replace(region, weight=before[region.name].weight, share=before[region.name].share)
        if region.name in before
        else region
        for region in table.regions
    )
    return msgspec.structs.replace(table, regions=regions)


def distance_km(from_: tuple[float, float], to: tuple[float, float]) -> float:
    """Return the great-circle distance of two places, each a latitude and a longitude in degrees."""
    (lat1, lon1), (lat2, lon2) = (tuple(map(math.radians, place)) for place in (from_, to))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, h)))


class Steering:
    """A table, laid out for many choices: what does not depend on the client is worked out once."""

    def __init__(self, table: SteeringTable) -> None:
        """Raises ValueError where an address or a network is none."""
        self._places_max = max(1, table.answers_max)
        self._policy = table.policy
        self._networks = _Networks(table)
        self._fields = {family: _Field(table, family) for family in (None, 4, 6)}

    @property
    def depends_on_client(self) -> bool:
        """Whether it matters who asks."""
        return self._policy == "geo" and bool(self._networks)

    def has(self, family: Family) -> bool:
        """Tell whether there is any address of a family."""
        return bool(self._fields[family].runners)

    def scope(self, client: Address) -> int:
        """Return how many bits of a client's address its answer depends on: the `scope` of EDNS client subnet."""
        return self._networks.find(client)[0] if self.depends_on_client else 0

    def choose(self, client: Address | None, random: Chance, family: Family | None = None) -> tuple[str, ...]:
        """Return the addresses to answer with; see `choose` of the module."""
        field = self._fields[family]
        if not field.runners:
            return ()
        place = self._networks.find(client)[1] if client is not None and self.depends_on_client else None
        order = field.order(random, place)
        return tuple(islice(_take(order, random), self._places_max))


class _Runner:
    """A region that may be answered, as a draw sees it."""

    __slots__ = ("addresses", "place", "product", "rank", "share", "weight")

    def __init__(self, region: SteeredRegion, addresses: tuple[str, ...], rank: float, *, is_open: bool) -> None:
        self.addresses = addresses
        self.share = 1.0 if is_open else min(1.0, region.share)
        # Failing open, a region without a weight of its own comes only after all that have one.
        self.weight = region.weight if region.weight > 0 else 1e-9
        self.product = self.weight * self.share
        self.rank = rank
        is_placed = region.latitude is not None and region.longitude is not None
        self.place = (region.latitude or 0.0, region.longitude or 0.0) if is_placed else None


class _Field:
    """The regions among which one family's answers are chosen."""

    def __init__(self, table: SteeringTable, family: Family | None) -> None:
        placed = [(region, _of_family(region.addresses, family)) for region in table.regions]
        known = _weighed((region for region, addresses in placed if addresses), table.policy)
        reachable = list(zip(known, (addresses for _, addresses in placed if addresses), strict=True))
        served = [(region, addresses) for region, addresses in reachable if is_served(region)]
        is_open = not served
        self._policy = table.policy
        self.runners = tuple(
            _Runner(region, addresses, _rank(table, region), is_open=is_open)
            for region, addresses in (reachable if is_open else served)
        )
        self._is_whole = all(runner.share >= 1 for runner in self.runners)

    def order(self, random: Chance, place: tuple[float, float] | None) -> list[_Runner]:
        """Return who is in the answer, the best first: at least one."""
        draw, log = random.random, math.log
        keyed = [(-log(1.0 - draw()) / runner.product, runner) for runner in self.runners]
        keyed.sort(key=_first)
        drawn = [runner for _, runner in keyed]
        if self._policy == "weighted" or (self._policy == "geo" and place is None):
            if self._is_whole:
                return drawn
            return [drawn[0], *(each for each in drawn[1:] if each.share >= 1 or draw() < each.share)]
        if not self._is_whole:
            # Where every one passes, chance decides by the shares: somebody must take it.
            drawn = [each for each in drawn if each.share >= 1 or draw() < each.share] or drawn[:1]
        # Sorting is stable, so equals stay as they were drawn.
        if place is None:
            drawn.sort(key=_by_rank)
        else:
            drawn.sort(key=lambda each: math.inf if each.place is None else distance_km(place, each.place))
        return drawn


class _Networks:
    """Where networks are, by longest prefix: one look-up for each length of prefix that there is."""

    def __init__(self, table: SteeringTable) -> None:
        self._by_length: dict[Family, dict[int, dict[int, tuple[float, float]]]] = {4: {}, 6: {}}
        for each in table.networks:
            network = ip_network(each.network)
            lengths = self._by_length[4 if network.version == 4 else 6]
            shift = network.max_prefixlen - network.prefixlen
            lengths.setdefault(shift, {})[int(network.network_address) >> shift] = (each.latitude, each.longitude)
        for family, lengths in self._by_length.items():
            self._by_length[family] = dict(sorted(lengths.items()))

    def __bool__(self) -> bool:
        return any(self._by_length.values())

    def find(self, client: Address) -> tuple[int, tuple[float, float] | None]:
        """Return the length of the prefix that decides, and the place; the longest and None where none matches."""
        number, bits = int(client), client.max_prefixlen
        lengths = self._by_length[4 if client.version == 4 else 6]
        for shift, places in lengths.items():
            if (place := places.get(number >> shift)) is not None:
                # A neighbour in a longer prefix would be answered otherwise, so the answer is good for the longest.
                return bits - next(iter(lengths)), place
        return bits - next(iter(lengths), bits), None


def _weighed(regions: Iterable[SteeredRegion], policy: Policy) -> tuple[SteeredRegion, ...]:
    found = tuple(regions)
    if policy != "failover" and any(is_served(region) for region in found):
        return found
    return tuple(
        msgspec.structs.replace(region, weight=1.0) if region.share > 0 and region.weight <= 0 else region
        for region in found
    )


def _rank(table: SteeringTable, region: SteeredRegion) -> float:
    """Return the place of a region in a policy that puts the same ones first for every client."""
    if table.policy == "failover":
        return region.rank
    if table.policy == "latency":
        if region.latency_ms is not None:
            return region.latency_ms
        return 0.0 if region.name == table.here else math.inf
    return 0.0


def _of_family(addresses: Sequence[str], family: Family | None) -> tuple[str, ...]:
    return tuple(address for address in addresses if family is None or ip_address(address).version == family)


def _first(pair: tuple[float, object]) -> float:
    return pair[0]


def _by_rank(runner: _Runner) -> float:
    return runner.rank


def _take(order: Sequence[_Runner], random: Chance) -> Iterator[str]:
    """Yield an address of each in turn, then a second one of each, beginning anywhere in each one's list."""
    turned = []
    for runner in order:
        addresses = runner.addresses
        if len(addresses) > 1:
            start = int(random.random() * len(addresses))
            addresses = addresses[start:] + addresses[:start]
        turned.append(addresses)
    for round_ in range(max(map(len, turned))):
        for addresses in turned:
            if round_ < len(addresses):
                yield addresses[round_]

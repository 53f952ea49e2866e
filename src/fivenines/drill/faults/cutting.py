"""Packets between regions that are lost without a word: all of them, one way, of clients only, of the journal only.

Cut means what it means between machines. All of a host is cut by a neighbour entry that leads to a hardware address
that nobody has. Only some ports are cut by rules of routing (`ip rule ... ipproto tcp dport 9979`): what they fit goes
by a table of its own, to a neighbour that nobody is. Connections that are open lose their packets, too, since the
kernel asks its routes again when they have changed.
"""

import asyncio
import socket
import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import InForce
from fivenines.drill.faults.undoing import AwayWithRule, Mend, in_network
from fivenines.platform.local.isolation import CLIENTS, NOBODY, Network, Way
from fivenines.platform.topology import PORTS, Topology

__all__ = ["WAYS", "lose", "lose_ports", "partition", "ways_of"]

WAYS = ("whole", "one_way", "one_way_in", "clients", "regions", "journal")
"""How a region is cut off.

whole        from everybody, both ways
one_way      what it sends is lost: its answers
one_way_in   what is sent to it is lost
clients      from clients only
regions      from the other regions only
journal      from the other regions' members of the journal only, at the ports of etcd
"""
_FIRST_NUMBER = 1_000
_NUMBERS = 30_000
"""Below the priority of the kernel's main table."""


def ways_of(topology: Topology, region: str, way: str) -> list[Way]:
    """Return the ways from whom to whom that are lost."""
    others = [place.name for place in topology.others(region)] if way != "clients" else []
    others += [CLIENTS] if way in {"whole", "one_way", "one_way_in", "clients"} else []
    out = [(region, other) for other in others] if way != "one_way_in" else []
    return out + ([(other, region) for other in others] if way != "one_way" else [])


async def partition(fault: InForce, topology: Topology, region: str, way: str) -> None:
    """Cut a region off in one of `WAYS`. Raises `FaultImpossibleError`."""
    network, ways = Network(topology), ways_of(topology, region, way)
    if way == "journal":
        members = {place.name for place in topology.regions if place.has_journal}
        if region not in members:
            raise FaultImpossibleError(fault.name, f"{region} has no member of the journal")
        # A node asks the members of other regions, too, so regions without one are cut from this one as well.
        await lose_ports(fault, network, ways, (PORTS.journal, PORTS.journal_peer))
    else:
        await lose(fault, network, ways)
    fault.facts["ways_lost"] = len(ways)


async def lose(fault: InForce, network: Network, ways: Sequence[Way]) -> None:
    """Lose all that is sent these ways. Raises `FaultImpossibleError`."""
    entries = []
    for source, destination in ways:
        namespace, device = network.way_out(source)
        entries.append(Mend(namespace, device, network.address(destination), NOBODY))
    await fault.promise(*entries)
    await asyncio.to_thread(_lose_all, fault.name, entries)


async def lose_ports(fault: InForce, network: Network, ways: Sequence[Way], ports: tuple[int, int]) -> None:
    """Lose what TCP sends these ways from or to any of the ports from the first to the second.

    Clients, who are in no region, cannot be cut from ports only. Raises `FaultImpossibleError`.
    """
    number = _FIRST_NUMBER + zlib.crc32(fault.id.encode()) % _NUMBERS
    nobody = {}
    for source, _ in ways:
        namespace, device = network.way_out(source)
        nobody[namespace] = Mend(namespace, device, _nobody_near(network.address(source)), NOBODY)
    await fault.promise(*nobody.values(), *(AwayWithRule(namespace, number) for namespace in nobody))
    await asyncio.to_thread(_lose_all, fault.name, list(nobody.values()))

    def add_rules() -> None:
        for namespace, entry in nobody.items():
            to = [
                network.address(destination) for source, destination in ways if network.way_out(source)[0] == namespace
            ]
            in_network(namespace, partial(_add_rules, to=to, nobody=entry, number=number, ports=ports), None)

    try:
        await asyncio.to_thread(add_rules)
    except OSError as error:
        raise FaultImpossibleError(fault.name, str(error)) from error


def _lose_all(name: str, entries: Sequence[Mend]) -> None:
    for entry in entries:
        try:
            in_network(entry.namespace, partial(_lead_to_nobody, entry=entry), None)
        except OSError as error:
            raise FaultImpossibleError(name, str(error)) from error


def _lead_to_nobody(net: Any, entry: Mend) -> None:
    device = net.link_lookup(ifname=entry.device)[0]
    net.neigh("replace", dst=entry.address, lladdr=entry.lost_at, ifindex=device, state="permanent")


def _add_rules(net: Any, to: Sequence[str], nobody: Mend, number: int, ports: tuple[int, int]) -> None:
    device = net.link_lookup(ifname=nobody.device)[0]
    for address in to:
        net.route("add", dst=f"{address}/32", gateway=nobody.address, oif=device, table=number)
        rule = {"table": number, "priority": number, "dst": address, "dst_len": 32, "ip_proto": socket.IPPROTO_TCP}
        net.rule("add", **rule, dport_range=f"{ports[0]}:{ports[1]}")
        net.rule("add", **rule, sport_range=f"{ports[0]}:{ports[1]}")


def _nobody_near(address: str) -> str:
    """An address of the same network that no region has: their numbers begin at 1."""
    return ".".join((*address.split(".")[:2], "255", "254"))

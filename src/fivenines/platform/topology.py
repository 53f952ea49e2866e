"""Where everything is: each region, each workload, its address and its folder, from `platform.yaml` and one folder.

On one machine region number R has the address 127.N.R.1 (N is the network, so that several platforms fit beside each
other), or in a network namespace of its own 10.N.R.1; its parts have the same ports in every region. The whole of it is
one file in the platform's folder, `platform.json`, which agents, controllers and commands read.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from fivenines.control.desired import DesiredWorkload
from fivenines.platform.spec import (
    AGENT_PORT,
    CONTROLLER_PORT,
    EDGE_PORT,
    ETCD_PORTS,
    HISTORIAN_PORT,
    NAMESERVER_PORT,
    NODE_PORT,
    Platform,
    Service,
)

__all__ = ["Isolation", "Ports", "RegionPlace", "ServicePlace", "Topology", "make_topology", "read_topology"]

Isolation = Literal["loopback", "netns"]
FILE = "platform.json"


class Ports(Struct, frozen=True, kw_only=True):
    """The ports of a region's parts. Node n has the one that is n after `nodes`."""

    edge: int = EDGE_PORT
    edge_stats: int = 9958
    nameserver: int = NAMESERVER_PORT
    nameserver_metrics: int = 9905
    journal: int = ETCD_PORTS[0]
    journal_peer: int = ETCD_PORTS[1]
    agent: int = AGENT_PORT
    controller: int = CONTROLLER_PORT
    historian: int = HISTORIAN_PORT
    nodes: int = NODE_PORT


PORTS = Ports()


class ServicePlace(Struct, frozen=True, kw_only=True):
    """One copy of a user's service in one region."""

    name: str
    service: str
    port: int


class RegionPlace(Struct, frozen=True, kw_only=True):
    """One region."""

    name: str
    number: int
    """From 1, in the order of declaration."""
    host: str
    nodes: tuple[str, ...]
    services: tuple[ServicePlace, ...]
    has_journal: bool

    def workloads(self) -> tuple[DesiredWorkload, ...]:
        """Everything that should run here, in the order in which it is started."""
        here, name = self.name, self.name
        found = [DesiredWorkload(name=f"{name}-journal", region=here, role="journal")] if self.has_journal else []
        found += [
            DesiredWorkload(name=f"{name}-edge", region=here, role="edge"),
            DesiredWorkload(name=f"{name}-names", region=here, role="nameserver"),
            *(DesiredWorkload(name=node, region=here, role="node") for node in self.nodes),
            DesiredWorkload(name=f"{name}-controller", region=here, role="controller"),
        ]
        if self.nodes:
            found.append(DesiredWorkload(name=f"{name}-history", region=here, role="historian"))
        found += [DesiredWorkload(name=each.name, region=here, role="service") for each in self.services]
        return tuple(found)

    def node_port(self, node: str) -> int:
        """The port of one of its nodes."""
        return PORTS.nodes + self.nodes.index(node) + 1


class Topology(Struct, frozen=True, kw_only=True):
    """One platform on one machine."""

    spec: Platform
    folder: str
    """Where its data, logs and settings are."""
    home: str
    """The folder of its `platform.yaml`: what services' folders are named from."""
    network: int
    isolation: Isolation
    regions: tuple[RegionPlace, ...]

    @property
    def path(self) -> Path:
        """The platform's folder."""
        return Path(self.folder)

    def region(self, name: str) -> RegionPlace:
        """Return a region. Raises KeyError."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    def others(self, region: str) -> tuple[RegionPlace, ...]:
        """The other regions, the nearest first: in the order of declaration, from this one on, round."""
        number = self.region(region).number
        return tuple(self.regions[number:] + self.regions[: number - 1])

    def journal_endpoints(self, region: str) -> tuple[str, ...]:
        """The members of the journal, the nearest to a region first."""
        places = (self.region(region), *self.others(region))
        return tuple(f"{place.host}:{PORTS.journal}" for place in places if place.has_journal)

    def journal_url(self, region: str) -> str:
        """What `--journal` is, in a region."""
        return "etcd://" + ",".join(self.journal_endpoints(region))

    @property
    def nameservers(self) -> tuple[str, ...]:
        """host:port of each nameserver."""
        return tuple(f"{place.host}:{PORTS.nameserver}" for place in self.regions)

    def nameservers_of(self, region: str) -> tuple[str, ...]:
        """host:port of each nameserver, the nearest to a region first."""
        return tuple(f"{place.host}:{PORTS.nameserver}" for place in (self.region(region), *self.others(region)))

    @property
    def url(self) -> str:
        """The ledger, for clients that ask the platform's nameservers."""
        return f"http://api.{self.spec.zone}:{PORTS.edge}"

    def edge_url(self, region: str) -> str:
        """The ledger, through the edge of one region."""
        return f"http://{self.region(region).host}:{PORTS.edge}"

    def agent_url(self, region: str) -> str:
        """The agent of a region."""
        return f"http://{self.region(region).host}:{PORTS.agent}"

    def controller_url(self, region: str) -> str:
        """The controller of a region."""
        return f"http://{self.region(region).host}:{PORTS.controller}"

    def service(self, name: str) -> Service:
        """What was declared of a service. Raises KeyError."""
        for service in self.spec.services:
            if service.name == name:
                return service
        raise KeyError(name)

    def write(self) -> None:
        """Write `platform.json`, whole or not at all."""
        draft = self.path / f"{FILE}.{os.getpid()}.draft"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        draft.replace(self.path / FILE)


def make_topology(
    spec: Platform, folder: Path, *, home: Path, network: int = 0, isolation: Isolation = "loopback"
) -> Topology:
    """Give everything its place.

    Args:
        spec: what was declared.
        folder: the platform's folder.
        home: the folder of `platform.yaml`.
        network: 0 to 255.
        isolation: whether regions share the machine's network, or have one each.
    """
    first = 127 if isolation == "loopback" else 10
    places = []
    for number, region in enumerate(spec.regions, start=1):
        services = [
            ServicePlace(
                name=f"{region.name}-{service.name}-{copy + 1}", service=service.name, port=service.port + copy
            )
            for service in spec.services
            if region.name in spec.service_regions(service)
            for copy in range(service.replicas)
        ]
        places.append(
            RegionPlace(
                name=region.name,
                number=number,
                host=f"{first}.{network}.{number}.1",
                nodes=tuple(f"{region.name}-{node}" for node in range(1, region.nodes + 1)),
                services=tuple(services),
                has_journal=region.name in spec.member_regions,
            )
        )
    return Topology(
        spec=spec,
        folder=str(folder.resolve()),
        home=str(home.resolve()),
        network=network,
        isolation=isolation,
        regions=tuple(places),
    )


def read_topology(folder: Path) -> Topology:
    """Read what `fivenines up` wrote. Raises OSError, and `msgspec.MsgspecError` where the file is no such thing."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=Topology)

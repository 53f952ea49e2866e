"""The placement check's rules about names, ports, probes and networks: no two things are called or reached alike."""

from collections.abc import Iterator
from ipaddress import ip_network

from msgspec.structs import asdict

from fivenines.platform.findings import Finding, refused, warned
from fivenines.platform.spec import Platform, Probe, Service
from fivenines.platform.topology import Ports

__all__ = ["NAME_RULES"]

LEDGER_NAME = "api"
"""The ledger's own name below the zone."""
_PARTS = ("journal", "edge", "names", "controller", "history")
"""What the parts of a region are called, after its name."""
_IN_EDGE = frozenset({"clients", "ledger", "repeats", "statistics", "switches"})
"""What an edge has beside the services, by names of its own."""
_NAME_LENGTH_MAX = 64
"""Of a server of the edge."""
_PRIVILEGED = 1_024


def _names(platform: Platform) -> Iterator[Finding]:
    """Every name below the zone, and every name of a workload, is there once."""
    taken: dict[str, str] = {LEDGER_NAME: "the ledger's own name"}
    named = [("regions", number, region.name) for number, region in enumerate(platform.regions)]
    named += [("services", number, service.name) for number, service in enumerate(platform.services)]
    for kind, number, name in named:
        what = taken.get(name)
        if what is None and (name == "ns" or name.startswith("ns-")):
            what = "the name of a nameserver"
        if what is None and kind == "services" and name in _IN_EDGE:
            what = "the name of a part of every edge"
        if what is None:
            taken[name] = f"the name of a {kind[:-1]} already"
        else:
            yield refused("names", (kind, number, "name"), f"{name} is {what}", "give it another name")
    yield from _workloads(platform)


def _workloads(platform: Platform) -> Iterator[Finding]:
    """Workloads are called REGION-PART, REGION-NUMBER and REGION-SERVICE-NUMBER: two must not come out alike.

    Nodes and services are servers of their edge, as other regions are, by their names: these must differ, too.
    """
    owners: dict[str, tuple[str, str]] = {}
    numbers = {region.name: number for number, region in enumerate(platform.regions)}
    for number, region in enumerate(platform.regions):
        nodes = max(region.nodes, platform.scaling.nodes_max if region.nodes else 0)
        parts = [f"{region.name}-{part}" for part in _PARTS]
        servers = [f"{region.name}-{node}" for node in range(1, nodes + 1)]
        for place, service in enumerate(platform.services):
            if region.name not in platform.service_regions(service):
                continue
            servers += [f"{region.name}-{service.name}-{copy}" for copy in range(1, service.replicas + 1)]
            if len(servers[-1]) > _NAME_LENGTH_MAX:
                yield refused(
                    "names",
                    ("services", place, "name"),
                    f"{servers[-1]} has {len(servers[-1])} characters, and an edge takes {_NAME_LENGTH_MAX}",
                    f"give {service.name} or {region.name} a shorter name",
                )
        for server in servers:
            if server in numbers:
                yield refused(
                    "names",
                    ("regions", numbers[server], "name"),
                    f"a part of {region.name} is called {server}, too",
                    "give the region another name",
                )
        parts += servers
        for part in parts:
            first = owners.setdefault(part, (region.name, part))[0]
            if first != region.name:
                yield refused(
                    "names",
                    ("regions", number, "name"),
                    f"a part of {region.name} and one of {first} would both be called {part}",
                    "give the region another name",
                )
                break


def _ports(platform: Platform) -> Iterator[Finding]:
    """In a region each port is there once: of the platform's own parts, services' replicas and their edges."""
    ports = Ports()
    own: dict[int, str] = {
        port: f"the platform's {name.replace('_', ' ')}" for name, port in asdict(ports).items() if name != "nodes"
    }
    nodes = max(platform.scaling.nodes_max, *(region.nodes for region in platform.regions), 0)
    own |= {ports.nodes + node: f"node {node}" for node in range(1, nodes + 1)}
    for number, service in enumerate(platform.services):
        wanted = [("edge_port", service.edge_port, f"the edge of {service.name}")]
        wanted += [
            ("port", service.port + copy, f"replica {copy + 1} of {service.name}") for copy in range(service.replicas)
        ]
        for field, port, what in wanted:
            at = ("services", number, field)
            if port > 65_535:
                yield refused("ports", at, f"{what} would get port {port}", "choose a lower port")
            elif port in own:
                yield refused(
                    "ports", at, f"{what} would get port {port}, which {own[port]} has", "choose another port"
                )
            elif port < _PRIVILEGED:
                yield warned(
                    "ports", at, f"{what} gets port {port}, which needs rights", f"choose one from {_PRIVILEGED} on"
                )
            own.setdefault(port, what)
            if port > 65_535 or own[port] != what:
                break


def _services(platform: Platform) -> Iterator[Finding]:
    """A service runs where regions are, and its probes ask what it can answer."""
    known = {region.name for region in platform.regions}
    for number, service in enumerate(platform.services):
        for place, name in enumerate(service.regions or ()):
            if name not in known:
                yield refused(
                    "services",
                    ("services", number, "regions", place),
                    f"{name} is no region",
                    f"choose from {', '.join(sorted(known))}",
                )
        if service.replicas == 1:
            yield warned(
                "services",
                ("services", number, "replicas"),
                f"{service.name} has one replica in a region: while that restarts, the region has none",
                "give it replicas: 2",
            )
        yield from _probes(number, service)


def _probes(number: int, service: Service) -> Iterator[Finding]:
    probes = service.probes
    for name, probe in (("startup", probes.startup), ("readiness", probes.readiness), ("liveness", probes.liveness)):
        at = ("services", number, "probes", name)
        if service.protocol == "tcp" and probe.path is not None:
            yield refused(
                "probes",
                (*at, "path"),
                f"{service.name} speaks tcp, so the edge cannot ask it for {probe.path}",
                "leave the path out, or declare protocol: http",
            )
    both: tuple[Probe, Probe] = (probes.readiness, probes.liveness)
    if both[0].path is not None and both[0].path == both[1].path:
        yield warned(
            "probes",
            ("services", number, "probes", "liveness"),
            f"readiness and liveness of {service.name} ask the same: what is only busy, or waits for somebody else, is "
            "restarted",
            "let liveness ask whether the process answers at all",
        )


def _networks(platform: Platform) -> Iterator[Finding]:
    """Where clients are is told by networks, and used by the policy geo."""
    for number, each in enumerate(platform.traffic.networks):
        try:
            ip_network(each.network)
        except ValueError as error:
            yield refused(
                "networks", ("traffic", "networks", number, "network"), str(error), "it looks like 192.0.2.0/24"
            )
    if platform.traffic.networks and platform.traffic.policy != "geo":
        yield warned(
            "networks",
            ("traffic", "networks"),
            f"nobody looks at networks: the policy is {platform.traffic.policy}",
            "set traffic.policy to geo",
        )


NAME_RULES = (_names, _ports, _services, _networks)

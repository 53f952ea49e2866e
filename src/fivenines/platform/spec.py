"""`platform.yaml`, typed: what a platform is declared to be, field by field, with defaults for nearly all of it.

The smallest one is a name and three regions:

    platform: bank
    regions:
      - {name: frankfurt, provider: aws}
      - {name: belgium, provider: gcp}
      - {name: stockholm, provider: azure}

`loading` reads the file, `placement` judges it, `plan` tells what its losses cost. The sentences below the fields are
what editors show and what docs/platform-yaml.md lists: `schema` takes them from here, so they are written for users.
Types and bounds are checked when a file is read; what takes more than one field to see is checked by `placement`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from fivenines.control.desired import Mode, Timings
from fivenines.platform.distance import Point, place
from fivenines.traffic.table import Policy

__all__ = [
    "AGENT_PORT",
    "CONTROLLER_PORT",
    "EDGE_PORT",
    "ETCD_PORTS",
    "HISTORIAN_PORT",
    "NAMESERVER_PORT",
    "NODE_PORT",
    "Archive",
    "Journal",
    "LivenessProbe",
    "Network",
    "Platform",
    "Probe",
    "Probes",
    "Region",
    "Risk",
    "Scaling",
    "Service",
    "StartupProbe",
    "Traffic",
]

# Ports of the platform's own parts, the same in each region.
ETCD_PORTS = (2379, 2380)
NAMESERVER_PORT = 5353
AGENT_PORT = 9901
CONTROLLER_PORT = 9902
EDGE_PORT = 9959
HISTORIAN_PORT = 9960
NODE_PORT = 9960
"""Node n listens on this plus n."""

Label = Annotated[
    str,
    Meta(
        pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$",
        description="a name of 1 to 40 small letters, digits and hyphens, the first a letter",
    ),
]
Zone = Annotated[
    str,
    Meta(
        pattern=r"^([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+)?$",
        description="a DNS zone such as bank.example.com",
    ),
]
HttpPath = Annotated[str, Meta(pattern=r"^/[!-~]*$", description="a path that begins with /")]
EdgePath = Annotated[
    str,
    Meta(
        pattern=r"^/[A-Za-z0-9_.~/?=&%+-]{0,200}$",
        description="a path that begins with /, of up to 200 more letters, digits and any of _ . ~ / ? = & % + -",
    ),
]
"""What the edge asks for, in the settings of HAProxy."""
Method = Annotated[str, Meta(pattern=r"^[A-Z]+$", description="a method of HTTP in capital letters")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$", description="a currency of ISO 4217, such as EUR")]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000)]
Reason = Annotated[str, Meta(min_length=8)]

Risk = Literal["provider_loss", "single_node"]
"""What a platform may be declared to live with: the loss of a provider; a region with one node."""


class Region(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One failure domain: a place with a provider, which is lost or kept as a whole."""

    name: Label
    """Its name, unique in the platform, such as eu-west."""
    provider: Label
    """Who runs it: aws, gcp, azure, own-cellar. `local` and names that begin with `local-` mean this machine."""
    location: str | Point | None = None
    """Where it is: a well-known place (frankfurt, n-virginia, eu-north-1) or latitude and longitude. Left out: the
    place of its name, where that is well known."""
    mode: Mode = "active"
    """`active` serves; `standby` is warm, gets nothing, and is promoted when an active one is lost."""
    weight: Annotated[float, Meta(ge=0, le=1_000_000)] = 1.0
    """Its share of the traffic, in proportion to the other regions' weights; a standby's counts once it is promoted.
    Where all that serve have 0, they get the same; `failover` does not look at it."""
    nodes: Annotated[int, Meta(ge=0, le=100)] = 2
    """How many nodes it has; 0 for a region that only holds a member of the journal."""
    capacity_per_node_per_s: Annotated[float, Meta(gt=0)] | None = None
    """Requests a second that one of its nodes can take. Left out: the platform's."""
    archive: str | None = None
    """Where it archives the journal: s3://BUCKET/PREFIX, gs://, az:// or a folder; each region has its own. Left out: a
    folder below the platform's."""

    @property
    def point(self) -> Point | None:
        """Where it is, or None where nobody knows."""
        if isinstance(self.location, Point):
            return self.location
        return place(self.name if self.location is None else self.location)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, so that distances cost nothing."""
        return self.provider == "local" or self.provider.startswith("local-")


class Journal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ordered log that all regions share: a cluster of etcd."""

    members: tuple[Label, ...] | None = None
    """The regions that hold a member, one each: an odd number, 3 or more. Left out: all regions."""
    heartbeat_ms: Annotated[int, Meta(ge=5, le=10_000)] | None = None
    """How often its leader says that it lives. Left out: by the longest round trip of members; 20 on one machine."""
    election_ms: Annotated[int, Meta(ge=50, le=50_000)] | None = None
    """How long its leader may be silent before another is elected. Left out: ten heartbeats."""
    quota_mib: Annotated[int, Meta(ge=16, le=8_192)] = 2_048
    """How large a member's database may grow."""
    keep_tail_mib: Annotated[int, Meta(ge=8, le=4_096)] = 512
    """How much of the journal is kept for nodes that fall behind; at most half the quota."""


class Archive(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How historians archive the journal."""

    seal_s: Seconds = 5.0
    """What is older is archived: what would be missing if all regions were lost at once is no older."""
    keep_days: Annotated[float, Meta(gt=0)] | None = None
    """Any moment of so many days back can be restored. Left out: all of history stays."""


class Probe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question that is put to a service again and again."""

    path: EdgePath | None = None
    """What is asked for by HTTP; 200 to 399 is well. Left out: a TCP connection is enough."""
    interval_s: Seconds = 1.0
    """How long between two of them."""
    timeout_s: Seconds = 1.0
    """How long it may take to answer."""
    failures: Count = 3
    """So many in a row that fail count as a failure."""


class StartupProbe(Probe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The question to a service that was just started: whether it has come up.

    By default it gets long enough: to begin it again makes no busy machine faster.
    """

    path: HttpPath | None = None
    """What is asked for by HTTP; 200 to 399 is well. Left out: a TCP connection is enough."""
    interval_s: Seconds = 0.25
    """How long between two of them."""
    timeout_s: Seconds = 1.0
    """How long it may take to answer."""
    failures: Count = 240
    """So many in a row that fail count as a failure: it has a minute to start, by default."""


class LivenessProbe(Probe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The question to a service whether only a new process can help it. By default it is put with patience."""

    path: HttpPath | None = None
    """What is asked for by HTTP; 200 to 399 is well. Left out: a TCP connection is enough."""
    interval_s: Seconds = 2.0
    """How long between two of them."""
    timeout_s: Seconds = 2.0
    """How long it may take to answer."""
    failures: Count = 5
    """So many in a row that fail count as a failure."""


class Probes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The three questions, with their different meanings."""

    startup: StartupProbe = StartupProbe()
    """Has it started? Until it has, nothing else is asked; when it fails, it is restarted."""
    readiness: Probe = Probe()
    """Can it take requests? While it cannot, it gets none; it is not restarted."""
    liveness: LivenessProbe = LivenessProbe()
    """Is it beyond help? When this fails, it is restarted."""


class Service(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program of the user, which runs beside the ledger in every region, in any language.

    Its environment tells it: HOST and PORT to listen on, FIVENINES_URL and FIVENINES_NAMESERVERS to reach the ledger
    by, FIVENINES_REGION and FIVENINES_NAME.
    """

    name: Label
    """Its name, unique in the platform; clients find it as NAME.ZONE."""
    command: Annotated[tuple[str, ...], Meta(min_length=1)]
    """The program and its arguments, as a list; no shell reads it. `{python}` stands for the Python that runs this."""
    port: Port
    """The port of its first replica, told to it as PORT; the others of a region get the following ones."""
    edge_port: Port
    """The port at which clients reach it, at the edge of each region."""
    protocol: Literal["http", "tcp"] = "http"
    """How the edge speaks to it: `http` with retries and a queue, `tcp` byte by byte."""
    replicas: Count = 2
    """How many run in each region."""
    env: Mapping[str, str] = {}
    """More of its environment. Numbers stand in quotes."""
    folder: str = "."
    """Where it runs, from the folder of platform.yaml on."""
    probes: Probes = Probes()
    """How to tell that it has started, is ready, and lives."""
    safe_to_repeat: tuple[Method, ...] = ("GET", "HEAD", "OPTIONS")
    """The methods that the edge may try again on another replica when one gives no answer."""
    drain_s: Seconds = 10.0
    """How long it has to finish what is in flight when it is stopped."""
    regions: tuple[Label, ...] | None = None
    """Where it runs. Left out: in all regions that have nodes."""


class Network(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the clients of a network are."""

    network: str
    """Such as 192.0.2.0/24 or 2001:db8::/32; of several that match the longest counts."""
    location: str | Point
    """A well-known place, or latitude and longitude."""

    @property
    def point(self) -> Point | None:
        """Where it is, or None where nobody knows."""
        return self.location if isinstance(self.location, Point) else place(self.location)


class Traffic(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clients are led to regions."""

    policy: Policy = "weighted"
    """`weighted` by the regions' weights, `latency` to the quickest, `geo` to the nearest, `failover` to the first."""
    ttl_s: Annotated[int, Meta(ge=1, le=3_600)] = 2
    """How long resolvers may keep an answer, and so how long foreign clients may go to a region that is lost."""
    answers_max: Annotated[int, Meta(ge=1, le=8)] = 3
    """How many regions' addresses are in one answer. Our clients stay in a region for as long as it is among them."""
    networks: tuple[Network, ...] = ()
    """Where clients are, for the policy `geo`."""
    rate_limit_per_s: Annotated[int, Meta(ge=1)] | None = None
    """Requests a second that one client address may make at an edge; more are answered 429. Left out: no limit."""


class Scaling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a region may grow and shrink by itself."""

    nodes_min: Count = 2
    """A region with nodes never has fewer."""
    nodes_max: Annotated[int, Meta(ge=1, le=100)] = 8
    """... and never more."""


class Platform(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that one `platform.yaml` declares."""

    platform: Label
    """The name of the platform."""
    regions: tuple[Region, ...]
    """The regions, in the order in which standbys are promoted and `failover` goes."""
    zone: Zone = ""
    """The DNS zone that its nameservers answer for. Left out: the platform's name and `.test`."""
    slo: Annotated[float, Meta(gt=0, lt=1)] = 0.99999
    """The share of requests, and of time, that must be good: 0.99999 leaves 315.6 seconds a year."""
    peak_per_s: Annotated[float, Meta(ge=0)] = 0.0
    """Requests a second that must be carried even with the largest region lost. 0: not declared, not checked."""
    capacity_per_node_per_s: Annotated[float, Meta(gt=0)] | None = None
    """Requests a second that one node can take, where the region does not say. Left out: not known."""
    downtime_cost_per_hour: Annotated[float, Meta(ge=0)] = 0.0
    """What an hour costs in which no request succeeds, in `currency`."""
    currency: Currency = "EUR"
    """Three letters of ISO 4217."""
    journal: Journal = Journal()
    """The ordered log."""
    archive: Archive = Archive()
    """Segments and snapshots in object storage."""
    sql: str = "sqlite"
    """History in SQL: `sqlite` is a file at each historian, postgresql://... one database for all, `off` none."""
    services: tuple[Service, ...] = ()
    """The user's own programs."""
    traffic: Traffic = Traffic()
    """How clients are led to regions."""
    scaling: Scaling = Scaling()
    """Bounds of the number of nodes."""
    timings: Timings = Timings()
    """How patient the controllers are."""
    accepts: Mapping[Risk, Reason] = {}
    """Risks that this platform is meant to live with, each with the reason: `provider_loss`, `single_node`."""

    def __post_init__(self) -> None:
        if not self.zone:
            force_setattr(self, "zone", f"{self.platform}.test")

    @property
    def serving_regions(self) -> tuple[Region, ...]:
        """Those that have nodes, active and standby."""
        return tuple(region for region in self.regions if region.nodes)

    @property
    def member_regions(self) -> tuple[str, ...]:
        """The names of those that hold a member of the journal."""
        if self.journal.members is not None:
            return self.journal.members
        return tuple(region.name for region in self.regions)

    def capacity_per_s(self, region: Region) -> float | None:
        """Return the requests a second that a region's nodes can take, or None where that is not declared."""
        per_node = region.capacity_per_node_per_s or self.capacity_per_node_per_s
        return None if per_node is None else per_node * region.nodes

    def service_regions(self, service: Service) -> tuple[str, ...]:
        """Return the names of the regions in which a service runs."""
        if service.regions is not None:
            return service.regions
        return tuple(region.name for region in self.serving_regions)

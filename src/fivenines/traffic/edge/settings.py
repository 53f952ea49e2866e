"""What an edge is told: where it listens, what is behind it, how long it waits. Frozen, and checked when made.

`config` turns it into HAProxy's own language. What goes into that text as it is, names and addresses, is checked here,
so nothing that a user wrote can say more there than it should.
"""

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from msgspec import Struct

__all__ = ["EdgeSettings", "RateLimit", "Server", "Service", "TcpProxy", "Timeouts"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
_PATH = re.compile(r"/[A-Za-z0-9_.~/?=&%+-]{0,200}")
_UNIX_PATH_BYTES_MAX = 100
"""The system takes 107, and HAProxy binds under a longer name before it renames: `.PID.tmp` is added."""


def _check_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{field}: is 1 to 64 characters of a-z A-Z 0-9 _ . -, not {name!r}")


def _check_address(field: str, host: str, port: int) -> None:
    if not _HOST.fullmatch(host):
        raise ValueError(f"{field}: the host is an address or a name, not {host!r}")
    if not 1 <= port <= 65_535:
        raise ValueError(f"{field}: the port is 1 to 65535, not {port}")


def _check_unique(field: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{field}: {name!r} is there twice")
        seen.add(name)


class Server(Struct, frozen=True, kw_only=True):
    """One place to send requests to: a node, a process of a service, a member of the journal, another region's edge."""

    name: str
    """Its workload's; of an edge, the region's. Unique among those of one edge."""
    host: str
    port: int

    def __post_init__(self) -> None:
        _check_name("server.name", self.name)
        _check_address(f"server {self.name}", self.host, self.port)

    @property
    def address(self) -> str:
        """As HAProxy reads it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RateLimit(Struct, frozen=True, kw_only=True):
    """What one client, by its address, may ask for."""

    requests_per_s: float
    """For as long as it likes."""
    burst: int
    """At once."""

    def __post_init__(self) -> None:
        if self.requests_per_s <= 0:
            raise ValueError(f"rate_limit.requests_per_s: must be above 0, not {self.requests_per_s}")
        if self.burst < 1:
            raise ValueError(f"rate_limit.burst: must be at least 1, not {self.burst}")

    @property
    def period_ms(self) -> int:
        """The time in which a whole burst is allowed again. HAProxy counts requests in a window that slides."""
        return max(1, round(self.burst / self.requests_per_s * 1000))


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long the edge waits, in seconds. They nest: whoever is further out waits longer.

    A client's try (6 s) > another region's edge (5.4 s) > all tries at nodes of one edge (3 x 1.6 s) > one try (1.6 s)
    > an election of the journal's (up to 1 s).
    """

    client_try_s: float = 6.0
    """How long our client waits for an answer to one try. Not used; what is below is held against it."""
    elsewhere_s: float = 5.4
    """For the answer of another region's edge to an ordinary request."""
    answer_s: float = 1.6
    """For a node's answer to an ordinary request; then it is repeated at another node. Longer than an election, so
    that what waits for one is not asked for twice."""
    repeats: int = 2
    """How many times more a request is tried."""
    slow_s: float = 15.0
    """For an answer to what takes its time, and to what cannot be repeated: there, patience is all that is left."""
    stream_s: float = 30.0
    """For the next byte of a stream or of a long poll; a node sends a sign of life every 20 s."""
    connect_s: float = 0.5
    """For a connection, to another region's edge too."""
    queue_s: float = 1.0
    """For a place at a node, while all are busy."""
    request_s: float = 10.0
    """For the head of a request, and as much of its body as is kept for a repeat."""
    idle_s: float = 60.0
    """For the next request on a connection. Nodes wait for 75 s."""
    check_s: float = 1.0
    """For the answer to a health check."""
    check_every_s: float = 0.5
    """Between two health checks of a node."""
    slow_start_s: float = 5.0
    """A node that comes back gets its full share after so long."""
    tcp_idle_s: float = 3600.0
    """With layer 4: for a connection on which nothing is said."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value < 0 or (value == 0 and name not in {"repeats", "slow_start_s"}):
                raise ValueError(f"timeouts.{name}: must be above 0, not {value}")
        tries_s = self.answer_s * (self.repeats + 1)
        if not tries_s < self.elsewhere_s < self.client_try_s:
            raise ValueError(
                f"timeouts: they must nest: all tries together ({tries_s:g} s) below elsewhere_s"
                f" ({self.elsewhere_s:g} s) below client_try_s ({self.client_try_s:g} s)"
            )


class Service(Struct, frozen=True, kw_only=True):
    """A user's service behind the edge, on a port of its own."""

    name: str
    mode: Literal["http", "tcp"]
    port: int
    """Where the edge listens for it, on the edge's own host."""
    servers: tuple[Server, ...]
    elsewhere: tuple[Server, ...] = ()
    """The same service at other regions' edges, the nearest first. With `http` only: a layer 4 stream cannot say that
    it was forwarded before, so it might go round for ever."""
    health_path: str | None = None
    """Answered below 400 while the service is well; None: it is well while it takes connections."""
    repeat_safe: bool = False
    """Whether its requests may be sent a second time, whatever their method. If not, only those are for which HTTP
    says so (GET, HEAD, OPTIONS, PUT, DELETE), and those with an `Idempotency-Key`."""
    answer_s: float | None = None
    """As `Timeouts.answer_s`."""

    def __post_init__(self) -> None:
        _check_name("service.name", self.name)
        _check_address(f"service {self.name}", "127.0.0.1", self.port)
        _check_unique(f"service {self.name}: servers", [each.name for each in (*self.servers, *self.elsewhere)])
        if self.health_path is not None and not _PATH.fullmatch(self.health_path):
            raise ValueError(f"service {self.name}: health_path is a path, as /healthz, not {self.health_path!r}")
        if self.mode == "tcp" and self.elsewhere:
            raise ValueError(f"service {self.name}: elsewhere is for http: with tcp a request could go round for ever")
        if self.answer_s is not None and self.answer_s <= 0:
            raise ValueError(f"service {self.name}: answer_s must be above 0, not {self.answer_s}")


class TcpProxy(Struct, frozen=True, kw_only=True):
    """A port that is led on at layer 4, such as the journal's."""

    name: str
    port: int
    servers: tuple[Server, ...]
    """All get connections, those with the fewest first."""
    health_path: str | None = None
    """Asked by HTTP on the same port, such as etcd's /health; None: it is well while it takes connections."""

    def __post_init__(self) -> None:
        _check_name("tcp_proxy.name", self.name)
        _check_address(f"tcp_proxy {self.name}", "127.0.0.1", self.port)
        _check_unique(f"tcp_proxy {self.name}: servers", [each.name for each in self.servers])
        if self.health_path is not None and not _PATH.fullmatch(self.health_path):
            raise ValueError(f"tcp_proxy {self.name}: health_path is a path, as /healthz, not {self.health_path!r}")


class EdgeSettings(Struct, frozen=True, kw_only=True):
    """One region's edge."""

    region: str
    host: str
    """The address that it listens on, and from which it asks other regions' edges."""
    port: int
    """Of the ledger's HTTP."""
    nodes: tuple[Server, ...]
    """Of this region."""
    elsewhere: tuple[Server, ...] = ()
    """The ledger at other regions' edges, the nearest first."""
    services: tuple[Service, ...] = ()
    tcp_proxies: tuple[TcpProxy, ...] = ()
    admin_socket: Path
    """Of the runtime API. Its path is short: the system takes no more than 107 bytes."""
    state_file: Path | None = None
    """Where `Runtime.save_state` puts states and weights, for the process that a reload starts."""
    statistics_port: int
    """/metrics for Prometheus, and a page for people."""
    rate_limit: RateLimit | None = None
    trusted: tuple[str, ...] = ()
    """Addresses and networks that are not limited, and believed when they say for whom they ask: load balancers in
    front of the edge. Other regions' edges are among them, where they are given by address."""
    timeouts: Timeouts = Timeouts()
    connections_max: int = 4_096
    """Of clients; further ones wait to be accepted."""
    requests_max: int = 1_024
    """At one node at once; further ones wait here, where they can still go to another. Enough for all that comes in
    during an election; a node itself takes 4,096."""
    buffer_bytes: int = 64 * 1024
    """A request whose head and body fit is kept until it is answered, and can be repeated. Each one under way costs
    about two such buffers, this copy among them; idle connections cost none."""
    threads: int = 1
    """One core carries more than the nodes of a region can take."""
    headers: bool = True
    """Whether answers say who served them: `X-Region`, `X-Served-By`."""

    def __post_init__(self) -> None:
        _check_name("region", self.region)
        _check_address("edge", self.host, self.port)
        _check_address("statistics_port", self.host, self.statistics_port)
        size = len(str(self.admin_socket).encode())
        if size > _UNIX_PATH_BYTES_MAX:
            raise ValueError(f"admin_socket: {size} bytes are too long: at most {_UNIX_PATH_BYTES_MAX} are")
        for field in ("admin_socket", "state_file"):
            if re.search(r"[\s\"'\\#$]", str(getattr(self, field) or "")):
                raise ValueError(f"{field}: no blanks, quotes, backslashes, # or $ in {str(getattr(self, field))!r}")
        for field in ("connections_max", "requests_max", "threads"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: must be at least 1, not {getattr(self, field)}")
        if not 16 * 1024 <= self.buffer_bytes <= 1024 * 1024:
            raise ValueError(f"buffer_bytes: must be 16 KiB to 1 MiB, not {self.buffer_bytes}")
        for network in self.trusted:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise ValueError(f"trusted: {error}") from error
        _check_unique("nodes and elsewhere", [each.name for each in (*self.nodes, *self.elsewhere)])
        pools = [*(each.name for each in self.services), *(each.name for each in self.tcp_proxies)]
        _check_unique("services and tcp_proxies", [*pools, "ledger", "switches", "repeats", "statistics", "clients"])
        if dotted := [name for name in pools if "." in name]:
            raise ValueError(f"services and tcp_proxies: no dot in {dotted[0]!r}: what the edge adds follows one")
        ports = [self.port, self.statistics_port]
        ports += [*(each.port for each in self.services), *(each.port for each in self.tcp_proxies)]
        _check_unique("ports", map(str, ports))

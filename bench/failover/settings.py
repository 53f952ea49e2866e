"""How the peer is set up: PostgreSQL under Patroni as a team that knows it would run it, at its fastest legal timings.

Pure: each function renders a configuration, or checks one. Three hosts, each with a member of etcd, Patroni and a
PostgreSQL; HAProxy stands outside of them, beside the clients. That it cannot be lost is to the peer's advantage, and
so is all that is chosen here for speed. What is not chosen for speed is durability: an acknowledged transaction is on
disk in two hosts (`synchronous_mode_strict`), as ours is in two regions.

Patroni 3.0.2 enforces no bounds; those of `Timings` are of its manual ("Dynamic Configuration Settings": ttl at least
20, loop_wait at least 1, retry_timeout at least 3, loop_wait + 2 * retry_timeout <= ttl), and later releases refuse
what is below.

It speaks with etcd by version 2 of its API. By version 3, a primary that was cut off may put its name over that of its
successor when it comes back, without looking, and what was acknowledged meanwhile is gone: here 1,263 to 1,730 of the
transfers, in six of eight cuts. The project mended it in May 2023 ("Make sure the leader key isn't unconditionally
overwritten"), after 3.0.2. A team that knows it avoids it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import Struct

__all__ = [
    "DATABASE",
    "ETCD_OPTIONS",
    "FAILOVER_AT_ONCE",
    "FASTEST",
    "PORTS",
    "POSTGRES",
    "USER",
    "Host",
    "Timings",
    "dsn",
    "etcd_options",
    "haproxy_config",
    "patroni_config",
]

SCOPE: Final = "bench"
USER: Final = "postgres"
DATABASE: Final = "postgres"


class Ports(Struct, frozen=True, kw_only=True):
    """The ports of a host's parts, the same on each, as each has a network of its own."""

    etcd: int = 2379
    etcd_peer: int = 2380
    postgres: int = 5432
    patroni: int = 8008
    haproxy: int = 5000


PORTS: Final = Ports()


class Host(Struct, frozen=True, kw_only=True):
    """One of the hosts."""

    name: str
    address: str
    folder: Path
    """For its data and logs."""


class Timings(Struct, frozen=True, kw_only=True):
    """How patient Patroni and HAProxy are, in seconds where a name does not say otherwise.

    Raises:
        ValueError: Patroni's manual forbids it.
    """

    ttl: int = 20
    """How long a leader keeps its lock without renewing it: what a lost host costs."""
    loop_wait: int = 1
    """How often each Patroni looks."""
    retry_timeout: int = 3
    """How long it tries to reach etcd or PostgreSQL before it gives up."""
    primary_start_timeout: int = 300
    """How long a crashed primary may try to start again before another takes over; 0: another takes over at once."""
    check_ms: int = 500
    """How often HAProxy asks each host whether it is the primary, and how long it waits for the answer."""
    fall: int = 2
    """How many checks must fail until HAProxy leaves a host alone."""

    def __post_init__(self) -> None:
        for name, least in (("ttl", 20), ("loop_wait", 1), ("retry_timeout", 3), ("primary_start_timeout", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: Patroni wants at least {least}, not {getattr(self, name)}")
        if self.loop_wait + 2 * self.retry_timeout > self.ttl:
            raise ValueError("ttl: Patroni wants it to be at least loop_wait + 2 * retry_timeout")


FASTEST: Final = Timings()
FAILOVER_AT_ONCE: Final = Timings(primary_start_timeout=0)

POSTGRES: Final[Mapping[str, str | int]] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "max_connections": 100,
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "wal_keep_size": "256MB",
    "hot_standby": "on",
    "jit": "off",
    # Standbys come back to a primary, and give up a silent one, as quickly as makes sense.
    "wal_retrieve_retry_interval": "100ms",
    "wal_receiver_timeout": "2s",
    "wal_receiver_status_interval": "1s",
    "wal_sender_timeout": "2s",
    # Nothing in /tmp, and no shared memory that would outlive a kill: it goes with the namespace.
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "sysv",
}

ETCD_OPTIONS: Final[Mapping[str, int]] = {
    "heartbeat-interval": 20,
    "election-timeout": 200,
    "snapshot-count": 1_000,
}
"""The same as our own journal's on one machine."""


def patroni_config(host: Host, hosts: Sequence[Host], *, timings: Timings, programs: Path, network: str) -> str:
    """Render the `patroni.yml` of a host.

    Args:
        host: whose.
        hosts: all of them.
        timings: how patient it is.
        programs: the folder of PostgreSQL's programs.
        network: that of all hosts and clients, who are trusted.
    """
    trusted = [f"host all all {network} trust", f"host replication {USER} {network} trust"]
    config: dict[str, Any] = {
        "scope": SCOPE,
        "name": host.name,
        "restapi": {
            "listen": f"{host.address}:{PORTS.patroni}",
            "connect_address": f"{host.address}:{PORTS.patroni}",
        },
        "etcd": {"hosts": [f"{each.address}:{PORTS.etcd}" for each in hosts]},
        "bootstrap": {
            "dcs": {
                "ttl": timings.ttl,
                "loop_wait": timings.loop_wait,
                "retry_timeout": timings.retry_timeout,
                "primary_start_timeout": timings.primary_start_timeout,
                "maximum_lag_on_failover": 16 * 1024 * 1024,
                "synchronous_mode": True,
                "synchronous_mode_strict": True,
                "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": dict(POSTGRES)},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}],
            "pg_hba": trusted,
        },
        "postgresql": {
            "listen": f"{host.address}:{PORTS.postgres}",
            "connect_address": f"{host.address}:{PORTS.postgres}",
            "data_dir": str(host.folder / "data"),
            "bin_dir": str(programs),
            "pgpass": str(host.folder / "pgpass"),
            "authentication": {
                "superuser": {"username": USER},
                "replication": {"username": USER},
                "rewind": {"username": USER},
            },
            "pg_hba": trusted,
            "basebackup": [{"checkpoint": "fast"}],
            # A primary that was lost comes back by itself, whatever it had written that nobody acknowledged.
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
        },
        "watchdog": {"mode": "off"},
    }
    return yaml.safe_dump(config, sort_keys=False)


def etcd_options(host: Host, hosts: Sequence[Host]) -> list[str]:
    """Render the options of a host's member of etcd."""
    client, peer = f"http://{host.address}:{PORTS.etcd}", f"http://{host.address}:{PORTS.etcd_peer}"
    return [
        *("--name", host.name),
        *("--data-dir", str(host.folder / "etcd")),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", ",".join(f"{each.name}=http://{each.address}:{PORTS.etcd_peer}" for each in hosts)),
        *("--initial-cluster-state", "new"),
        "--enable-v2",
        *(word for name, value in ETCD_OPTIONS.items() for word in (f"--{name}", str(value))),
        *("--logger", "zap", "--log-level", "warn"),
    ]


def haproxy_config(hosts: Sequence[Host], *, outside: str, timings: Timings) -> str:
    """Render HAProxy's configuration: connections go to whoever says that it is the primary.

    Args:
        hosts: those to ask.
        outside: the address where it listens.
        timings: how patient it is.
    """
    check_ms = timings.check_ms
    servers = "\n".join(
        f"    server {each.name} {each.address}:{PORTS.postgres} check port {PORTS.patroni}" for each in hosts
    )
    return f"""\
global
    maxconn 1000
defaults
    mode tcp
    retries 1
    option redispatch
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout check {check_ms}ms
listen primary
    bind {outside}:{PORTS.haproxy}
    option httpchk
    http-check send meth OPTIONS uri /primary
    http-check expect status 200
    default-server inter {check_ms}ms fall {timings.fall} rise 1 on-marked-down shutdown-sessions
{servers}
"""


def dsn(outside: str) -> str:
    """Return where clients find the primary: through HAProxy."""
    return f"host={outside} port={PORTS.haproxy} user={USER} dbname={DATABASE} connect_timeout=3 sslmode=disable"

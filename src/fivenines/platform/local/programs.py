"""What runs in a region: the topology turned into processes, with their options, probes and ways to stop. Pure.

Probes ask what a user of the part would want of it: readiness of the journal's member is that it knows a leader, of a
node that it would take a write. Liveness asks for nothing but the process itself.
"""

import shutil
import signal
import sys
from pathlib import Path

import msgspec

from fivenines.platform import spec as declared
from fivenines.platform.latency import journal_times
from fivenines.platform.local.edging import config_file, socket_file
from fivenines.platform.local.program import Probe, Program
from fivenines.platform.topology import PORTS, RegionPlace, ServicePlace, Topology
from fivenines.traffic.edge import command as edge_command
from fivenines.traffic.edge import find_haproxy

__all__ = ["archive_of", "env_file", "founded_file", "journal_program", "programs", "table_file"]

_FIVENINES = (sys.executable, "-m", "fivenines")
_SNAPSHOT_COUNT = 1_000
"""etcd's default takes gigabytes of memory with entries as large as ours."""


def founded_file(topology: Topology) -> Path:
    """Name the file that is there once the journal was founded, which is done once and never again."""
    return topology.path / "journal.founded"


def table_file(topology: Topology, region: str) -> Path:
    """Name the steering table of a region's nameserver."""
    return topology.path / region / "nameserver" / "steering.json"


def archive_of(topology: Topology, region: str) -> str:
    """Return the URL of a region's archive: the declared one, or a folder."""
    for each in topology.spec.regions:
        if each.name == region and each.archive is not None:
            return each.archive
    return str(topology.path / region / "archive")


def env_file(topology: Topology, region: str, workload: str) -> Path:
    """Name the file with further environment for one workload; usually there is none."""
    return topology.path / region / "env" / f"{workload}.env"


def programs(topology: Topology, place: RegionPlace) -> list[Program]:
    """Describe everything that an agent runs, in the order in which it is started."""
    found = [journal_program(topology, place)] if place.has_journal else []
    found += [
        _edge(topology, place),
        _nameserver(topology, place),
        *(_node(topology, place, node) for node in place.nodes),
        _controller(topology, place),
    ]
    if place.nodes:
        found.append(_historian(topology, place))
    found += [_service(topology, place, each) for each in place.services]
    return [msgspec.structs.replace(each, env_file=env_file(topology, place.name, each.name)) for each in found]


def journal_program(topology: Topology, place: RegionPlace, *, is_joining: bool = False) -> Program:
    """Describe a region's member of the journal.

    Args:
        topology: of the platform.
        place: the region.
        is_joining: whether it joins a cluster that is there, rather than being of the first ones. Only a member
            without data asks.
    """
    journal, folder = topology.spec.journal, topology.path / place.name / "journal"
    times = journal_times(topology.spec, is_local=True)
    members = [each for each in topology.regions if each.has_journal]
    peers = ",".join(f"{each.name}=http://{each.host}:{PORTS.journal_peer}" for each in members)
    client, peer = (f"http://{place.host}:{port}" for port in (PORTS.journal, PORTS.journal_peer))
    return Program(
        name=f"{place.name}-journal",
        role="journal",
        command=(
            shutil.which("etcd") or "etcd",
            *("--name", place.name, "--data-dir", str(folder)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", peers, "--initial-cluster-token", topology.spec.platform),
            *("--initial-cluster-state", "existing" if is_joining else "new"),
            *("--heartbeat-interval", str(times.heartbeat_ms), "--election-timeout", str(times.election_ms)),
            *("--quota-backend-bytes", str(journal.quota_mib * 1024 * 1024)),
            *("--snapshot-count", str(_SNAPSHOT_COUNT), "--auto-compaction-retention", "0"),
            *("--logger", "zap", "--log-level", "warn"),
        ),
        host=place.host,
        folder=folder,
        startup=Probe(port=PORTS.journal, path="/version"),
        readiness=Probe(port=PORTS.journal, path="/health", failures=2),
        liveness=Probe(port=PORTS.journal, path="/version", failures=5),
        stop_s_max=2.0,  # what it has acknowledged is on its disk; the last one to go waits for others in vain
    )


def _edge(topology: Topology, place: RegionPlace) -> Program:
    socket, config = socket_file(topology, place.name), config_file(topology, place.name)
    program = find_haproxy() or "haproxy"
    return Program(
        name=f"{place.name}-edge",
        role="edge",
        command=tuple(edge_command(program, config, reload_of=None, socket=socket)),
        reload=("-x", str(socket), "-sf"),
        host=place.host,
        startup=Probe(port=PORTS.edge_stats, path="/metrics?scope=global"),
        readiness=Probe(port=PORTS.edge_stats, path="/metrics?scope=global"),
        liveness=Probe(port=PORTS.edge_stats, path="/metrics?scope=global", failures=5),
        stop_signal=signal.SIGUSR1,
        stop_s_max=5.0,
    )


def _nameserver(topology: Topology, place: RegionPlace) -> Program:
    metrics = PORTS.nameserver_metrics
    return Program(
        name=f"{place.name}-names",
        role="nameserver",
        command=(
            *(*_FIVENINES, "nameserver", "--json", "--table", str(table_file(topology, place.name))),
            *("--host", place.host, "--port", str(PORTS.nameserver), "--metrics-port", str(metrics)),
        ),
        host=place.host,
        startup=Probe(port=PORTS.nameserver),
        readiness=Probe(port=metrics, path="/metrics"),
        liveness=Probe(port=metrics, path="/metrics", failures=5),
        stop_s_max=5.0,
    )


def _node(topology: Topology, place: RegionPlace, node: str) -> Program:
    port, folder = place.node_port(node), topology.path / place.name / node
    journal = topology.spec.journal
    return Program(
        name=node,
        role="node",
        command=(
            *(*_FIVENINES, "serve", "--json", "--host", place.host, "--port", str(port)),
            *("--journal", topology.journal_url(place.name), "--region", place.name, "--name", node),
            *("--keep-tail", str(journal.keep_tail_mib), "--journal-quota", str(journal.quota_mib)),
            *("--data", str(folder)),
        ),
        host=place.host,
        folder=folder,
        startup=Probe(port=port, path="/live"),
        readiness=Probe(port=port, path="/ready", failures=2),
        liveness=Probe(port=port, path="/live", failures=5),
        needs="journal",
        is_in_edge=True,
    )


def _controller(topology: Topology, place: RegionPlace) -> Program:
    probe = Probe(port=PORTS.controller, path="/live", failures=5)
    return Program(
        name=f"{place.name}-controller",
        role="controller",
        command=(*_FIVENINES, "controller", "--json", "--folder", topology.folder, "--region", place.name),
        host=place.host,
        startup=probe,
        readiness=Probe(port=PORTS.controller, path="/ready"),
        liveness=probe,
        needs="journal",
        stop_s_max=5.0,
    )


def _historian(topology: Topology, place: RegionPlace) -> Program:
    folder, spec = topology.path / place.name / "history", topology.spec
    peers = [archive_of(topology, each.name) for each in topology.others(place.name) if each.nodes]
    keep = () if spec.archive.keep_days is None else ("--keep-days", str(spec.archive.keep_days))
    sql = () if spec.sql == "sqlite" else ("--sql", spec.sql)
    return Program(
        name=f"{place.name}-history",
        role="historian",
        command=(
            *(*_FIVENINES, "historian", "--json", "--host", place.host, "--port", str(PORTS.historian)),
            *("--journal", topology.journal_url(place.name), "--region", place.name),
            *("--name", f"{place.name}-history", "--archive", archive_of(topology, place.name)),
            *(option for url in peers for option in ("--peer", url)),
            *("--data", str(folder), "--seal-s", str(spec.archive.seal_s), *keep, *sql),
        ),
        host=place.host,
        folder=folder,
        startup=Probe(port=PORTS.historian, path="/live"),
        readiness=Probe(port=PORTS.historian, path="/ready"),
        liveness=Probe(port=PORTS.historian, path="/live", failures=5),
        needs="journal",
    )


def _service(topology: Topology, place: RegionPlace, copy: ServicePlace) -> Program:
    service = topology.service(copy.service)
    folder = Path(topology.home) / service.folder
    env = {
        "HOST": place.host,
        "PORT": str(copy.port),
        "FIVENINES_URL": topology.url,
        "FIVENINES_NAMESERVERS": ",".join(topology.nameservers_of(place.name)),
        "FIVENINES_REGION": place.name,
        "FIVENINES_NAME": copy.name,
        **service.env,
    }
    probes = service.probes
    return Program(
        name=copy.name,
        role="service",
        command=tuple(sys.executable if word == "{python}" else word for word in service.command),
        env=env,
        host=place.host,
        works_in=folder,
        startup=_probe(probes.startup, copy.port),
        readiness=_probe(probes.readiness, copy.port),
        liveness=_probe(probes.liveness, copy.port),
        startup_s_max=max(1.0, probes.startup.interval_s * probes.startup.failures),
        drain_s_max=service.drain_s,
        stop_s_max=service.drain_s,
        is_in_edge=True,
    )


def _probe(probe: declared.Probe, port: int) -> Probe:
    return Probe(
        port=port,
        path=probe.path or "",
        interval_s=probe.interval_s,
        timeout_s=probe.timeout_s,
        failures=probe.failures,
    )

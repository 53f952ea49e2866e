"""The network of a platform whose regions are apart: made and taken away, cut one way and the other. Needs root."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fivenines.cli.plan import read_declared
from fivenines.platform.local.isolation import CLIENTS, IsolationError, Network, why_not
from fivenines.platform.topology import Isolation, Topology, make_topology
from tests.e2e.platforms import free_network


def topology_in(folder: Path, isolation: Isolation) -> Topology:
    """Three regions, of the platform that is built in."""
    declared = read_declared(folder / "platform.yaml")
    return make_topology(declared.platform, folder, home=folder, network=free_network(apart=True), isolation=isolation)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = ["platform: bank", "regions:"]
    places = {"eu-west": "dublin", "eu-north": "stockholm", "us-east": "n-virginia"}
    lines += [f"  - {{name: {name}, provider: local-{name}, location: {at}}}" for name, at in places.items()]
    (tmp_path / "platform.yaml").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def network(folder: Path) -> Iterator[tuple[Network, Topology]]:
    """The network of a platform that does not run."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    topology = topology_in(folder, "netns")
    network = Network(topology)
    network.make()
    try:
        yield network, topology
    finally:
        network.remove()


def devices(topology: Topology) -> list[str]:
    return sorted(
        path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(f"fn{topology.network}")
    )


def is_heard(topology: Topology, region: str) -> bool:
    """Whether a region's address refuses a connection, as one does behind which nobody listens; or is silent."""
    with socket.socket() as client:
        client.settimeout(1.0)
        try:
            client.connect((topology.region(region).host, 9))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    raise AssertionError("somebody listens there")


def test_each_region_has_a_cable_and_all_of_it_is_taken_away(network: tuple[Network, Topology]) -> None:
    made, topology = network
    name = f"fn{topology.network}"
    assert devices(topology) == [name, f"{name}-r1", f"{name}-r2", f"{name}-r3"]
    assert all(is_heard(topology, place.name) for place in topology.regions)
    made.remove()
    assert devices(topology) == []
    assert not [path for path in Path("/var/run/netns").iterdir() if path.name.startswith(f"{name}-")]


def test_a_second_platform_leaves_the_network_of_the_first(network: tuple[Network, Topology], tmp_path: Path) -> None:
    _, topology = network
    second = Network(msgspec.structs.replace(topology, folder=str(tmp_path / "other")))
    with pytest.raises(IsolationError, match=f"network {topology.network} is that of a platform.*another --network"):
        second.make()
    second.remove()
    assert len(devices(topology)) == 4
    assert all(is_heard(topology, place.name) for place in topology.regions)


@pytest.mark.parametrize("ways", [((CLIENTS, "eu-north"),), (("eu-north", CLIENTS),)], ids=["there", "back"])
def test_what_is_lost_one_way_is_silence_and_heals(
    network: tuple[Network, Topology], ways: tuple[tuple[str, str], ...]
) -> None:
    made, topology = network
    made.lose(*ways)
    assert not is_heard(topology, "eu-north")
    assert is_heard(topology, "eu-west")
    made.heal()
    assert is_heard(topology, "eu-north")


def test_making_a_network_is_no_signal_to_whoever_does_it(folder: Path) -> None:
    """The library forks, and ends its forks by SIGTERM: an event loop that minds that would stop the platform."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    network, heard = Network(topology_in(folder, "netns")), list[str]()

    async def make() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, heard.append, number.name)
        try:
            await asyncio.to_thread(network.make)
            await asyncio.to_thread(network.lose, ("eu-west", "us-east"))
        finally:
            await asyncio.to_thread(network.remove)

    asyncio.run(make())
    assert heard == []


def test_regions_on_one_device_cannot_be_cut_off(folder: Path) -> None:
    network = Network(topology_in(folder, "loopback"))
    network.make()
    assert network.inside("eu-west") == ()
    with pytest.raises(IsolationError, match="--isolation netns"):
        network.cut_off("eu-west")
    network.remove()

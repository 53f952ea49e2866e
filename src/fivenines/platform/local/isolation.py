"""Where regions are apart: on one loopback device, or each in a network namespace of its own with a cable to cut.

`--isolation netns` needs root on Linux. Each region gets a namespace, with a pair of virtual devices for a cable, and
all cables end in a bridge, where clients are too. Cut means what it means between machines: what is sent is lost
without a word. It is done by a neighbour entry that leads to a hardware address that nobody has, so one direction can
be lost alone, and nothing else of the machine is touched. All names begin with `fn` and the number of the platform's
network; what an earlier run left there is taken away first. A platform that runs holds the lock of its number, so what
is taken away is never another one's.

The library talks to the kernel on an event loop of its own, so on ours all of this runs in a thread.
"""

import fcntl
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fivenines.platform.topology import Topology

__all__ = ["CLIENTS", "NOBODY", "IsolationError", "Network", "Way", "keep_signals_apart", "why_not"]

CLIENTS = "clients"
"""Everybody who is in no region."""
Way = tuple[str, str]
"""From whom to whom: names of regions, or `CLIENTS`."""

NOBODY = "02:00:00:00:00:01"
"""A hardware address of our own making that no device has."""
_NAMESPACES = Path("/var/run/netns")
_LOCKS = Path("/run/fivenines")
"""A folder of root's own: in one that all may write to, somebody could put a link in the place of a lock."""


class IsolationError(Exception):
    """Regions cannot be given networks of their own here; the sentence says why."""


class Network:
    """The network of a platform.

    Args:
        topology: of the platform.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._is_apart = topology.isolation == "netns"
        self._lost: set[Way] = set()
        self._lock: int | None = None
        """Held while our network is there; no program that we start inherits it."""

    def make(self) -> None:
        """Make it, in the place of what an earlier run left. Raises `IsolationError`."""
        if not self._is_apart:
            return
        if (reason := why_not()) is not None:
            raise IsolationError(reason)
        try:
            is_ours = self._hold()
        except OSError as error:
            raise IsolationError(f"{self._lock_file}: {error.strerror}") from error
        if not is_ours:
            raise IsolationError(
                f"network {self._topology.network} is that of a platform that runs on this machine already, started by "
                f"process {self._holder() or 'unknown'}: choose another --network"
            )
        self._clear()
        self._build()

    def remove(self) -> None:
        """Take it away, as far as it is there, and unless it is another platform's that runs."""
        if not self._is_apart or why_not() is not None:  # where none can be made, none was
            return
        try:
            is_ours = self._hold()
        except OSError:  # nor was it then
            return
        try:
            if is_ours:
                self._clear()
        finally:
            self._let_go()

    def _build(self) -> None:
        from pyroute2 import IPRoute, NetlinkError, NetNS, netns

        keep_signals_apart()
        try:
            with IPRoute() as here:
                here.link("add", ifname=self._bridge, kind="bridge")
                bridge = here.link_lookup(ifname=self._bridge)[0]
                here.addr("add", index=bridge, address=self.outside, prefixlen=16)
                here.link("set", index=bridge, state="up")
                for place in self._topology.regions:
                    name = self._namespace(place.name)
                    netns.create(name)
                    here.link("add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": name})
                    here.link("set", index=here.link_lookup(ifname=name)[0], master=bridge, state="up")
                    with NetNS(name) as there:
                        there.link("set", index=there.link_lookup(ifname="lo")[0], state="up")
                        device = there.link_lookup(ifname="eth0")[0]
                        there.addr("add", index=device, address=place.host, prefixlen=16)
                        there.link("set", index=device, state="up")
        except (NetlinkError, OSError) as error:
            self.remove()
            raise IsolationError(f"the kernel refuses: {error}") from error

    def _clear(self) -> None:
        from pyroute2 import IPRoute, NetlinkError, netns

        for name in netns.listnetns():
            if name.startswith(f"{self._bridge}-"):
                with suppress(OSError):
                    netns.remove(name)
        # The kernel takes a namespace away some time after its name; the cable into it goes at once, by its end here.
        with IPRoute() as here:
            for link in here.get_links():
                name = link.get_attr("IFLA_IFNAME")
                if name == self._bridge or name.startswith(f"{self._bridge}-"):
                    with suppress(NetlinkError):  # it is gone by now
                        here.link("del", index=link["index"])
        self._lost.clear()

    @property
    def _lock_file(self) -> Path:
        return _LOCKS / f"network-{self._topology.network}.lock"

    def _hold(self) -> bool:
        """Hold the lock of our number; False: another platform does. Raises OSError."""
        if self._lock is not None:
            return True
        _LOCKS.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
        except BlockingIOError:
            os.close(lock)
            return False
        except OSError:
            os.close(lock)
            raise
        self._lock = lock
        return True

    def _let_go(self) -> None:
        if self._lock is not None:
            # Closing alone would leave it with a fork of ours that the library has not ended yet.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def _holder(self) -> str:
        with suppress(OSError):
            return self._lock_file.read_text().strip()
        return ""

    def inside(self, region: str) -> tuple[str, ...]:
        """What to put before a command so that it runs in a region's network."""
        return ("nsenter", f"--net={_NAMESPACES / self._namespace(region)}") if self._is_apart else ()

    def lose(self, *ways: Way) -> None:
        """Lose all that is sent these ways, from now on, without a word to the sender. Raises `IsolationError`."""
        for way in ways:
            self._set(way, is_lost=True)

    def heal(self) -> None:
        """Lose nothing any more."""
        for way in list(self._lost):
            self._set(way, is_lost=False)

    def cut_off(self, region: str, *, from_clients: bool = True, from_regions: bool = True) -> None:
        """Cut a region off, in both directions. Raises `IsolationError`."""
        others = [place.name for place in self._topology.others(region)] if from_regions else []
        others += [CLIENTS] if from_clients else []
        self.lose(*((region, other) for other in others), *((other, region) for other in others))

    @property
    def outside(self) -> str:
        """The address of all that is in no region; empty where regions share the machine's network."""
        return f"10.{self._topology.network}.0.1" if self._is_apart else ""

    def address(self, who: str) -> str:
        """The address of a region, or of `CLIENTS`."""
        return self.outside if who == CLIENTS else self._topology.region(who).host

    def way_out(self, who: str) -> tuple[str, str]:
        """Name the network namespace of a region or of `CLIENTS`, empty for the machine's own, and its device there."""
        return ("", self._bridge) if who == CLIENTS else (self._namespace(who), "eth0")

    @property
    def _bridge(self) -> str:
        return f"fn{self._topology.network}"

    def _namespace(self, region: str) -> str:
        return f"{self._bridge}-r{self._topology.region(region).number}"

    def _set(self, way: Way, *, is_lost: bool) -> None:
        if not self._is_apart:
            raise IsolationError("regions share one network: 'fivenines up --isolation netns' gives each its own")
        from pyroute2 import IPRoute, NetlinkError, NetNS

        keep_signals_apart()
        source, destination = way
        address = self.address(destination)
        namespace, name = self.way_out(source)
        opening: Callable[[], Any] = (lambda: NetNS(namespace)) if namespace else IPRoute
        with opening() as there:
            device = there.link_lookup(ifname=name)[0]
            if is_lost:
                there.neigh("replace", dst=address, lladdr=NOBODY, ifindex=device, state="permanent")
                self._lost.add(way)
            else:
                with suppress(NetlinkError):  # it is gone
                    there.neigh("del", dst=address, ifindex=device)
                self._lost.discard(way)


def keep_signals_apart() -> None:
    """Have the library's helpers hear their signals alone.

    It enters a namespace in a fork of our process, and ends that with SIGTERM. A fork inherits where an event loop
    listens for signals, so without this our own loop would hear it, and take it for an order to stop.
    """
    from pyroute2 import config

    config.disable_mp_signal = True


def _has_capabilities() -> bool:
    """Whether root is root here: in a container it often is not."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return all(held >> bit & 1 for bit in (12, 21))
    return False


def why_not() -> str | None:
    """Say why regions cannot have networks of their own here, or return None."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces take root: try sudo, or leave --isolation out"
    if not _has_capabilities():
        return "network namespaces take CAP_NET_ADMIN and CAP_SYS_ADMIN, which root has not here: is this a container?"
    try:
        import pyroute2  # noqa: F401
    except ImportError:
        return "pyroute2 is not installed: pip install 'fivenines[platform]'"
    return None

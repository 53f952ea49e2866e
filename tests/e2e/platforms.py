"""Whole platforms for tests: each on a network of its own, driven from plain tests, and gone at the end.

`RunningPlatform` and `RunningLoad` live on an event loop, which has to go round between the steps of a test and from
one test to the next. So a thread has one, and `do` carries a coroutine there and its result back.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

from fivenines.drill.checker import Judgement, Stretch, gather, judge, stretch
from fivenines.drill.drills.clients import plan_for
from fivenines.drill.load.running import RunningLoad
from fivenines.drill.running import RunningPlatform
from fivenines.platform.topology import PORTS
from fivenines.traffic.edge import find_haproxy
from tests.integration.etcd.clusters import need_etcd

__all__ = [
    "EXAMPLES",
    "Load",
    "LoopThread",
    "Played",
    "free_network",
    "left_of",
    "need_servers",
    "played",
    "wait_until_nothing_is_left",
]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_FIRST_NETWORK, _NETWORKS = 40, 200
_REGIONS = 3
_SERVICE_PORT = 9980

T = TypeVar("T")


def need_servers() -> None:
    """Skip the test where a server is not installed that a platform takes."""
    need_etcd()
    if find_haproxy() is None:
        pytest.skip("HAProxy is not installed: Debian has it in the package haproxy")


def free_network(*, apart: bool = False) -> int:
    """Find a network whose addresses nobody has; tests that run beside each other begin at different ones.

    Args:
        apart: whether its regions are to have network namespaces.
    """
    for step in range(_NETWORKS):
        number = _FIRST_NETWORK + (os.getpid() + step) % _NETWORKS
        if _is_free(number) and not (apart and Path(f"/sys/class/net/fn{number}").exists()):
            return number
    raise AssertionError("all networks are taken")


def _is_free(number: int) -> bool:
    ports = (PORTS.edge, PORTS.agent, PORTS.journal, PORTS.nameserver, PORTS.nodes + 1)
    with contextlib.ExitStack() as stack:
        for region in range(1, _REGIONS + 1):
            for port in ports:
                probe = stack.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((f"127.{number}.{region}.1", port))
                except OSError:
                    return False
    return True


def left_of(what: Path | str) -> str:
    """The command lines of all processes that have to do with a folder, or an address."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(what) in line and int(path.parent.name) != os.getpid():
                found.append(line)
    return "\n".join(found)


def wait_until_nothing_is_left(folder: Path) -> str:
    """Return what is left after a while that is long enough for anything that dies."""
    until = time.monotonic() + 60
    while (left := left_of(folder)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


class LoopThread:
    """An event loop that goes round in a thread of its own. A context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # The platform dies with the thread that has started it: this one lives as long as the test wants it.
        self._thread = threading.Thread(target=self._loop.run_forever, name="platform", daemon=True)

    def do(self, work: Coroutine[Any, Any, T], *, seconds: float = 300.0) -> T:
        """Carry out a coroutine there, and return or raise what it does."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Load:
    """A steady load on a platform."""

    def __init__(self, played: "Played", load: RunningLoad, rate_per_s: float) -> None:
        self._played, self.running, self._rate_per_s = played, load, rate_per_s

    def since(self, began: float, ended: float) -> Stretch:
        """What clients noticed between two moments, once all that was due by then has ended."""
        self._played.do(self.running.wait_ended(ended))
        return stretch(self.running.asked, began, ended, rate_per_s=self._rate_per_s)

    def judged(self) -> Judgement:
        """Stop, and have the checker hold all that was answered against the journal, every node and every history."""
        self._played.do(self.running.stop())
        return judge(self._played.do(gather(self._played.platform, self.running.asked)))


class Played:
    """A platform, and the loop on which it is driven."""

    def __init__(self, platform: RunningPlatform, loop: LoopThread, network: int) -> None:
        self.platform, self._loop, self.network = platform, loop, network
        self._loads = 0

    def do(self, work: Coroutine[Any, Any, T], *, seconds: float = 300.0) -> T:
        """Carry out a coroutine on its loop."""
        return self._loop.do(work, seconds=seconds)

    def command(self, *words: str, seconds: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run a command of `fivenines` on it, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "fivenines", *words, "--folder", str(self.platform.folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=os.environ | {"COLUMNS": "200"},
        )

    @contextmanager
    def load(self, rate_per_s: float) -> Iterator[Load]:
        """Have clients ask it at a steady rate, from now on."""
        self._loads += 1
        described = plan_for(self.platform.topology, rate_per_s=rate_per_s, name=str(self._loads))
        load = RunningLoad(described, self.platform.folder / "load.log")
        try:
            self.do(load.start())
            yield Load(self, load, rate_per_s)
        finally:
            self.do(load.discard())


@contextmanager
def played(
    folder: Path, *, declared: Path | None = None, options: tuple[str, ...] = (), apart: bool = False
) -> Iterator[Played]:
    """Run a platform; none of its processes is left in the end."""
    need_servers()
    network = free_network(apart=apart)
    more = ("--isolation", "netns") if apart else ()
    platform = RunningPlatform(folder, declared=declared, network=network, options=(*options, *more))
    with LoopThread() as loop:
        try:
            loop.do(platform.start())
            yield Played(platform, loop, network)
        finally:
            loop.do(platform.discard())

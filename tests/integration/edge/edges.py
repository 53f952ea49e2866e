"""Real edges and small real nodes for tests: processes of their own, on free ports, and nothing left behind."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

import httpx
import pytest

from fivenines.drill.members import free_ports
from fivenines.traffic.edge import EdgeSettings, Runtime, Server, Timeouts, check, command, config, find_haproxy

__all__ = ["PATIENCE_S", "Edge", "Load", "Node", "Platform", "edges", "free_port", "wait_until"]

PATIENCE_S = 45.0
"""What nothing here should take."""
_SMALL_NODE = Path(__file__).with_name("small_node.py")


def free_port(host: str = "127.0.0.1") -> int:
    return free_ports(1, host=host)[0]


async def wait_until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until something holds; fail when it does not in a time which nothing here should take."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await condition():  # noqa: ASYNC110  # nobody tells it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it never came about that {what}") from None


def _spawn(words: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


class _Process:
    process: "subprocess.Popen[bytes]"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


class Node(_Process):
    """A small server, see `small_node.py`."""

    def __init__(self, name: str, host: str = "127.0.0.1") -> None:
        self.name = name
        self.server = Server(name=name, host=host, port=free_port(host))
        self.url = f"http://{host}:{self.server.port}"
        self.start()

    def start(self) -> None:
        words = [sys.executable, str(_SMALL_NODE), self.name, self.server.host, str(self.server.port)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.process.stdout.close()

    async def control(self, **wanted: float) -> None:
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            (await http.get(f"{self.url}/control", params=wanted)).raise_for_status()

    async def seen(self) -> list[dict[str, Any]]:
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            found: list[dict[str, Any]] = (await http.get(f"{self.url}/seen")).json()
            return found


class Edge(_Process):
    """HAProxy with our configuration."""

    def __init__(self, settings: EdgeSettings, folder: Path, haproxy: str) -> None:
        self.settings = settings
        self.url = f"http://{settings.host}:{settings.port}"
        self.statistics_url = f"http://{settings.host}:{settings.statistics_port}"
        self.runtime = Runtime(settings.admin_socket)
        self.config_path = folder / "haproxy.cfg"
        self.log_path = folder / "haproxy.log"
        self.former: list[subprocess.Popen[bytes]] = []
        self._haproxy = haproxy

    async def start(self, *, reload: bool = False) -> None:
        """Start it, or another process in its place, and wait until it serves."""
        self.config_path.write_text(config(self.settings))
        check(self.config_path, haproxy=self._haproxy)
        before = self.process.pid if reload else None
        words = command(
            self._haproxy, self.config_path, reload_of=before, socket=self.settings.admin_socket if before else None
        )
        if before:
            self.former.append(self.process)
        with self.log_path.open("ab") as log:
            self.process = _spawn(words, log)

        async def is_there() -> bool:
            assert self.process.poll() is None, self.log
            with contextlib.suppress(Exception):
                return f"Pid: {self.process.pid}\n" in await self.runtime.ask("show info")
            return False

        await wait_until(is_there, "the edge answers")

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    async def sees(self, name: str, *, is_up: bool) -> None:
        """Wait until it finds a server well, or unwell."""

        async def is_so() -> bool:
            return any(each.name == name and each.is_up == is_up for each in await self.runtime.servers())

        await wait_until(is_so, f"{name} is {'up' if is_up else 'down'}")

    def stop(self) -> None:
        for process in (*self.former, self.process):
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE_S)


class Platform:
    """Some nodes and some edges."""

    def __init__(self, folder: Path, haproxy: str, http: httpx.AsyncClient) -> None:
        self._folder = folder
        self._haproxy = haproxy
        self._started: list[Node | Edge] = []
        self.http = http

    def node(self, name: str, host: str = "127.0.0.1") -> Node:
        node = Node(name, host)
        self._started.append(node)
        return node

    def describe(self, region: str, nodes: Sequence[Server], host: str = "127.0.0.1", **more: Any) -> EdgeSettings:
        """Describe an edge on free ports."""
        folder = self._folder / region
        folder.mkdir(exist_ok=True)
        more.setdefault("timeouts", Timeouts(slow_start_s=0))
        return EdgeSettings(
            region=region,
            host=host,
            port=free_port(host),
            nodes=tuple(nodes),
            admin_socket=folder / "admin.sock",
            statistics_port=free_port(host),
            **more,
        )

    async def start(self, settings: EdgeSettings) -> Edge:
        edge = Edge(settings, self._folder / settings.region, self._haproxy)
        await edge.start()
        self._started.append(edge)
        return edge

    async def edge(self, nodes: Sequence[Node], region: str = "eu-west", host: str = "127.0.0.1", **more: Any) -> Edge:
        """Start an edge before nodes, and wait until it finds them well."""
        edge = await self.start(self.describe(region, [node.server for node in nodes], host, **more))
        for node in nodes:
            await edge.sees(node.name, is_up=True)
        return edge

    def stop(self) -> None:
        for each in reversed(self._started):
            if isinstance(each, Edge):
                each.stop()
            elif each.process.poll() is None:
                each.kill()


class Load:
    """Requests one after another on connections that are kept, from several clients, until the block ends."""

    def __init__(self, url: str, *, clients: int = 8, path: str = "/v1/transactions") -> None:
        self.answers: list[tuple[int, str]] = []
        """Status and server of each answer."""
        self.errors: list[str] = []
        """What came in the place of an answer."""
        self._url = url
        self._path = path
        self._clients = clients
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def failed(self) -> list[object]:
        return [*self.errors, *(answer for answer in self.answers if answer[0] != 200)]

    def count(self, server: str) -> int:
        return sum(by == server for _, by in self.answers)

    async def more(self, count: int) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answers) + len(self.errors) + count

        async def are_there() -> bool:
            return len(self.answers) + len(self.errors) >= wanted

        await wait_until(are_there, f"{count} more answers came")

    async def _client(self, number: int) -> None:
        count = 0
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE_S) as http:
            while not self._stopping:
                count += 1
                try:
                    got = await http.post(f"{self._url}{self._path}", json={"id": f"{number}-{count}"})
                    self.answers.append((got.status_code, got.headers.get("x-served-by", "")))
                except httpx.HTTPError as error:
                    self.errors.append(repr(error))

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def edges() -> AsyncIterator[Platform]:
    """A folder with a short path for some edges; all that was started ends with the block."""
    haproxy = find_haproxy()
    if haproxy is None:
        if os.environ.get("CI"):
            raise AssertionError("haproxy is not installed")
        pytest.skip("haproxy is not installed")
    folder = Path(tempfile.mkdtemp(prefix="edge"))
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE_S) as http:
        platform = Platform(folder, haproxy, http)
        try:
            async with asyncio.timeout(120):
                yield platform
        finally:
            platform.stop()
            shutil.rmtree(folder)

"""Probing: whether a region takes writes, seen end to end, through its edge, as a client would.

A probe registers an asset of its own, `PROBE/0`, which is there already but for the first time: a real write, on disk
in a majority of regions when it is answered, and the one command without an id, so no node remembers anything of it.
Each probe opens its own connection, so an edge that keeps old connections and takes no new ones is not thought well.

An edge without a node that is well sends a probe on, as it does with requests of clients, and so does that of a region
that is coming back, with all writes. Then the region itself is asked, in the way in which one edge asks another, so
that it is not sent on: a region must not pass for well for ever by what another one writes. For `_LENT_S` it may: its
clients are served, and the last node that is begun again needs no region to leave the names.

A new probe begins each `probe_s`, or after a quarter of that when the one before was not answered by then. So two
probes in a row that time out take a quarter of `probe_s` and one `probe_timeout_s`, not twice the timeout, and while
all is well there are few. They count in the order in which they began.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from statistics import median

import httpx
from msgspec import Struct

from fivenines.client.shell import unused_tls
from fivenines.control.desired import Timings
from fivenines.control.observed import Probes
from fivenines.traffic.edge.config import FORWARDED

__all__ = ["PROBE_ASSET", "Prober", "Window"]

PROBE_ASSET = "PROBE/0"
_BY = "X-Region"
_WINDOW = 16
_SOON = 0.25
_JITTER = 0.1
"""So that those of several regions do not keep step with each other, or with what they look at."""
_LENT_S = 10.0
"""For so long a region whose own nodes do not write counts as one that does, while its edge finds another one's."""


class Window:
    """The last probes of one region, in the order in which they began, whenever they end."""

    def __init__(self) -> None:
        self._found: list[tuple[int, float, float | None]] = []
        """Number, when it began, and how long the answer took; None: there was none."""
        self._reason = ""

    def add(self, number: int, began: float, took_s: float | None, reason: str) -> bool:
        """Take the end of a probe; whether the newest is another than before, or one of several that failed."""
        was_up = self.is_up
        self._found = sorted([*self._found, (number, began, took_s)])[-_WINDOW:]
        if took_s is None:
            self._reason = reason
        return self.is_up is not True or was_up is not True

    @property
    def is_up(self) -> bool | None:
        """Whether the newest probe that has ended was answered; None before the first."""
        return self._found[-1][2] is not None if self._found else None

    def probes(self, now: float) -> Probes:
        """Return them as they are reported; `now` is on the clock of when they began."""
        failing = 0.0
        for _, began, took_s in reversed(self._found):
            if took_s is not None:
                break
            failing = now - began
        took = [took_s for _, _, took_s in self._found if took_s is not None]
        return Probes(
            recent=tuple(took_s is not None for _, _, took_s in self._found),
            latency_ms=round(1000 * median(took), 3) if took else None,
            reason=self._reason if self.is_up is False else "",
            failing_s=failing,
        )


class _Answer(Struct, frozen=True, kw_only=True):
    reason: str | None = None
    """Why it was not written; None: it was."""
    by: str | None = None
    """The region that wrote it, where its edge tells."""


class Prober:
    """Probes regions for as long as `run` runs.

    Args:
        here: the region that probes.
        urls: by region, its edge, such as http://127.0.1.1:9959; by address, not by a name that is steered.
        timings: how often, and for how long an answer is waited for.
        transport: for tests.
    """

    def __init__(
        self,
        here: str,
        urls: Mapping[str, str],
        timings: Timings,
        *,
        transport: Callable[[], httpx.AsyncBaseTransport | None] = lambda: None,
    ) -> None:
        self.changed = asyncio.Event()
        """Set when something is worth another look: a probe that failed, or the first that was answered again."""
        self._here, self._timings, self._transport = here, timings, transport
        self._urls = dict(urls)
        self._windows = {region: Window() for region in self._urls}
        self._wrote_at: dict[str, float] = {}
        """When a region's own nodes were last known to write; at first when it was first asked."""

    def seen(self) -> dict[str, Probes]:
        """Return what was seen of each region by now."""
        now = asyncio.get_running_loop().time()
        return {region: window.probes(now) for region, window in self._windows.items()}

    async def run(self) -> None:
        """Probe all regions, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for region, url in self._urls.items():
                group.create_task(self._watch(region, url), name=f"probing {region}")

    async def _watch(self, region: str, url: str) -> None:
        clock = asyncio.get_running_loop().time
        # Nothing is kept alive: each probe goes the whole way of a new client.
        limits = httpx.Limits(max_keepalive_connections=0)
        http = httpx.AsyncClient(
            base_url=url,
            limits=limits,
            timeout=self._timings.probe_timeout_s,
            trust_env=False,
            verify=unused_tls(),
            transport=self._transport(),
        )
        async with http, asyncio.TaskGroup() as group:
            number = 0
            while True:
                number += 1
                probe = group.create_task(self._probe(region, http, number, clock()))
                pause_s = self._timings.probe_s * random.uniform(1 - _JITTER, 1 + _JITTER)
                await asyncio.sleep(pause_s * _SOON)
                if probe.done() and probe.result():
                    await asyncio.sleep(pause_s * (1 - _SOON))

    async def _probe(self, region: str, http: httpx.AsyncClient, number: int, began: float) -> bool:
        """Probe once; whether it was answered."""
        clock = asyncio.get_running_loop().time
        self._wrote_at.setdefault(region, began)
        answer = await self._write(http)
        took_s = clock() - began if answer.reason is None else None
        reason = answer.reason
        if reason is None:
            by = answer.by or region
            if by == region or (await self._write(http, {FORWARDED: region})).reason is None:
                self._wrote_at[region] = max(self._wrote_at[region], began)
            elif began - self._wrote_at[region] > _LENT_S:
                took_s, reason = None, f"no node of it writes, {by} does in its place"
        if self._windows[region].add(number, began, took_s, reason or ""):
            self.changed.set()
        return took_s is not None

    async def _write(self, http: httpx.AsyncClient, headers: Mapping[str, str] | None = None) -> _Answer:
        """Write once."""
        try:
            async with asyncio.timeout(self._timings.probe_timeout_s):
                answer = await http.post("/v1/assets", json={"asset": PROBE_ASSET}, headers=headers)
        except TimeoutError:
            return _Answer(reason=f"no answer within {self._timings.probe_timeout_s:g} s")
        except httpx.HTTPError as error:
            return _Answer(reason=f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        if answer.status_code != 200:
            return _Answer(reason=f"status {answer.status_code}: {answer.text[:200]}")
        return _Answer(by=answer.headers.get(_BY))

"""Load in arrays: closed-loop connections, each posting its next array as soon as it has its answer.

A process of its own: `python -m bench.load_arrays` takes one JSON object as its argument (ArrayLoad) and prints one
(ArrayResult). A thread for each connection is enough, since nearly all of its time is spent in system calls. Each
answer is looked through: every one of its outcomes must be `posted`.
"""

import http.client
import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from bench.bodies import JSON_ARRAY, MSGPACK_ROWS, Template
from bench.workload import account_names

__all__ = ["ArrayLoad", "ArrayResult", "LoadError", "quantile", "run"]

FORMATS = {"json": JSON_ARRAY, "msgpack": MSGPACK_ROWS}
TEMPLATES = 4
"""Of each connection: how many different arrays it sends, apart from their ids."""
TIMEOUT_S = 30.0


class LoadError(Exception):
    """An answer was not what the load relies on."""


class ArrayLoad(msgspec.Struct, frozen=True):
    """What to send."""

    url: str
    format: Literal["json", "msgpack"]
    rows: int
    connections: int
    seconds: float
    """Of measuring."""
    accounts: int
    salt: int
    """0 to 4,095, other than that of any load before: ids of two loads then never meet."""
    warm_up_s: float = 1.0
    """What goes before, in which the load becomes steady."""
    honour_retry_after: bool = True
    """Whether a refused connection waits as long as it is told to; if not, it tries again at once."""


class ArrayResult(msgspec.Struct, frozen=True):
    """What came of it. Arrays that are answered before or after the time of measuring are judged, but not counted."""

    posted: int
    posted_in_all: int
    """Those that are not counted included."""
    seconds: float
    accepted: int
    """Arrays answered 200."""
    refused: int
    """Arrays answered 429 or 503."""
    broken: int
    """Arrays whose connection broke before the answer, at any time."""
    p50_ms: float
    """Latency of accepted arrays."""
    p99_ms: float
    cpu_s: float
    """What the load itself took of the machine."""

    @property
    def per_s(self) -> float:
        """Transactions posted a second."""
        return self.posted / self.seconds


@dataclass(slots=True)
class Tally:
    """What one connection counts."""

    posted: int = 0
    posted_in_all: int = 0
    refused: int = 0
    broken: int = 0
    latencies_s: list[float] = field(default_factory=list)
    error: str | None = None


class Connection(threading.Thread):
    """One client."""

    def __init__(self, load: ArrayLoad, number: int, start: threading.Barrier) -> None:
        super().__init__(name=f"connection {number}", daemon=True)
        self.tally = Tally()
        self._load = load
        self._start = start
        names = account_names(load.accounts)
        seeds = (number * TEMPLATES + index for index in range(TEMPLATES))
        self._templates = [Template(FORMATS[load.format], names, rows=load.rows, seed=seed) for seed in seeds]
        # The counters of connections interleave, so their ids differ.
        self._counter = itertools.count(number, load.connections)

    def run(self) -> None:
        """Send until the time is over."""
        parts = urlsplit(self._load.url)
        try:
            with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)) as connection:
                self._send(connection, parts.path)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            self.tally.error = repr(error)

    def _send(self, connection: http.client.HTTPConnection, path: str) -> None:
        load, tally = self._load, self.tally
        headers = {"Content-Type": FORMATS[load.format].content_type}
        self._start.wait()
        counted_from = time.perf_counter() + load.warm_up_s
        deadline = counted_from + load.seconds
        for template in itertools.cycle(self._templates):
            began = time.perf_counter()
            if began >= deadline:
                break
            template.renew(time_ms=time.time_ns() // 1_000_000, salt=load.salt, counter=next(self._counter))
            try:
                connection.request("POST", path, template.body, headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                tally.broken += 1
                continue
            ended = time.perf_counter()
            if response.status in {429, 503}:
                tally.refused += counted_from <= ended <= deadline
                if load.honour_retry_after:
                    time.sleep(min(float(response.headers["Retry-After"]), max(0.0, deadline - ended)))
                continue
            if response.status != 200 or answer.count(b"posted") != load.rows:
                raise LoadError(f"status {response.status}: {answer[:500]!r}")
            tally.posted_in_all += load.rows
            if counted_from <= ended <= deadline:
                tally.latencies_s.append(ended - began)
                tally.posted += load.rows


def run(load: ArrayLoad) -> ArrayResult:
    """Send the load, and sum up."""
    start = threading.Barrier(load.connections + 1)
    connections = [Connection(load, number, start) for number in range(load.connections)]
    for connection in connections:
        connection.start()
    start.wait()
    cpu_before = os.times()
    for connection in connections:
        connection.join()
    cpu_after = os.times()
    tallies = [connection.tally for connection in connections]
    if errors := [tally.error for tally in tallies if tally.error]:
        raise LoadError(errors[0])
    latencies_s = sorted(itertools.chain.from_iterable(tally.latencies_s for tally in tallies))
    return ArrayResult(
        posted=sum(tally.posted for tally in tallies),
        posted_in_all=sum(tally.posted_in_all for tally in tallies),
        seconds=load.seconds,
        accepted=len(latencies_s),
        refused=sum(tally.refused for tally in tallies),
        broken=sum(tally.broken for tally in tallies),
        p50_ms=quantile(latencies_s, 0.50) * 1_000,
        p99_ms=quantile(latencies_s, 0.99) * 1_000,
        cpu_s=(cpu_after.user + cpu_after.system) - (cpu_before.user + cpu_before.system),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least of sorted values that a share of them does not exceed; 0 when there are none."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


if __name__ == "__main__":
    print(msgspec.json.encode(run(msgspec.json.decode(sys.argv[1], type=ArrayLoad))).decode())

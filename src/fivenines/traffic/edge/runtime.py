"""The runtime API of a running edge: what it sees, and who gets how much, changed without a reload.

One command is one connection to the admin socket: HAProxy answers and closes. A node or service is one `server` in
each backend of its pool (see `config`); what is ordered here for a node is ordered in all of them:

    drain    it gets nothing new, and finishes what it has
    weight   its share in percent of its usual one; 0 ejects it. The last resort, NAME.last, keeps all nodes at their
             full share: whoever ejects too many, or all, moves requests there, and loses none
    ready    the end of a drain

Order again what you want, as often as you like: an order that changes nothing is none. A process that was started anew
knows nothing of the orders to the one before, unless it was given what `save_state` wrote.
"""

import asyncio
import csv
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from fivenines.traffic.edge.config import (
    ELSEWHERE,
    HERE,
    LAST,
    LATENCY_BOUNDS_MS,
    REPEATS,
    SWITCH,
    SWITCHES,
    checked,
    unchecked,
)
from fivenines.traffic.edge.settings import EdgeSettings, Server

__all__ = [
    "EdgeOrders",
    "EdgeServer",
    "EdgeTotals",
    "EdgeUnreachableError",
    "RefusedError",
    "Runtime",
    "ServerOrders",
    "ServerRow",
    "State",
]

State = Literal["ready", "drain", "maint"]

_PATIENCE_S: Final = 2.0
_ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_STEP: Final = re.compile(r"\bgpc(\d+)=(\d+)")
_FORCED_MAINT, _FORCED_DRAIN = 0x01, 0x08
"""HAProxy's bits of an administrator's orders, in `srv_admin_state`."""


class EdgeUnreachableError(Exception):
    """The edge does not answer at its admin socket: it does not run, or hangs. Nothing is known of the order."""


class RefusedError(Exception):
    """The edge does not do what was ordered; the message is what it says."""


class ServerRow(Struct, frozen=True, kw_only=True):
    """One server in one backend, as HAProxy counts."""

    backend: str
    name: str
    status: str
    """UP, DOWN, DRAIN, MAINT or `no check`, with what comes next where HAProxy is not sure yet, as `UP 1/2`."""
    weight: int
    """Percent of the usual, as ordered."""
    weight_now: int
    """The same, as it is at this moment of a slow start."""
    is_backup: bool
    requests: int
    answers_5xx: int
    failed: int
    """Connections that could not be made, and answers that were none."""
    repeats: int
    """Tries that failed here, for which there was another."""
    in_flight: int
    queued: int
    latency_ms: float
    """The mean time to an answer, of the last 1,024 requests."""
    latency_ms_max: float
    """The longest of all."""
    check_status: str
    """Such as L7OK, L7STS, L4CON, L7TOUT; empty without checks."""
    check_said: str
    address: str
    tracked: str
    """BACKEND/SERVER whose checks count for this one."""

    @property
    def is_up(self) -> bool:
        """Whether it is well, whatever was ordered about it."""
        if self.status.startswith("DRAIN"):
            return not self.check_status or "OK" in self.check_status
        return self.status.startswith(("UP", "no check"))


class ServerOrders(Struct, frozen=True, kw_only=True):
    """What was ordered for one server in one backend. The statistics do not tell it of one that is down."""

    backend: str
    name: str
    is_drained: bool
    is_in_maintenance: bool
    weight: int | None
    """Percent of the usual; None in the last resort, where all keep theirs."""


class EdgeOrders(Struct, frozen=True, kw_only=True):
    """All orders that an edge knows of."""

    servers: list[ServerOrders]
    are_writes_remote: bool


class EdgeServer(Struct, frozen=True, kw_only=True):
    """One node or service, over all backends of its pool."""

    name: str
    is_up: bool
    weight: int
    """Percent of the usual; 0: ejected."""
    requests: int
    """Since the edge started."""
    errors: int
    """Connections and answers that failed, 5xx among them, since the edge started."""
    latency_ms: float
    """The mean time to an answer of the last 1,024 requests."""
    in_flight: int
    pool: str
    """`ledger`, or the service."""
    is_drained: bool
    """Whether it was told to drain, or is in maintenance."""
    is_edge: bool
    """Whether it is another region's edge."""
    repeats: int
    """Requests that were repeated at another one."""
    queued: int
    latency_ms_max: float
    check: str
    """How the last health check went."""
    address: str


class EdgeTotals(Struct, frozen=True, kw_only=True):
    """What came in at the front of one pool."""

    requests: int
    """Since the edge started."""
    failed: int
    """Answered 5xx, since the edge started."""
    requests_per_s: float
    """Since the last look; at the first look, in the last second."""
    failed_per_s: float
    """Since the last look."""
    in_flight: int
    """Connections of clients, those without a request among them."""
    refused: int
    """Answered 4xx, since the edge started; those over the rate limit among them."""
    elsewhere: int
    """Requests that were sent on to other regions' edges, since the edge started."""
    repeats: int
    """Tries at servers that failed and were repeated, since the edge started."""
    p50_ms: float | None
    """Half of the ordinary answers since the last look took less, as seen at the front of the edge: repeats count.
    Within the steps of `config.LATENCY_BOUNDS_MS`. None where there was none."""
    p99_ms: float | None
    """The same of 99 in 100."""


class Runtime:
    """The admin socket of one edge. It holds nothing open, so it outlives the process."""

    def __init__(self, path: Path, *, patience_s: float = _PATIENCE_S) -> None:
        self._path = path
        self._patience_s = patience_s
        self._seen: dict[str, tuple[float, int, int]] = {}
        self._steps: dict[str, tuple[int, ...]] = {}

    # --- looking

    async def ask(self, command: str) -> str:
        """Send one command of HAProxy's, and return its answer.

        Raises:
            EdgeUnreachableError: there is no answer.
        """
        assert "\n" not in command, command
        try:
            async with asyncio.timeout(self._patience_s):
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=_ANSWER_BYTES_MAX)
                try:
                    writer.write(command.encode() + b"\n")
                    await writer.drain()
                    answer = await reader.read(-1)
                finally:
                    writer.close()
        except TimeoutError:
            raise EdgeUnreachableError(f"no answer at {self._path} within {self._patience_s:g} s") from None
        except OSError as error:
            raise EdgeUnreachableError(f"no edge at {self._path}: {error.strerror or error}") from error
        return answer.decode(errors="replace").strip()

    async def rows(self) -> list[ServerRow]:
        """Return each server of each backend."""
        return _rows_in(await self._statistics())

    async def servers(self) -> list[EdgeServer]:
        """Return each node, service and other edge once, in the order of the configuration."""
        return _servers_in(await self._statistics())

    async def orders(self) -> EdgeOrders:
        """Return what was ordered, as this process knows it; it costs less than the statistics."""
        _version, _, text = (await self._answer("show servers state")).partition("\n")
        found = [_orders_in(each) for each in csv.DictReader(text.removeprefix("# ").splitlines(), delimiter=" ")]
        return EdgeOrders(
            servers=[each for each in found if each.backend != SWITCHES],
            are_writes_remote=any(each.backend == SWITCHES and not each.is_in_maintenance for each in found),
        )

    async def totals(self, pool: str = "ledger") -> EdgeTotals:
        """Return what came in for one pool. Raises `RefusedError` where there is none of this name."""
        return await self._totals_in(await self._statistics(), pool)

    async def look(self, pool: str = "ledger") -> tuple[list[EdgeServer], EdgeTotals]:
        """Return what `servers` and `totals` do, from one look. Raises as they do."""
        seen = await self._statistics()
        return _servers_in(seen), await self._totals_in(seen, pool)

    async def _totals_in(self, seen: list[dict[str, str]], pool: str) -> EdgeTotals:
        front = next((each for each in seen if each["pxname"] == pool and each["svname"] == "FRONTEND"), None)
        if front is None:
            raise RefusedError(f"this edge has no {pool!r}")
        behind = [row for row in _rows_in(seen) if _pool_of(row.backend) == pool]
        edges = _edges_among(behind)
        steps = await self._answers_since(pool)
        now, requests, failed = time.monotonic(), _number(front["req_tot"] or front["stot"]), _number(front["hrsp_5xx"])
        then, requests_then, failed_then = self._seen.get(pool, (now, 0, 0))
        self._seen[pool] = (now, requests, failed)
        rate, failed_rate = float(_number(front["req_rate"] or front["rate"])), 0.0
        if now > then and requests >= requests_then:  # fewer: another process has begun to count
            rate, failed_rate = (requests - requests_then) / (now - then), (failed - failed_then) / (now - then)
        return EdgeTotals(
            requests=requests,
            failed=failed,
            requests_per_s=rate,
            failed_per_s=max(0.0, failed_rate),
            in_flight=_number(front["scur"]),
            refused=_number(front["hrsp_4xx"]),
            elsewhere=sum(row.requests for row in behind if row.name in edges),
            repeats=sum(row.repeats for row in behind),
            p50_ms=quantile(steps, 0.50),
            p99_ms=quantile(steps, 0.99),
        )

    async def _answers_since(self, pool: str) -> list[int]:
        """Return how many answers took how long, since the last look."""
        text = await self.ask(f"show table {REPEATS} key {pool}")
        found = tuple(int(count) for _, count in _STEP.findall(text))
        before = self._steps.get(pool, ())
        self._steps[pool] = found
        since = [count - then for count, then in zip(found, before, strict=False)]
        return since if len(since) == len(found) and min(since, default=0) >= 0 else list(found)

    async def _statistics(self) -> list[dict[str, str]]:
        text = await self._answer("show stat")
        if not text.startswith("# "):
            raise RefusedError(f"show stat: {text[:200]}")
        return list(csv.DictReader(text[2:].splitlines()))

    async def _answer(self, command: str) -> str:
        """Ask what always has an answer: a process that ends, as after a reload, hangs up without one."""
        if text := await self.ask(command):
            return text
        raise EdgeUnreachableError(f"the edge at {self._path} hung up at {command!r}")

    # --- ordering, for a node or service

    async def drain(self, name: str) -> None:
        """Send nothing new to a node; what it has it finishes."""
        await self._set(name, "state drain")

    async def ready(self, name: str) -> None:
        """Take a node back that was drained or in maintenance, once its checks say that it is well."""
        await self._set(name, "state ready")

    async def weight(self, name: str, percent: int) -> None:
        """Change the share of a node, 0 to 256 percent of its usual one. The last resort keeps all at their share."""
        if not 0 <= percent <= 256:
            raise ValueError(f"percent is 0 to 256, not {percent}")
        await self._set(name, f"weight {percent}%", but=LAST)

    async def eject(self, name: str) -> None:
        """Take a node out that answers badly; see `weight`."""
        await self.weight(name, 0)

    async def set_address(self, name: str, host: str, port: int) -> None:
        """Reach a node at another address from now on, such as that of a proxy that a drill puts in front of it."""
        server = Server(name=name, host=host, port=port)
        for backend in await self._backends_with(name):
            said = await self.ask(f"set server {backend}/{name} addr {server.host} port {server.port}")
            if "change" not in said:
                raise RefusedError(f"{backend}/{name}: {said}")

    async def is_idle(self, name: str) -> bool:
        """Return whether a node has nothing in flight from here, as one that was drained should come to."""
        return all(row.in_flight == 0 for row in await self.rows() if row.name == name)

    async def add_node(self, settings: EdgeSettings, server: Server, *, pool: str = "ledger") -> None:
        """Let a node or a process of a service join, or come back from another address. Put it into the settings, too.

        It must be given by an address, not by a name. It gets its share once its checks say that it is well. `pool` is
        the ledger or a service of HTTP; those of layer 4 have the servers of their configuration.
        """
        if any(row.name == server.name for row in await self.rows()):
            await self.set_address(server.name, server.host, server.port)
            await self.ready(server.name)
            return
        for backend, options, is_checked in (
            (pool, checked(settings), True),
            (f"{pool}{HERE}", checked(settings), True),  # one that joined so cannot be tracked
            (f"{pool}{LAST}", unchecked(settings), False),
        ):
            await self.add_server(backend, server, options)
            if is_checked:
                await self._order(f"enable health {backend}/{server.name}")
            await self.set_state(backend, server.name, "ready")

    async def remove_node(self, name: str) -> None:
        """Let a node leave; drain it first. One that was in the configuration at the start only gets nothing any more.

        Raises:
            RefusedError: it still has requests in flight.
        """
        rows = [row for row in await self.rows() if row.name == name]
        await self._set(name, "state maint")
        if not any(row.tracked for row in rows):
            for row in rows:
                await self.del_server(row.backend, name)

    # --- ordering, for one server of one backend

    async def set_state(self, backend: str, server: str, state: State) -> None:
        """Set the state of one server."""
        await self._order(f"set server {backend}/{server} state {state}")

    async def add_server(self, backend: str, server: Server, options: str = "") -> None:
        """Add a server, in maintenance. `options` are what follows the address in a configuration."""
        said = await self.ask(f"add server {backend}/{server.name} {server.address} {options}".rstrip())
        if "registered" not in said:
            raise RefusedError(f"add {backend}/{server.name}: {said}")

    async def del_server(self, backend: str, server: str) -> None:
        """Delete a server that is in maintenance, and has no connections."""
        said = await self.ask(f"del server {backend}/{server}")
        if "deleted" not in said:
            raise RefusedError(f"delete {backend}/{server}: {said}")

    # --- ordering, for all

    async def set_writes_remote(self, is_remote: bool) -> None:
        """Send the ledger's writes to the nearest other region's edge, or keep them here again. Reads stay here."""
        await self.set_state(SWITCHES, SWITCH, "ready" if is_remote else "maint")

    async def are_writes_remote(self) -> bool:
        """Return whether writes are sent on."""
        return any(row.backend == SWITCHES and row.is_up for row in await self.rows())

    async def save_state(self, path: Path) -> None:
        """Write down states, weights and addresses for the process that a reload is about to start.

        A process reads it when it starts, whenever that is. So delete it once the new one runs: the next start after a
        crash shall not take up orders that are long out of date.
        """
        text = await self.ask("show servers state")
        draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
        draft.write_text(text + "\n")
        draft.replace(path)

    async def _set(self, name: str, what: str, *, but: str | None = None) -> None:
        for backend in await self._backends_with(name):
            if but is None or not backend.endswith(but):
                await self._order(f"set server {backend}/{name} {what}")

    async def _order(self, command: str) -> None:
        if said := await self.ask(command):
            raise RefusedError(f"{command}: {said}")

    async def _backends_with(self, name: str) -> list[str]:
        backends = [row.backend for row in await self.rows() if row.name == name]
        if not backends:
            raise RefusedError(f"this edge knows nobody of the name {name!r}")
        return backends


def quantile(steps: Sequence[int], share: float) -> float | None:
    """Return within how many milliseconds this share of all was answered; None where nothing was.

    Answers count as spread evenly over their step, and what is beyond the last bound as that.
    """
    wanted = sum(steps) * share
    if not wanted:
        return None
    below, least = 0, 0
    for count, bound in zip(steps, LATENCY_BOUNDS_MS, strict=False):
        if count and below + count >= wanted:
            return least + (bound - least) * (wanted - below) / count
        below, least = below + count, bound
    return float(LATENCY_BOUNDS_MS[-1])


def _rows_in(seen: list[dict[str, str]]) -> list[ServerRow]:
    return [_row_of(each) for each in seen if each["type"] == "2"]


def _orders_in(line: Mapping[str, str]) -> ServerOrders:
    backend, admin, usual = line["be_name"], int(line["srv_admin_state"]), int(line["srv_iweight"])
    return ServerOrders(
        backend=backend,
        name=line["srv_name"],
        is_drained=bool(admin & _FORCED_DRAIN),
        is_in_maintenance=bool(admin & _FORCED_MAINT),
        weight=None if backend.endswith(LAST) or not usual else round(100 * int(line["srv_uweight"]) / usual),
    )


def _servers_in(seen: list[dict[str, str]]) -> list[EdgeServer]:
    rows = [row for row in _rows_in(seen) if row.backend != SWITCHES]
    groups: dict[tuple[str, str], list[ServerRow]] = {}
    for row in rows:
        groups.setdefault((_pool_of(row.backend), row.name), []).append(row)
    return [_together(pool, group, rows) for (pool, _), group in groups.items()]


def _pool_of(backend: str) -> str:
    return backend.partition(".")[0]


def _edges_among(rows: Iterable[ServerRow]) -> set[str]:
    """Return the names of the other regions' edges: only they are checked where writes go first."""
    return {row.name for row in rows if row.backend.endswith(ELSEWHERE) and not row.tracked}


def _together(pool: str, group: list[ServerRow], rows: list[ServerRow]) -> EdgeServer:
    """Sum up one server's rows. How it is, its first row says: that of the backend that usually is used."""
    first = group[0]
    edges = _edges_among(row for row in rows if _pool_of(row.backend) == pool)
    checks = next((f"{row.check_status} {row.check_said}".strip() for row in group if row.check_status), "")
    # The backend in which most requests were says best how long they take.
    busiest = max(group, key=lambda row: row.requests)
    return EdgeServer(
        name=first.name,
        is_up=next((row.is_up for row in group if row.check_status), first.is_up),
        weight=first.weight,
        requests=sum(row.requests for row in group),
        errors=sum(row.failed + row.answers_5xx for row in group),
        latency_ms=busiest.latency_ms,
        in_flight=sum(row.in_flight for row in group),
        pool=pool,
        is_drained=first.status.startswith(("DRAIN", "MAINT")) and first.weight > 0,
        is_edge=first.name in edges,
        repeats=sum(row.repeats for row in group),
        queued=sum(row.queued for row in group),
        latency_ms_max=max(row.latency_ms_max for row in group),
        check=checks,
        address=first.address,
    )


def _row_of(line: Mapping[str, str]) -> ServerRow:
    return ServerRow(
        backend=line["pxname"],
        name=line["svname"],
        status=line["status"],
        weight=_number(line["uweight"]),
        weight_now=_number(line["weight"]),
        is_backup=line["bck"] == "1",
        requests=_number(line["req_tot"] or line["stot"]),
        answers_5xx=_number(line["hrsp_5xx"]),
        failed=_number(line["econ"]) + _number(line["eresp"]),
        repeats=_number(line["wretr"]) + _number(line["wredis"]),
        in_flight=_number(line["scur"]),
        queued=_number(line["qcur"]),
        latency_ms=float(_number(line["rtime"])),
        latency_ms_max=float(_number(line["rtime_max"])),
        check_status=line["check_status"].removeprefix("* "),
        check_said=line["last_chk"],
        address=line["addr"],
        tracked=line["tracked"],
    )


def _number(text: str) -> int:
    return int(text) if text else 0

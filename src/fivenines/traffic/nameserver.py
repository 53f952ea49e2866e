"""The nameserver of a region: UDP and TCP in front of a `Responder`, and an eye on the steering table's file.

It knows nobody: no journal, no controller, no other nameserver. It answers by the last table that made sense, for as
long as it runs, whatever has died meanwhile; so names are static where all else fails. A new table is seen within
`LOOK_S`, by the file's time, size and number, since whoever writes one puts a whole new file in the place of the old.

UDP is read from the socket until there is nothing more, up to `BATCH` at a time so that the rest gets its turn, and is
answered at once; an answer for which the socket has no room is lost, as datagrams may be, and asked for again. Its
socket has no SO_REUSEADDR, which for UDP on Linux would let two servers share a port without a word, each with a part
of the questions. A UDP port is free as soon as its owner is gone, so nothing is lost by that; TCP has it.
"""

import asyncio
import random
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.rcode
import msgspec
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fivenines.traffic.responder import Responder
from fivenines.traffic.steering import Chance, failing_open, is_served
from fivenines.traffic.table import SteeringTable, decode_table
from fivenines.traffic.zone import TableError, Zone

__all__ = ["Nameserver", "NameserverSettings", "Watch"]

LOOK_S = 0.1
BATCH = 64
DATAGRAM_BYTES_MAX = 4_096
SOCKET_BYTES = 4 * 1024 * 1024
PORT_TRIES = 20
METRICS_TIMEOUT_S = 5.0
METRICS_REQUEST_BYTES_MAX = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class NameserverSettings:
    """Where a nameserver listens, and what it reads."""

    table: Path
    host: str = "127.0.0.1"
    port: int = 5353
    """0 takes a free one, the same for UDP and TCP."""
    metrics_port: int | None = None
    """Where `GET /metrics` is answered, at the same address; None: nowhere."""
    connections_max: int = 256
    """TCP connections at a time; more are closed at once."""
    idle_s: float = 10.0
    """How long a TCP connection may wait for a question, or for its answer to be taken (RFC 7766, section 6.2.3)."""
    summary_s: float = 60.0
    """How often what was answered is logged."""


@dataclass(slots=True)
class Watch:
    """Looks at the table's file, and makes the responder use what is new and makes sense."""

    path: Path
    responder: Responder
    refused: int = 0
    """Tables that made no sense."""
    _seen: tuple[int, int, int] | None = None
    _is_missing: bool = False
    _reason: str = ""
    """Why the last table was refused: a writer that goes on writing the same is logged once."""
    _told: object = None
    """What was logged of the last table: one that only has other measurements, as they come twice a second, is not."""
    _is_open: bool = False
    """Whether the last table served no region."""
    _last_served: SteeringTable | None = None
    _log: Any = field(default_factory=lambda: structlog.get_logger("fivenines.nameserver"))

    def look(self) -> bool:
        """Look once, and tell whether another table is in force now. What is wrong is logged once."""
        try:
            status = self.path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return False
            content = self.path.read_bytes()
        except OSError as error:
            if not self._is_missing:
                self._log.warning("table_unreadable", table=str(self.path), reason=error.strerror, **self._kept())
            self._is_missing, self._seen = True, None
            return False
        self._seen, self._is_missing = seen, False
        try:
            table = decode_table(content)
            zone = Zone(failing_open(table, self._last_served))
        except (msgspec.MsgspecError, UnicodeDecodeError, TableError) as error:
            self.refused += 1
            if self._reason != str(error):
                self._reason = str(error)
                self._log.error("table_refused", table=str(self.path), reason=self._reason, **self._kept())
            return False
        self._reason = ""
        served = [region.name for region in table.regions if is_served(region)]
        if served:
            self._last_served = table
        elif not self._is_open:
            self._log.warning("no_region_serves", serial=table.serial, answers="the last good set")
        self._is_open = not served
        before = self.responder.zone
        if before is not None and before.table == zone.table:
            return False
        self.responder.use(zone)
        told = (table.zone, table.policy, table.names, tuple((each.name, each.share) for each in zone.table.regions))
        if told != self._told:
            self._told = told
            self._log.info("table_in_force", zone=table.zone, serial=table.serial, policy=table.policy, served=served)
        return True

    def _kept(self) -> dict[str, Any]:
        zone = self.responder.zone
        return {"answers": "SERVFAIL until there is a table"} if zone is None else {"kept_serial": zone.table.serial}


class Nameserver:
    """A nameserver: `serve` runs it until `stop` is called."""

    def __init__(self, settings: NameserverSettings, *, chance: Chance | None = None) -> None:
        self.settings = settings
        # Chance spreads load here and guards nothing: what a resolver cannot be made to believe are its own secrets.
        self.responder = Responder(chance or random.Random())
        self.watch = Watch(settings.table, self.responder)
        self.received = {"udp": 0, "tcp": 0}
        self.unsent = 0
        self.connections = 0
        self.refused_connections = 0
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("fivenines.nameserver")

    def stop(self) -> None:
        """Let `serve` return."""
        self._stopping.set()

    async def serve(self, on_ready: Callable[[int, int | None], None] | None = None) -> None:
        """Serve until `stop`. `on_ready` is told the port, and that of the metrics. Raises OSError, as for a port."""
        loop = asyncio.get_running_loop()
        self.watch.look()
        udp, tcp = await self._listen()
        metrics = None
        try:
            if self.settings.metrics_port is not None:
                metrics = await asyncio.start_server(
                    self._serve_metrics, self.settings.host, self.settings.metrics_port, limit=METRICS_REQUEST_BYTES_MAX
                )
            loop.add_reader(udp, self._read, udp)
            watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._tell())]
            if on_ready is not None:
                on_ready(udp.getsockname()[1], metrics.sockets[0].getsockname()[1] if metrics else None)
            await self._until_stopped(watching)
        finally:
            loop.remove_reader(udp)
            udp.close()
            tcp.close()
            if metrics is not None:
                metrics.close()
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._log.info("nameserver_stopped", **self.summary())

    async def _until_stopped(self, watching: list[asyncio.Task[None]]) -> None:
        """Wait for `stop`; a bug in what runs beside ends the process, rather than that it answers by old tables."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([stopping, *watching], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (stopping, *watching):
                task.cancel()
            await asyncio.gather(stopping, *watching, return_exceptions=True)

    async def _listen(self) -> tuple[socket.socket, asyncio.Server]:
        """Bind both to one port, which for 0 may take some tries: what is free for one may be taken for the other."""
        host, port = self.settings.host, self.settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for last in (*[False] * (PORT_TRIES - 1), True):
            udp = socket.socket(family, socket.SOCK_DGRAM)
            try:
                udp.setblocking(False)
                if family == socket.AF_INET6:
                    udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as TCP does
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
                udp.bind((host, port))
                tcp = await asyncio.start_server(
                    self._accept, host, udp.getsockname()[1], family=family, reuse_address=True, backlog=256
                )
            except OSError:
                udp.close()
                if port or last:
                    raise
            else:
                return udp, tcp
        raise AssertionError("the last try returns or raises")

    def _read(self, udp: socket.socket) -> None:
        respond, received = self.responder.respond, 0
        try:
            for _ in range(BATCH):
                wire, source = udp.recvfrom(DATAGRAM_BYTES_MAX)
                received += 1
                if source[1] == 0:
                    continue  # nobody can be answered there
                answer = respond(wire, source[0])
                if answer is not None:
                    try:
                        udp.sendto(answer, source)
                    except OSError:
                        self.unsent += 1
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            # Of an earlier answer, such as that nobody listens there: the next datagram is another matter.
            self._log.debug("datagram_lost", reason=error.strerror)
        self.received["udp"] += received

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.connections >= self.settings.connections_max:
            self.refused_connections += 1
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.connections -= 1

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of one connection, in their order, until it is idle for too long or ends."""
        source = writer.get_extra_info("peername")
        try:
            with suppress(asyncio.IncompleteReadError):
                while source is not None and await self._converse_once(reader, writer, source[0]):
                    pass
            # Who sends no more may still be reading; who does not read either is not waited for.
            async with asyncio.timeout(self.settings.idle_s):
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError):
            pass
        finally:
            writer.transport.abort()

    async def _converse_once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str) -> bool:
        """Answer one question, and tell whether there may be another."""
        async with asyncio.timeout(self.settings.idle_s):
            length = int.from_bytes(await reader.readexactly(2), "big")
            wire = await reader.readexactly(length)
            self.received["tcp"] += 1
            answer = self.responder.respond(wire, source, is_tcp=True)
            if answer is None:
                return False
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        return True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.watch.look()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(self.settings.summary_s)
            self._log.info("nameserver_summary", **self.summary())

    def summary(self) -> dict[str, Any]:
        """Return what was done since the start, by name."""
        counters, zone = self.responder.counters, self.responder.zone
        return {
            "serial": None if zone is None else zone.table.serial,
            "answers": {dns.rcode.to_text(rcode): count for rcode, count in sorted(counters.answers.items())},
            "malformed": counters.malformed,
            "ignored": counters.ignored,
            "prepared": counters.prepared,
            "unsent": self.unsent,
            "udp": self.received["udp"],
            "tcp": self.received["tcp"],
            "connections": self.connections,
            "connections_refused": self.refused_connections,
            "tables_refused": self.watch.refused,
        }

    async def _serve_metrics(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, of whatever method, for `/metrics`."""
        status, body = "404 Not Found", b"only /metrics is here\n"
        try:
            async with asyncio.timeout(METRICS_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                if head.split(b" ", 2)[1:2] == [b"/metrics"]:
                    registry = CollectorRegistry()
                    registry.register(_Collector(self))
                    status, body = "200 OK", generate_latest(registry)
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class _Collector(Collector):
    """The counters, as Prometheus reads them."""

    def __init__(self, nameserver: Nameserver) -> None:
        self._nameserver = nameserver

    def collect(self) -> Iterable[Metric]:
        """Yield each metric."""
        seen = self._nameserver.summary()
        answers = CounterMetricFamily("fivenines_dns_answers", "Answers given, by response code.", labels=["rcode"])
        for rcode, count in seen["answers"].items():
            answers.add_metric([rcode], count)
        yield answers
        received = CounterMetricFamily("fivenines_dns_received", "Packets received.", labels=["transport"])
        for transport in ("udp", "tcp"):
            received.add_metric([transport], seen[transport])
        yield received
        for name, meaning in (
            ("malformed", "Packets that could not be read."),
            ("ignored", "Packets that are no questions."),
            ("prepared", "Answers that were prepared."),
            ("unsent", "Answers that the socket had no room for."),
            ("connections_refused", "TCP connections beyond what is borne."),
            ("tables_refused", "Steering tables that made no sense."),
        ):
            yield CounterMetricFamily(f"fivenines_dns_{name}", meaning, value=seen[name])
        yield GaugeMetricFamily("fivenines_dns_connections", "TCP connections.", value=seen["connections"])
        if seen["serial"] is not None:
            yield GaugeMetricFamily("fivenines_dns_table_serial", "Serial of the table in force.", value=seen["serial"])

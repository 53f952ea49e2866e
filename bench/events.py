"""How long an event takes: from the acknowledged write to the webhook, and to a function that no process runs yet.

    python -m bench.events [--seconds N] [--rate N] [--cold-starts N]

A ledger, a deliverer of webhooks, a runner of functions and, in this process, the writer and the receiver share the
machine. Writes come one at a time at a steady rate, whether or not the answers do; each is timed from its
acknowledgement until the receiver has read the webhook's body. A cold start is timed from the acknowledgement of a
write, while the runner has no process, until the function's first line: the event's way to the runner is part of it.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import uvloop

from bench.processes import BenchError, free_port, leave_on_sigterm, running, work_folder
from bench.server import Server, ledger_server
from bench.workload import account_names
from fivenines.ids import new_id

__all__ = ["measure_cold_starts", "measure_delivery", "percentile"]

BUILD = Path(__file__).resolve().parent.parent / "build"
WARM_UP_S = 2.0
LATE_S_MAX = 30.0
SECRET = "a secret for benchmarks only"  # noqa: S105 it signs what goes to ourselves
FUNCTION = """
import os, time
{imports}
import fivenines
OUT = os.open(os.environ["BENCH_OUT"], os.O_WRONLY | os.O_APPEND)

@fivenines.on("transaction.posted")
def ran(event, context):
    os.write(OUT, b"%b %d\\n" % (event.subject.encode(), time.time_ns()))
"""


def percentile(values: list[float], share: float) -> float:
    """Return the value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure_delivery(folder: Path, *, rate: int, seconds: float) -> dict[str, float]:
    """Return `event_delivery_p50_ms`, `_p99_ms` and the rate that was reached, in `event_deliveries_per_s`."""
    with ledger_server(folder / "ledger") as server:
        return asyncio.run(_measure_delivery(folder, server, rate=rate, seconds=seconds))


async def _measure_delivery(folder: Path, server: Server, *, rate: int, seconds: float) -> dict[str, float]:
    received: dict[str, float] = {}

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                event = json.loads(await reader.readexactly(length))
                received.setdefault(event["subject"], time.perf_counter())
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()

    receiver = await asyncio.start_server(receive, "127.0.0.1", 0)
    hook = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/"
    port = free_port()
    argv = [sys.executable, "-m", "bench.events", "--deliver", str(folder / "feed.sqlite"), server.url, str(port)]
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return httpx.get(f"{url}/v1/webhooks").is_success
        except httpx.TransportError:
            return False

    loop = asyncio.get_running_loop()
    lent = running(argv, log=folder / "deliverer.log", ready=is_ready, env={"FIVENINES_WEBHOOK_SECRET_BENCH": SECRET})
    await loop.run_in_executor(None, lent.__enter__)
    try:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            (await http.post(f"{url}/v1/webhooks", json={"url": hook, "secret": "bench"})).raise_for_status()
            await _write(http, server, rate=rate, seconds=WARM_UP_S)
            written = await _write(http, server, rate=rate, seconds=seconds)
        late_s = loop.time() + LATE_S_MAX
        while written.keys() - received.keys():
            if loop.time() > late_s:
                raise BenchError(f"{len(written.keys() - received.keys())} events were not delivered")
            await asyncio.sleep(0.05)
    finally:
        await loop.run_in_executor(None, lent.__exit__, None, None, None)
        receiver.close()
        await receiver.wait_closed()
    # The webhook may overtake the answer to the writer, by as long as that takes to be read here.
    took_ms = [max(0.0, 1e3 * (received[id] - acknowledged)) for id, acknowledged in written.items()]
    span_s = max(received[id] for id in written) - min(written.values())
    return {
        "event_delivery_p50_ms": percentile(took_ms, 0.5),
        "event_delivery_p99_ms": percentile(took_ms, 0.99),
        "event_deliveries_per_s": len(written) / span_s,
    }


async def _write(http: httpx.AsyncClient, server: Server, *, rate: int, seconds: float) -> dict[str, float]:
    """Write at a steady rate, and return when each transaction was acknowledged."""
    loop, names = asyncio.get_running_loop(), account_names(1_000)
    acknowledged: dict[str, float] = {}

    async def write(number: int) -> None:
        posting = {"source": names[number % 1_000], "destination": names[(7 * number + 1) % 1_000], "amount": 1}
        id = new_id()
        response = await http.post(server.transactions_url, json={"id": id, "postings": [posting]})
        acknowledged[id] = time.perf_counter()
        response.raise_for_status()

    began_s = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(began_s + number / rate - loop.time())
            tasks.create_task(write(number))
    return acknowledged


def measure_cold_starts(folder: Path, *, times: int, imports: str = "") -> dict[str, float]:
    """Return `function_cold_start_ms`, the median, and `function_cold_start_worst_ms`.

    `imports` is what the function's module imports besides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out, module = folder / "out", folder / "cold.py"
    out.touch()
    module.write_text(FUNCTION.format(imports=imports))
    with ledger_server(folder / "ledger") as server, _runner(folder, server, module, out) as pid:
        names = account_names(2)
        posting = {"source": names[0], "destination": names[1], "amount": 1}
        took_ms = []
        with httpx.Client(timeout=30, trust_env=False) as http:
            for _ in range(times):
                _until(lambda: not _children(pid))
                time.sleep(0.2)
                id = new_id()
                http.post(server.transactions_url, json={"id": id, "postings": [posting]}).raise_for_status()
                acknowledged_ns = time.time_ns()
                _until(partial(_has_said, out, id))
                took_ms.append((_said(out)[id] - acknowledged_ns) / 1e6)
    return {"function_cold_start_ms": percentile(took_ms, 0.5), "function_cold_start_worst_ms": max(took_ms)}


@contextmanager
def _runner(folder: Path, server: Server, module: Path, out: Path) -> Iterator[int]:
    argv = [sys.executable, "-m", "fivenines", "functions", "run", str(module), "--events", server.url]
    log = folder / "runner.log"
    with running(
        [*argv, "--data", str(folder / "functions"), "--idle-s", "0.1", "--json"],
        log=log,
        ready=lambda: b'"ready"' in log.read_bytes(),
        env={"BENCH_OUT": str(out)},
    ) as process:
        yield process.pid


def _children(pid: int) -> str:
    found = ""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found += path.read_text()
    return found


def _said(out: Path) -> dict[str, int]:
    return {id: int(time_ns) for id, time_ns in (line.split() for line in out.read_text().splitlines())}


def _has_said(out: Path, id: str) -> bool:
    return id in _said(out)


def _until(condition: Callable[[], bool]) -> None:
    late_s = time.monotonic() + LATE_S_MAX
    while not condition():
        if time.monotonic() > late_s:
            raise BenchError("the function did not run, or its process did not end")
        time.sleep(0.002)


async def _deliver(database: str, events: str, port: int) -> None:
    """Be a deliverer of webhooks."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from fivenines.historian.feed.pages import feed_pages
    from fivenines.historian.feed.signing import Secrets
    from fivenines.historian.feed.source import HttpSource
    from fivenines.historian.feed.webhooks import Webhooks
    from fivenines.historian.sql.schema import open_engine

    source = HttpSource(events)
    webhooks = Webhooks(open_engine(f"sqlite:///{database}"), source, Secrets(), owner="bench")
    webhooks.store.install()
    application = Starlette(routes=[Mount("/", feed_pages(source, webhooks))])
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="warning", lifespan="off"))
    async with asyncio.TaskGroup() as tasks:
        delivering = tasks.create_task(webhooks.run())
        await server.serve()
        delivering.cancel()
    await source.close()


def main() -> None:
    """Measure, and print what came of it as a table."""
    parser = argparse.ArgumentParser(description="Time from a write to its webhook, and to a function.")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=100, help="writes a second")
    parser.add_argument("--cold-starts", type=int, default=20)
    parser.add_argument("--deliver", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.deliver:
        database, events, port = options.deliver
        uvloop.run(_deliver(database, events, int(port)))  # as the historian does
        return
    leave_on_sigterm()
    with work_folder(BUILD) as folder:
        figures = measure_delivery(folder / "delivery", rate=options.rate, seconds=options.seconds)
        figures |= measure_cold_starts(folder / "cold", times=options.cold_starts)
        with_client = measure_cold_starts(
            folder / "client", times=options.cold_starts, imports="import fivenines.client, httpx"
        )
    figures |= {name.replace("_ms", "_with_client_ms"): value for name, value in with_client.items()}
    print(f"at {options.rate} writes a second for {options.seconds:g} s, {os.cpu_count()} cores for all processes")
    for name, value in figures.items():
        print(f"{name:45} {value:10.1f}")


if __name__ == "__main__":
    main()

"""The benchmarks of the peers."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import msgspec

from bench.harness import Benchmark, Figure, Run, Setting
from bench.peers.postgres import ACCOUNTS, Cluster, postgres_cluster
from bench.peers.postgres_set import SetLoad, SetResult
from bench.processes import BenchError, free_port, running
from bench.wrk import WrkResult, load_singles

__all__ = ["PEERS"]

ROOT = Path(__file__).parents[2]
SET_BATCHES = 100
TRIAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How the service is run."""

    workers: int
    pool: int
    """Connections of each worker."""


SHAPES = (Shape(workers=1, pool=8), Shape(workers=1, pool=16), Shape(workers=2, pool=8))
"""Which is best depends on the machine: a short trial decides. More connections were slower throughout."""


@contextmanager
def service(cluster: Cluster, shape: Shape, *, style: str, log: Path) -> Iterator[str]:
    """Run the service; gives its address."""
    url = f"http://127.0.0.1:{free_port()}"
    argv = [sys.executable, "-m", "uvicorn", "bench.peers.postgres_app:app", "--host", "127.0.0.1"]
    argv += ["--port", url.rpartition(":")[2], "--workers", str(shape.workers)]
    argv += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    env = {"BENCH_DSN": cluster.dsn, "BENCH_POOL": str(shape.pool), "BENCH_STYLE": style}
    with running(argv, log=log, ready=partial(answers, f"{url}/ready"), env=env, cwd=ROOT):
        yield url


def answers(url: str) -> bool:
    """Tell whether a GET is answered well."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def load_service(cluster: Cluster, url: str, seconds: float) -> WrkResult:
    """Load the service, from empty books, and check what it says against its books."""
    cluster.reset()
    result = load_singles(f"{url}/v1/transactions", accounts=ACCOUNTS, seconds=seconds)
    if result.not_2xx or result.broken:
        raise BenchError(f"the peer failed {result.not_2xx} requests and broke {result.broken}")
    # Requests under way when the load ended are posted, too, and were not counted.
    if not result.requests <= (booked := cluster.check()) <= result.requests + 64:
        raise BenchError(f"the peer acknowledged {result.requests} transactions and booked {booked}")
    return result


@contextmanager
def prepare_single_http(prefix: str, style: str, setting: Setting) -> Iterator[Run]:
    """Run the service in the shape that a short trial finds best."""
    log = setting.work / "service.log"
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres_cluster(setting.work))
        trials = []
        for shape in SHAPES:
            with service(cluster, shape, style=style, log=log) as url:
                trials.append((load_service(cluster, url, TRIAL_S).per_s, shape))
        _, best = max(trials, key=lambda trial: trial[0])
        url = stack.enter_context(service(cluster, best, style=style, log=log))

        def run() -> Mapping[str, float]:
            result = load_service(cluster, url, setting.seconds)
            return {f"{prefix}_per_s": result.per_s, f"{prefix}_p99_ms": result.p99_us / 1_000}

        yield run


@contextmanager
def prepare_set(name: str, clients: int, setting: Setting) -> Iterator[Run]:
    """Run the database."""
    with postgres_cluster(setting.work) as cluster:
        load = SetLoad(cluster.dsn, clients=clients, batches=setting.scaled(SET_BATCHES), accounts=ACCOUNTS)
        command = [sys.executable, "-m", "bench.peers.postgres_set", msgspec.json.encode(load).decode()]

        def run() -> Mapping[str, float]:
            cluster.reset()
            done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
            if done.returncode:
                raise BenchError(f"the load of the peer failed: {done.stderr.decode()[-2_000:]}")
            result = msgspec.json.decode(done.stdout, type=SetResult)
            if not result.posted == load.batches * load.batch_size == cluster.check():
                raise BenchError(f"the peer acknowledged {result.posted} transactions and booked {cluster.check()}")
            return {name: result.posted / result.seconds}

        yield run


def single_http(prefix: str, style: str, meaning: str) -> Benchmark:
    """Describe the benchmark of the service."""
    figures = {
        f"{prefix}_per_s": Figure("transactions/s", f"{meaning}, 64 connections"),
        f"{prefix}_p99_ms": Figure("ms", "the same: latency of 99 in 100", less_is_better=True),
    }
    return Benchmark(prefix, figures, partial(prepare_single_http, prefix, style))


def in_sets(name: str, clients: int) -> Benchmark:
    """Describe the benchmark of sets."""
    meaning = f"PostgreSQL, 8,000 transfers a call by unnest, clients: {clients}"
    return Benchmark(name, {name: Figure("transactions/s", meaning)}, partial(prepare_set, name, clients))


PEERS = (
    single_http("postgres_single_http", "statements", "FastAPI, asyncpg, PostgreSQL: a database transaction a request"),
    single_http("postgres_function_http", "function", "the same with one stored function, one round trip"),
    in_sets("postgres_set_per_s", clients=1),
    in_sets("postgres_set_2_clients_per_s", clients=2),
)

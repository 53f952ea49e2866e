"""The benchmarks of fivenines itself, without HTTP: each task of `bench.embedded`, in a fresh process each run."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from bench.harness import Benchmark, Figure, Run, Setting
from bench.processes import BenchError
from bench.workload import BATCH_SIZE

__all__ = ["EMBEDDED", "prepare"]

ROOT = Path(__file__).parents[1]
MILLION = 1_000_000


def run_task(module: str, task: str, folder: Path, count: int) -> Mapping[str, float]:
    """Run a task of a module in a process of its own."""
    command = [sys.executable, "-m", module, task, str(folder), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise BenchError(f"{task} failed: {done.stderr.decode(errors='replace')[-2_000:]}")
    return msgspec.json.decode(done.stdout, type=dict[str, float])


@contextmanager
def prepare(
    task: str, made_by: str | None, count: int, setting: Setting, *, module: str = "bench.embedded"
) -> Iterator[Run]:
    """Make what the task needs once, and give each run a folder of its own where it writes itself."""
    count = setting.scaled(count) // BATCH_SIZE * BATCH_SIZE
    if made_by is not None:
        run_task(module, made_by, setting.work, count)
    number = 0

    def run() -> Mapping[str, float]:
        nonlocal number
        number += 1
        folder = setting.work if made_by else setting.work / str(number)
        return run_task(module, task, folder, count)

    yield run


EMBEDDED = (
    Benchmark(
        "apply",
        {"apply_per_s": Figure("transactions/s", "apply alone, one core", goal=1_000_000)},
        partial(prepare, "apply", None, MILLION),
    ),
    Benchmark(
        "durable",
        {
            "durable_per_s": Figure(
                "transactions/s", "append, fdatasync, decode, apply: one process, batches of 8,000", goal=500_000
            )
        },
        partial(prepare, "durable", None, MILLION),
    ),
    Benchmark(
        "replay",
        {"replay_1m_s": Figure("s", "start from a journal of 1,000,000 transactions", goal=3, less_is_better=True)},
        partial(prepare, "replay", "make_journal", MILLION),
    ),
    Benchmark(
        "snapshot",
        {
            "snapshot_1m_accounts_s": Figure(
                "s", "start from 1,000,000 accounts in a snapshot", 3, less_is_better=True
            ),
            "snapshot_1m_accounts_write_s": Figure("s", "write that snapshot", less_is_better=True),
        },
        partial(prepare, "snapshot", "make_snapshot", MILLION),
    ),
    Benchmark(
        "bytes_per_account",
        {"bytes_per_account": Figure("bytes", "memory of an account", goal=500, less_is_better=True)},
        partial(prepare, "account_bytes", None, MILLION),
        runs_max=3,
    ),
    Benchmark(
        "bytes_per_id",
        {"bytes_per_id": Figure("bytes", "memory of a decided id in closed buckets", goal=24, less_is_better=True)},
        partial(prepare, "id_bytes", None, 2 * MILLION),
        runs_max=3,
    ),
)

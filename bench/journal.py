"""The benchmarks of the journal in etcd alone: three members and one process that appends, all on this machine."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.harness import Benchmark, Figure, Run, Setting
from bench.kills import kill_leaders
from bench.load_journal import JournalLoad, JournalPart
from bench.members import memory_peak_mb, pids, running_members
from bench.processes import BenchError

__all__ = ["FRAME_BYTES", "JOURNAL", "MEMBER_MEMORY_MB_GOAL", "frames_load", "load_journal"]

ROOT = Path(__file__).parents[1]
SMALL_BYTES = 100
FRAME_BYTES = 64 * 1024
FRAMES_IN_FLIGHT = 8
FRAMES_WARM_UP_S = 15.0
"""Until members hold as many entries in memory as they ever do."""
FRAMES_S = 30.0
KILLS = 20
MEMBER_MEMORY_MB_GOAL = 1_536


def load_journal(
    load: JournalLoad,
    *,
    on_start: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
    on_part: Callable[[JournalPart], None] = lambda _: None,
) -> list[JournalPart]:
    """Append from a process of its own; `on_part` is called with each part of the time as soon as it is over."""
    command = [sys.executable, "-m", "bench.load_journal", msgspec.json.encode(load).decode()]
    parts: list[JournalPart] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        on_start(process)
        assert process.stdout is not None
        assert process.stderr is not None
        told: list[bytes] = []
        reader = threading.Thread(target=lambda stream: told.append(stream.read()), args=(process.stderr,), daemon=True)
        reader.start()
        try:
            for line in process.stdout:
                parts.append(msgspec.json.decode(line, type=JournalPart))
                on_part(parts[-1])
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()
            reader.join()
    if len(parts) != load.parts:
        raise BenchError(f"the load failed: {b''.join(told).decode(errors='replace')[-2_000:]}")
    return parts


def load_journal_well(load: JournalLoad) -> JournalPart:
    """Append, and see that no append fails."""
    (part,) = load_journal(load)
    if part.failed:
        raise BenchError(f"{part.failed} appends failed: {part.failure}")
    return part


def frames_load(endpoints: tuple[str, ...], *, seconds: float, parts: int, warm_up_s: float) -> JournalLoad:
    """Describe the load of the budget: frames of 64 KiB, and the usual trimming."""
    return JournalLoad(
        endpoints=endpoints,
        payload_bytes=FRAME_BYTES,
        in_flight=FRAMES_IN_FLIGHT,
        seconds=seconds,
        parts=parts,
        warm_up_s=warm_up_s,
    )


@contextmanager
def prepare_small(setting: Setting) -> Iterator[Run]:
    """Append small frames, one after another."""
    with running_members(setting.work) as cluster:

        def run() -> Mapping[str, float]:
            load = JournalLoad(
                endpoints=cluster.endpoints, payload_bytes=SMALL_BYTES, in_flight=1, seconds=setting.seconds
            )
            part = load_journal_well(load)
            return {"append_small_p50_ms": part.p50_ms, "append_small_p99_ms": part.p99_ms}

        yield run


@contextmanager
def prepare_frames(setting: Setting) -> Iterator[Run]:
    """Append frames of 64 KiB for longer than the tail is long, while the journal is trimmed."""
    with running_members(setting.work) as cluster:

        def run() -> Mapping[str, float]:
            part = load_journal_well(
                frames_load(
                    cluster.endpoints,
                    seconds=FRAMES_S / 10 if setting.quick else FRAMES_S,
                    parts=1,
                    warm_up_s=1 if setting.quick else FRAMES_WARM_UP_S,
                )
            )
            return {
                "append_frames_64k_per_s": part.per_s,
                "append_frames_64k_p50_ms": part.p50_ms,
                "append_frames_64k_p99_ms": part.p99_ms,
                "member_memory_mb": memory_peak_mb(pids(cluster)),
            }

        yield run


@contextmanager
def prepare_kills(setting: Setting) -> Iterator[Run]:
    """Kill the leader, again and again, while frames are appended."""
    with running_members(setting.work) as cluster:

        def run() -> Mapping[str, float]:
            result = kill_leaders(cluster, kills=setting.scaled(KILLS))
            if result.failed:
                raise BenchError(f"{len(result.failed)} appends failed: {result.failed[0]}")
            return {"leader_kill_gap_s": result.median_s, "leader_kill_gap_worst_s": result.worst_s}

        yield run


JOURNAL = (
    Benchmark(
        "append_small",
        {
            "append_small_p50_ms": Figure(
                "ms", "journal in etcd: append of 100 bytes, one after another", goal=3, less_is_better=True
            ),
            "append_small_p99_ms": Figure("ms", "the same: latency of 99 in 100", less_is_better=True),
        },
        prepare_small,
    ),
    Benchmark(
        "append_frames_64k",
        {
            "append_frames_64k_per_s": Figure(
                "frames/s", "journal in etcd: frames of 64 KiB for half a minute, 8 in flight, trimmed", goal=500
            ),
            "append_frames_64k_p50_ms": Figure("ms", "the same: median latency", less_is_better=True),
            "append_frames_64k_p99_ms": Figure("ms", "the same: latency of 99 in 100", less_is_better=True),
            "member_memory_mb": Figure(
                "MiB", "the same: the most that a member ever took", goal=MEMBER_MEMORY_MB_GOAL, less_is_better=True
            ),
        },
        prepare_frames,
        runs_max=3,
    ),
    Benchmark(
        "leader_kill",
        {
            "leader_kill_gap_s": Figure(
                "s",
                f"journal's leader killed with SIGKILL, {KILLS} times: median gap between two acknowledged writes",
                goal=0.5,
                less_is_better=True,
            ),
            "leader_kill_gap_worst_s": Figure("s", "the same: the worst of them", goal=1, less_is_better=True),
        },
        prepare_kills,
        runs_max=1,
    ),
)

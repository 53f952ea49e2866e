"""Single requests over HTTP by wrk, a load tool in C that leaves most of the machine to the server."""

import os
import random
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bench.processes import BenchError

__all__ = ["AMOUNT", "WrkResult", "load_singles", "wrk_version"]

SCRIPT = Path(__file__).with_name("singles.lua")
AMOUNT = 5
"""What each transaction moves."""


class WrkResult(msgspec.Struct, frozen=True):
    """What wrk counted in one run."""

    requests: int
    """Answers of every status."""
    duration_us: int
    not_2xx: int
    broken: int
    """Connections that failed, and requests without an answer within ten seconds."""
    p50_us: int
    p99_us: int
    p999_us: int
    max_us: int

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.duration_us * 1e6


def find_wrk() -> str:
    """Find the program."""
    if found := shutil.which("wrk"):
        return found
    raise BenchError("wrk is not installed: apt-get install wrk")


def wrk_version() -> str:
    """Return the version, as in `wrk 4.1.0`."""
    # It has no option that says its version and ends well.
    printed = subprocess.run([find_wrk(), "-v"], capture_output=True, text=True, check=False)
    return " ".join((printed.stdout + printed.stderr).split()[:2])


def load_singles(url: str, *, accounts: int, seconds: float, connections: int = 64, threads: int = 1) -> WrkResult:
    """Post transactions to `url` one a request, each connection sending its next as soon as it has its answer.

    Accounts are `bench:000001` up to their number. Nothing is judged here: see `not_2xx` and `broken` of the result.
    """
    parts = urlsplit(url)
    # Nothing prints within the run, so wrk's own rounding of its duration to whole seconds is all that is lost.
    duration = f"-d{max(1, round(seconds))}s"
    argv = [find_wrk(), f"-t{threads}", f"-c{connections}", duration, "--timeout", "10s", "-s", str(SCRIPT)]
    env = {
        "BENCH_PATH": parts.path,
        "BENCH_HOST": parts.netloc,
        "BENCH_AMOUNT": str(AMOUNT),
        "BENCH_ACCOUNTS": str(accounts),
        "BENCH_SALT": str(random.randrange(256)),
    }
    done = subprocess.run(
        [*argv, f"{parts.scheme}://{parts.netloc}"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise BenchError(f"wrk failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return msgspec.json.decode(lines[-1], type=WrkResult)

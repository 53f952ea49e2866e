"""How many questions a nameserver answers: `fivenines nameserver` under dnsperf, both on this machine.

Three loads on the same server. *Known*: questions such as clients of a platform ask, as many as it takes, with a
hundred in flight. *Steady*: the same at 20,000 a second, for the latency, since one that is measured at full load says
only how long the queue was. *Unknown*: names that are not there and never the same twice, as in a flood.

The nameserver is one process with one thread, so it takes one core at most; dnsperf has the other. Not a question may
be lost, and none answered otherwise than it should be.
"""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.events import percentile
from bench.harness import Benchmark, Figure, Run, Setting
from bench.members import cpu_s
from bench.processes import BenchError, free_port, running
from fivenines.traffic.table import SteeredRegion, SteeringTable, write_table

__all__ = ["NAMES", "Answered", "read_dnsperf", "read_latencies_ms"]

REGIONS = 3
IN_FLIGHT = 100
STEADY_PER_S = 20_000
GOAL_PER_S = 20_000
UNKNOWN = 200_000
"""More than are asked in a run, so that none comes twice."""
KNOWN = """\
api.bank.test A
api.bank.test A
api.bank.test AAAA
API.Bank.Test A
region-1.bank.test A
bank.test SOA
bank.test NS
api.bank.test ANY
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """What dnsperf says of a run."""

    per_s: float
    sent: int
    lost: int
    codes: Mapping[str, int]


def read_dnsperf(printed: str) -> Answered:
    """Read what dnsperf prints at its end."""
    try:
        sent, lost = (int(_number(printed, f"Queries {what}")) for what in ("sent", "lost"))
        per_s = _number(printed, "Queries per second")
        (codes,) = re.findall(r"^ *Response codes: *(.*)$", printed, re.MULTILINE)
    except ValueError as error:
        raise BenchError(f"dnsperf said something else:\n{printed[-1_000:]}") from error
    return Answered(per_s, sent, lost, {code: int(count) for code, count in re.findall(r"([A-Z]+) (\d+)", codes)})


def _number(printed: str, name: str) -> float:
    (found,) = re.findall(rf"^ *{name}: *([0-9.]+)", printed, re.MULTILINE)
    return float(found)


def read_latencies_ms(printed: str) -> list[float]:
    """Read the line of each answer, which dnsperf prints with -v: `> NOERROR api.bank.test A 0.000087`."""
    return [1e3 * float(found) for found in re.findall(r"^> \S+ \S+ \S+ ([0-9.]+)$", printed, re.MULTILINE)]


def dnsperf(port: int, questions: Path, seconds: float, *options: str) -> str:
    """Ask for as long as told, and return what dnsperf prints."""
    if shutil.which("dnsperf") is None:
        raise BenchError("there is no dnsperf: install the package of that name")
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-l", str(max(1, round(seconds)))]
    done = subprocess.run(
        [*command, "-q", str(IN_FLIGHT), *options], capture_output=True, check=False, text=True, timeout=seconds + 60
    )
    if done.returncode:
        raise BenchError(f"dnsperf failed: {done.stderr[-1_000:]}")
    return done.stdout


def judged(answered: Answered, wanted: str) -> Answered:
    """Return it, if every question got its answer. Raises BenchError if not."""
    if answered.lost or set(answered.codes) != {wanted}:
        raise BenchError(f"of {answered.sent} questions {answered.lost} were lost, and the answers {answered.codes}")
    return answered


@contextmanager
def prepare_names(setting: Setting) -> Iterator[Run]:
    """Run a nameserver for a platform of three regions, and ask."""
    table, log, port = setting.work / "steering.json", setting.work / "nameserver.log", free_port()
    regions = tuple(
        SteeredRegion(name=f"region-{n}", addresses=(f"127.0.{n}.1",), nameserver=f"127.0.{n}.1")
        for n in range(1, REGIONS + 1)
    )
    write_table(table, SteeringTable(zone="bank.test", serial=1, here="region-1", regions=regions))
    known, unknown = setting.work / "known", setting.work / "unknown"
    known.write_text(KNOWN)
    argv = [sys.executable, "-m", "fivenines", "nameserver", "--table", str(table), "--port", str(port), "--json"]
    with running(argv, log=log, ready=lambda: b'"ready"' in log.read_bytes()) as process:

        def run() -> Mapping[str, float]:
            chance = random.Random()
            unknown.write_text("".join(f"{chance.randbytes(8).hex()}.bank.test A\n" for _ in range(UNKNOWN)))
            before_s = cpu_s([process.pid])
            full = judged(read_dnsperf(dnsperf(port, known, setting.seconds)), "NOERROR")
            took_s = cpu_s([process.pid]) - before_s
            steady = dnsperf(port, known, setting.seconds, "-Q", str(STEADY_PER_S), "-v")
            held = judged(read_dnsperf(steady), "NOERROR")
            latencies = read_latencies_ms(steady)
            flood = judged(read_dnsperf(dnsperf(port, unknown, setting.seconds, "-n", "1")), "NXDOMAIN")
            return {
                "names_per_s": full.per_s,
                "names_cores": took_s * full.per_s / full.sent,
                "names_per_core_s": full.sent / took_s,
                "names_steady_per_s": held.per_s,
                "names_steady_p50_ms": percentile(latencies, 0.5),
                "names_steady_p99_ms": percentile(latencies, 0.99),
                "names_unknown_per_s": flood.per_s,
            }

        yield run


NAMES = (
    Benchmark(
        "names",
        {
            "names_per_s": Figure("questions/s", "nameserver, usual questions, 100 in flight", GOAL_PER_S),
            "names_cores": Figure("cores", "the same: what the nameserver took", less_is_better=True),
            "names_per_core_s": Figure("questions/s", "the same: for each core that it took", GOAL_PER_S),
            "names_steady_per_s": Figure("questions/s", "nameserver, usual questions at a steady 20,000/s"),
            "names_steady_p50_ms": Figure("ms", "the same: median latency", less_is_better=True),
            "names_steady_p99_ms": Figure("ms", "the same: latency of 99 in 100", less_is_better=True),
            "names_unknown_per_s": Figure("questions/s", "nameserver, names that are not there, each once"),
        },
        prepare_names,
    ),
)

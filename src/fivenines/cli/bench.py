"""`fivenines bench`: how fast a ledger is here, in under a minute, with nothing but the package.

A ledger of its own is started in a temporary folder, on the disk that matters, and loaded over HTTP from threads of
this process; both share the processors. The full comparison, with peers and medians, is the repository's `make bench`.
"""

import http.client
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import typer
from rich.table import Table

from fivenines.cli.output import JSON, CommandFailedError, errors, out, print_json, telling_errors
from fivenines.ids import new_ids, new_ids16

__all__ = ["register"]

_EXAMPLES = """
[bold]Examples[/]

  fivenines bench                             on the disk of the present folder

  fivenines bench --on /srv/ledger --seconds 10 --json
"""
_ACCOUNTS = 10_000
_START_S_MAX = 30


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog=_EXAMPLES)(bench)


def bench(
    on: Annotated[Path, typer.Option("--on", metavar="DIR", help="Measure on the disk of this folder.")] = Path(),
    seconds: Annotated[float, typer.Option(min=0.2, max=600, help="How long each figure is measured.")] = 5.0,
    json: JSON = False,
) -> None:
    """Measure a throwaway ledger on this machine: single transactions, JSON arrays, msgpack arrays."""
    plans: list[tuple[str, int, int, Callable[[int], bytes], str]] = [
        ("one transaction a request", 16, 1, _single, "application/json"),
        ("JSON arrays of 1,000", 2, 1_000, _json_array, "application/json"),
        ("msgpack arrays of 8,000", 2, 8_000, _rows, "application/msgpack"),
    ]
    results: dict[str, dict[str, float]] = {}
    with telling_errors(), _throwaway_ledger(on) as url:
        _open_accounts(url)
        for name, connections, size, make, media_type in plans:
            with errors.status(f"measuring {name}, {connections} connections, {seconds:g} s"):
                results[name] = _measure(url, connections, size, make, media_type, seconds)
    if json:
        print_json(results)
        return
    table = Table("load", title="fivenines on this machine, durable and over HTTP", title_justify="left")
    for heading in ("transactions/s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for name, figures in results.items():
        table.add_row(name, f"{figures['per_s']:,.0f}", f"{figures['p50_ms']:,.1f}", f"{figures['p99_ms']:,.1f}")
    out.print(table)


@contextmanager
def _throwaway_ledger(on: Path) -> Iterator[str]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="fivenines-bench-", dir=on)
    except OSError as error:
        raise CommandFailedError(
            f"{on}: {error.strerror}", hint="--on names a folder that may be written to"
        ) from error
    with folder as path:
        command = [sys.executable, "-m", "fivenines", "serve", "--data", path, "--port", "0", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout is not None
            try:
                line = server.stdout.readline()
                if not line:
                    raise CommandFailedError("the throwaway ledger did not start", hint="fivenines serve shows why")
                yield msgspec.json.decode(line)["url"]
            finally:
                server.terminate()
                server.wait(_START_S_MAX)


def _open_accounts(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    _request(connection, "/v1/assets", msgspec.json.encode({"asset": "EUR/2"}), "application/json")
    accounts = [{"id": _name(number), "asset": "EUR/2", "min_balance": None} for number in range(_ACCOUNTS)]
    _request(connection, "/v1/accounts", msgspec.json.encode(accounts), "application/json")
    connection.close()


def _measure(
    url: str, connections: int, size: int, make: Callable[[int], bytes], media_type: str, seconds: float
) -> dict[str, float]:
    latencies: list[float] = []
    failures: list[Exception] = []
    deadline = time.perf_counter() + seconds

    def load(number: int) -> None:
        try:
            connection = http.client.HTTPConnection(urlsplit(url).netloc)
            while (began := time.perf_counter()) < deadline:
                body = make(number)
                sent = time.perf_counter()
                answer = _request(connection, "/v1/transactions", body, media_type)
                latencies.append(time.perf_counter() - sent)
                _check_posted(answer, size)
                number += int((time.perf_counter() - began) * 1e6)
            connection.close()
        except (OSError, http.client.HTTPException, CommandFailedError) as error:
            failures.append(error)

    began = time.perf_counter()
    threads = [threading.Thread(target=load, args=(number * 7919,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise CommandFailedError(str(failures[0]))
    took = time.perf_counter() - began
    latencies.sort()
    return {
        "per_s": len(latencies) * size / took,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[len(latencies) * 99 // 100],
    }


def _check_posted(answer: bytes, size: int) -> None:
    if answer.count(b"posted") != size:
        raise CommandFailedError(f"not all of {size} transactions were posted: {answer[:200]!r}")


def _request(connection: http.client.HTTPConnection, path: str, body: bytes, media_type: str) -> bytes:
    connection.request("POST", path, body, {"Content-Type": media_type})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise CommandFailedError(f"{path} answered {response.status}: {answer[:300].decode(errors='replace')}")
    return answer


def _name(number: int) -> str:
    return f"bench:{number % _ACCOUNTS:05}"


# Source and destination differ: 3k + 1 = k modulo an even number of accounts has no solution.


def _single(number: int) -> bytes:
    return b'{"id":"%b","postings":[{"source":"%b","destination":"%b","amount":7}]}' % (
        new_ids(1)[0].encode(),
        _name(number).encode(),
        _name(number + 1).encode(),
    )


def _json_array(number: int) -> bytes:
    return msgspec.json.encode(
        [
            {
                "id": id,
                "postings": [{"source": _name(number + k), "destination": _name(number + 3 * k + 1), "amount": 7}],
            }
            for k, id in enumerate(new_ids(1_000))
        ]
    )


def _rows(number: int) -> bytes:
    ids = new_ids16(8_000)
    return msgspec.msgpack.encode([(id, _name(number + k), _name(number + 3 * k + 1), 7) for k, id in enumerate(ids)])

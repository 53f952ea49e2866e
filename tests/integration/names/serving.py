"""A nameserver as a process of its own, for tests: `fivenines nameserver` on a free port."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STOP_S = 20.0


class Server:
    """A running nameserver."""

    def __init__(self, process: subprocess.Popen[bytes], ready: dict[str, Any], log: Path, table: Path) -> None:
        self.process = process
        self.port: int = ready["port"]
        self.metrics_port: int | None = ready.get("metrics_port")
        self.table = table
        self._log = log

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what was logged under a name; a line that is being written is left for the next time."""
        lines = self._log.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def wait_event(self, name: str, count: int = 1) -> dict[str, Any]:
        """Return the event of a name, once there are so many of them."""
        late = time.monotonic() + STOP_S
        while len(found := self.events(name)) < count:
            if self.process.poll() is not None or time.monotonic() > late:
                raise AssertionError(f"no {name}: {self._log.read_text()[-2_000:]}")
            time.sleep(0.02)
        return found[-1]

    def dig(self, *arguments: str) -> str:
        """Return what dig prints."""
        command = ["dig", "@127.0.0.1", "-p", str(self.port), "+time=5", "+tries=2", *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=30).stdout

    def stop(self) -> int:
        """Stop it with SIGTERM, and return its exit status."""
        self.process.terminate()
        return self.process.wait(STOP_S)


@contextmanager
def nameserver(folder: Path, *options: str, port: int = 0, table: Path | None = None) -> Iterator[Server]:
    """Run a nameserver on a table's file, which may not be there, for as long as the block lasts."""
    path = table or folder / "steering.json"
    log = folder / f"nameserver-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "fivenines", "nameserver", "--table", str(path), "--port", str(port), "--json"]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=output)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"not ready: {log.read_text()[-2_000:]}")
        yield Server(process, json.loads(line), log, path)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

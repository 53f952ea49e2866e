"""A start: what a person sees of it, and what it takes from the machine."""

import asyncio
import json
import os
import pty
import resource
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx

from fivenines.ledger import OpenAccount, RegisterAsset
from fivenines.node import snapshots
from tests.e2e.serving import Server
from tests.integration.node.nodes import opened


def test_a_long_start_shows_on_a_terminal_how_far_the_check_and_the_replay_have_come(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    for path in snapshots.paths(tmp_path):
        path.unlink()
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "fivenines", "serve", "--data", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(command, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "120"})
    os.close(theirs)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    shown = read_until(terminal, b"Ctrl-C stops it")
    process.terminate()
    read_until(terminal, None)
    os.close(terminal)
    assert process.wait() == 0
    watchdog.cancel()
    checking, replaying = shown.index(b"checking the journal, MB"), shown.index(b"replaying the journal, frames")
    assert checking < replaying < shown.index(b"serves")


async def fill(directory: Path) -> None:
    """Make a journal that is long enough for both to be told, in frames and in bytes."""
    filler = b'{"a":"%s"}' % (b"x" * 4_000)
    async with opened(directory) as node:
        await node.writer.submit([RegisterAsset("EUR/2")])
        for number in range(300):
            await node.writer.submit(
                [OpenAccount(f"{number}:{item}", "EUR/2", None, None, filler) for item in range(5)]
            )


def read_until(terminal: int, mark: bytes | None) -> bytes:
    """Read what is shown, up to a mark or to the end."""
    shown = b""
    while mark is None or mark not in shown:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # how a terminal says that nobody writes to it any more
            break
        shown += part
    return shown


def test_a_server_opens_as_many_files_as_the_machine_allows_and_bounds_its_connections_by_that(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = Server(tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with server:
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (min(hard, 65_536), hard)


def test_where_few_files_may_be_open_connections_leave_enough_for_the_journal(tmp_path: Path) -> None:
    # A shell, as a limit that was lowered for good must not be that of the tests.
    serve = f"{sys.executable} -m fivenines serve --data {tmp_path / 'data'} --port 0 --json"
    process = subprocess.Popen(
        ["sh", "-c", f"ulimit -n 100; exec {serve}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    url = json.loads(process.stdout.readline())["url"]
    try:
        with ExitStack() as stack:
            host, port = url.removeprefix("http://").split(":")
            for _ in range(150):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            # The idle ones make room.
            answer = httpx.post(f"{url}/v1/assets", json={"asset": "EUR/2"}, timeout=30)
            assert answer.status_code == 200
    finally:
        process.terminate()
        _, log = process.communicate(timeout=60)
    told = [json.loads(line) for line in log.splitlines() if b"connections.bounded" in line]
    assert [(entry["connections_max"], entry["open_files_max"]) for entry in told] == [(50, 100)]
    assert process.returncode == 0

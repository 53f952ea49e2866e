"""What a person sees of a start."""

import asyncio
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

from fivenines.ledger import OpenAccount, RegisterAsset
from fivenines.node import snapshots
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

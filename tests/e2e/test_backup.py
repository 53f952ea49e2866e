"""The backup that docs/operations.md tells to make: a copy that was taken at any moment starts."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fivenines.ledger import digest
from fivenines.node import NodeSettings, snapshots
from fivenines.node.node import Node
from tests.integration.node.nodes import books, opened, posts

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
TRIMS_AT_ONCE = NodeSettings(journal_frames_kept=1)


def backup_script() -> str:
    found = re.search(r"\*\*Backup\*\*.*?```bash\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    return found[1]


SLOW = """#!/bin/sh
# Take a while, as it does where there is much to copy: always, or the first time only.
test -e "$0.once.done" || sleep 0.5
test ! -e "$0.once" || : > "$0.once.done"
exec {real} "$@"
"""


def make_slow(folder: Path, command: str, *, only_once: bool) -> None:
    """Put a slow twin of a command into `folder`."""
    real = shutil.which(command)
    assert real
    folder.mkdir(exist_ok=True)
    slow = folder / command
    slow.write_text(SLOW.format(real=real))
    slow.chmod(0o755)
    if only_once:
        (folder / f"{command}.once").touch()


def test_a_copy_taken_while_a_node_writes_and_trims_as_fast_as_it_can_always_starts(tmp_path: Path) -> None:
    """Snapshots one after the other, each with a trim behind it: what the copying finds is gone the next moment."""
    slow = tmp_path / "slow"
    make_slow(slow, "cp", only_once=False)
    make_slow(slow, "ln", only_once=True)

    async def main() -> None:
        async with opened(tmp_path / "data", TRIMS_AT_ONCE, segment_bytes=2_000) as node:
            await books(node)
            assert await node.snapshot()
            busy = asyncio.create_task(write_and_trim(node))
            for number in range(3):
                position = node.replica.position
                copy = tmp_path / f"copy{number}"
                await back_up(tmp_path / "data", copy, slow)
                assert await start(copy) >= position
            assert node.journal.first > 100
            assert (slow / "ln.once.done").exists()
            busy.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await busy
        assert not (tmp_path / "data" / "copying").exists()

    asyncio.run(main())


def test_a_copy_of_a_ledger_without_a_snapshot_starts(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "data") as node:
            await books(node)
            assert snapshots.paths(tmp_path / "data") == []
            await back_up(tmp_path / "data", tmp_path / "copy", tmp_path)
            async with opened(tmp_path / "copy") as copied:
                assert digest(copied.state) == digest(node.state)

    asyncio.run(main())


async def write_and_trim(node: Node) -> None:
    while True:
        await posts(node, frames=10)
        assert await node.snapshot()


async def back_up(data: Path, copy: Path, commands: Path) -> None:
    """Run the commands of the page, those in the folder `commands` before any others of their names."""
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        backup_script(),
        env=os.environ | {"DATA": str(data), "COPY": str(copy), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b"sound" in said


async def start(copy: Path) -> int:
    """Start a node on a copy, and return its position."""
    async with opened(copy) as node:
        await posts(node, frames=1)
        return node.replica.position - 1

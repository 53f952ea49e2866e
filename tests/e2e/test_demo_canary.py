"""The alarm rings: a real ledger that forgets what it had promised is found out by the demo, and by name."""

import asyncio
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fivenines.drill import replay
from fivenines.drill.demo import Demo, DemoFailedError, conclude, run_demo
from fivenines.drill.live import Live
from fivenines.drill.supervise import LedgerProcess, Ready
from fivenines.journal.verify import verify
from tests.e2e.platforms import free_network, need_servers

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]


class ForgetfulDisk(LedgerProcess):
    """Loses the last tenth of the journal at the first kill, as a disk does that never wrote what it had confirmed."""

    _starts = 0

    async def start(self) -> Ready:
        self._starts += 1
        if self._starts == 2:
            found = verify(self.data)
            assert found.segments == 1
            (journal,) = self.data.glob("journal-*.log")
            os.truncate(journal, found.sound_bytes * 9 // 10)
            for snapshot in self.data.glob("snapshot-*"):
                snapshot.unlink()
        return await super().start()


_IMPORTING_IT = """
import sys
if "serve" in sys.orig_argv:
    import tests.e2e.forgetful_node
"""


def check_that_losses_are_found(demo: Demo, **launched: Any) -> None:
    """Carry out a demo, and see that it tells of transactions that were acknowledged and are lost."""
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    result = asyncio.run(run_demo(demo, Live(console), **launched))
    lost = result.findings["lost"]
    assert lost.wrong > 0
    assert all("acknowledged, and not in the journal" in example for example in lost.examples)
    assert conclude(result, demo.out, console, keep=False) == 1
    assert re.search(r"every acknowledged transaction is there: [\d,]+ wrong", printed.getvalue())


def test_a_disk_that_forgets_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The client waits for a position that it was told of and that no longer exists: not for long, here.
    monkeypatch.setattr(replay, "DEADLINE_S", 2.0)
    demo = Demo(books=None, transactions=900, kills=1, seed=3, out=tmp_path, keep=False, embedded=True)
    check_that_losses_are_found(demo, launcher=ForgetfulDisk)


@pytest.mark.timeout(600)
def test_nodes_of_a_platform_that_forget_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their journal is in good hands, and each acknowledges a transaction once that it never wrote there."""
    need_servers()
    # Every Python begins with this. All nodes do something about it: which of them clients ask is up to DNS.
    (tmp_path / "sitecustomize.py").write_text(_IMPORTING_IT)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), str(ROOT), before))))
    demo = Demo(
        books=None, transactions=900, kills=0, seed=3, out=tmp_path, keep=False, network=free_network(), rate_per_s=40
    )
    check_that_losses_are_found(demo)


def test_books_in_the_folder_that_is_emptied_are_left_alone(tmp_path: Path) -> None:
    books = tmp_path / "demo" / "books"
    books.mkdir(parents=True)
    demo = Demo(books=books, transactions=900, kills=0, seed=3, out=tmp_path, keep=False)
    with pytest.raises(DemoFailedError, match="must not be in it"):
        asyncio.run(run_demo(demo, Live(Console(file=io.StringIO()))))
    assert books.is_dir()

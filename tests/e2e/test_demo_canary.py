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
from tests.integration.etcd.clusters import need_etcd

_FORGETFUL_NODE = Path(__file__).with_name("forgetful_node.py")


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


class ForgetfulNode(LedgerProcess):
    """One of its kind acknowledges a transaction that it never wrote to the journal, which is in good hands."""

    def __init__(self, data: Path, *, name: str = "the ledger", **rest: Any) -> None:
        program = (str(_FORGETFUL_NODE),) if name == "us-east-1" else ("-m", "fivenines")
        super().__init__(data, name=name, program=program, **rest)


@pytest.mark.parametrize("launcher", [ForgetfulDisk, ForgetfulNode])
def test_a_ledger_that_forgets_is_found_out(
    launcher: type[LedgerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_embedded = launcher is ForgetfulDisk
    if is_embedded:
        # The client waits for a position that it was told of and that no longer exists: not for long, here.
        monkeypatch.setattr(replay, "DEADLINE_S", 2.0)
    else:
        need_etcd()
    kills = 1 if is_embedded else 0
    demo = Demo(books=None, transactions=900, kills=kills, seed=3, out=tmp_path, keep=False, embedded=is_embedded)
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    result = asyncio.run(run_demo(demo, Live(console), launcher=launcher))
    lost = result.findings["lost"]
    assert lost.wrong > 0
    assert all("acknowledged, and not in the journal" in example for example in lost.examples)
    assert conclude(result, tmp_path, console, keep=False) == 1
    assert re.search(r"every acknowledged transaction is there: [\d,]+ wrong", printed.getvalue())


def test_books_in_the_folder_that_is_emptied_are_left_alone(tmp_path: Path) -> None:
    books = tmp_path / "demo" / "books"
    books.mkdir(parents=True)
    demo = Demo(books=books, transactions=900, kills=0, seed=3, out=tmp_path, keep=False)
    with pytest.raises(DemoFailedError, match="must not be in it"):
        asyncio.run(run_demo(demo, Live(Console(file=io.StringIO()))))
    assert books.is_dir()

"""Under load what costs most and matters least is refused first."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from fivenines.ids import new_ids
from fivenines.journal import FileJournal, Position
from fivenines.node import Limits, NodeSettings
from fivenines.node.gateway import Gateway
from fivenines.node.metrics import Metrics
from fivenines.node.node import Node, open_node
from fivenines.node.pages import pages
from tests.integration.node.nodes import books, commands_of


class SlowDisk:
    """A journal whose appends wait until the test lets them through."""

    def __init__(self, journal: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_pass = asyncio.Event()
        self.may_pass.set()
        self.asked = asyncio.Event()
        append = journal.append

        async def wait_and_append(payload: bytes) -> Position:
            if not self.may_pass.is_set():
                self.asked.set()
            await self.may_pass.wait()
            return await append(payload)

        monkeypatch.setattr(journal, "append", wait_and_append)


async def ask(node: Node, paths: Sequence[str]) -> list[int]:
    metrics = Metrics(node)
    gateway = Gateway(node, pages(node, metrics), metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://node") as client:
        return [(await client.get(path)).status_code for path in paths]


def test_looking_through_frames_is_refused_while_writes_queue_up_and_balances_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = ["/v1/accounts/alice/history", "/v1/events?after=0", f"/v1/transactions/{new_ids(1)[0]}"]
    others = ["/v1/accounts/alice", "/v1/accounts", "/v1/platform", "/live", "/ready", "/metrics"]

    async def run() -> None:
        journal = FileJournal.open(tmp_path)
        disk = SlowDisk(journal, monkeypatch)
        settings = NodeSettings(limits=Limits(queue_requests_max=4))
        async with open_node(tmp_path, journal, settings) as node:
            await books(node)
            assert await ask(node, scans) == [200, 200, 404]
            disk.may_pass.clear()
            writes = [asyncio.create_task(node.writer.submit(commands_of(1)))]
            await disk.asked.wait()  # one is on its way to the disk; three of at most four will wait behind it
            writes += [asyncio.create_task(node.writer.submit(commands_of(1))) for _ in range(3)]
            await asyncio.sleep(0)
            assert node.writer.queued_requests == 3
            assert await ask(node, scans) == [503, 503, 503]
            assert await ask(node, others) == [200] * len(others)
            disk.may_pass.set()
            await asyncio.gather(*writes)
            assert await ask(node, scans) == [200, 200, 404]
        await journal.close()

    asyncio.run(run())

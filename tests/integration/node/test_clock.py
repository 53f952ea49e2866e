"""A node whose journal was once written with a clock far ahead says that it can take no writes."""

import asyncio
from pathlib import Path

from fivenines.ledger import RULES
from tests.integration.node.nodes import Clock, books, opened


def test_a_journal_that_is_ahead_of_the_clock_by_the_whole_window_makes_the_node_unready(tmp_path: Path) -> None:
    async def run() -> None:
        clock = Clock()
        true_us = clock.us
        async with opened(tmp_path, clock_us=clock) as node:
            await books(node)
            assert node.unready_reason is None
            clock.us = true_us + (RULES[1].retention_ms + 86_400_000) * 1000
            await node.writer.submit([])
            assert node.unready_reason is None
            clock.us = true_us
            assert node.unready_reason == "the journal's time is 31 days ahead of the clock: every id looks expired"

    asyncio.run(run())

"""Clients without the client library, as drills have them: what they are told is kept, whatever it is."""

import asyncio
from pathlib import Path

from fivenines.drill.drills.plain_clients import PlainClients
from tests.integration.node.served import served

NOBODY = "http://127.0.0.1:1"


def test_each_client_waits_for_what_is_yet_to_come_and_who_is_refused_says_where(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            edges = {"a": f"http://127.0.0.1:{node.port}", "b": NOBODY}
            async with PlainClients(edges, each=2) as clients:
                while clients.answered < 2 or len(clients.failures) < 2:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            assert clients.answered == 2  # the second answer of each waits for a write, and nobody writes
            assert all(each.startswith("b: ") for each in clients.failures)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_where_there_are_none_nobody_asks() -> None:
    async def main() -> None:
        async with PlainClients({"b": NOBODY}, each=0) as clients:
            await asyncio.sleep(0.1)
        assert clients.failures == []
        assert clients.answered == 0

    asyncio.run(main())

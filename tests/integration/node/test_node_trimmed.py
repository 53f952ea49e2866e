"""What reads say of frames that were trimmed away."""

import asyncio
from pathlib import Path

from fivenines.node import NodeSettings
from tests.integration.node.served import one, request, served


def test_reads_say_what_was_trimmed_and_where_to_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        settings = NodeSettings(journal_frames_kept=3, snapshots_kept=1)
        async with served(tmp_path, settings=settings, segment_bytes=2_000) as node:
            await node.open_books()
            sent = [one() for _ in range(40)]
            for item in sent:
                assert (await node.post(item)).status_code == 200
            assert await node.node.snapshot()
            first = node.node.journal.first
            assert first > 10

            gone = await node.get(f"/v1/transactions/{sent[0]['id']}")
            assert (gone.status_code, "trimmed" in gone.json()["detail"]) == (404, True)
            assert "posted" in gone.json()["detail"]
            assert (await node.get(f"/v1/transactions/{sent[-1]['id']}")).json()["outcome"] == "posted"
            # What was decided stays decided, whatever was trimmed.
            again = await node.post(sent[0])
            assert (again.status_code, again.json()["outcome"]) == (200, "posted")
            assert await node.balance() == 40

            events = await node.get("/v1/events?after=0")
            assert (events.status_code, events.json()["field"]) == (410, "after")
            assert events.json()["type"] == "/problems/trimmed"
            assert f"begin at {first - 1}" in events.json()["detail"]
            reader, writer = await node.connect()
            writer.write(request("GET", "/v1/events?after=0", headers=["Accept: text/event-stream"]))
            assert b" 410 " in await reader.readline()
            writer.close()
            rest = (await node.get(f"/v1/events?after={first - 1}&limit=1000")).json()["events"]
            assert [event["subject"] for event in rest] == [item["id"] for item in sent[-len(rest) :]]

            history = (await node.get("/v1/accounts/b/history?limit=1000")).json()
            assert history["next"] is None
            assert [t["id"] for t in history["transactions"]] == [item["id"] for item in sent[: -len(rest) - 1 : -1]]
            platform = (await node.get("/v1/platform")).json()
            assert platform["journal_first"] == first

    asyncio.run(main())

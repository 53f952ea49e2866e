"""What reads say of frames that the disk no longer has as they were written, or cannot give now."""

import asyncio
import errno
import os
from pathlib import Path

import pytest
import structlog

from tests.integration.node.served import Served, one, served

ACCOUNT = b"an:account:to:find"


async def fill(node: Served, directory: Path) -> tuple[str, Path, int]:
    """Write frames; return the id of a transaction, and where bytes of its frame are."""
    await node.open_books()
    account = {"id": ACCOUNT.decode(), "asset": "EUR/2", "min_balance": None}
    assert (await node.post(account, "/v1/accounts")).status_code == 200
    item = one()
    item["postings"][0]["destination"] = ACCOUNT.decode()
    assert (await node.post(item)).status_code == 200
    for _ in range(5):
        assert (await node.post(one())).status_code == 200
    (path,) = directory.glob("journal-*.log")
    return item["id"], path, path.read_bytes().rindex(ACCOUNT)


def test_damage_under_a_running_node_is_named_logged_and_counted_and_writes_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as node:
            id, path, offset = await fill(node, tmp_path)
            file = os.open(path, os.O_WRONLY)
            os.pwrite(file, b"X", offset)
            paths = [f"/v1/transactions/{id}", "/v1/accounts/b/history", "/v1/events?after=0"]
            with structlog.testing.capture_logs() as logs:
                for asked in (*paths, *paths):
                    answer = await node.get(asked)
                    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/journal_damaged")
                    assert "Retry-After" not in answer.headers
                    assert path.name in answer.json()["detail"]
            told = [entry["cause"] for entry in logs if entry["event"] == "read.failed"]
            assert told == ["damaged"]
            assert 'fivenines_reads_failed_total{reason="damaged"} 6.0' in (await node.get("/metrics")).text
            assert (await node.post(one())).status_code == 200
            assert (await node.get("/ready")).status_code == 200
            os.pwrite(file, ACCOUNT[:1], offset)
            os.close(file)
            assert (await node.get(paths[0])).json()["outcome"] == "posted"

    asyncio.run(main())


def test_without_file_descriptors_reads_of_the_disk_are_refused_like_all_that_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def no_descriptor(path: str | Path, flags: int, mode: int = 0o777, **options: int) -> int:
        if str(path).startswith(str(tmp_path)) and not flags & os.O_WRONLY:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return opened(path, flags, mode, **options)

    async def main() -> None:
        async with served(tmp_path) as node:
            id, _, _ = await fill(node, tmp_path)
            monkeypatch.setattr(os, "open", no_descriptor)
            for asked in (f"/v1/transactions/{id}", "/v1/accounts/b/history", "/v1/events?after=0"):
                answer = await node.get(asked)
                assert (answer.status_code, answer.json()["type"]) == (503, "/problems/disk_unavailable"), answer.text
                assert answer.headers["Retry-After"] == "1"
            monkeypatch.undo()
            assert (await node.get(f"/v1/transactions/{id}")).json()["outcome"] == "posted"

    asyncio.run(main())

"""A whole server on a file system that is really full: it refuses clearly, reads go on, and it recovers by itself."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fivenines.ids import new_id, new_ids16
from tests.e2e.ledger_load import Load, RefusedError
from tests.e2e.serving import Api, run_server

SIZE_BYTES = 6 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this root may not mount: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, *, leave_bytes: int) -> None:
    """Take all the room there is, but for `leave_bytes`."""
    status = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - leave_bytes)))


def wait_ready(api: Api) -> None:
    """Wait until the node is ready, without asking it to write anything."""
    while api.get("/ready").status_code != 200:
        api.get(f"/v1/platform?at_least={api.position + 1}")


def post_rows(api: Api, source: str, destination: str, count: int) -> int:
    rows = [[id, source, destination, 1] for id in new_ids16(count)]
    response = api.request(
        "POST",
        "/v1/transactions",
        content=msgspec.msgpack.encode(rows),
        headers={"Content-Type": "application/msgpack"},
    )
    return response.status_code


def test_a_full_disk_stops_writes_and_nothing_else_until_there_is_room(small_disk: Path) -> None:
    load = Load(6)
    with run_server(small_disk) as api:
        port = api.server.port
        load.open_accounts(port)
        for leave_bytes in (4_096, 200_000):
            fill(small_disk, leave_bytes=leave_bytes)
            with load.running(port):
                while api.get("/ready").status_code == 200:
                    pass
            assert "journal_full" in load.refusals[-1]
            # A frame that was too large leaves room for smaller ones, for a while.
            refused, ready = api.move("load:0", "load:0", 1), api.get("/ready")
            while (refused.status_code, ready.status_code) != (503, 503):
                refused, ready = api.move("load:0", "load:0", 1), api.get("/ready")
            assert refused.headers["Retry-After"].isdigit()
            assert refused.json()["type"] == "/problems/journal_full"
            assert "nothing was done" in refused.json()["detail"]
            assert "No space left" in ready.json()["detail"]
            assert "fivenines_ready 0.0" in api.get("/metrics").text
            assert api.get("/live").status_code == 200
            with pytest.raises(RefusedError):
                load.ask_again(port)
            answered = [item for item in load.items if item.outcome == "posted"]
            assert api.get(f"/v1/transactions/{answered[-1].id}").json()["outcome"] == "posted"
            assert api.get("/v1/accounts?prefix=load:").json()["accounts"]
            assert api.get("/v1/events?after=0&limit=1").json()["events"]
            assert api.get(f"/v1/accounts/{answered[-1].source}/history").json()["transactions"]

            (small_disk / "filler").unlink()
            wait_ready(api)
            assert load.ask_again(port) > 0
            load.check(port, sample=100)
        fill(small_disk, leave_bytes=0)
        # Stopping on a full disk is a clean stop all the same.
        assert api.server.stop() == 0
        assert "Traceback" not in api.server.log
        assert not list(small_disk.glob("*.draft"))
    (small_disk / "filler").unlink()
    with run_server(small_disk) as api:
        load.check(api.server.port, sample=100)


def test_a_snapshot_without_room_fails_and_writes_go_on(small_disk: Path) -> None:
    with run_server(small_disk, "--snapshot-every", "5000") as api:
        source, destination = api.account(), api.account()
        heavy = [{"id": f"heavy:{n}", "asset": "EUR/2", "metadata": {"x": "y" * 2_000}} for n in range(200)]
        assert api.post("/v1/accounts", heavy).status_code == 200
        # One snapshot, of half a megabyte, and no second one begun.
        for _ in range(10):
            assert post_rows(api, source, destination, 500) == 200
        while "snapshot.written" not in api.server.log:
            api.get("/live")
        fill(small_disk, leave_bytes=700_000)
        before = api.balance(destination)
        for _ in range(60):
            assert post_rows(api, source, destination, 100) == 200
        while "snapshot.failed" not in api.server.log:
            api.get("/live")
        assert api.get("/ready").status_code == 200
        assert not list(small_disk.glob("*.draft"))
        assert api.balance(destination) == before + 6_000
        assert "fivenines_snapshots_failed_total 1.0" in api.get("/metrics").text
        last = api.move(source, destination, 1, id=new_id()).json()
        api.server.kill()
    with run_server(small_disk) as api:
        assert api.get(f"/v1/transactions/{last['id']}").json()["position"] == last["position"]
